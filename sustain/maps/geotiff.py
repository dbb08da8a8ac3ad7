"""Opening and writing GeoTIFFs the way this package needs: typed errors, whole files, the same bytes every time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

import sustain
from sustain.errors import DiskSpaceError, FileFormatError, RasterError
from sustain.maps.remote import http_options

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = [
    "BLOCK_PX",
    "COVERAGE",
    "NO_IMAGERY",
    "OUTSIDE_SUPPORT",
    "PREDICTIVE_SD",
    "SUPPORT",
    "SUPPORTED",
    "WEALTH",
    "WEALTH_RAW",
    "WEALTH_SE",
    "copy_as_cog",
    "create_geotiff",
    "crs_of",
    "open_raster",
    "read_values",
    "read_window",
    "target_of",
    "write_failures",
]

WEALTH = "wealth"
WEALTH_RAW = "wealth_raw"
WEALTH_SE = "wealth_se"
SUPPORT = "support"
COVERAGE = "coverage"
PREDICTIVE_SD = "predictive_sd"

# Values of the support band.
SUPPORTED = 0
OUTSIDE_SUPPORT = 1
NO_IMAGERY = 2

BLOCK_PX = 512
# No side-car .aux.xml files, a cache that does not grow with the machine, and one thread: the same bytes anywhere.
# rasterio takes the cache in bytes. Next to none while writing: each block goes to the file at once, in our order.
_GDAL = {"GDAL_PAM_ENABLED": "NO", "GDAL_CACHEMAX": 256, "GDAL_NUM_THREADS": "1"}
_READ = _GDAL | {"GDAL_CACHEMAX": 256 << 20}
# The COG driver orders the blocks by itself. Its overviews of four bands need chunks of 17 MB; above this limit they go
# by a temporary raster in memory, which grows with the map and takes twice the time.
_COPY = _GDAL | {"GDAL_CACHEMAX": 64 << 20, "GDAL_OVR_CHUNK_MAX_SIZE": 64 << 20}
# GDAL may need the file system itself to have some slack; below this, call the disk full.
_FULL_DISK_BYTES = 1 << 20


@contextmanager
def open_raster(path: str | Path) -> Iterator[rasterio.io.DatasetReader]:
    """Open a raster for reading.

    Raises
    ------
    RasterError
        When there is no such file.
    FileFormatError
        When GDAL cannot open it: not a raster, empty or truncated.
    """
    path = Path(path)
    if not path.exists():
        raise RasterError(f"{path}: no such raster. Check the path, or run the stage that makes it.")
    with rasterio.Env(**_READ, **http_options()):
        try:
            dataset = rasterio.open(path)
        except RasterioError as error:
            raise FileFormatError(
                f"{path}: GDAL cannot open this file as a raster ({error}). It may be truncated or of another type; "
                "make it or fetch it again."
            ) from error
        with dataset:
            yield dataset


def read_window(
    dataset: rasterio.io.DatasetReader,
    indexes: Sequence[int],
    window: Window | None = None,
    name: str | None = None,
) -> npt.NDArray[Any]:
    """Read bands (counted from 1) of a window as an array (bands, height, width).

    Messages call the raster `name`, by default what GDAL calls it.

    Raises
    ------
    FileFormatError
        When the pixels cannot be decoded, as in a truncated file.
    """
    try:
        pixels: npt.NDArray[Any] = dataset.read(list(indexes), window=window)
    except RasterioError as error:
        cause = error.__cause__ or error
        where = "" if window is None else f" at row {window.row_off:.0f}, column {window.col_off:.0f}"
        raise FileFormatError(
            f"{name or dataset.name}: pixels{where} cannot be read ({cause}). The file is truncated or damaged; "
            "make it or fetch it again."
        ) from error
    return pixels


def read_values(
    dataset: rasterio.io.DatasetReader, indexes: Sequence[int], window: Window | None = None
) -> npt.NDArray[np.float64]:
    """Read bands of a window as numbers: scale and offset applied, NaN where the band's nodata number stands.

    Returns
    -------
    ndarray of float64, shape (bands, height, width)
    """
    stored = read_window(dataset, indexes, window)
    values = stored.astype(np.float64)
    for band, numbers, index in zip(values, stored, indexes, strict=True):
        band *= dataset.scales[index - 1]
        band += dataset.offsets[index - 1]
        nodata = dataset.nodatavals[index - 1]
        if nodata is not None:
            band[numbers == nodata] = np.nan
    return values


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
    not depend on GDAL's cache. Call it inside `sustain.files.atomic_path` and `write_failures`.
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

    Call it inside `sustain.files.atomic_path` and `write_failures`.
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


def crs_of(like: GeoBox | rasterio.io.DatasetReader) -> CRS | None:
    """Coordinate system as GDAL knows it.

    A `GeoBox` is asked for the text that it was made from: its own WKT is of another version, and GDAL would write
    other bytes.
    """
    crs: Any = like.crs
    return crs if crs is None or isinstance(crs, CRS) else CRS.from_user_input(str(crs))


def target_of(value: Any) -> tuple[str, str]:
    """(name, unit) of a target given as a mapping or as an object with these fields."""
    if isinstance(value, Mapping):
        return str(value["name"]), str(value["unit"])
    return str(value.name), str(value.unit)


@contextmanager
def write_failures(path: Path) -> Iterator[None]:
    """Give GDAL's failures while writing `path` a type and a sentence.

    Raises
    ------
    DiskSpaceError
        When writing fails on a full disk.
    RasterError
        When writing fails otherwise, or when what was written cannot be read back.
    """
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
