"""Writing GeoTIFFs the way this package needs: whole files, the same bytes every time, failures with a sentence."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError, RasterioIOError

import sustain
from sustain.errors import DiskSpaceError, RasterError
from sustain.files import atomic_path
from sustain.maps.geotiff import crs_of

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["GDAL_SETTINGS", "create_geotiff", "in_order", "n_threads", "read_back", "whole_raster"]

_Key = TypeVar("_Key")
_Piece = TypeVar("_Piece")
_Done = TypeVar("_Done")

# No side-car .aux.xml files, a cache that does not grow with the machine, and one thread: the same bytes anywhere.
# rasterio takes the cache in bytes. Next to none while writing: each block goes to the file at once, in our order.
GDAL_SETTINGS = {"GDAL_PAM_ENABLED": "NO", "GDAL_CACHEMAX": 256, "GDAL_NUM_THREADS": "1"}
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
    with rasterio.Env(**GDAL_SETTINGS):
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
        read_back(path)


def n_threads() -> int:
    """Threads to work with: a core each that this process may use, at most 16, so that memory stays in bounds."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _MOST_THREADS)


def in_order(
    work: Callable[[_Piece], _Done], pieces: Iterable[tuple[_Key, _Piece]]
) -> Iterator[tuple[_Key, _Done]]:
    """Work on some pieces at a time, a thread each, and give them back in order; few are held at once.

    Parameters
    ----------
    work : callable
        Called in threads, with a piece.
    pieces : iterable of (key, piece)
        Drawn in the calling thread, so it may read a file.

    Yields
    ------
    (key, what `work` made of the piece)
    """
    with ThreadPoolExecutor(n_threads()) as pool:
        ahead: deque[tuple[_Key, Future[_Done]]] = deque()
        for key, piece in pieces:
            ahead.append((key, pool.submit(work, piece)))
            if len(ahead) > n_threads():
                first, done = ahead.popleft()
                yield first, done.result()
        for first, done in ahead:
            yield first, done.result()


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


def read_back(path: Path) -> None:
    """Read a raster that was just written; raise `RasterioError` where a block is missing or cannot be decoded.

    What is still in GDAL's cache is written on closing, where a failure is only printed. A block that the file's
    directory does not know of would be read as one without values.
    """
    with rasterio.open(path) as dataset:
        for index in dataset.indexes:
            for (row, col), _ in dataset.block_windows(index):
                if dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=index) is None:
                    raise RasterioIOError(f"block {row}, {col} of band {index} is missing")
    with ThreadPoolExecutor(n_threads()) as pool:
        list(pool.map(lambda part: _decode(path, part), range(n_threads())))


def _decode(path: Path, part: int) -> None:
    """Decode every n-th block, in a thread and with a file handle of its own."""
    # The cache holds the blocks of all bands, which may lie in one piece.
    cache = {"GDAL_CACHEMAX": 64 << 20}
    with rasterio.Env(**GDAL_SETTINGS | cache), rasterio.open(path, sharing=False) as dataset:
        for _, window in islice(dataset.block_windows(1), part, None, n_threads()):
            dataset.read(window=window)
