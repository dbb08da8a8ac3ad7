"""Shows a map of survey tiles as a picture: means of the tiles on a grid of degrees, coarse enough to fill a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

__all__ = ["read_tile_map"]

FloatArray = NDArray[np.float64]

_LEAST_DEGREES = 0.25  # wider than places are displaced
_MOST_CELLS = 256
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
    span = max(float(np.ptp(cells["lon"])), float(np.ptp(cells["lat"])))
    step = max(_LEAST_DEGREES, span / _MOST_CELLS)
    row = np.floor((cells["lat"].max() - cells["lat"]) / step).astype(int)
    column = np.floor((cells["lon"] - cells["lon"].min()) / step).astype(int)
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    squares = cells.assign(outside=cells[SUPPORT] == OUTSIDE_SUPPORT).groupby(
        [row.rename("r"), column.rename("c")]
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
            f"The survey's {len(cells)} tiles whose predictions are out of sample are the map; a square shows the mean "
            "of those whose displaced place is in it, and the standard error is that of one tile. "
        ),
    )
