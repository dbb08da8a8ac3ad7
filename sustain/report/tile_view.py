"""Shows a map of survey tiles as a picture: means of the tiles on a grid of degrees, coarse enough to fill a page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.maps.antimeridian import shortest_arc
from sustain.maps.correct import read_survey_tiles
from sustain.maps.geotiff import (
    NO_IMAGERY,
    OUTSIDE_SUPPORT,
    SUPPORT,
    SUPPORTED,
    WEALTH,
    WEALTH_RAW,
    WEALTH_SE,
)
from sustain.report.rasters import MapView
from sustain.report.words import plural

__all__ = ["read_tile_map"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LEAST_DEGREES = 0.25  # wider than places are displaced
_MOST_CELLS = 256
_FEWEST_CELLS = 16
_CELLS_PER_ROOT = (
    6  # across the grid, for the square root of the number of places: about one square in 36 is filled
)
_LEAST_CELLS = 8
_KM_PER_DEGREE = 111.195


def read_tile_map(path: Path) -> MapView | None:
    """Read a corrected map of survey tiles for the page; ``None`` when there is no such file.

    Parameters
    ----------
    path : Path
        Parquet of `sustain.maps.correct.survey_tiles.correct_survey_tiles`.

    Returns
    -------
    MapView or None
        Means of the tiles in each square of the grid, north-up; NaN where the survey has none. A square is flagged
        outside the calibration range when one of its tiles is.

    Raises
    ------
    FileFormatError
        When it is not such a table.
    """
    if not path.exists():
        return None
    cells, tags = read_survey_tiles(path)
    row, column, shape, step = _grid(cells["lat"].to_numpy(float), cells["lon"].to_numpy(float))
    squares = cells.assign(outside=cells[SUPPORT] == OUTSIDE_SUPPORT).groupby(
        [pd.Series(row, cells.index, name="r"), pd.Series(column, cells.index, name="c")]
    )

    def spread(values: pd.Series, empty: float = np.nan) -> FloatArray:
        grid = np.full(shape, empty)
        grid[values.index.get_level_values("r"), values.index.get_level_values("c")] = values
        return grid

    width_m = 1000 * step * _KM_PER_DEGREE * float(np.cos(np.radians(cells["lat"].mean())))
    outside = squares["outside"].any().map({True: float(OUTSIDE_SUPPORT), False: float(SUPPORTED)})
    return MapView(
        wealth=spread(squares[WEALTH].mean()),
        raw=spread(squares[WEALTH_RAW].mean()),
        error=spread(squares[WEALTH_SE].mean()),
        support=spread(outside, float(NO_IMAGERY)),
        cell_m=width_m,
        native_m=width_m,
        shape=shape,
        method=tags.get("SUSTAIN_METHOD", ""),
        tags=tags,
        note=(
            f"The map is the survey's {plural(len(cells), 'tile')} with a prediction out of sample; a square shows the "
            "mean of those whose place is in it, and the standard error is that of one tile. "
        ),
    )


def _grid(lat: FloatArray, lon: FloatArray) -> tuple[IntArray, IntArray, tuple[int, int], float]:
    """Row and column of each place on a grid that few places can be seen on and many fit on; its shape and step.

    The grid has land around it, so that places in one line make no ribbon; longitudes go on beyond 180 degrees.
    """
    west, _ = shortest_arc([(at, at) for at in np.unique(lon)])
    lon = west + (lon - west) % 360
    height, width = float(np.ptp(lat)), float(np.ptp(lon))
    span = max(height, width)
    across = min(_MOST_CELLS, _FEWEST_CELLS + round(_CELLS_PER_ROOT * math.sqrt(lat.size)))
    step = max(_LEAST_DEGREES, span / across)
    row = np.floor((lat.max() - lat) / step).astype(int)
    column = np.floor((lon - lon.min()) / step).astype(int)
    rows, columns = int(row.max()) + 1, int(column.max()) + 1
    least = max(_LEAST_CELLS, math.ceil(max(rows, columns) / 2))
    row, column = row + max(0, least - rows) // 2, column + max(0, least - columns) // 2
    return row, column, (max(rows, least), max(columns, least)), step
