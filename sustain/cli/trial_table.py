"""The units of a trial on the command line, with an outcome from a map, from a map for each period, or of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sustain.cli.tables import read_table
from sustain.errors import CardError, DataError
from sustain.stats.columns import label_text

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard
    from sustain.maps.read import MapReading

__all__ = ["TrialTable", "read_trial"]


class TrialTable(NamedTuple):
    """Units with their outcome, and what a reader must know about where it comes from."""

    table: pd.DataFrame
    caveats: list[str]


def read_trial(
    path: Path,
    maps: Sequence[str],
    period: str | None,
    card: CalibrationCard | None,
    method: str,
    *,
    polygons: Path | None,
    key: str | None,
    **reading: Any,
) -> TrialTable:
    """Read a trial's table and the maps at its units.

    Parameters
    ----------
    path : Path
        Table of units, CSV or Parquet.
    maps : sequence of str
        None, for an outcome in the table; one raster; or rasters as ``PERIOD=FILE``.
    period : str or None
        Column that says which period's map a row is read from.
    card : CalibrationCard or None
        Must be the one in the tags of the maps, if they carry any.
    method : str
        Correction, for what is said of means over cells.
    polygons, key, **reading
        As of `sustain.maps.read.read_map_at_units`; polygons as a file.

    Raises
    ------
    DataError
        When options contradict each other, or rows have no map or maps are of different models.
    CardError
        When a map was corrected with another card.
    """
    if not maps:
        given = {"polygons": polygons, "key": key, **reading}
        needless = [name for name, value in given.items() if value is not None]
        if needless:
            option = needless[0].replace("_", "-")
            raise DataError(f"--{option} says how to read a map, and there is none. Give --map.")
        table = read_table(path, [])
        hash_known = table.attrs.get("predictor_sha256") or table.attrs.get("predictor")
        unknown = [] if hash_known or card is None else [_UNKNOWN]
        return TrialTable(table, unknown)
    from sustain.maps.read import read_polygons

    if key and polygons:
        units = read_table(path, [key])
    else:
        hint = "Units are read off the map at lon and lat, in degrees: rename yours, or give --polygons and --key."
        units = read_table(path, ["lon", "lat"], hint)
    reading |= {"key": key, "polygons": None if polygons is None else read_polygons(polygons)}
    if len(maps) == 1 and not _is_period(maps[0]):
        n_periods = 1 if period is None or period not in units else units[period].nunique()
        if n_periods > 1:
            raise DataError(
                f"--map: one map for {n_periods} periods in column {period!r}, so no outcome would "
                "change. Give one for each: --map 2010=before.tif --map 2015=after.tif."
            )
        found = _read(Path(maps[0]), units, card, reading)
        return TrialTable(found.table, found.caveats(method))
    return _by_period(maps, period, units, card, method, reading)


_UNKNOWN = (
    "The outcome is a column of the table, which does not say which model made it: that the card is of the same model, "
    "target and unit is taken on trust."
)


def _by_period(
    maps: Sequence[str],
    period: str | None,
    units: pd.DataFrame,
    card: CalibrationCard | None,
    method: str,
    reading: dict[str, Any],
) -> TrialTable:
    if period is None or period not in units:
        raise DataError(
            f"--map: several maps need the column that says which one a row is of: --time or --map-period, got "
            f"{period!r}; the table has {', '.join(map(str, units.columns))}."
        )
    files = {}
    for text in maps:
        label, equals, file = text.partition("=")
        if not equals or label in files:
            raise DataError(
                f"--map: got {text!r} among several maps, expected one PERIOD=FILE for each period, such as "
                "--map 2010=before.tif --map 2015=after.tif."
            )
        files[label] = Path(file)
    labels = units[period].map(label_text)
    absent = sorted(set(labels) - set(files))
    if absent:
        raise DataError(
            f"--map: no map for {period} {', '.join(absent)}; there are maps for {', '.join(files)}. Add "
            f"--map {absent[0]}=FILE, or leave these rows out."
        )
    found = {
        label: _read(file, units[labels == label], card, reading)
        for label, file in files.items()
        if (labels == label).any()
    }
    first, *others = found.values()
    for other in others:
        for name in ("predictor", "unit"):
            ours, theirs = first.table.attrs.get(name), other.table.attrs.get(name)
            if ours != theirs:
                raise DataError(
                    f"--map: the maps differ in their {name} ({ours!r} and {theirs!r}), so that a change between them "
                    "is no change of the outcome. Use maps of one model."
                )
    whole = pd.concat([part.table for part in found.values()]).loc[units.index]
    whole.attrs.update(first.table.attrs)
    each = ", ".join(f"{label} {files[label].name}" for label in found)
    caveats = [
        *replace(first, table=whole).caveats(method),
        f"Each period is read from a map of its own ({each}).",
    ]
    return TrialTable(whole, caveats)


def _read(raster: Path, units: pd.DataFrame, card: CalibrationCard | None, reading: Any) -> MapReading:
    from sustain.maps.read import read_map_at_units

    found = read_map_at_units(raster, units, **reading)
    stamped = found.table.attrs.get("card_sha256")
    if card is not None and stamped and stamped != card.sha256:
        raise CardError(
            f"--card: its hash is {card.sha256[:12]}..., but {raster} was corrected with card {stamped[:12]}.... "
            "Use the card that was published with this map."
        )
    return found


def _is_period(text: str) -> bool:
    return "=" in text and not Path(text).exists()
