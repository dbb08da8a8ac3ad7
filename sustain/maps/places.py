"""From longitude and latitude to the cells of a raster, and the mistakes that people make with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from pyproj import CRS, Transformer
from rasterio.windows import Window

from sustain.errors import DataError, DataWarning
from sustain.maps.geotiff import require_crs
from sustain.stats.columns import ColumnReader

__all__ = [
    "WGS84",
    "cells_of",
    "degrees_of",
    "doubt_places",
    "first_longitude",
    "inside_of",
    "points_by_block",
    "read",
    "read_coordinates",
    "system_of",
]

WGS84 = "EPSG:4326"
read = ColumnReader(DataError)
"""Reader of users' columns: coordinates, radii, keys of areas."""


def read_coordinates(lon: Any, lat: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Check longitudes and latitudes in degrees, and return them as arrays of shape (n,).

    Raises
    ------
    DataError
        When they are not numbers, missing, of unequal number, in another order (pandas indexes differ) or out of range.
    """
    lon, lat = (values if np.ndim(values) else [values] for values in (lon, lat))
    read.require_same_index("lat", lat, "lon", lon)
    lon = read.vector("lon", lon)
    lat = read.vector("lat", lat, lon.size, like="lon")
    for name, values, limit in (("lon", lon, 180), ("lat", lat, 90)):
        wrong = ~(np.abs(values) <= limit)
        if wrong.any():
            first = int(np.argmax(wrong))
            hint = ""
            if name == "lat" and (np.abs(lat) <= 180).all() and (np.abs(lon) <= 90).all():
                hint = " Longitude and latitude look exchanged: the order is lon, lat."
            raise DataError(
                f"{name} must lie between -{limit} and {limit} degrees; {int(wrong.sum())} of {values.size} do not, "
                f"the first at position {first}: {values[first]}.{hint}"
            )
    return lon, lat


def cells_of(
    source: rasterio.io.DatasetReader, lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find the row and column of the cell that contains each point; they may lie outside the raster."""
    require_crs(source)
    if lon.size == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    # pyproj puts at infinity what a projection cannot hold; GDAL gives up on all points for one.
    x, y = Transformer.from_crs(WGS84, source.crs.to_wkt(), always_xy=True).transform(lon, lat)
    if source.crs.is_geographic:
        left = first_longitude(source)
        x = left + (x - left) % 360
    x, y = (np.where(np.isfinite(x) & np.isfinite(y), v, np.nan) for v in (x, y))
    cols, rows = ~source.transform @ (x, y)
    rows, cols = (
        np.floor(np.where(np.isfinite(v), v, -1)).clip(-1, 2**40).astype(np.int64) for v in (rows, cols)
    )
    return rows, cols


def system_of(source: rasterio.io.DatasetReader) -> CRS:
    """Coordinate system of a raster as pyproj knows it, without heights."""
    require_crs(source)
    return CRS.from_wkt(source.crs.to_wkt()).to_2d()


def degrees_of(crs: CRS) -> CRS:
    """Longitude and latitude by which a system is defined; itself, if it is one of degrees."""
    return crs.geodetic_crs or CRS.from_user_input(WGS84)


def first_longitude(source: rasterio.io.DatasetReader) -> float:
    """Longitude from which a raster counts: all places lie on it between this and 360 degrees more.

    In degrees that is its western edge, so that longitudes from 0 to 360, or beyond 180, are found. In a projection it
    is the meridian opposite to its own, where those are torn that are.
    """
    if source.crs.is_geographic:
        corners = [
            (source.transform @ (col, row))[0] for col in (0, source.width) for row in (0, source.height)
        ]
        return float(min(corners))
    operation = system_of(source).coordinate_operation
    middles = (
        [item.value for item in operation.params if item.name.startswith("Longitude of ")]
        if operation
        else []
    )
    return float(middles[0]) - 180.0 if middles else -180.0


def inside_of(
    source: rasterio.io.DatasetReader, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether each cell lies in the raster."""
    inside: npt.NDArray[np.bool_] = (rows >= 0) & (rows < source.height) & (cols >= 0) & (cols < source.width)
    return inside


def doubt_places(
    source: rasterio.io.DatasetReader,
    lon: npt.NDArray[np.float64],
    lat: npt.NDArray[np.float64],
    inside: npt.NDArray[np.bool_],
) -> None:
    """Look for the two mistakes with coordinates that leave them in range: exchanged, and 0 for a missing one.

    Raises
    ------
    DataError
        When few points lie inside the raster as given, and most with the coordinates exchanged.

    Warns
    -----
    DataWarning
        When points at longitude 0 and latitude 0, in the open sea, lie inside the raster.
    """
    _refuse_exchanged(source, lon, lat, inside)
    nowhere = int((inside & (lon == 0) & (lat == 0)).sum())
    if nowhere:
        warnings.warn(
            f"{nowhere} of {lon.size} points lie at longitude 0 and latitude 0, in the open sea, which often "
            "stands for missing coordinates. Leave them out, or mark them as missing before you read the map.",
            DataWarning,
            stacklevel=3,
        )


def _refuse_exchanged(
    source: rasterio.io.DatasetReader,
    lon: npt.NDArray[np.float64],
    lat: npt.NDArray[np.float64],
    inside: npt.NDArray[np.bool_],
) -> None:
    if not lon.size or inside.mean() >= 0.5 or (np.abs(lon) > 90).any():
        return
    rows, cols = cells_of(source, lat, lon)
    exchanged = inside_of(source, rows, cols)
    if exchanged.mean() >= 0.9:
        raise DataError(
            f"longitude and latitude look exchanged: {int(inside.sum())} of {lon.size} points lie inside "
            f"{source.name} as given, {int(exchanged.sum())} with the two exchanged. The order is lon, lat."
        )


def points_by_block(
    source: rasterio.io.DatasetReader,
    rows: npt.NDArray[np.int64],
    cols: npt.NDArray[np.int64],
    points: npt.NDArray[np.intp],
) -> Iterator[tuple[npt.NDArray[np.intp], Window]]:
    """Group `points` by internal block of the raster, so that a block is decoded once however many it holds.

    Yields
    ------
    points : ndarray of int
        Positions in `rows` and `cols`.
    window : rasterio.windows.Window
        Their block.
    """
    height, width = source.block_shapes[0]
    block = rows[points] // height * (source.width // width + 1) + cols[points] // width
    order = points[np.argsort(block, kind="stable")]
    for group in np.split(order, np.flatnonzero(np.diff(np.sort(block))) + 1) if order.size else []:
        row, col = int(rows[group[0]] // height * height), int(cols[group[0]] // width * width)
        yield group, Window(col, row, min(width, source.width - col), min(height, source.height - row))
