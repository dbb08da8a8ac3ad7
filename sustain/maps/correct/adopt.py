"""Bring your own map: somebody else's raster of predictions, with what it leaves unsaid put into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sustain.errors import RasterError
from sustain.files import atomic_path, require_free_space
from sustain.maps.geotiff import (
    BLOCK_PX,
    WEALTH_RAW,
    create_geotiff,
    open_raster,
    read_window,
    write_failures,
)

__all__ = ["adopt_raster"]


def adopt_raster(
    src: str | Path, dst: str | Path, *, target: Mapping[str, str], predictor: str, band: int = 1
) -> Path:
    """Copy one band of a raster of predictions into a raw map of this package.

    Values are not changed. Added are the name ``wealth_raw``, the unit, NaN as declared nodata, and tags that say
    what is predicted and by which model, so that later stages can refuse a card that was made for something else.

    Parameters
    ----------
    src : str or Path
        Any georeferenced raster. NaN, and its nodata number if it declares one, mean no prediction.
    dst : str or Path
        GeoTIFF to write, on the same grid.
    target : mapping
        ``{"name": ..., "unit": ...}`` of what is predicted.
    predictor : str
        Id of the model, as in the calibration card.
    band : int
        Band to take, from 1.

    Returns
    -------
    Path
        `dst`.

    Raises
    ------
    RasterError
        When `src` does not exist, has no such band, no coordinate system or no value at all.
    FileFormatError
        When it cannot be read.
    DiskSpaceError
        When there is no room.
    """
    dst = Path(dst)
    with open_raster(src) as source:
        if not 1 <= band <= source.count:
            raise RasterError(f"{source.name}: has {source.count} band(s), so there is no band {band}.")
        if source.crs is None:
            raise RasterError(
                f"{source.name}: declares no coordinate system, so nobody can tell where its cells lie. "
                "Set it (gdal_edit.py -a_srs EPSG:...)."
            )
        require_free_space(dst.parent, 4 * source.height * source.width, f"copying {source.name}")
        nodata, n_values = source.nodatavals[band - 1], 0
        with (
            atomic_path(dst) as partial,
            write_failures(dst),
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
                stored = read_window(source, [band], window)
                values = stored * source.scales[band - 1] + source.offsets[band - 1]
                if nodata is not None:
                    values[stored == nodata] = np.nan
                n_values += int(np.isfinite(values).sum())
                copy.write(values.astype(np.float32), window=window)
            if not n_values:
                raise RasterError(f"{source.name}: band {band} holds no value at all; is it the right file?")
    return dst
