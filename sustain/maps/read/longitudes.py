"""Polygons in degrees as a raster counts its longitudes: across 180 degrees, across Greenwich, from 0 to 360.

A polygon may come as RFC 7946 wants it, cut at 180 degrees; with longitudes beyond 180; or in a projection that is
whole there. All become polygons whose longitudes do not jump, and then those of the raster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from sustain.errors import DataError
from sustain.maps.read.polygons import mend, row_names

__all__ = ["counted_from", "in_degrees", "whole_ring"]

Floats = npt.NDArray[np.float64]

_EDGE_M, _EDGE_DEGREES = 25_000.0, 0.25  # longer edges get corners in between, as they bend in another system
_ROUND_THE_WORLD = 359.9  # an edge of this length is that of a box of the whole world
_OFF_THE_SEAM = 1e-9


def in_degrees(shapes: Any, own: pyproj.CRS, degrees: pyproj.CRS, index: Any) -> Any:
    """Polygons of any system in degrees of `degrees`, with longitudes that do not jump and may go beyond 180.

    Raises
    ------
    DataError
        When a row cannot be brought into degrees, or an edge in degrees leaves open which way round it goes.
    """
    to_degrees = pyproj.Transformer.from_crs(own, degrees, always_xy=True)
    if own.is_geographic:
        _refuse_jumps(shapes, index)
        shapes = shapely.segmentize(shapes, _EDGE_DEGREES)
        if own.equals(degrees, ignore_axis_order=True):
            return shapes

        def changed(xy: Floats) -> Floats:
            lon, lat = to_degrees.transform(xy[:, 0], xy[:, 1])
            return np.column_stack([xy[:, 0] + (lon - xy[:, 0] + 180) % 360 - 180, lat])

        return shapely.transform(shapes, changed)
    unit_m = own.axis_info[0].unit_conversion_factor if own.axis_info else 1.0
    shapes = shapely.segmentize(shapes, _EDGE_M / unit_m)
    shapes = shapely.transform(shapes, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))
    lost = ~is_finite(shapes)
    if lost.any():
        raise DataError(
            f"polygons: {int(lost.sum())} rows lie in part where their coordinate system has no longitude and "
            f"latitude: {row_names(index, lost)}. Check the system that they are said to be in."
        )
    left, _, right, _ = shapely.bounds(shapes).T
    return np.array(
        [_whole(shape) if wide else shape for shape, wide in zip(shapes, right - left > 180, strict=True)],
        dtype=object,
    )


def counted_from(shapes: Any, first: float, *, torn: bool) -> Any:
    """Polygons in degrees with longitudes between `first` and 360 more, cut where they go beyond.

    `torn` leaves out a hair on both sides, for a projection that cannot tell one from the other.
    """
    hair = _OFF_THE_SEAM if torn else 0.0
    left, _, right, _ = shapely.bounds(shapes).T
    lowest = np.floor((left - first) / 360)
    highest = np.maximum(np.ceil((right - first) / 360) - 1, lowest)
    found = np.array(shapes, dtype=object)
    for place in np.flatnonzero((lowest != 0) | (highest != 0)):
        parts = []
        for turn in np.arange(lowest[place], highest[place] + 1):
            moved = shapely.transform(shapes[place], lambda xy, turn=turn: xy - [360 * turn, 0.0])
            parts.append(moved & shapely.box(first + hair, -91, first + 360 - hair, 91))
        found[place] = mend(shapely.GeometryCollection(parts))
    return found


def whole_ring(ring: Floats) -> Floats:
    """Take the jumps out of a closed ring in degrees; one around a pole is closed along the pole."""
    lon = np.unwrap(ring[:, 0], period=360)
    ring = np.column_stack([lon, ring[:, 1]])
    if abs(lon[-1] - lon[0]) < 180:
        return ring
    pole = np.copysign(90.0, ring[:, 1].mean())
    return np.concatenate([ring, [[lon[-1], pole], [lon[0], pole], ring[0]]])


def is_finite(shapes: Any) -> npt.NDArray[np.bool_]:
    """Whether all coordinates of each polygon are numbers."""
    xy, of_shape = shapely.get_coordinates(shapes, return_index=True)
    bad: npt.NDArray[np.bool_] = (
        np.bincount(of_shape, ~np.isfinite(xy).all(axis=1), minlength=len(shapes)) == 0
    )
    return bad


def _whole(shape: Any) -> Any:
    """One polygon, its rings without jumps, its holes inside their shells."""
    parts = []
    for part in shapely.get_parts(shape):
        shell = shapely.Polygon(whole_ring(shapely.get_coordinates(part.exterior)))
        middle = (shell.bounds[0] + shell.bounds[2]) / 2
        holes = []
        for hole in part.interiors:
            ring = whole_ring(shapely.get_coordinates(hole))
            off = np.round((ring[:, 0].mean() - middle) / 360) * 360
            holes.append(shapely.Polygon(ring - [off, 0.0]))
        parts.append(mend(shell).difference(mend(shapely.MultiPolygon(holes))) if holes else mend(shell))
    return mend(shapely.GeometryCollection(parts))


def _refuse_jumps(shapes: Any, index: Any) -> None:
    left, _, right, _ = shapely.bounds(shapes).T
    wrong = np.zeros(len(shapes), dtype=np.bool_)
    for place in np.flatnonzero(right - left > 180):
        for ring in _rings(shapes[place]):
            step = np.abs(np.diff(ring[:, 0]))
            wrong[place] |= bool(((step > 180) & (step < _ROUND_THE_WORLD)).any())
    if wrong.any():
        raise DataError(
            f"polygons: {int(wrong.sum())} rows have an edge of more than 180 degrees of longitude, which may go "
            f"across 180 degrees or the other way round: {row_names(index, wrong)}. Cut them at 180 degrees "
            "(RFC 7946), or count longitudes on (179, 181); if they do go round the world, give the edge corners in "
            "between (polygons.segmentize(90))."
        )


def _rings(shape: Any) -> list[Floats]:
    parts = shapely.get_parts(shape)
    return [shapely.get_coordinates(ring) for part in parts for ring in (part.exterior, *part.interiors)]
