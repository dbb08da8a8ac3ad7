"""Options of ``sustain effect`` that say more than one thing in a word, as `estimate_effect` takes them; and panels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from sustain.errors import EffectError

__all__ = ["PANELS", "read_cutoffs", "read_number", "read_overlap", "read_vcov"]

PANELS = (
    "What is compared",
    "What a prediction means",
    "Which units share errors",
    "From the map to the units",
    "What is written",
)
"""Groups of options in the help."""

_VCOV = (
    "HC1, CRV1:COLUMN, CRV1:COLUMN,COLUMN, CR2:COLUMN, conley:KM or block:KM, such as CRV1:adm2 or "
    "conley:100,lat=y,lon=x"
)
_OVERLAP = (
    "COLUMN:TABLE, such as cluster_id:calibration.csv (or cluster_id:rows.csv,y_pred=hat,y_true=wealth)"
)
_DISTANCES = {"conley": "cutoff_km", "block": "block_km"}


def read_vcov(
    text: str | None, lat: str | None = None, lon: str | None = None
) -> str | dict[str, Any] | None:
    """Read ``HC1``, ``CRV1:adm2``, ``CRV1:adm2,year`` or ``conley:100,lat=y,lon=x`` as the `vcov` argument.

    Coordinates are in columns `lat` and `lon` (by default of these names) unless named there.
    """
    if text is None:
        return None
    kind, colon, rest = text.partition(":")
    if kind not in _DISTANCES:
        if kind not in ("HC1", "CRV1", "CR2"):
            _refuse("--vcov", text, _VCOV)
        clusters = rest.split(",")
        return kind if not colon else {kind: rest if len(clusters) == 1 else clusters}
    distance, named = _parts("--vcov", text, rest, _VCOV)
    options: dict[str, Any] = {"lat": lat or "lat", "lon": lon or "lon", **named}
    options[_DISTANCES[kind]] = _float("--vcov", text, distance, _VCOV)
    if options.get("n_boot", "").isdigit():
        options["n_boot"] = int(options["n_boot"])
    return {kind: options}


def read_overlap(text: str | None) -> dict[str, Any] | None:
    """Read ``cluster_id:calibration.csv`` as the `overlap` argument, and the table with it."""
    from sustain.tables import read_table

    if text is None:
        return None
    column, colon, rest = text.partition(":")
    path, named = _parts("--overlap", text, rest, _OVERLAP)
    if not (column and colon and path):
        _refuse("--overlap", text, _OVERLAP)
    return {"id": column, "rows": read_table(Path(path), [column]), **named}


def read_cutoffs(text: str | None) -> list[float]:
    """Read ``25,50,100`` as kilometres; nothing as no cutoffs."""
    expected = "kilometres with commas between, such as 25,50,100,200"
    return [_float("--conley-profile", text, word, expected) for word in text.split(",")] if text else []


def read_number(text: str | None) -> Any:
    """Read a number where it is one, else leave the word, such as the name of a column."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _parts(option: str, text: str, rest: str, expected: str) -> tuple[str, dict[str, str]]:
    """First word, and ``name=value`` after the commas."""
    first, *others = rest.split(",")
    named = {}
    for word in others:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            _refuse(option, text, expected)
        named[name] = value
    return first, named


def _float(option: str, text: str, word: str, expected: str) -> float:
    try:
        return float(word)
    except ValueError:
        _refuse(option, text, expected)


def _refuse(option: str, text: str, expected: str) -> NoReturn:
    raise EffectError(f"{option}: got {text!r}, expected {expected}.")
