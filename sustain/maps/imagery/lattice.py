"""One pixel grid for imagery of several: its coordinate system, its corners, and how much of it a raster covers.

A lattice is endless; a raster that is brought onto it covers a rectangle of its pixels. Every raster of a map is laid
on the same lattice, so that cells and blocks stay the plain geometry of `sustain.maps.grid`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_bounds

from sustain.errors import ConfigError, DataWarning, RasterError
from sustain.maps.antimeridian import is_torn, shortest_arc
from sustain.maps.geotiff import crs_of
from sustain.maps.places import WGS84

__all__ = [
    "OFF_GRID",
    "RELATIVE",
    "Lattice",
    "Outline",
    "ResamplingName",
    "choose_lattice",
    "in_metres",
    "is_square",
    "warn_of_ground",
]

ResamplingName: TypeAlias = Literal["nearest", "bilinear", "cubic", "average"]

OFF_GRID = 1e-3
"""Share of a pixel by which corners may miss a grid: what decimal text does to coordinates, no more."""
RELATIVE = 1e-6
"""Relative difference of numbers that GDAL keeps as decimal text."""

_STRETCHED = 0.05  # relative difference of a pixel's side on the ground from what it says
_EDGE_POINTS = 21  # of a raster's edge that are projected; edges bulge between corners
_MOST_PIXELS = 2**31 - 1  # a side, in GDAL


@dataclass(frozen=True)
class Outline:
    """Where a raster lies; its name is for messages."""

    name: str
    geobox: GeoBox

    @classmethod
    def of(cls, name: str, dataset: Any) -> Outline:
        """Outline of an open raster.

        Raises
        ------
        RasterError
            When it has no coordinate system.
        """
        if dataset.crs is None:
            raise RasterError(
                f"{name}: the coordinate system is not set, so it cannot be reprojected. Set it (gdal_edit -a_srs)."
            )
        return cls(name, GeoBox.from_rio(dataset))

    def bounds(self, crs: CRS | str) -> tuple[float, float, float, float]:
        """Left, bottom, right and top in a coordinate system; left > right in degrees across 180 degrees."""
        own, box = crs_of(self.geobox), self.geobox.boundingbox.bbox
        try:
            left, bottom, right, top = transform_bounds(own, crs, *box, densify_pts=_EDGE_POINTS)
            if np.isfinite([left, bottom, right, top]).all():
                return left, bottom, right, top
            reason: object = "its edges lie at infinity there"
        except RasterioError as error:
            reason = error
        raise RasterError(
            f"{self.name}: cannot be brought from {own} to {crs} ({reason}). Choose a coordinate system of the "
            "imagery's part of the world (crs)."
        )


@dataclass(frozen=True)
class Lattice:
    """Square pixels of one size over a whole coordinate system.

    Attributes
    ----------
    pixel : GeoBox
        One of them; its coordinate system is projected, in metres.
    resampling : {"nearest", "bilinear", "cubic", "average"}
        How pixels of other grids are brought onto this one.
    """

    pixel: GeoBox
    resampling: ResamplingName

    @property
    def crs(self) -> CRS:
        """Coordinate system, as GDAL knows it."""
        return crs_of(self.pixel)

    def cover(self, outline: Outline) -> GeoBox:
        """Smallest rectangle of pixels that holds a raster.

        Raises
        ------
        RasterError
            When the raster does not lie where the coordinate system is of use.
        """
        left, bottom, right, top = outline.bounds(self.crs)
        corner, side = self.pixel.affine, self.pixel.affine.a
        first_col, last_col = _pixels(left - corner.c, right - corner.c, side)
        first_row, last_row = _pixels(corner.f - top, corner.f - bottom, side)
        height, width = last_row - first_row, last_col - first_col
        if not 0 < max(height, width) <= _MOST_PIXELS or min(height, width) < 1:
            raise RasterError(
                f"{outline.name}: would cover {height} x {width} pixels of {side} m in {self.crs}. Choose a "
                "coordinate system of the imagery's part of the world (crs)."
            )
        return self.pixel.translate_pix(first_col, first_row).crop((height, width))

    def holds(self, geobox: GeoBox) -> bool:
        """Whether a raster's pixels are pixels of this lattice."""
        col, row = ~self.pixel.affine @ (geobox.affine.c, geobox.affine.f)
        return (
            crs_of(geobox) == self.crs
            and is_square(geobox.affine, self.pixel.affine.a)
            and max(abs(col - round(col)), abs(row - round(row))) <= OFF_GRID
        )


def _pixels(start: float, stop: float, side: float) -> tuple[int, int]:
    return math.floor(start / side + OFF_GRID), math.ceil(stop / side - OFF_GRID)


def choose_lattice(
    outlines: Sequence[Outline],
    crs: str,
    pixel_m: float,
    resampling: ResamplingName,
) -> Lattice:
    """Choose the pixel grid that rasters are brought onto.

    Parameters
    ----------
    outlines : sequence of Outline
        The rasters. If the first has pixels of the right size in the right coordinate system, they are not shifted.
    crs : str
        A coordinate system in metres (``EPSG:32631``, WKT, PROJ), or ``auto``: the one that all rasters share if it
        is in metres, else the UTM zone of their middle.
    pixel_m : float
        Side of a pixel: the model's, since a tile must cover the same ground as in training.
    resampling : {"nearest", "bilinear", "cubic", "average"}

    Raises
    ------
    ConfigError
        When `crs` is unknown or not in metres.
    RasterError
        When the rasters cross 180 degrees where `crs` is torn.
    """
    in_degrees = [outline.bounds(WGS84) for outline in outlines]
    west, east = shortest_arc([(left, right) for left, _, right, _ in in_degrees])
    lats = [lat for bounds in in_degrees for lat in bounds[1::2]]
    zone = _utm((west + east) / 2, min(lats) + max(lats))
    if crs == "auto":
        shared = {crs_of(outline.geobox) for outline in outlines}
        chosen = shared.pop() if len(shared) == 1 else None
        target = chosen if in_metres(chosen) else zone
    else:
        try:
            target = CRS.from_user_input(crs)
        except CRSError as error:
            raise ConfigError(
                f"crs: {crs!r} is no coordinate system ({error}). Pass one such as EPSG:32631, or auto."
            ) from error
        if not in_metres(target):
            raise ConfigError(
                f"crs: {crs} is not projected in metres; a projected one is needed, so that a tile covers the same "
                "ground everywhere. Pass a UTM zone or an equal-area system, or auto."
            )
    if east > 180 and is_torn(target, sum(in_degrees[0][1::2]) / 2):
        raise RasterError(
            f"{outlines[0].name}: the imagery crosses 180 degrees, where {target} is torn apart. Choose a coordinate "
            f"system that is whole there: crs {zone} (UTM), EPSG:3832 (PDC Mercator), or auto."
        )
    first = outlines[0].geobox
    fits = crs_of(first) == target and is_square(first.affine, pixel_m)
    x, y = (first.affine.c, first.affine.f) if fits else (0.0, 0.0)
    return Lattice(GeoBox((1, 1), Affine(pixel_m, 0, x, 0, -pixel_m, y), target), resampling)


def warn_of_ground(name: str, geobox: GeoBox) -> None:
    """Say so where pixels cover another area of ground than their size in metres says.

    Warns
    -----
    DataWarning
        When the side of a square of that area differs by more than 5%, at the raster's centre, corners or edges.
    """
    geod = Geod(ellps="WGS84")
    to_lonlat = Transformer.from_crs(str(geobox.crs), WGS84, always_xy=True)
    height, width = geobox.shape
    sides = []
    for col in (0, width / 2, width - 1):
        for row in (0, height / 2, height - 1):
            square = [(col, row), (col + 1, row), (col + 1, row + 1), (col, row + 1)]
            lon, lat = to_lonlat.transform(*np.array([geobox.affine @ corner for corner in square]).T)
            if np.isfinite([lon, lat]).all():
                sides.append(math.sqrt(abs(geod.polygon_area_perimeter(lon, lat)[0])))
    nominal = math.sqrt(abs(geobox.affine.determinant))
    if sides and max(abs(side / nominal - 1) for side in sides) > _STRETCHED:
        warnings.warn(
            f"{name}: pixels of {nominal:g} m cover {min(sides):.3g} to {max(sides):.3g} m of ground in this "
            "coordinate system. If the model's tiles were not of the same system and latitude, its predictions are of "
            "another scale: pass crs, an equal-area system or a UTM zone of the place (sustain map --crs).",
            DataWarning,
            stacklevel=2,
        )


def in_metres(crs: CRS | None) -> bool:
    """Whether a coordinate system is projected, in metres."""
    return crs is not None and crs.is_projected and math.isclose(crs.linear_units_factor[1], 1.0)


def is_square(transform: Affine, pixel_m: float) -> bool:
    """Whether pixels are north-up squares of this size."""
    sides = (transform.a, -transform.e)
    return not (transform.b or transform.d) and all(
        math.isclose(side, pixel_m, rel_tol=RELATIVE) for side in sides
    )


def _utm(lon: float, lat: float) -> CRS:
    zone = int((lon + 180) % 360 // 6) + 1
    return CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
