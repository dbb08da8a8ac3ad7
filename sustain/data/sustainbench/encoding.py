"""What the numbers of packed Landsat tiles mean, and published tiles turned into them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.data.sustainbench import dhs
from sustain.data.tiles.shards import TileFormat

__all__ = ["LANDSAT_ENCODING", "EncodedTile", "encode_landsat", "landsat_format"]

LANDSAT_ENCODING = dict.fromkeys(dhs.BANDS, (2.75e-5, -0.2)) | {
    "TEMP1": (0.00341802, 149.0),
    "NIGHTLIGHTS": (0.01, -0.01),
}
"""Scale and offset of each band's DN: Landsat Collection 2's own for reflectance and kelvin; hundredths for lights,
up to 655 (nW cm-2 sr-1 from VIIRS, DN from DMSP)."""


def landsat_format(tile_px: int, pixel_m: float = 30) -> TileFormat:
    """Return the format of packed Landsat tiles of a size."""
    scale, offset = zip(*(LANDSAT_ENCODING[band] for band in dhs.BANDS), strict=True)
    return TileFormat(bands=dhs.BANDS, scale=scale, offset=offset, nodata=0, pixel_m=pixel_m, tile_px=tile_px)


class EncodedTile(NamedTuple):
    """A raw tile as DN.

    Attributes
    ----------
    tile : ndarray of uint16, shape (8, H, W), or None
        North-up, missing 0; None when no pixel of the tile is valid.
    limited : ndarray of int, shape (8,)
        Values of each band that lay beyond the range of a DN and were set to its nearer end.
    with_nan : bool
        Whether the raw tile held NaN or infinite values, which count as missing.
    """

    tile: NDArray[np.uint16] | None
    limited: NDArray[np.int64]
    with_nan: bool


def encode_landsat(x: NDArray[np.float32], pixel_m: float = 30) -> EncodedTile:
    """Turn a published tile, ``(8, H, W)`` with row 0 in the south and missing values 0, into DN, north-up."""
    # No land is at 0 K, so TEMP1 tells a missing observation from a dark one; lights come from another sensor, and are
    # missing with it only where they are 0 too.
    missing = np.empty(x.shape, dtype=bool)
    missing[:] = x[dhs.BANDS.index("TEMP1")] == 0
    missing[-1] &= x[-1] == 0
    finite = np.isfinite(x)
    with_nan = not bool(finite.all())
    if with_nan:
        missing |= ~finite
    if missing[:-1].all():
        return EncodedTile(None, np.zeros(len(x), dtype=np.int64), with_nan)
    tile, limited = landsat_format(x.shape[1], pixel_m).encode(x, missing)
    return EncodedTile(np.ascontiguousarray(tile[:, ::-1]), limited, with_nan)
