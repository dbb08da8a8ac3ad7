"""Bring your own map: somebody else's raster of predictions, with what it leaves unsaid put into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sustain.errors import RasterError
from sustain.files import require_free_space
from sustain.maps.geotiff import (
    BLOCK_PX,
    WEALTH_RAW,
    open_raster,
    read_values,
    require_crs,
    value_band,
)
from sustain.maps.writing import create_geotiff, whole_raster

__all__ = ["adopt_raster"]


def adopt_raster(
    src: str | Path,
    dst: str | Path,
    *,
    target: Mapping[str, str],
    predictor: str,
    band: int | str | None = None,
) -> Path:
    """Copy one band of a raster of predictions into a raw map of this package.

    Values are those that the raster declares, its scale applied. Added are the name ``wealth_raw``, the unit, NaN as
    declared nodata, and tags that say what is predicted and by which model, so that later stages can refuse a card that
    was made for something else.

    Parameters
    ----------
    src : str or Path
        Any georeferenced raster. Its scale and offset are applied. NaN, an infinite number, its nodata number, its
        mask and its alpha band mean no prediction.
    dst : str or Path
        GeoTIFF to write, on the same grid.
    target : mapping
        ``{"name": ..., "unit": ...}`` of what is predicted.
    predictor : str
        Id of the model, as in the calibration card.
    band : int or str, optional
        Band to take, by number from 1 or by name; by default the only one, or the one named ``wealth_raw``.

    Returns
    -------
    Path
        `dst`.

    Raises
    ------
    RasterError
        When `src` does not exist, has no such band, several and none named, no coordinate system, or no value at all.
    FileFormatError
        When it cannot be read.
    DiskSpaceError
        When there is no room.
    """
    dst = Path(dst)
    with open_raster(src) as source:
        index = value_band(source, band)
        require_crs(source)
        require_free_space(dst.parent, 4 * source.height * source.width, f"copying {source.name}")
        n_values = 0
        with (
            whole_raster(dst) as partial,
            create_geotiff(
                partial,
                like=source,
                bands=(WEALTH_RAW,),
                units=(target["unit"],),
                tags={
                    "SUSTAIN_PREDICTOR": predictor,
                    "SUSTAIN_TARGET": target["name"],
                },
                blockysize=min(BLOCK_PX, source.height),
            ) as copy,
        ):
            for _, window in copy.block_windows(1):
                values = read_values(source, [index], window)
                n_values += int(np.isfinite(values).sum())
                copy.write(values.astype(np.float32), window=window)
            if not n_values:
                raise RasterError(f"{source.name}: band {index} holds no value at all; is it the right file?")
    return dst
