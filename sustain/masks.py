"""Which pixels of a raster hold no value, in whichever way its maker said so: the only reader of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

__all__ = ["missing_pixels"]

_TOLD_BY_ITS_NUMBERS = ([MaskFlags.all_valid], [MaskFlags.nodata])


def missing_pixels(
    dataset: Any, indexes: Sequence[int], stored: npt.NDArray[Any], window: Window | None = None
) -> npt.NDArray[np.bool_]:
    """Tell which pixels hold no value.

    A pixel is missing where it holds its band's nodata number, NaN or an infinite number, where the mask (inside the
    file or beside it, ``.msk``, of the whole raster or of one band) is 0, or where the alpha band is 0. Each of these
    counts, also where a raster has several, of which GDAL would take one.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
    indexes : sequence of int
        Bands, counted from 1.
    stored : ndarray, shape (bands, height, width)
        Numbers of these bands as they are stored, without scale and offset.
    window : Window, optional
        What was read, by default the whole raster. It may have been read at another size.

    Returns
    -------
    ndarray of bool, shape (bands, height, width)

    Raises
    ------
    RasterioError
        When a mask cannot be decoded.
    """
    missing = np.zeros(stored.shape, dtype=np.bool_)
    if stored.dtype.kind in "fc":
        missing |= ~np.isfinite(stored)
    flags, nodata = dataset.mask_flag_enums, dataset.nodatavals
    shared = None
    for band, numbers, index in zip(missing, stored, indexes, strict=True):
        if nodata[index - 1] is not None:
            band |= numbers == nodata[index - 1]
        if flags[index - 1] in _TOLD_BY_ITS_NUMBERS:
            continue
        if MaskFlags.per_dataset not in flags[index - 1]:
            band |= dataset.read_masks(index, window=window, out_shape=stored.shape[1:]) == 0
        elif shared is None:
            shared = dataset.read_masks(index, window=window, out_shape=stored.shape[1:]) == 0
    if shared is not None:
        missing |= shared
    # GDAL overlooks the alpha band of a raster that has a nodata number as well.
    for index, kind in enumerate(dataset.colorinterp, start=1):
        if kind == ColorInterp.alpha:
            missing |= dataset.read(index, window=window, out_shape=stored.shape[1:]) == 0
    return missing
