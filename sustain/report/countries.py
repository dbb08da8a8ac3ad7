"""Names of countries, for the codes and file names that data come with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from babel import Locale
from babel.core import get_global

__all__ = ["country_name", "country_names"]

# Where the Demographic and Health Surveys' own codes are not those of ISO 3166, among the countries of SustainBench.
_DHS = {
    **{"BU": "BI", "DR": "DO", "GU": "GT", "IA": "IN", "KY": "KG"},
    **{"LB": "LR", "MB": "MD", "MD": "MG", "NI": "NE", "NM": "NA"},
}
_SMALL = frozenset({"and", "of", "the"})


def country_name(code: str, *, dhs: bool = False) -> str:
    """Return a country's English name, after Unicode's CLDR.

    Parameters
    ----------
    code : str
        ISO 3166 code of two or three letters, or a name as files have it (``cote_d_ivoire``).
    dhs : bool
        Whether codes of two letters are those of the Demographic and Health Surveys, some of which ISO gives to other
        countries.

    Returns
    -------
    str
        What is no country's code stays as it is; a name gets its capitals and accents.

    Examples
    --------
    >>> country_name("NA"), country_name("NAM"), country_name("MD"), country_name("MD", dhs=True)
    ('Namibia', 'Namibia', 'Moldova', 'Madagascar')
    """
    if re.fullmatch("[A-Z]{2,3}", code):
        two = code if len(code) == 2 else next(iter(get_global("territory_aliases").get(code, ())), "")
        return _territories().get(_DHS.get(two, two) if dhs else two, code)
    if known := _by_key().get(_key(code)):
        return known
    words = code.replace("_", " ").split(" ")
    return " ".join(word if word in _SMALL else word[:1].upper() + word[1:] for word in words)


def country_names(codes: Iterable[str], *, dhs: bool = False) -> tuple[str, ...]:
    """Names in alphabetical order, each once."""
    return tuple(sorted({country_name(str(code), dhs=dhs) for code in codes}, key=_key))


@cache
def _territories() -> dict[str, str]:
    """Names by ISO's codes; those that nobody has been given, such as XA, are left out."""
    names = Locale("en").territories
    return {
        code: name
        for code, name in names.items()
        if re.fullmatch("[A-WY-Z][A-Z]|XK", code) and code not in ("EU", "EZ", "UN", "QO", "ZZ")
    }


@cache
def _by_key() -> dict[str, str]:
    return {_key(name): name for name in _territories().values()}


def _key(name: str) -> str:
    """Letters of a name without accents, capitals and punctuation."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub("[^a-z]", "", plain.lower())
