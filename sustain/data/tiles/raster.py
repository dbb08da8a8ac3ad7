"""One tile of your own as its file has it: pixels, missing ones, and where and how large they are on the ground."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from sustain.data.tiles.shards import MAX_DN, TileFormat
from sustain.errors import FileFormatError
from sustain.masks import missing_pixels

__all__ = ["OwnTile", "read_tile"]

_SAME_SIZE = 0.01  # relative difference of pixels that count as of one size
_ON_GROUND = 0.05  # of a pixel in degrees from the size that is declared
_LONLAT = "EPSG:4326"
_SPHEROID = Geod(ellps="WGS84")


@dataclass(frozen=True)
class OwnTile:
    """A tile in packed numbers, 0 for missing, north-up.

    Attributes
    ----------
    pixels : ndarray of uint16, shape (bands, side, side)
    form : TileFormat
        What the numbers mean.
    lat, lon : float
        Its middle, in degrees; NaN where the file has no coordinate system.
    ground_m : float
        Side of a square of the area that a pixel in its middle covers on the ground, in metres; NaN likewise.
    """

    pixels: NDArray[np.uint16]
    form: TileFormat
    lat: float
    lon: float
    ground_m: float


def read_tile(path: Path, pixel_m: float | None, like: TileFormat | None) -> OwnTile:
    """Read a tile.

    Parameters
    ----------
    path : Path
        GeoTIFF of named bands of whole numbers from 0 to 65535 with scale and offset; square, north-up or south-up.
        Missing pixels are told by a nodata number, a mask (inside the file or beside it) or an alpha band; without any
        of these, by 0.
    pixel_m : float, optional
        Side of a pixel in metres, where the user declares one; needed where the file has no coordinate system or one in
        degrees.
    like : TileFormat, optional
        Of the first tile: bands of these names in another order are brought into its order, and its size of pixels
        counts where this one's differs by less than 1%.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    FileFormatError
        When it cannot be read, or is not such a tile, or is not like the first.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such tile, but the table has a row for it.")
    try:
        with _quiet_about_places(), rasterio.open(path) as source:
            indexes = [k for k, kind in enumerate(source.colorinterp, start=1) if kind != ColorInterp.alpha]
            stored = source.read(indexes)
            missing = missing_pixels(source, indexes, stored)
            shown = [source.mask_flag_enums[index - 1] for index in indexes]
            about = {
                name: [values[index - 1] for index in indexes]
                for name, values in (
                    ("bands", source.descriptions),
                    ("scale", source.scales),
                    ("offset", source.offsets),
                    ("nodata", source.nodatavals),
                )
            }
            crs, transform, height, width = source.crs, source.transform, source.height, source.width
            alpha = len(indexes) < source.count
    except RasterioError as error:
        raise FileFormatError(f"{path}: not a readable GeoTIFF ({error.__cause__ or error}).") from error
    if not all(about["bands"]) or height != width:
        raise FileFormatError(
            f"{path}: expected a square tile whose bands have names; got {height} x {width} pixels, bands "
            f"{tuple(about['bands'])}. Name the bands (rasterio: dataset.descriptions)."
        )
    if stored.dtype.kind != "u" or stored.dtype.itemsize > 2:
        raise FileFormatError(
            f"{path}: holds {stored.dtype} with nodata {about['nodata'][0]}; expected uint16 DN (or uint8), and scale "
            "and offset tags that give their meaning."
        )
    whole = not alpha and all(
        number is None and [flag.name for flag in flags] == ["all_valid"]
        for number, flags in zip(about["nodata"], shown, strict=True)
    )
    if whole:  # nothing is declared, so 0 is missing, as the documentation asks
        missing = stored == 0
    zero = (stored == 0) & ~missing
    if zero.any():
        band = about["bands"][int(np.flatnonzero(zero.any(axis=(1, 2)))[0])]
        raise FileFormatError(
            f"{path}: band {band} holds the number 0 as a value, which stands for a missing pixel in packed tiles. Add "
            f"1 to all numbers of all tiles (at most {MAX_DN}) and subtract the scale from the offset."
        )
    side, rows = _pixel(path, crs, transform, height, pixel_m)
    lat, lon, ground = _place(crs, transform, height) if crs is not None else (math.nan,) * 3
    if like is not None and abs(side / like.pixel_m - 1) < _SAME_SIZE:
        side = like.pixel_m
    order = _order(path, about["bands"], like)
    pixels = np.where(missing, 0, stored).astype(np.uint16)[order, ::rows]
    form = TileFormat(
        bands=tuple(about["bands"][k] for k in order),
        scale=tuple(about["scale"][k] for k in order),
        offset=tuple(about["offset"][k] for k in order),
        nodata=0,
        pixel_m=side,
        tile_px=height,
    )
    if like is not None and (wrong := like.differences(form)):
        raise FileFormatError(f"{path}: is not like the first tile: {wrong}.")
    return OwnTile(pixels, form, lat, lon, ground)


@contextmanager
def _quiet_about_places() -> Iterator[None]:
    """Leave out rasterio's notice of a tile without a place: here that is an error, or declared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _order(path: Path, bands: list[str], like: TileFormat | None) -> list[int]:
    if len(set(bands)) < len(bands):
        raise FileFormatError(f"{path}: several bands have one name: {', '.join(bands)}. Name each as it is.")
    if like is None:
        return list(range(len(bands)))
    if set(bands) != set(like.bands):
        raise FileFormatError(
            f"{path}: is not like the first tile: bands is {tuple(bands)}, not {like.bands}."
        )
    return [bands.index(band) for band in like.bands]


def _pixel(
    path: Path, crs: Any, transform: rasterio.Affine, side_px: int, declared: float | None
) -> tuple[float, int]:
    """Side of a pixel in metres, and the step through rows that goes from north to south."""
    if crs is None:
        if declared is None:
            raise FileFormatError(
                f"{path}: has no coordinate system, so its pixels' size is not known. Set it (gdal_edit -a_srs), or "
                "say the size: tiles.pixel_m."
            )
        return declared, 1 if transform.e < 0 or transform.is_identity else -1
    if transform.b or transform.d or transform.a <= 0 or transform.e == 0:
        raise FileFormatError(
            f"{path}: is rotated or mirrored (transform {tuple(transform)[:6]}); expected rows from north to south or "
            "from south to north. Warp it to a grid of its coordinate system (gdalwarp)."
        )
    rows = 1 if transform.e < 0 else -1
    if not crs.is_projected:
        return _in_degrees(path, transform, side_px, declared), rows
    unit = crs.linear_units_factor[1]
    across, down = transform.a * unit, abs(transform.e) * unit
    if abs(across / down - 1) > _SAME_SIZE or (
        declared is not None and abs(across / declared - 1) > _SAME_SIZE
    ):
        wanted = "square pixels" if declared is None else f"pixels of {declared:g} m (tiles.pixel_m)"
        raise FileFormatError(
            f"{path}: its pixels are {across:g} x {down:g} m; expected {wanted}. Resample the tiles (gdalwarp -tr), or "
            "mend tiles.pixel_m; without it the size is read from the tiles."
        )
    return across if declared is None else declared, rows


def _in_degrees(path: Path, transform: rasterio.Affine, side_px: int, declared: float | None) -> float:
    """Side of a pixel in degrees: as declared, if it is about that on the ground."""
    lon, lat = transform @ (side_px / 2, side_px / 2)
    across = _SPHEROID.inv(lon, lat, lon + transform.a, lat)[2]
    down = _SPHEROID.inv(lon, lat, lon, lat + transform.e)[2]
    if declared is None or max(abs(across / declared - 1), abs(down / declared - 1)) > _ON_GROUND:
        wanted = (
            "pixels in metres, or tiles.pixel_m" if declared is None else f"{declared:g} m (tiles.pixel_m)"
        )
        raise FileFormatError(
            f"{path}: its pixels are in degrees and cover {across:.3g} x {down:.3g} m of ground; expected {wanted}. "
            "Bring the tiles into a system in metres (gdalwarp -t_srs EPSG:326ZZ -tr 30 30, ZZ the UTM zone; in Earth "
            "Engine export with crs and scale)."
        )
    return declared


def _place(crs: Any, transform: rasterio.Affine, side_px: int) -> tuple[float, float, float]:
    """Latitude and longitude of the middle, and the side of a square that covers a pixel's ground there."""
    middle = side_px / 2
    corners = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)]
    x, y = np.array([transform @ (middle + col, middle + row) for row, col in corners]).T
    lon, lat = _to_lonlat(crs.to_wkt()).transform(x, y)
    return float(lat[0]), float(lon[0]), math.sqrt(abs(_SPHEROID.polygon_area_perimeter(lon, lat)[0]))


@cache
def _to_lonlat(wkt: str) -> Transformer:
    return Transformer.from_crs(wkt, _LONLAT, always_xy=True)
