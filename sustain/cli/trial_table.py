"""The units of a trial on the command line, with an outcome from a map, from a map for each period, or of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sustain.errors import CardError, DataError
from sustain.tables import read_table

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["TrialTable", "read_trial"]


class TrialTable(NamedTuple):
    """Units with their outcome, what a reader must know about where it comes from, and the map's own outcome."""

    table: pd.DataFrame
    caveats: list[str]
    outcome: str | None = None


def read_trial(
    path: Path,
    maps: Sequence[str],
    period: str | None,
    card: CalibrationCard | None,
    method: str,
    *,
    polygons: Path | None,
    key: str | None,
    layer: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    named: bool = True,
    sheet: str | None = None,
    **reading: Any,
) -> TrialTable:
    """Read a trial's table and the maps at its units.

    Parameters
    ----------
    path : Path
        Table of units.
    maps : sequence of str
        None, for an outcome in the table; one raster; or rasters as ``PERIOD=FILE``.
    period : str or None
        Column that says which period's map a row is read from.
    card : CalibrationCard or None
        Must be the one in the tags of the maps, if they carry any.
    method : str
        Correction, for what is said of means over cells.
    named : bool
        Whether the user said which column the outcome is; else the map's band of predictions must be clear.
    sheet : str or None
        Sheet of an Excel workbook.
    layer : str or None
        Layer of the file of polygons.
    polygons, key, lon, lat, **reading
        As of `sustain.maps.read.read_map_at_units`; polygons as a file.

    Raises
    ------
    DataError
        When options contradict each other, or rows have no map or maps are of different models.
    CardError
        When a map was corrected with another card.
    """
    if not maps:
        given = {"polygons": polygons, "key": key, "layer": layer, "lon": lon, "lat": lat, **reading}
        needless = [name for name, value in given.items() if value is not None]
        if needless:
            option = {"weights": "cell-weights"}.get(needless[0], needless[0].replace("_", "-"))
            raise DataError(f"--{option} says how to read a map, and there is none. Give --map.")
        table = read_table(path, sheet=sheet)
        hash_known = table.attrs.get("predictor_sha256") or table.attrs.get("predictor")
        unknown = [] if hash_known or card is None else [_UNKNOWN]
        return TrialTable(table, unknown)
    from sustain.maps.geotiff import open_raster, value_band
    from sustain.maps.read import read_map_at_units, read_polygons
    from sustain.maps.read.panel import read_maps_at_units

    if reading.get("weights") and not (polygons or reading.get("displaced") or reading.get("buffer_m")):
        raise DataError(
            "--cell-weights: a point has one cell and nothing to weigh. Give --buffer-m, --displaced or --polygons."
        )
    if key and polygons:
        units = read_table(path, [key], sheet=sheet)
    else:
        lon, lat = lon or "lon", lat or "lat"
        reading |= {"lon": lon, "lat": lat}
        hint = (
            "Units are read off the map at their longitude and latitude, in degrees: say which columns these are "
            "(--lon, --lat), or give --polygons and --key."
        )
        units = read_table(path, [lon, lat], sheet=sheet, hint=hint)
    reading |= {"key": key, "polygons": None if polygons is None else read_polygons(polygons, layer=layer)}
    if len(maps) == 1 and not _is_period(maps[0]):
        n_periods = 1 if period is None or period not in units else units[period].nunique()
        if n_periods > 1:
            raise DataError(
                f"--map: one map for {n_periods} periods in column {period!r}, so no outcome would "
                "change. Give one for each: --map 2010=before.tif --map 2015=after.tif."
            )
        files = {"": Path(maps[0])}
    else:
        files = _by_period(maps, period, units)
    for raster in files.values():
        _require_its_card(raster, card)
    if "" in files:
        found = read_map_at_units(files[""], units, **reading)
    else:
        found = read_maps_at_units(files, units, str(period), **reading)
    if found.outcome is None and not named:
        with open_raster(next(iter(files.values()))) as source:
            value_band(source, option="--band")  # says which bands there are
    return TrialTable(found.table, found.caveats(method), found.outcome)


_UNKNOWN = (
    "The outcome is a column of the table, which does not say which model made it: that the card is of the same model, "
    "target and unit is taken on trust."
)


def _by_period(maps: Sequence[str], period: str | None, units: pd.DataFrame) -> dict[str, Path]:
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
    return files


def _require_its_card(raster: Path, card: CalibrationCard | None) -> None:
    """Raise `CardError` where the map was corrected with another card, or has no uncorrected band left."""
    from sustain.maps.geotiff import WEALTH_RAW, open_raster

    with open_raster(raster) as source:
        stamped, method = (
            source.tags().get("SUSTAIN_CARD_SHA256"),
            source.tags().get("SUSTAIN_METHOD", "none"),
        )
        raw = WEALTH_RAW in source.descriptions
    if card is not None and method != "none" and not raw:
        raise CardError(
            f"--map: {raster} is corrected already (by {method}) and has no band {WEALTH_RAW!r}; with --card it would "
            "be corrected twice. Use the whole corrected map, or leave out --card."
        )
    if card is not None and stamped and stamped != card.sha256:
        raise CardError(
            f"--card: its hash is {card.sha256[:12]}..., but {raster} was corrected with card {stamped[:12]}.... "
            "Use the card that was published with this map."
        )


def _is_period(text: str) -> bool:
    return "=" in text and not Path(text).exists()
