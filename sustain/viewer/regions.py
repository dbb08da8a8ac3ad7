"""A region as it was drawn on the page, brought onto the map's part of the world."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from shapely import MultiPolygon, Polygon, box, get_parts, segmentize, transform, union_all
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from sustain.errors import DataError

__all__ = ["region_on_map"]

_TURN = 360.0
_PIECES = 256  # of the map's longer side; a straight line of the page is bent in other projections
_LOWEST = 85.06  # degrees of latitude that the page shows


def region_on_map(
    corners: Sequence[tuple[float, float]], bounds: tuple[float, float, float, float]
) -> tuple[MultiPolygon, float]:
    """Bring a drawn polygon onto a map: its part within the map's bounds, and the share of its area that lies there.

    Its sides are straight on the page, that is in Mercator's projection, and get corners in between. It may be drawn
    across 180 degrees or on another copy of the world, where longitudes go on counting.

    Parameters
    ----------
    corners : sequence of (lon, lat)
        In degrees.
    bounds : (west, south, east, north)
        Of the map, in degrees; the east exceeds 180 where the map crosses it.

    Returns
    -------
    part : MultiPolygon
        In degrees, longitudes counted as in `bounds`; empty where the region does not meet the map.
    share : float
        Area of `part` over that of the region, 0 to 1.

    Raises
    ------
    DataError
        When the corners do not make an area.
    """
    drawn = Polygon([(lon, _stretched(lat)) for lon, lat in corners]) if len(corners) >= 3 else Polygon()
    if not drawn.is_valid or not drawn.area > 0:
        raise DataError("region: its corners enclose no area, or its sides cross. Draw it again.")
    west, south, east, north = bounds
    # A little more than the map, so that no cell at its edge is cut by rounding.
    margin = 1e-6 + 1e-3 * max(east - west, north - south)
    frame = box(west - margin, _stretched(south - margin), east + margin, _stretched(north + margin))
    left, _, right, _ = drawn.bounds
    first, last = math.ceil((west - margin - right) / _TURN), math.floor((east + margin - left) / _TURN)
    parts = [translate(drawn, _TURN * turn).intersection(frame) for turn in range(first, last + 1)]
    fine = segmentize(union_all(parts), max(east - west, north - south) / _PIECES)
    part = MultiPolygon([piece for piece in get_parts(get_parts(fine)) if piece.geom_type == "Polygon"])
    whole = _ground(segmentize(drawn, max(right - left, margin) / _PIECES))
    return transform(part, _unstretched), min(1.0, _ground(part) / whole)


def _stretched(lat: float) -> float:
    """Latitude as Mercator draws it, in degrees of the equator."""
    return math.degrees(math.asinh(math.tan(math.radians(min(max(lat, -_LOWEST), _LOWEST)))))


def _unstretched(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lat = np.degrees(np.arctan(np.sinh(np.radians(points[:, 1]))))
    return np.column_stack([points[:, 0], lat])


def _ground(shape: BaseGeometry) -> float:
    """Area on a sphere, up to a factor: that of Lambert's cylindrical projection."""
    return float(transform(shape, lambda p: np.column_stack([p[:, 0], np.tanh(np.radians(p[:, 1]))])).area)
