"""Opening rasters, and the only reader of a map's values: ours and anybody's, with typed errors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from sustain.errors import BandWarning, FileFormatError, RasterError
from sustain.maps.fills import refuse_undeclared_fill
from sustain.maps.remote import http_options
from sustain.masks import missing_pixels

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
    "crs_of",
    "open_raster",
    "read_values",
    "read_window",
    "require_crs",
    "target_of",
    "value_band",
    "value_bands",
    "values_of",
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
# A cache that does not grow with the machine, and one thread. Side-cars count (.aux.xml): a nodata number or a scale is
# often declared nowhere else.
_READ = {"GDAL_PAM_ENABLED": "YES", "GDAL_CACHEMAX": 256 << 20, "GDAL_NUM_THREADS": "1"}


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


def value_bands(dataset: rasterio.io.DatasetReader) -> list[int]:
    """Bands that hold values, counted from 1: all but alpha bands."""
    return [index for index, kind in enumerate(dataset.colorinterp, start=1) if kind != ColorInterp.alpha]


def value_band(
    dataset: rasterio.io.DatasetReader,
    band: int | str | None = None,
    *,
    ours: Sequence[str] = (WEALTH_RAW,),
    option: str = "band=",
) -> int:
    """Tell which band of somebody's raster is meant.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
    band : int or str, optional
        Number from 1, or name (description); a text that is no name but a number counts as one. By default the band
        with a name of `ours`, else the only band.
    ours : sequence of str
        Names by which this package calls the band, the first found counts.
    option : str
        How the caller's user names a band, for messages.

    Returns
    -------
    int
        The band's number, from 1.

    Raises
    ------
    RasterError
        When there is no such band, or several and none is named, or the band holds no values: an alpha band, complex
        numbers, or codes of a colour table.

    Warns
    -----
    BandWarning
        When the only band is taken, which has another name.
    """
    names = [str(text) if text else "" for text in dataset.descriptions]
    candidates = value_bands(dataset)
    listed = ", ".join(f"{index} ({names[index - 1] or 'without a name'})" for index in candidates)
    if band is not None:
        found = [index for index in candidates if names[index - 1] == band]
        if not found and str(band).isdecimal():
            found = [index for index in candidates if index == int(band)]
        if len(found) != 1:
            raise RasterError(
                f"{dataset.name}: {option} is {band!r}, but {'several bands have' if found else 'no band has'} this "
                f"name or number; the bands are {listed}. Name one of them."
            )
        index = found[0]
    else:
        of_ours = [[index for index in candidates if names[index - 1] == name] for name in ours]
        named = next((found for found in of_ours if found), [])
        if len(named) == 1:
            index = named[0]
        elif len(candidates) == 1:
            index = candidates[0]
            if names[index - 1]:
                warnings.warn(
                    f"{dataset.name}: no band is named {' or '.join(ours)}; its only band, {names[index - 1]!r}, is "
                    "taken.",
                    BandWarning,
                    stacklevel=3,
                )
        else:
            raise RasterError(
                f"{dataset.name}: cannot tell which of {len(candidates)} bands is meant; the bands are {listed}. "
                f"Say it ({option}), by name or number."
            )
    _require_values(dataset, [index])
    return index


def read_window(
    dataset: rasterio.io.DatasetReader,
    indexes: Sequence[int],
    window: Window | None = None,
    name: str | None = None,
    shape: tuple[int, int] | None = None,
) -> npt.NDArray[Any]:
    """Read bands (counted from 1) of a window as they are stored, as an array (bands, height, width).

    Messages call the raster `name`, by default what GDAL calls it. With `shape` (height, width), the nearest pixels of
    a coarser grid are read, from overviews where there are any.

    Raises
    ------
    FileFormatError
        When the pixels cannot be decoded, as in a truncated file.
    """
    size = None if shape is None else (len(indexes), *shape)
    with _decoding(name or dataset.name, window):
        pixels: npt.NDArray[Any] = dataset.read(list(indexes), window=window, out_shape=size)
    return pixels


def read_values(
    dataset: rasterio.io.DatasetReader,
    indexes: Sequence[int],
    window: Window | None = None,
    shape: tuple[int, int] | None = None,
    *,
    fills: bool = False,
) -> npt.NDArray[np.float64]:
    """Read bands of a window as values: scale and offset applied, NaN where there is none.

    There is none where the nodata number, the mask or the alpha band says so (`sustain.masks.missing_pixels`), nor
    where an infinite number stands. `shape` as in `read_window`.

    Returns
    -------
    ndarray of float64, shape (bands, height, width)

    Raises
    ------
    RasterError
        When the bands hold no values: complex numbers, or codes of a colour table; and a number such as -9999 that
        stands for no value without being declared (`sustain.maps.fills`), unless `fills` lets it pass.
    FileFormatError
        When the pixels cannot be decoded.
    """
    stored = read_window(dataset, indexes, window, shape=shape)
    return values_of(dataset, indexes, stored, window, fills=fills)


def values_of(
    dataset: rasterio.io.DatasetReader,
    indexes: Sequence[int],
    stored: npt.NDArray[Any],
    window: Window | None = None,
    *,
    fills: bool = False,
) -> npt.NDArray[np.float64]:
    """Turn what `read_window` gave into values, as `read_values` does."""
    _require_values(dataset, indexes)
    with _decoding(dataset.name, window):
        missing = missing_pixels(dataset, indexes, stored, window)
    if not fills:
        for numbers, none, index in zip(stored, missing, indexes, strict=True):
            refuse_undeclared_fill(dataset.name, index, dataset.nodatavals[index - 1], numbers, none)
    values = stored.astype(np.float64)
    for band, index in zip(values, indexes, strict=True):
        scale, offset = dataset.scales[index - 1], dataset.offsets[index - 1]
        if (scale, offset) != (1, 0):
            band *= scale
            band += offset
    values[missing] = np.nan
    return values


def _require_values(dataset: rasterio.io.DatasetReader, indexes: Sequence[int]) -> None:
    """Raise `RasterError` where a band's numbers are no values."""
    kinds = dataset.colorinterp
    for index in indexes:
        where = f"{dataset.name}: band {index}"
        if "complex" in dataset.dtypes[index - 1]:
            raise RasterError(
                f"{where} holds complex numbers ({dataset.dtypes[index - 1]}), which are no values of a map. Write "
                "their size or one of their parts as a raster of real numbers."
            )
        if kinds[index - 1] == ColorInterp.palette:
            raise RasterError(
                f"{where} has a colour table: its numbers are codes of colours or classes, not values. If they are "
                "values all the same, drop the table (gdal_translate -colorinterp_1 gray IN.tif OUT.tif)."
            )
        scale, offset = dataset.scales[index - 1], dataset.offsets[index - 1]
        if not (math.isfinite(scale) and math.isfinite(offset) and scale):
            raise RasterError(
                f"{where} declares the scale {scale:g} and the offset {offset:g}, by which no number has a value. Mend "
                "them (gdal_edit.py -scale 1 -offset 0)."
            )


@contextmanager
def _decoding(name: str, window: Window | None) -> Iterator[None]:
    try:
        yield
    except RasterioError as error:
        cause = error.__cause__ or error
        where = "" if window is None else f" at row {window.row_off:.0f}, column {window.col_off:.0f}"
        raise FileFormatError(
            f"{name}: pixels{where} cannot be read ({cause}). The file is truncated or damaged; "
            "make it or fetch it again."
        ) from error


def crs_of(like: GeoBox | rasterio.io.DatasetReader) -> CRS | None:
    """Coordinate system as GDAL knows it.

    A `GeoBox` is asked for the text that it was made from: its own WKT is of another version, and GDAL would write
    other bytes.
    """
    crs: Any = like.crs
    return crs if crs is None or isinstance(crs, CRS) else CRS.from_user_input(str(crs))


def require_crs(dataset: rasterio.io.DatasetReader) -> None:
    """Raise `RasterError` where a raster does not say where its cells lie."""
    if dataset.crs is None:
        raise RasterError(
            f"{dataset.name}: declares no coordinate system, so nobody can tell where its cells lie. "
            "Set it (gdal_edit.py -a_srs EPSG:...); with ground control points, bring it onto a grid (gdalwarp)."
        )


def target_of(value: Any) -> tuple[str, str]:
    """(name, unit) of a target given as a mapping or as an object with these fields."""
    if isinstance(value, Mapping):
        return str(value["name"]), str(value["unit"])
    return str(value.name), str(value.unit)
