"""What a publication says of its map: whoever publishes says it, and what nobody said is asked for, not made up."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.errors import ConfigError

__all__ = [
    "created",
    "keywords",
    "period_text",
    "providers",
    "require_facts",
    "stac_licence",
]

_CLOCK = "SOURCE_DATE_EPOCH"
_NEEDED = {
    "title": "what the map is called",
    "licence": "under which terms others get it, such as CC-BY-4.0",
    "start": "first day of the imagery, YYYY-MM-DD",
    "end": "last day of the imagery, YYYY-MM-DD",
}
# What STAC 1.1 takes for a licence: an SPDX identifier, or "other".
_SPDX = re.compile(r"[\w.+-]+")


def require_facts(
    params: PublishParams,
    card: CalibrationCard,
    *,
    period: tuple[date, date] | None = None,
    spelling: Callable[[str], str] = str,
) -> tuple[date, date]:
    """Make sure that `params` says what a publication needs.

    Parameters
    ----------
    params : PublishParams
    card : CalibrationCard
        What it says of its own licence and years is told beside, as a hint; they need not be the map's.
    period : (date, date), optional
        First and last day by the map itself, if it knows them.
    spelling : callable, optional
        How the caller's user writes a name, such as ``--title``; by default as in `PublishParams`.

    Returns
    -------
    (date, date)
        First and last day of the imagery: of `params`, else `period`.

    Raises
    ------
    ConfigError
        Which names everything that is missing.
    """
    said = (params.start, params.end) if params.start or params.end else period or (None, None)
    known = {"title": params.title, "licence": params.licence, "start": said[0], "end": said[1]}
    start, end = said
    if start is not None and end is not None and all(known.values()):
        return start, end
    hints = {"licence": f"; the card's own is {card.licence}"} if card.licence else {}
    if card.sample.years:
        years = f"{min(card.sample.years)} to {max(card.sample.years)}"
        hints |= {"start": f"; the card's calibration sample is of {years}"}
    lines = [
        f"  {spelling(name)}: {_NEEDED[name]}{hints.get(name, '')}"
        for name, found in known.items()
        if not found
    ]
    where = " to PublishParams, or to the section publish of the profile in params.yaml" * (spelling is str)
    raise ConfigError(
        "publishing: neither the map nor its card says what follows, and nothing is made up for it. "
        f"Add{where}:\n" + "\n".join(lines)
    )


def period_text(period: tuple[date, date]) -> str:
    """First and last day in words."""
    return f"{period[0].isoformat()} to {period[1].isoformat()}"


def created(params: PublishParams) -> datetime | None:
    """Time of publication: the day that was said, else that of ``SOURCE_DATE_EPOCH``, else None. Never the clock.

    Raises
    ------
    ConfigError
        When ``SOURCE_DATE_EPOCH`` is no number of seconds.
    """
    if params.created is not None:
        return datetime.combine(params.created, time(), tzinfo=UTC)
    seconds = os.environ.get(_CLOCK, "")
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(int(seconds), tz=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"{_CLOCK}: expected seconds since 1970 as a whole number; got {seconds!r}. Correct or unset it."
        ) from error


def keywords(params: PublishParams, card: CalibrationCard) -> list[str]:
    """Keywords that were said, and the name of what is mapped."""
    return list(dict.fromkeys([*params.keywords, card.target.name]))


def providers(params: PublishParams) -> list[dict[str, Any]]:
    """List the providers as STAC has them."""
    return [
        {"name": found.name, "roles": list(found.roles)} | ({"url": found.url} if found.url else {})
        for found in params.providers
    ]


def stac_licence(licence: str) -> str:
    """Licence as STAC 1.1 takes it: an SPDX identifier as it is; for any other text ``other``."""
    return licence if _SPDX.fullmatch(licence) else "other"
