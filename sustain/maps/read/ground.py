"""How much ground a cell or a polygon covers, on the ellipsoid: what a mean over an area weighs its cells by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import shapely

from sustain.maps.places import WGS84, system_of

__all__ = ["CellAreas", "ground_km2"]

Floats = npt.NDArray[np.float64]

_RADIUS_KM, _FLATTENING = 6378.137, 1 / 298.257223563  # WGS 84; other ellipsoids differ by 1 in 10,000
_E2 = _FLATTENING * (2 - _FLATTENING)
_E = math.sqrt(_E2)
_KM2 = math.radians(1) * _RADIUS_KM**2 / 2  # of a degree of longitude by a unit of `_authalic`
_NODE_KM, _NODE_CELLS = (
    20.0,
    32,
)  # between places where a map's scale is computed; it is interpolated in between


class CellAreas:
    """Ground under the cells of a raster, in square kilometres, in any coordinate system.

    Cells of an equal-area system all weigh the same; those of Web Mercator at 60 degrees a quarter of those at the
    equator. In a system that knows no place on the Earth every cell weighs 1.

    Parameters
    ----------
    source : rasterio.io.DatasetReader
    """

    def __init__(self, source: rasterio.io.DatasetReader) -> None:
        self._transform = source.transform
        self._crs = system_of(source)
        self._on_earth = self._crs.is_geographic or self._crs.is_projected
        if not self._on_earth:
            return
        self._by_row = self._crs.is_geographic and source.transform.b == source.transform.d == 0
        self._to_degrees = pyproj.Transformer.from_crs(self._crs, WGS84, always_xy=True)
        unit_km = 111.0 if self._crs.is_geographic else self._crs.axis_info[0].unit_conversion_factor / 1000
        cell_km = math.sqrt(abs(source.transform.determinant)) * unit_km
        self._step = int(np.clip(_NODE_KM / cell_km, 1, _NODE_CELLS))

    def __call__(self, row: int, col: int, height: int, width: int) -> Floats:
        """Square kilometres of the cells of a window, shape (height, width); 0 for cells that lie off the Earth."""
        if not self._on_earth:
            return np.ones((height, width))
        if self._by_row:
            latitude = self._transform.f + self._transform.e * (row + np.arange(height + 1))
            km2 = abs(self._transform.a) * _KM2 * np.abs(np.diff(_authalic(latitude)))
            return np.broadcast_to(km2[:, None], (height, width))
        # Nodes are those of the whole raster, so that a cell weighs the same in whatever window.
        rows, down = _nodes(row, height, self._step)
        cols, across = _nodes(col, width, self._step)
        at = self._at(rows, cols)
        if np.isfinite(at).all():
            return np.asarray(down @ at @ across.T)
        return np.nan_to_num(self._at(row + np.arange(height), col + np.arange(width)), nan=0.0)

    def _at(self, rows: npt.NDArray[np.int_], cols: npt.NDArray[np.int_]) -> Floats:
        """Square kilometres of single cells, shape (rows, cols); NaN off the Earth."""
        row, col = np.meshgrid(rows, cols, indexing="ij")
        ring = [(0, 0), (1, 0), (1, 1), (0, 1)]
        x, y = self._transform @ (
            np.stack([col + right for right, _ in ring]).astype(float),
            np.stack([row + down for _, down in ring]).astype(float),
        )
        lon, lat = self._to_degrees.transform(x, y)
        with np.errstate(invalid="ignore"):
            lon = (lon - lon[0] + 180) % 360 - 180  # across 180 degrees too
            up = _authalic(lat)
            km2: Floats = (
                _KM2 * np.abs((lon[2] - lon[0]) * (up[3] - up[1]) - (lon[3] - lon[1]) * (up[2] - up[0])) / 2
            )
        return np.where(np.isfinite(km2), km2, np.nan)


def ground_km2(shapes: Any) -> Floats:
    """Ground that polygons in degrees cover, in square kilometres, shape (n,); longitudes must not jump."""

    def flat(xy: Floats) -> Floats:
        return np.column_stack([xy[:, 0], _authalic(xy[:, 1])])

    return np.asarray(shapely.area(shapely.transform(shapes, flat)) * _KM2)


def _authalic(lat: npt.ArrayLike) -> Floats:
    """Height on the cylinder on which areas are true, between -2 and 2 (Snyder 1987, 3-12)."""
    sine = np.sin(np.radians(np.clip(lat, -90, 90)))
    return np.asarray((1 - _E2) * (sine / (1 - _E2 * sine**2) + np.arctanh(_E * sine) / _E))


def _nodes(begin: int, n: int, step: int) -> tuple[npt.NDArray[np.int_], Floats]:
    """Nodes around n cells, every `step` cells of the raster, and their weights in each cell, shape (n, nodes)."""
    nodes = np.arange(begin // step, -(-(begin + n - 1) // step) + 1)
    place = (begin + np.arange(n)) / step
    return nodes * step, np.asarray(np.clip(1 - np.abs(place[:, None] - nodes), 0, None))
