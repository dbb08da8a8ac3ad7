"""The published raster: always four bands of float32 with NaN for no value, as a Cloud Optimised GeoTIFF."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import MaskFlags

from sustain.debias import CalibrationCard
from sustain.errors import RasterError
from sustain.maps.cog import copy_as_cog
from sustain.maps.correct.raster import BANDS, correct_values
from sustain.maps.geotiff import BLOCK_PX, NO_IMAGERY, SUPPORT, WEALTH, WEALTH_RAW, open_raster, read_values
from sustain.maps.publish.folder import copy_into
from sustain.maps.writing import create_geotiff, whole_raster

__all__ = ["publish_raster"]

_ROUNDING = 0.01  # of the range of corrected values: whole numbers with a scale are that coarse at most
_BY_NUMBER = ([MaskFlags.nodata], [MaskFlags.all_valid])


def publish_raster(corrected: Path, target: Path, card: CalibrationCard) -> None:
    """Put a corrected map into a published folder.

    A map as `sustain.maps.correct.raster.correct_raster` writes it is copied byte for byte. One that other tools have
    gone over since (whole numbers with a scale, masks, a GeoTIFF that is not cloud optimised) is written anew, with the
    same values: a reader of the folder needs to know none of that.

    Raises
    ------
    RasterError
        When a cell has ``wealth`` without its error or its flag, or another than `card` makes of its ``wealth_raw``, as
        after a tool that changes numbers and does not declare their scale.
    FileFormatError, DiskSpaceError
        When the raster cannot be read, or there is no room.
    """
    with open_raster(corrected) as raster:
        if _as_we_write_it(raster):
            copy_into(corrected, target)
            return
        with whole_raster(target) as partial:
            scratch = target.with_name(
                ".partial-raster"
            )  # GDAL puts files of its own beside the one it writes
            scratch.mkdir()
            try:
                _write(raster, scratch / "plain.tif", card)
                copy_as_cog(scratch / "plain.tif", scratch / "cog.tif")
                (scratch / "cog.tif").replace(partial)
            finally:
                shutil.rmtree(scratch)


def _as_we_write_it(raster: rasterio.io.DatasetReader) -> bool:
    return (
        raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        and set(raster.dtypes) == {"float32"}
        and all(nodata is not None and np.isnan(nodata) for nodata in raster.nodatavals)
        and set(raster.scales) == {1.0}
        and set(raster.offsets) == {0.0}
        and all(flags in _BY_NUMBER for flags in raster.mask_flag_enums)
        and len(raster.files) == 1  # what a side-car declares would not come along
    )


def _write(raster: rasterio.io.DatasetReader, path: Path, card: CalibrationCard) -> None:
    tags = {key: text for key, text in raster.tags().items() if key.startswith("SUSTAIN_")}
    flag = BANDS.index(SUPPORT)
    unit, method = card.target.unit, raster.tags().get("SUSTAIN_METHOD", "")
    ends = correct_values(np.array(card.support), card, method)[0]
    tolerance = _ROUNDING * float(np.ptp(ends))
    with create_geotiff(
        path,
        like=raster,
        bands=BANDS,
        units=(unit, unit, unit, "1"),
        tags=tags,
        compressed=False,
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
    ) as target:
        for _, window in target.block_windows(1):
            values = read_values(raster, raster.indexes, window)
            seen = np.isfinite(values[BANDS.index(WEALTH)])
            if not np.isfinite(values[:, seen]).all():
                raise RasterError(
                    f"{raster.name}: near row {window.row_off}, column {window.col_off} cells have a value in the band "
                    f"{WEALTH}, but none in another band. Correct the raw map again (sustain debias correct)."
                )
            expected = correct_values(values[BANDS.index(WEALTH_RAW)], card, method)[BANDS.index(WEALTH)]
            off = np.abs(values[BANDS.index(WEALTH)] - expected)
            if seen.any() and not np.nanmax(off) <= tolerance:
                raise RasterError(
                    f"{raster.name}: near row {window.row_off}, column {window.col_off} its band {WEALTH} is off by "
                    f"{np.nanmax(off):.3g} from what the card makes of its band {WEALTH_RAW}. A tool changed numbers "
                    "without declaring their scale (gdal_translate -scale does); publish the map as sustain debias "
                    "correct wrote it, or declare scale and offset of its bands (gdal_edit.py -scale -offset)."
                )
            values[:flag, ~seen], values[flag, ~seen] = np.nan, NO_IMAGERY
            target.write(values.astype(np.float32), window=window)
