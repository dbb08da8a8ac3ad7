"""What a card says besides its figures, such as years, countries and licence: checked as it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sustain.debias.card.schema import Predictor, Target
from sustain.errors import CalibrationError
from sustain.stats.columns import label_text

__all__ = ["countries_of", "predictor_of", "target_of", "text_of", "years_of"]

_FIRST_YEAR, _LAST_YEAR = 1900, 2100
Part = TypeVar("Part", bound=BaseModel)


def years_of(years: Iterable[Any] | int | None) -> list[int]:
    """Years, each once, ascending; missing ones are left out.

    Raises
    ------
    CalibrationError
        When one is no whole year from 1900 to 2100, such as 15 for 2015.
    """
    found = set()
    for value in _each(years):
        try:
            year = float(value)
        except (TypeError, ValueError):
            year = float("nan")
        if not (year.is_integer() and _FIRST_YEAR <= year <= _LAST_YEAR):
            raise CalibrationError(
                f"years: expected whole years from {_FIRST_YEAR} to {_LAST_YEAR}, such as 2015; got {value!r}. "
                "Give the years of the surveys."
            )
        found.add(int(year))
    return sorted(found)


def countries_of(countries: Iterable[Any] | str | None) -> list[str]:
    """Countries as they are written, each once, sorted; missing ones are left out. ``NA`` is Namibia."""
    names = (label_text(value).strip() for value in _each(countries))
    return sorted({name for name in names if name})


def text_of(name: str, text: str) -> str:
    """Licence or citation in one line.

    Raises
    ------
    CalibrationError
        When it is no text.
    """
    if not isinstance(text, str):
        raise CalibrationError(f"{name}: expected text; got {type(text).__name__} {text!r}.")
    return " ".join(text.split())


def target_of(target: Mapping[str, str]) -> Target:
    """Target of a card. Raises `CalibrationError` unless it has a name and a unit."""
    return _checked("target", Target, target, "{'name': ..., 'unit': ...}")


def predictor_of(predictor: Mapping[str, str | None] | str) -> Predictor:
    """Predictor of a card, given as a mapping or as its id.

    Raises
    ------
    CalibrationError
        When it has no id, or a hash that is no SHA-256 in hexadecimal.
    """
    content = {"id": predictor} if isinstance(predictor, str) else predictor
    return _checked("predictor", Predictor, content, "{'id': ..., 'sha256': 64 hexadecimal digits, or None}")


def _each(values: Iterable[Any] | Any | None) -> list[Any]:
    if values is None:
        return []
    listed = [values] if isinstance(values, str) or not isinstance(values, Iterable) else values
    import pandas as pd

    return pd.Series(listed if hasattr(listed, "dtype") else list(listed)).dropna().unique().tolist()


def _checked(name: str, part: type[Part], content: Any, expected: str) -> Part:
    try:
        return part.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *map(str, first["loc"])])
        raise CalibrationError(
            f"{where}: {first['msg']}; got {first['input']!r}. Expected {expected}."
        ) from error
