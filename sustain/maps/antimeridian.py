"""Rasters across 180 degrees: on which longitudes they lie, which systems are torn there, and how an outline is cut."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as transform_coordinates

from sustain.errors import RasterError
from sustain.maps.places import WGS84

__all__ = ["counted_from_its_middle", "cut_ring", "is_torn", "shortest_arc"]

# Two points 22 m apart across 180 degrees that lie farther apart than this lie at a torn edge.
_TEAR_M = 1000.0
_GREENWICH = re.compile(r'PRIMEM\["Greenwich",0,AUTHORITY\[[^]]*\]\]')
_CODE = re.compile(r',AUTHORITY\["\w+","\w+"\]\]$')  # of the whole system, which is another one now


def shortest_arc(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Find the shortest arc of longitudes that holds all spans (west, east), whose west may exceed their east.

    Returns
    -------
    (west, east)
        In degrees; the east exceeds 180 where the arc crosses 180 degrees.
    """
    arcs = []
    for left, right in spans:
        width = min(right - left if right >= left else right - left + 360, 360)
        start = (left + 180) % 360 - 180
        arcs.append((start, start + width))
    arcs.sort()
    # The arc begins after the widest gap between neighbours, going round once.
    end = max(stop for _, stop in arcs) - 360
    gaps = []
    for start, stop in arcs:
        gaps.append((start - end, start))
        end = max(end, stop)
    gap, west = max(gaps)
    return (west, west + 360 - gap) if gap > 0 else (-180.0, 180.0)


def is_torn(crs: CRS, lat: float) -> bool:
    """Whether a system in metres puts the two sides of 180 degrees at opposite ends of the world."""
    xs, ys = transform_coordinates(WGS84, crs, [179.9999, -179.9999], [lat, lat])
    return not math.hypot(xs[1] - xs[0], ys[1] - ys[0]) <= _TEAR_M


def counted_from_its_middle(name: str, dataset: Any) -> dict[str, Any]:
    """Coordinates of a raster in degrees that go beyond 180: the same ground, with longitudes from its own middle.

    GDAL looks for a place at its longitude between -180 and 180, and would find nothing beyond. The datum stays.

    Returns
    -------
    dict
        Arguments ``src_crs`` and ``src_transform`` of `rasterio.vrt.WarpedVRT`; empty where the raster needs none.

    Raises
    ------
    RasterError
        When longitudes beyond 180 do not count from Greenwich.
    """
    left, right = sorted((dataset.bounds.left, dataset.bounds.right))
    if not dataset.crs.is_geographic or (left >= -180 and right <= 180):
        return {}
    middle = (left + right) / 2
    system, n_changed = _GREENWICH.subn(f'PRIMEM["middle of the raster",{middle!r}]', dataset.crs.to_wkt())
    if n_changed != 1:
        raise RasterError(
            f"{name}: its longitudes go from {left} to {right}, beyond 180, and do not count from Greenwich. Cut it at "
            "180 degrees (gdal_translate -projwin), and pass both parts."
        )
    return {
        "src_crs": CRS.from_wkt(_CODE.sub("]", system)),
        "src_transform": Affine.translation(-middle, 0) @ dataset.transform,
    }


def cut_ring(corners: Iterable[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Cut the outline of a raster across 180 degrees there; its longitudes go on beyond 180, and do not jump.

    Returns
    -------
    list of rings of (lon, lat)
        Anticlockwise. One only, where the corners lie on one side and just the bulge of an edge lies beyond.
    """
    whole = shapely.Polygon(corners)
    halves = [(whole & shapely.box(-180, -90, 180, 90), 0), (whole & shapely.box(180, -90, 540, 90), 360)]
    return [
        [(lon - turn, lat) for lon, lat in shapely.orient_polygons(half).exterior.coords]
        for half, turn in halves
        if half.area > 0
    ]
