"""Writing GeoTIFFs the way this package needs: whole files, the same bytes every time, failures with a sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError, RasterioIOError

import sustain
from sustain.errors import DiskSpaceError, RasterError
from sustain.files import atomic_path
from sustain.maps.geotiff import BLOCK_PX, crs_of

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["copy_as_cog", "create_geotiff", "n_threads", "whole_raster"]

# No side-car .aux.xml files, a cache that does not grow with the machine, and one thread: the same bytes anywhere.
# rasterio takes the cache in bytes. Next to none while writing: each block goes to the file at once, in our order.
_GDAL = {"GDAL_PAM_ENABLED": "NO", "GDAL_CACHEMAX": 256, "GDAL_NUM_THREADS": "1"}
# The COG driver orders the blocks by itself, so its bytes depend neither on the cache nor on the threads. Its overviews
# of four bands need chunks of 17 MB; above this limit they go by a temporary raster in memory, which grows with the map
# and takes twice the time. The temporary file of overviews is not worth compressing.
_COPY = _GDAL | {
    "GDAL_CACHEMAX": 64 << 20,
    "GDAL_OVR_CHUNK_MAX_SIZE": 64 << 20,
    "COG_TMP_COMPRESSION": "NONE",
}
_LEVEL = 6
_MOST_THREADS = 16  # each holds some blocks
_COMPRESSED = {"compress": "deflate", "predictor": 3}
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
    compressed: bool = True,
    **layout: Any,
) -> Iterator[rasterio.io.DatasetWriter]:
    """Create a float32 GeoTIFF on the pixels of `like`, with NaN for no data, named bands, units and tags.

    This version of the package is put among the tags. What is only written to be copied need not be compressed.

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
            interleave="band",
            bigtiff="IF_SAFER",
            **(_COMPRESSED if compressed else {}),
            **layout,
        ) as dataset:
            dataset.descriptions = tuple(bands)
            dataset.units = tuple(units)
            tags = {"SUSTAIN_VERSION": sustain.__version__, **tags}
            dataset.update_tags(**{key: tags[key] for key in sorted(tags)})
            yield dataset
        _read_back(path)


def n_threads() -> int:
    """Threads to work with: a core each that this process may use, at most 16, so that memory stays in bounds."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _MOST_THREADS)


def copy_as_cog(source: Path, path: Path) -> None:
    """Copy a GeoTIFF into a Cloud Optimised GeoTIFF with averaged overviews, in bounded memory.

    It takes all cores; the bytes are the same with any number of them. Call it inside `whole_raster`.
    """
    with rasterio.Env(**_COPY | {"GDAL_NUM_THREADS": str(n_threads())}):
        rasterio.shutil.copy(
            source,
            path,
            driver="COG",
            compress="DEFLATE",
            level=_LEVEL,
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
    # GDAL reports a failed write without its errno; rasterio a failed COG copy as SystemError or as GDAL's own error.
    except (RasterioError, SystemError, CPLE_BaseError) as error:
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
    # What is still in GDAL's cache is written on closing, where a failure is only printed: so look. A block that the
    # directory does not know of would be read as one without values.
    with rasterio.open(path) as dataset:
        for index in dataset.indexes:
            for (row, col), _ in dataset.block_windows(index):
                if dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=index) is None:
                    raise RasterioIOError(f"block {row}, {col} of band {index} is missing")
    with ThreadPoolExecutor(n_threads()) as pool:
        list(pool.map(lambda part: _decode(path, part), range(n_threads())))


def _decode(path: Path, part: int) -> None:
    """Decode every n-th block, in a thread and with a file handle of its own."""
    with rasterio.Env(**_COPY), rasterio.open(path, sharing=False) as dataset:
        for _, window in islice(dataset.block_windows(1), part, None, n_threads()):
            dataset.read(window=window)
