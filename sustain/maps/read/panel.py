"""A panel from a map for each period: units read where and when they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sustain.errors import DataError
from sustain.maps.places import read
from sustain.maps.read.trial_units import MapReading, read_map_at_units
from sustain.stats.columns import label_text

__all__ = ["panel_from_maps", "read_maps_at_units"]

_MOST_RATIO = 10.0  # of standard deviations between maps of one model


def panel_from_maps(
    maps: Mapping[Any, str | Path],
    units: pd.DataFrame,
    *,
    time: str = "year",
    started: str | None = None,
    **reading: Any,
) -> pd.DataFrame:
    """Make a panel: every unit in every period, with the value of that period's map.

    Parameters
    ----------
    maps : mapping
        Raster by period, all of one model: ``{2010: "a.tif", 2015: "b.tif"}``.
    units : DataFrame
        One row a unit, without column `time`; or one row a unit and period, with it, each read off its own map.
    time : str
        Column of periods.
    started : str, optional
        Column of the first treated period, missing (not 0) for units never treated. The panel then has the column
        ``treated``, 1 from that period on, which is the status that ``estimator="did"`` needs.
    **reading
        As of `sustain.maps.read.read_map_at_units`: ``lon``, ``lat``, ``buffer_m``, ``displaced``, ``polygons`` and
        ``key``, ``weights``, ``band``.

    Returns
    -------
    DataFrame
        Columns of `units`, `time`, and the maps' bands: the predictions as ``wealth_raw``. ``attrs`` as of
        `sustain.maps.read.zonal.sample_points`. Numbered anew where units were repeated.

    Raises
    ------
    DataError
        When rows have no map, maps are of different models, or a column is missing or would be written over.

    Examples
    --------
    >>> panel = panel_from_maps({2010: "a.tif", 2015: "b.tif"}, villages, started="since")  # doctest: +SKIP
    >>> estimate_effect(  # doctest: +SKIP
    ...     panel, outcome="wealth_raw", treatment="treated", estimator="did", unit="village", time="year"
    ... )
    """
    if not maps:
        raise DataError(
            "maps: none given, expected a raster by period, such as {2010: 'a.tif', 2015: 'b.tif'}."
        )
    rows = units
    if time not in units:
        rows = pd.concat([units.assign(**{time: period}) for period in maps], ignore_index=True)
    if started is not None:
        read.require_columns(units, [started], argument="units")
        if "treated" in units:
            raise DataError("units: column 'treated' would be written over. Rename it, or leave started out.")
        first = read.vector(f"started: column {started!r}", rows[started], missing=True)
        _refuse_codes(first, started)
        now = read.vector(f"time: column {time!r}", rows[time])
        rows = rows.assign(treated=(now >= first).astype(int))  # a missing start is never reached
    return read_maps_at_units(maps, rows, time, **reading).table


def _refuse_codes(first: npt.NDArray[np.float64], started: str) -> None:
    """Raise where a start is one of the codes by which other packages say "never": it would be read as "always"."""
    codes = np.unique(first[first <= 0])
    if codes.size:
        raise DataError(
            f"started: column {started!r} holds {codes[0]:g}, which is no period. For units that were never treated "
            "leave it missing (NaN), as pandas' replace(0, float('nan')) does."
        )


def read_maps_at_units(
    maps: Mapping[Any, str | Path], units: pd.DataFrame, time: str, **reading: Any
) -> MapReading:
    """Read each row off the map of its period; arguments and errors as of `panel_from_maps`."""
    read.require_columns(units, [time], argument="units")
    files = {label_text(period): Path(raster) for period, raster in maps.items()}
    labels = units[time].map(label_text)
    absent = sorted(set(labels) - set(files))
    if absent:
        raise DataError(
            f"maps: none for {time} {', '.join(absent)}; there are maps for {', '.join(files)}. Give one for each "
            "period, or leave these rows out."
        )
    found = {
        label: read_map_at_units(file, units[labels == label], **reading)
        for label, file in files.items()
        if (labels == label).any()
    }
    first, *others = found.values()
    for other in others:
        for name in ("predictor", "unit"):
            ours, theirs = first.table.attrs.get(name), other.table.attrs.get(name)
            if ours != theirs:
                raise DataError(
                    f"maps: they differ in their {name} ({ours!r} and {theirs!r}), so that a change between them "
                    "is no change of the outcome. Use maps of one model."
                )
    _refuse_other_scales({label: part.table[part.outcome] for label, part in found.items() if part.outcome})
    # Row by row, not by label: an index may repeat.
    place = pd.Series(range(len(units)))
    order = pd.concat([place[(labels == label).to_numpy()] for label in found]).to_numpy().argsort()
    whole = pd.concat([part.table for part in found.values()]).iloc[order]
    whole.attrs.update(first.table.attrs)
    each = ", ".join(f"{label} {files[label].name}" for label in found)
    how = f"{first.how} Each period is read from a map of its own ({each})."
    return replace(first, table=whole, how=how)


def _refuse_other_scales(values: Mapping[str, pd.Series]) -> None:
    """Raise where one map's numbers are in another unit than another's, such as thousandths, and no map says so."""
    spread = {label: float(column.std()) for label, column in values.items()}
    known = {label: sd for label, sd in spread.items() if np.isfinite(sd) and sd > 0}
    if not known:
        return
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    if known[most] > _MOST_RATIO * known[least]:
        raise DataError(
            f"maps: the values at the units spread by {known[least]:.3g} (standard deviation) in {least} and by "
            f"{known[most]:.3g} in {most}: they seem to be in different units, so that a change between them is no "
            "change of the outcome. Bring them into one unit, or declare the scale (gdal_edit.py -scale)."
        )
