"""A plain GeoTIFF made into a Cloud Optimised GeoTIFF: overviews of averages, and one compression by all cores."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from sustain.maps.geotiff import BLOCK_PX
from sustain.maps.writing import GDAL_SETTINGS, in_order, n_threads, read_back

__all__ = ["copy_as_cog", "halve"]

# The COG driver orders the blocks by itself, so its bytes depend neither on the cache nor on the threads.
_COPY = GDAL_SETTINGS | {"GDAL_CACHEMAX": 64 << 20}
_LEVEL = 1  # of DEFLATE: beside GDAL's own 6 some two thirds of the time, for maps 1 % smaller to 5 % larger
_OVERVIEW_BLOCK_PX = 256


def copy_as_cog(plain: Path, path: Path) -> None:
    """Copy a GeoTIFF into a Cloud Optimised GeoTIFF with averaged overviews, in bounded memory.

    It takes all cores; the bytes are the same with any number of them. Call it inside
    `sustain.maps.writing.whole_raster`.

    Parameters
    ----------
    plain : Path
        GeoTIFF of float32, NaN for no data, in a folder of its own: the overviews are written beside it first. GDAL's
        COG driver would average them too, but by one core and a compressed temporary file.
    path : Path
        What to write.
    """
    levels = _write_overviews(plain)
    with rasterio.Env(**_COPY | {"GDAL_NUM_THREADS": str(n_threads())}):
        rasterio.shutil.copy(
            _with_overviews(plain, levels) if levels else plain,
            path,
            driver="COG",
            compress="DEFLATE",
            level=_LEVEL,
            predictor="FLOATING_POINT",
            blocksize=str(BLOCK_PX),
            overviews="FORCE_USE_EXISTING" if levels else "NONE",
            bigtiff="IF_SAFER",
        )
        read_back(path)


def halve(cells: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average squares of 2 x 2 cells, over those that hold a value.

    Parameters
    ----------
    cells : ndarray of float32, shape (bands, height, width)
        NaN where there is no value.

    Returns
    -------
    ndarray of float32, shape (bands, height / 2, width / 2), rounded up
        The last row or column of an odd number stands for itself.
    """
    _, height, width = cells.shape
    if height % 2 or width % 2:
        cells = np.pad(cells, ((0, 0), (0, height % 2), (0, width % 2)), constant_values=np.nan)
    parts = [cells[:, row::2, col::2] for row in (0, 1) for col in (0, 1)]
    means: npt.NDArray[np.float32] = (parts[0] + parts[1] + parts[2] + parts[3]) * np.float32(0.25)
    partly = np.isnan(means)
    if partly.any():
        four = np.stack([part[partly] for part in parts])
        known = np.isfinite(four)
        count = known.sum(axis=0)
        sums = np.where(known, four, 0).sum(axis=0)
        means[partly] = np.where(count, sums / np.maximum(count, 1), np.nan)
    return means


def _write_overviews(plain: Path) -> list[Path]:
    """Write the raster at half its size, a quarter and so on, until it fits into one block."""
    levels: list[Path] = []
    source = plain
    while _longer_side(source) > BLOCK_PX:
        levels.append(plain.with_name(f"overview_{len(levels) + 1}.tif"))
        _write_halved(source, levels[-1])
        source = levels[-1]
    return levels


def _longer_side(path: Path) -> int:
    with rasterio.open(path) as dataset:
        return int(max(dataset.shape))


def _write_halved(source: Path, path: Path) -> None:
    with rasterio.Env(**GDAL_SETTINGS):
        with rasterio.open(source) as whole:
            layout: dict[str, Any] = {
                "height": (whole.height + 1) // 2,
                "width": (whole.width + 1) // 2,
                "count": whole.count,
                "blockxsize": _OVERVIEW_BLOCK_PX,
                "blockysize": _OVERVIEW_BLOCK_PX,
            }
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                dtype="float32",
                nodata=np.nan,
                crs=whole.crs,
                transform=whole.transform,  # not looked at; without one, GDAL would warn
                tiled=True,
                interleave="band",
                bigtiff="IF_SAFER",
                **layout,
            ) as half:

                def pieces() -> Iterator[tuple[Window, npt.NDArray[np.float32]]]:
                    for _, window in half.block_windows(1):
                        row, col = 2 * window.row_off, 2 * window.col_off
                        height = min(2 * window.height, whole.height - row)
                        width = min(2 * window.width, whole.width - col)
                        yield window, whole.read(window=Window(col, row, width, height))

                for window, means in in_order(halve, pieces()):
                    half.write(means, window=window)
        read_back(path)


def _with_overviews(plain: Path, levels: list[Path]) -> Path:
    """Write a VRT that gives a raster its overviews; its sources lie beside it."""
    path = plain.with_name("overviews.vrt")
    rasterio.shutil.copy(plain, path, driver="VRT")
    tree = ET.parse(path)  # noqa: S314, GDAL wrote it a moment ago
    for index, band in enumerate(tree.getroot().iter("VRTRasterBand"), start=1):
        for level in levels:
            overview = ET.SubElement(band, "Overview")
            ET.SubElement(overview, "SourceFilename", relativeToVRT="1").text = level.name
            ET.SubElement(overview, "SourceBand").text = str(index)
    tree.write(path)
    return path
