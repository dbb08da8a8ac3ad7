"""A band of a raster as the 256-pixel pictures that web maps are put together of."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from rasterio.io import DatasetReader
from rasterio.windows import Window

from sustain.maps.geotiff import read_values
from sustain.maps.places import cells_of, inside_of

__all__ = ["tile_values", "to_png"]

_TILE_PX = 256
_FINE_PX = 1024  # cells along a side of a tile's window; of more than that, some are read
_MOST_READ = 16_000_000  # cells of a band of kinds, which overviews would mix


def tile_values(
    source: DatasetReader, index: int, z: int, x: int, y: int, *, kinds: bool = False
) -> npt.NDArray[np.float64] | None:
    """Values of a band at the pixels of a Web Mercator tile: each that of the cell in which the pixel's centre lies.

    Places are found and values read as for a click (`sustain.maps.places.cells_of`,
    `sustain.maps.geotiff.read_values`), so rasters of any system, orientation and type
    are drawn as they are read.

    Parameters
    ----------
    source : rasterio.io.DatasetReader
    index : int
        Band, counted from 1.
    z, x, y : int
        Zoom level, column and row of the tile.
    kinds : bool
        Whether the band holds kinds, not amounts: then no overview is read, unless the window is vast.

    Returns
    -------
    ndarray of float64, shape (256, 256), or None
        NaN where there is no value; None where the tile lies outside the raster.
    """
    places = (np.arange(_TILE_PX) + 0.5) / _TILE_PX
    lon = (x + places) / 2**z * 360 - 180
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (y + places) / 2**z))))
    lons, lats = np.meshgrid(lon, lat)
    rows, cols = cells_of(source, lons.ravel(), lats.ravel())
    inside = inside_of(source, rows, cols)
    if not inside.any():
        return None
    rows, cols = rows[inside], cols[inside]
    top, left = int(rows.min()), int(cols.min())
    height, width = int(rows.max()) - top + 1, int(cols.max()) - left + 1
    step = max(1, math.ceil(max(height, width) / _FINE_PX))
    if kinds and height * width <= _MOST_READ:
        step = 1
    shape = math.ceil(height / step), math.ceil(width / step)
    window = Window(left, top, width, height)
    (read,) = read_values(source, [index], window, shape if step > 1 else None)
    values = np.full(inside.shape, np.nan)
    values[inside] = read[(rows - top) * shape[0] // height, (cols - left) * shape[1] // width]
    return values.reshape(lons.shape)


def to_png(colours: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_]) -> bytes:
    """Picture of colours (height, width, 3), transparent where not `known`."""
    opaque = np.where(known, 255, 0).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(np.dstack([colours, opaque]), "RGBA").save(content, "PNG", compress_level=3)
    return content.getvalue()
