"""The reader of values against GDAL's own masked reading, and where GDAL alone would take nothing for a value."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from sustain.errors import BandWarning, FileFormatError, RasterError
from sustain.maps.geotiff import open_raster, read_values, value_band, value_bands
from tests.maps.fakes import write_raster

VALUES = np.arange(1, 13).reshape(1, 3, 4)
SHOWN = (VALUES[0] % 5) != 0


def masked_by(path, how, dtype):
    """A raster of `dtype` whose values 5 and 10 are missing, said in one of the ways that rasters have."""
    nothing = np.where(SHOWN, VALUES, 0)
    if how == "nodata":
        return write_raster(path, nothing, ("v",), dtype=dtype, nodata=0)
    if how == "NODATA_VALUES":
        return write_raster(path, nothing, ("v",), dtype=dtype, nodata=None, tags={"NODATA_VALUES": "0"})
    if how == "alpha":
        write_raster(path, np.stack([VALUES[0], SHOWN]), ("v", "a"), dtype=dtype, nodata=None)
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
        return path
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "internal mask"):
        return write_raster(path, VALUES, ("v",), dtype=dtype, nodata=None, mask=SHOWN)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("how", ["nodata", "NODATA_VALUES", "internal mask", ".msk", "alpha"])
@pytest.mark.parametrize("window", [None, Window(1, 1, 3, 2)])
def test_agrees_with_rasterios_masked_reading(tmp_path, how, dtype, window):
    path = masked_by(tmp_path / "raster.tif", how, dtype)
    assert (tmp_path / "raster.tif.msk").exists() == (how == ".msk")
    with open_raster(path) as ours, rasterio.open(path) as theirs:
        assert value_bands(ours) == [1]
        found = read_values(ours, [1], window)
        masked = theirs.read([1], window=window, masked=True).astype(float).filled(np.nan)
    expected = np.where(SHOWN, VALUES, np.nan)
    np.testing.assert_array_equal(found, expected if window is None else expected[:, 1:3, 1:4])
    if how != "alpha" or dtype in ("uint8", "uint16"):  # GDAL heeds no alpha band of other types
        np.testing.assert_array_equal(found, masked)


def test_a_nodata_number_and_a_mask_both_count(tmp_path):
    """GDAL heeds the mask alone, and of a nodata number and an alpha band the number alone."""
    masked = write_raster(tmp_path / "a.tif", VALUES, ("v",), nodata=1, mask=SHOWN)
    alpha = write_raster(tmp_path / "b.tif", np.stack([VALUES[0], SHOWN]), ("v", "alpha"), nodata=1)
    with rasterio.open(alpha, "r+") as raster:
        raster.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    expected = np.where(SHOWN & (VALUES != 1), VALUES, np.nan)
    for path in (masked, alpha):
        with open_raster(path) as source:
            np.testing.assert_array_equal(read_values(source, value_bands(source)), expected)


def test_each_band_has_its_own_nodata_number_scale_and_offset(tmp_path):
    path = tmp_path / "bands.vrt"
    write_raster(tmp_path / "tiff.tif", np.stack([VALUES[0], VALUES[0]]), ("a", "b"), nodata=None)
    source = (
        "<SimpleSource><SourceFilename relativeToVRT='1'>tiff.tif</SourceFilename><SourceBand>{}</SourceBand>"
        "</SimpleSource>"
    )
    bands = "".join(
        f"<VRTRasterBand dataType='Float32' band='{i}'><NoDataValue>{missing}</NoDataValue><Offset>{offset}</Offset>"
        f"<Scale>{scale}</Scale>{source.format(i)}</VRTRasterBand>"
        for i, missing, offset, scale in ((1, 3, 0, 1), (2, 7, -1, 0.5))
    )
    path.write_text(f"<VRTDataset rasterXSize='4' rasterYSize='3'>{bands}</VRTDataset>")
    with open_raster(path) as raster:
        found = read_values(raster, [2, 1])
    np.testing.assert_array_equal(found[0], np.where(VALUES[0] == 7, np.nan, VALUES[0] / 2 - 1))
    np.testing.assert_array_equal(found[1], np.where(VALUES[0] == 3, np.nan, VALUES[0]))


def test_numbers_that_are_not_finite_are_no_values_declared_or_not(tmp_path):
    values = np.array([[[1, np.nan], [np.inf, -np.inf]]])
    with open_raster(write_raster(tmp_path / "a.tif", values, ("v",), nodata=None)) as source:
        np.testing.assert_array_equal(read_values(source, [1]), [[[1, np.nan], [np.nan, np.nan]]])


@pytest.mark.parametrize("nodata", [-3.4028234663852886e38, -9999.9, 1e-30])
def test_a_nodata_number_is_found_though_float32_rounds_it(tmp_path, nodata):
    with open_raster(write_raster(tmp_path / "a.tif", [[[nodata, 1]]], ("v",), nodata=nodata)) as source:
        np.testing.assert_array_equal(read_values(source, [1]), [[[np.nan, 1]]])


def test_a_coarser_reading_knows_the_mask_too(tmp_path):
    values = np.repeat(np.repeat(VALUES, 4, axis=1), 4, axis=2)
    shown = values[0] % 5 != 0
    path = write_raster(tmp_path / "a.tif", values, ("v",), dtype="uint8", nodata=None, mask=shown)
    with open_raster(path) as source:
        np.testing.assert_array_equal(read_values(source, [1], shape=(3, 4)), np.where(SHOWN, VALUES, np.nan))


def test_codes_and_complex_numbers_are_refused(tmp_path):
    palette = write_raster(tmp_path / "classes.tif", VALUES, ("wealth_raw",), dtype="uint8", nodata=None)
    with rasterio.open(palette, "r+") as raster:
        raster.write_colormap(1, {1: (255, 0, 0, 255)})
    waves = write_raster(tmp_path / "waves.tif", VALUES, ("wealth_raw",), dtype="complex64", nodata=None)
    unscaled = write_raster(tmp_path / "zero.tif", VALUES, ("wealth_raw",))
    with rasterio.open(unscaled, "r+") as raster:
        raster.scales = (0,)
    for path, message in (
        (palette, "colour table: its numbers are codes"),
        (waves, "complex"),
        (unscaled, "scale 0"),
    ):
        with open_raster(path) as source:
            with pytest.raises(RasterError, match=message):
                value_band(source)
            with pytest.raises(RasterError, match=message):
                read_values(source, [1])


def test_which_band_is_meant(tmp_path):
    only = write_raster(tmp_path / "only.tif", VALUES, ("iwi",))
    several = write_raster(
        tmp_path / "several.tif", np.tile(VALUES, (3, 1, 1)), ("coverage", "wealth_raw", "wealth")
    )
    twice = write_raster(tmp_path / "twice.tif", np.tile(VALUES, (2, 1, 1)), ("wealth_raw", "wealth_raw"))
    with open_raster(only) as source:
        with pytest.warns(BandWarning, match="its only band, 'iwi', is taken"):
            assert value_band(source) == 1
        with pytest.raises(RasterError, match=r"--band is 'wealth', but no band has .* 1 \(iwi\)"):
            value_band(source, "wealth", option="--band")
    with open_raster(several) as source:
        assert value_band(source) == 2
        assert value_band(source, ours=("wealth", "wealth_raw")) == 3
        assert value_band(source, "coverage") == value_band(source, "1") == value_band(source, 1) == 1
    with open_raster(twice) as source:
        with pytest.raises(RasterError, match=r"which of 2 bands .* 2 \(wealth_raw\). Say it \(--band\)"):
            value_band(source, option="--band")
        with pytest.raises(RasterError, match="several bands have"):
            value_band(source, "wealth_raw")


def test_a_damaged_mask_is_an_error_not_a_value(tmp_path):
    shown = np.random.default_rng(0).random((300, 300)) > 0.5
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        path = write_raster(tmp_path / "a.tif", np.ones((1, 300, 300)), ("v",), nodata=None, mask=shown)
    mask = tmp_path / "a.tif.msk"
    mask.write_bytes(mask.read_bytes()[:-2000])
    with open_raster(path) as source, pytest.raises(FileFormatError, match="cannot be read"):
        read_values(source, [1])
