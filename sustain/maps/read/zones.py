"""The cells of a raster that polygons cover, and by how much; large polygons piece by piece.

All is done in pixels: polygons are brought onto the raster's columns and rows, so that rasters of any orientation and
of any type of number are alike, and each value is read by the package's one reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import exactextract
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import shapely
from exactextract.feature import GeoPandasFeatureSource
from exactextract.raster import RasterSource
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from sustain.errors import DataError
from sustain.maps.geotiff import read_values, value_bands
from sustain.maps.places import degrees_of, first_longitude, system_of
from sustain.maps.read.ground import CellAreas, ground_km2
from sustain.maps.read.longitudes import counted_from, in_degrees, is_finite
from sustain.maps.read.people import People
from sustain.maps.read.polygons import mend, row_names

__all__ = [
    "Piece",
    "Zones",
    "cells_in_zones",
    "column_names",
    "value_names",
    "whole_weights",
    "zones_on_grid",
]

_SIDE = 512  # cells along the side of a piece of a large zone
_CELLS_AT_A_TIME = 1 << 21  # that exactextract is asked for at once; 100 to 200 bytes each
_AROUND = 5.0  # degrees around a raster beyond which no part of a zone matters
_ON_THE_EDGE = 1e-6  # of a cell: as far as a zone may reach beyond the raster and lie in it


@dataclass(frozen=True)
class Piece:
    """Cells of a zone, or of a part of one that is large; each cell is in one piece of it.

    Attributes
    ----------
    zone : int
        Position of the zone.
    row, col : ndarray of int, shape (n,)
        The cells.
    bands : ndarray, shape (bands, n)
        Their values, NaN where there is none.
    weight : ndarray, shape (n,)
        What the zone covers of each: square kilometres of ground, or people.
    """

    zone: int
    row: npt.NDArray[np.int64]
    col: npt.NDArray[np.int64]
    bands: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Zones:
    """Polygons on the pixels of a raster.

    Attributes
    ----------
    shapes : ndarray of polygons, shape (n,)
        Their x is the column, their y the row below zero, so that up is up; empty far from the raster.
    beyond_km2 : dict
        Whole ground of the zones that reach beyond the raster, by position.
    """

    shapes: Any
    beyond_km2: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.shapes)


def column_names(source: rasterio.io.DatasetReader) -> list[str]:
    """Descriptions of all bands, ``band_1`` and so on where there is none, or one that an earlier band has."""
    texts = source.descriptions
    return [
        text if text and text not in texts[: index - 1] else f"band_{index}"
        for index, text in enumerate(texts, start=1)
    ]


def value_names(source: rasterio.io.DatasetReader) -> list[str]:
    """Names of the bands that hold values: all but alpha bands."""
    names = column_names(source)
    return [names[index - 1] for index in value_bands(source)]


def zones_on_grid(source: rasterio.io.DatasetReader, shapes: gpd.GeoSeries) -> Zones:
    """Polygons (of `polygonal`) on the pixels of an open raster, in any system, wherever its longitudes begin.

    Raises
    ------
    DataError
        When a polygon cannot be brought into the raster's system.
    RasterError
        When the raster has no coordinate system.
    """
    index, own, crs = shapes.index, pyproj.CRS.from_user_input(shapes.crs).to_2d(), system_of(source)
    given = np.asarray(shapes.to_numpy(), dtype=object)
    if not len(given):
        return Zones(given)
    # A system of its own that is no system of degrees has no longitudes to tell apart.
    same = own.equals(crs, ignore_axis_order=True) and not crs.is_geographic
    degrees = None if same else in_degrees(given, own, degrees_of(crs), index)
    placed = given if degrees is None else _placed(source, crs, degrees, index)

    def onto_pixels(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        col, row = ~source.transform @ (xy[:, 0], xy[:, 1])
        return np.column_stack([col, -row])

    found = np.asarray(shapely.transform(placed, onto_pixels), dtype=object)
    for place in np.flatnonzero(~shapely.is_valid(found)):
        found[place] = mend(found[place])
    left, bottom, right, top = np.nan_to_num(shapely.bounds(found), nan=-1.0).T
    frame = np.array([0, -source.height, source.width, 0]) + _ON_THE_EDGE * np.array([-1, -1, 1, 1])
    out = np.flatnonzero((left < frame[0]) | (bottom < frame[1]) | (right > frame[2]) | (top > frame[3]))
    if not out.size:
        return Zones(found)
    if not (crs.is_geographic or crs.is_projected):
        return Zones(found, dict(zip(out.tolist(), shapely.area(found[out]).tolist(), strict=True)))
    whole = in_degrees(given[out], own, degrees_of(crs), index[out]) if degrees is None else degrees[out]
    return Zones(found, dict(zip(out.tolist(), ground_km2(whole).tolist(), strict=True)))


def _placed(source: rasterio.io.DatasetReader, crs: pyproj.CRS, degrees: Any, index: Any) -> Any:
    """Polygons in degrees in the raster's system."""
    shapes = counted_from(degrees, first_longitude(source), torn=not crs.is_geographic)
    if crs.is_geographic:
        return shapes
    # What lies far from the raster counts for nothing on it, and may be more than its projection can hold.
    near = _around(source, crs)
    far = np.flatnonzero(~shapely.covered_by(shapes, near))
    shapes[far] = [mend(shape & near) for shape in shapes[far]]
    to_map = pyproj.Transformer.from_crs(degrees_of(crs), crs, always_xy=True)
    placed = np.asarray(
        shapely.transform(shapes, lambda xy: np.column_stack(to_map.transform(xy[:, 0], xy[:, 1]))),
        dtype=object,
    )
    if (lost := ~is_finite(placed)).any():
        raise DataError(
            f"polygons: {int(lost.sum())} rows cannot be brought into the system of {source.name}: "
            f"{row_names(index, lost)}. Cut them to the map."
        )
    return placed


def _around(source: rasterio.io.DatasetReader, crs: pyproj.CRS) -> BaseGeometry:
    """Longitudes and latitudes of a raster and some degrees around it, however often round the Earth."""
    x, y = source.transform @ (np.array([0, source.width] * 2), np.array([0, 0] + [source.height] * 2))
    to_degrees = pyproj.Transformer.from_crs(crs, degrees_of(crs), always_xy=True)
    west, south, east, north = to_degrees.transform_bounds(x.min(), y.min(), x.max(), y.max())
    if not np.isfinite([west, south, east, north]).all():
        return shapely.box(-720, -90, 720, 90)
    east += 360 if east < west else 0
    boxes = [
        shapely.box(west - _AROUND + turn, south - _AROUND, east + _AROUND + turn, north + _AROUND)
        for turn in (-360, 0, 360)
    ]
    return shapely.union_all(boxes)


def cells_in_zones(
    source: rasterio.io.DatasetReader, zones: Zones, people: People | None = None
) -> Iterator[Piece]:
    """Cells that each zone meets, some hundred thousands at a time at most: a large zone comes in several pieces.

    Without `people` a cell weighs the ground that the zone covers of it. With them it weighs its people, those on the
    covered part where people are known on smaller cells than the map's.
    """
    areas, bands = CellAreas(source), value_bands(source)
    across, down = (1, 1) if people is None else people.parts
    grid = _Grid(source.height, source.width, across, down)
    side = max(1, _SIDE // max(across, down))
    for some in _batches(_split(source, zones, side), _CELLS_AT_A_TIME // (across * down)):
        frame = gpd.GeoDataFrame(geometry=[shape for _, shape, _ in some])
        found = exactextract.exact_extract(grid, _Shapes(frame), ["cell_id", "coverage"], output="pandas")
        cells = zip(found["cell_id"], found["coverage"], strict=True)
        for (zone, _, _), (numbers, cover) in zip(some, cells, strict=True):
            row, col = np.divmod(numbers.astype(np.int64), source.width * across)
            if not row.size:
                continue
            top, left = int(row.min()) // down, int(col.min()) // across
            height, width = int(row.max()) // down - top + 1, int(col.max()) // across - left + 1
            values = read_values(source, bands, Window(left, top, width, height))
            if people is None:
                weight = cover * areas(top, left, height, width)[row - top, col - left]
            else:
                counts = people.counts(top, left, height, width)[row - top * down, col - left * across]
                weight = cover * people.known(counts)
                # What lies in one cell of the map has one value, and one error.
                place, which = np.unique(row // down * source.width + col // across, return_inverse=True)
                weight = np.bincount(which, weights=weight)
                row, col = np.divmod(place, source.width)
            yield Piece(
                zone, row, col, values[:, row - top, col - left], np.asarray(weight, dtype=np.float64)
            )


def whole_weights(
    zones: Zones, shapes: gpd.GeoSeries, covered: npt.NDArray[np.float64], people: People | None
) -> npt.NDArray[np.float64]:
    """Weights of zones, parts beyond the raster included, given what they cover of it."""
    whole = np.array(covered, dtype=np.float64)
    beyond = list(zones.beyond_km2)
    if people is None or not beyond:
        found = np.array([zones.beyond_km2[zone] for zone in beyond])
    else:
        found, own = np.zeros(len(beyond)), people.on_own_cells()
        for piece in cells_in_zones(people.raster, zones_on_grid(people.raster, shapes.iloc[beyond]), own):
            found[piece.zone] += piece.weight.sum()
    whole[beyond] = np.maximum(whole[beyond], found)
    return whole


class _Grid(RasterSource):  # type: ignore[misc]  # exactextract has no types
    """Pixels without values: of a raster, or of its cells cut into equal parts."""

    def __init__(self, height: int, width: int, across: int, down: int) -> None:
        super().__init__()
        self._height, self._width, self._across, self._down = height, width, across, down

    def res(self) -> tuple[float, float]:
        return 1 / self._across, 1 / self._down

    def extent(self) -> tuple[float, float, float, float]:
        return 0.0, -float(self._height), float(self._width), 0.0

    def srs_wkt(self) -> None:
        return None

    def nodata_value(self) -> None:
        return None

    def read_window(self, x0: int, y0: int, nx: int, ny: int) -> npt.NDArray[np.uint8]:
        return np.zeros((ny, nx), dtype=np.uint8)


class _Shapes(GeoPandasFeatureSource):  # type: ignore[misc]
    """Polygons on pixels have no coordinate system, which exactextract would ask for."""

    def srs_wkt(self) -> None:
        return None


def _split(
    source: rasterio.io.DatasetReader, zones: Zones, side: int
) -> Iterator[tuple[int, BaseGeometry, int]]:
    """Zones, those that are large cut along the raster's cells: position, shape and number of cells at most."""
    for zone, shape in enumerate(zones.shapes):
        if shape.is_empty:
            continue
        bounds = shape.bounds
        left, right = np.clip([np.floor(bounds[0]), np.ceil(bounds[2])], 0, source.width).astype(int)
        top, bottom = np.clip([np.floor(-bounds[3]), np.ceil(-bounds[1])], 0, source.height).astype(int)
        if max(right - left, bottom - top) <= side:
            yield zone, shape, int((right - left) * (bottom - top))
            continue
        shapely.prepare(shape)
        for row in range(top, bottom, side):
            for col in range(left, right, side):
                square = shapely.box(col, -min(row + side, bottom), min(col + side, right), -row)
                part = square if shape.contains(square) else mend(shape & square)
                if not part.is_empty:
                    yield zone, part, side * side


def _batches(
    parts: Iterable[tuple[int, BaseGeometry, int]], most: int
) -> Iterator[list[tuple[int, BaseGeometry, int]]]:
    """Parts of zones, `most` cells at a time unless one alone has more."""
    batch: list[tuple[int, BaseGeometry, int]] = []
    room = most
    for part in parts:
        if batch and room < part[2]:
            yield batch
            batch, room = [], most
        batch.append(part)
        room -= part[2]
    if batch:
        yield batch
