"""Where a map lies and how large its cells are, on the ground: whatever its system, and however its rows run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import rasterio
from pyproj import Geod
from rasterio.warp import transform as transform_coordinates

from sustain.maps.antimeridian import cut_ring
from sustain.maps.places import WGS84

__all__ = ["CellSize", "cell_sizes", "footprint", "native_bounds", "resolution_m", "size_text"]

_DEGREE_DIGITS = 6
_SIDE_POINTS = 21  # along each side: the outline of a projected map bulges between its corners
_ALIKE = 0.02  # sizes that differ by less are one


class CellSize(NamedTuple):
    """Sides of one cell in metres on the ground: along its row, and along its column."""

    width: float
    height: float


def cell_sizes(raster: rasterio.io.DatasetReader) -> list[CellSize]:
    """Sides of the cells in the middle of the first row, of the middle row and of the last row."""
    middle = raster.width / 2
    rows = [0.5, raster.height / 2, raster.height - 0.5]
    geod, sizes = Geod(ellps="WGS84"), []
    for row in rows:
        ends = np.array(
            [[middle - 0.5, middle + 0.5, middle, middle], [row, row, row - 0.5, row + 0.5]], dtype=float
        )
        lon, lat = _degrees(raster, *ends)
        _, _, metres = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
        sizes.append(CellSize(float(metres[0]), float(metres[1])))
    return sizes


def resolution_m(raster: rasterio.io.DatasetReader) -> float:
    """Mean side of the cell in the middle, in metres on the ground: the root of its area."""
    size = cell_sizes(raster)[1]
    return float(np.sqrt(size.width * size.height))


def size_text(raster: rasterio.io.DatasetReader) -> str:
    """Say how large cells are on the ground, and that they differ where they do."""
    sizes = np.array(cell_sizes(raster))
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    sides = [
        _metres(middle) if b - a <= _ALIKE * b else f"{_metres(a)} to {_metres(b)}"
        for a, middle, b in zip(low, sizes[1], high, strict=True)
    ]
    return f"{sides[0]} wide and {sides[1]} high on the ground"


def footprint(raster: rasterio.io.DatasetReader) -> tuple[dict[str, Any], list[float]]:
    """Outline of the raster in longitude and latitude: GeoJSON, anticlockwise, and its box.

    A raster that crosses 180 degrees has an outline in two parts, cut there, and a box whose west exceeds its east (RFC
    7946, sections 3.1.9 and 5.2). One of longitudes from 0 to 360 is on the same ground, and described as such.
    """
    height, width = raster.shape
    share = np.linspace(0, 1, _SIDE_POINTS)[:-1]
    along, back = np.concatenate([share, np.ones_like(share)]), np.concatenate([1 - share, share * 0])
    cols = width * np.concatenate([along, back, [0]])
    rows = height * np.concatenate([share * 0, share, np.ones_like(share), 1 - share, [0]])
    lon, lat = _degrees(raster, cols, rows)
    # Longitudes that do not jump from one point to the next, the westernmost between -180 and 180.
    lon = np.unwrap(lon, period=360)
    lon -= 360 * np.floor((lon.min() + 180 + 10.0**-_DEGREE_DIGITS) / 360)
    west, south, east, north = (
        round(float(value), _DEGREE_DIGITS) for value in (lon.min(), lat.min(), lon.max(), lat.max())
    )
    if east - west >= 360:
        west, east = -180.0, 180.0
        corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
        return {"type": "Polygon", "coordinates": [_ring(corners)]}, [west, south, east, north]
    corners = list(zip(lon[:: _SIDE_POINTS - 1].tolist(), lat[:: _SIDE_POINTS - 1].tolist(), strict=True))
    if _signed_area(corners) < 0:
        corners = corners[::-1]
    if east <= 180:
        return {"type": "Polygon", "coordinates": [_ring(corners)]}, [west, south, east, north]
    rings = [[_ring(ring)] for ring in cut_ring(corners)]
    return {"type": "MultiPolygon", "coordinates": rings}, [west, south, round(east - 360, 6), north]


def native_bounds(raster: rasterio.io.DatasetReader) -> tuple[float, float, float, float]:
    """Least x and y, greatest x and y, in the raster's own system, however its rows run."""
    cols, rows = np.array([0, raster.width, raster.width, 0]), np.array([0, 0, raster.height, raster.height])
    x, y = raster.transform @ (cols, rows)
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _degrees(
    raster: rasterio.io.DatasetReader, cols: npt.ArrayLike, rows: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Longitude and latitude of pixel coordinates, counted from the outer corner of the first pixel."""
    x, y = raster.transform @ (np.asarray(cols, float), np.asarray(rows, float))
    lon, lat = transform_coordinates(raster.crs, WGS84, np.ravel(x), np.ravel(y))
    return np.asarray(lon, float), np.asarray(lat, float)


def _signed_area(ring: list[tuple[float, float]]) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def _ring(corners: list[tuple[float, float]]) -> list[list[float]]:
    return [[round(value, _DEGREE_DIGITS) for value in corner] for corner in corners]


def _metres(value: float) -> str:
    return f"{value:.3g} m" if value < 1000 else f"{value / 1000:.3g} km"
