"""Writing GeoTIFFs the way this package needs: whole files, the same bytes every time, failures with a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError

import sustain
from sustain.errors import DiskSpaceError, RasterError
from sustain.files import atomic_path
from sustain.maps.geotiff import BLOCK_PX, crs_of

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["copy_as_cog", "create_geotiff", "whole_raster"]

# No side-car .aux.xml files, a cache that does not grow with the machine, and one thread: the same bytes anywhere.
# rasterio takes the cache in bytes. Next to none while writing: each block goes to the file at once, in our order.
_GDAL = {"GDAL_PAM_ENABLED": "NO", "GDAL_CACHEMAX": 256, "GDAL_NUM_THREADS": "1"}
# The COG driver orders the blocks by itself. Its overviews of four bands need chunks of 17 MB; above this limit they go
# by a temporary raster in memory, which grows with the map and takes twice the time.
_COPY = _GDAL | {"GDAL_CACHEMAX": 64 << 20, "GDAL_OVR_CHUNK_MAX_SIZE": 64 << 20}
_SIDE_CARS = (".msk", ".aux.xml", ".ovr")
# GDAL may need the file system itself to have some slack; below this, call the disk full.
_FULL_DISK_BYTES = 1 << 20


@contextmanager
def create_geotiff(
    path: Path,
    *,
    like: GeoBox | rasterio.io.DatasetReader,
    bands: Sequence[str],
    units: Sequence[str],
    tags: Mapping[str, str],
    **layout: Any,
) -> Iterator[rasterio.io.DatasetWriter]:
    """Create a compressed float32 GeoTIFF on the pixels of `like`, with NaN for no data, named bands, units and tags.

    This version of the package is put among the tags.

    Write each of its internal blocks (`layout`: ``blockysize`` and so on) once and in order: then the bytes do
    not depend on GDAL's cache. Call it inside `whole_raster`.
    """
    height, width = like.shape
    with rasterio.Env(**_GDAL):
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype="float32",
            nodata=np.nan,
            height=height,
            width=width,
            count=len(bands),
            crs=crs_of(like),
            transform=like.transform,
            compress="deflate",
            predictor=3,
            interleave="band",
            bigtiff="IF_SAFER",
            **layout,
        ) as dataset:
            dataset.descriptions = tuple(bands)
            dataset.units = tuple(units)
            tags = {"SUSTAIN_VERSION": sustain.__version__, **tags}
            dataset.update_tags(**{key: tags[key] for key in sorted(tags)})
            yield dataset
        _read_back(path)


def copy_as_cog(source: Path, path: Path) -> None:
    """Copy a GeoTIFF into a Cloud Optimised GeoTIFF with averaged overviews, in bounded memory.

    Call it inside `whole_raster`.
    """
    with rasterio.Env(**_COPY):
        rasterio.shutil.copy(
            source,
            path,
            driver="COG",
            compress="DEFLATE",
            predictor="FLOATING_POINT",
            blocksize=str(BLOCK_PX),
            overviews="IGNORE_EXISTING",
            overview_resampling="AVERAGE",
            bigtiff="IF_SAFER",
        )
        _read_back(path)


@contextmanager
def whole_raster(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move the raster written there into place when the block succeeds.

    Side-cars of an older raster at `path` (a mask, overviews, statistics) go with it, or they would speak for the new.

    Raises
    ------
    DiskSpaceError
        When writing fails on a full disk.
    RasterError
        When writing fails otherwise, or when what was written cannot be read back.
    """
    with atomic_path(path) as partial, _write_failures(path):
        yield partial
    for suffix in _SIDE_CARS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _write_failures(path: Path) -> Iterator[None]:
    """Give GDAL's failures while writing `path` a type and a sentence."""
    try:
        yield
    # GDAL reports a failed write without its errno, and a failed COG copy as SystemError.
    except (RasterioError, SystemError) as error:
        free = shutil.disk_usage(path.parent).free
        if free < _FULL_DISK_BYTES:
            raise DiskSpaceError(
                f"{path}: the disk filled up while writing; nothing was put in place. "
                f"Free some space on {path.parent} and run again."
            ) from error
        raise RasterError(
            f"{path}: GDAL could not write this raster ({error.__cause__ or error}); nothing was put in place. "
            f"{free / 1e9:.2f} GB are free there; look for a quota or a file-size limit."
        ) from error


def _read_back(path: Path) -> None:
    # Blocks still in GDAL's cache are written on closing, where a failure is only printed: so look.
    with rasterio.open(path) as dataset:
        for index in dataset.indexes:
            for _, window in dataset.block_windows(index):
                dataset.read(index, window=window)
