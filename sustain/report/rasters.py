"""Reads a corrected map at the resolution of a page, whatever its own size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import transform

from sustain.errors import FileFormatError, RasterError
from sustain.sphere import arc_km, on_sphere

__all__ = ["MapView", "read_map"]

FloatArray = NDArray[np.float64]

_BANDS = ("wealth", "wealth_raw", "wealth_se", "support")


@dataclass(frozen=True)
class MapView:
    """A corrected map as it is shown: bands as float64 arrays with NaN where there is nothing.

    `cell_m` is the width of a shown cell on the ground, at the map's centre; `native_m` that of the map's own cell;
    `note` what else a reader must know of the cells.
    """

    wealth: FloatArray
    raw: FloatArray
    error: FloatArray
    support: FloatArray
    cell_m: float
    native_m: float
    shape: tuple[int, int]
    method: str
    tags: dict[str, str]
    note: str = ""

    @property
    def n_cells(self) -> int:
        """Number of shown cells that hold a prediction."""
        return int(np.isfinite(self.raw).sum())

    @property
    def share_outside(self) -> float:
        """Share of the predicted cells that lie outside the support of the calibration."""
        return float(np.mean(self.support[np.isfinite(self.raw)] == 1)) if self.n_cells else 0.0


def read_map(path: Path, max_px: int = 512) -> MapView | None:
    """Read a corrected map, at most `max_px` cells along its longer side; ``None`` when there is no such file.

    Wealth and its error are averaged where the map is larger than that; flags are those of the nearest cell.

    Raises
    ------
    RasterError
        When a band is missing or holds no value.
    FileFormatError
        When it is not a readable raster.
    """
    if not path.exists():
        return None
    try:
        with rasterio.open(path) as source:
            missing = [name for name in _BANDS if name not in source.descriptions]
            if missing:
                raise RasterError(
                    f"{path}: bands {missing} are missing; it has {list(source.descriptions)}. Run the "
                    "correct stage again."
                )
            step = max(1.0, max(source.shape) / max_px)
            rows, columns = (max(1, round(size / step)) for size in source.shape)
            arrays = {}
            for name in _BANDS:
                arrays[name] = source.read(
                    source.descriptions.index(name) + 1,
                    out_shape=(rows, columns),
                    resampling=Resampling.nearest if name == "support" or step == 1 else Resampling.average,
                ).astype(np.float64)
            native = _cell_metres(source)
            shape, tags = source.shape, source.tags()
    except RasterioError as error:
        raise FileFormatError(
            f"{path}: not a readable raster ({error}). Run the correct stage again."
        ) from error
    if not np.isfinite(arrays["wealth_raw"]).any():
        raise RasterError(f"{path}: the band wealth_raw holds no value. Run the map stage again.")
    return MapView(
        wealth=arrays["wealth"],
        raw=arrays["wealth_raw"],
        error=arrays["wealth_se"],
        support=arrays["support"],
        cell_m=native * shape[1] / columns,
        native_m=native,
        shape=(int(shape[0]), int(shape[1])),
        method=str(tags.get("SUSTAIN_METHOD", "")),
        tags={key: value for key, value in sorted(tags.items()) if key.startswith("SUSTAIN_")},
    )


def _cell_metres(source: rasterio.io.DatasetReader) -> float:
    """Width of a cell on the ground at the map's centre."""
    row, column = source.height // 2, source.width // 2
    x, y = source.xy([row, row], [column, column + 1])
    lon, lat = transform(source.crs, "EPSG:4326", list(x), list(y))
    left, right = on_sphere(lat, lon)
    return float(1000 * arc_km(np.linalg.norm(right - left)))
