"""Numbers that stand for no value although nobody declared them are refused where values are read."""

import numpy as np
import pytest
import rasterio

from sustain.errors import RasterError
from sustain.maps.fills import USUAL_FILLS
from sustain.maps.geotiff import read_values
from sustain.maps.read import buffer_mean, sample_points
from tests.maps.fakes import write_raster

VALUES = np.random.default_rng(0).normal(0, 0.8, (20, 20))


def with_fill(path, fill, dtype="float32", values=VALUES, scale=1.0, **layout):
    stored = np.round(values / scale) if scale != 1 else values
    stored = np.where(np.arange(400).reshape(20, 20) % 50 == 7, fill, stored)
    write_raster(path, [stored], ("a",), dtype=dtype, **{"nodata": None} | layout)
    if scale != 1:
        with rasterio.open(path, "r+") as raster:
            raster.scales = (scale,)
    return path


@pytest.mark.parametrize("fill", [fill for fill in USUAL_FILLS if abs(fill) < 1e39])
def test_an_undeclared_fill_is_refused(tmp_path, fill):
    path = with_fill(tmp_path / "a.tif", fill)
    with rasterio.open(path) as raster, pytest.raises(RasterError, match=r"in 8 cells, far from .*-a_nodata"):
        read_values(raster, [1])
    for read in (lambda: sample_points(path, [0.0], [0.0]), lambda: buffer_mean(path, [0.0], [0.0], 5000)):
        with pytest.raises(RasterError, match="declares no nodata number"):
            read()


@pytest.mark.parametrize("fill", [-9999, -32768])
def test_a_scaled_fill_that_looks_like_a_value_is_refused(tmp_path, fill):
    path = with_fill(tmp_path / "a.tif", fill, "int16", VALUES / 10, scale=0.001)
    with rasterio.open(path) as raster, pytest.raises(RasterError, match=f"holds {fill} in 8 cells"):
        read_values(raster, [1])


def test_a_third_of_cells_in_whole_numbers_is_a_fill_too(tmp_path):
    values = np.where(
        np.arange(400).reshape(20, 20) % 3 == 0, -9999, np.linspace(-2000, 1999, 400).reshape(20, 20)
    )
    path = write_raster(tmp_path / "a.tif", [values], ("wealth",), dtype="int16", nodata=None)
    with rasterio.open(path) as raster, pytest.raises(RasterError, match=r"-9999 in 134 cells, far from"):
        read_values(raster, [1])


def test_a_declared_fill_is_no_value(tmp_path):
    with rasterio.open(with_fill(tmp_path / "a.tif", -9999, nodata=-9999)) as raster:
        assert np.isnan(read_values(raster, [1])).sum() == 8


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", np.arange(400).reshape(20, 20) % 256),
        ("int16", np.arange(400).reshape(20, 20) * 80 - 16000),
        ("float32", np.linspace(-20_000, 9000, 400).reshape(20, 20)),
        ("float32", np.zeros((20, 20))),
    ],
)
def test_values_are_no_fills(tmp_path, dtype, values):
    path = write_raster(tmp_path / "a.tif", [values], ("a",), dtype=dtype, nodata=None)
    with rasterio.open(path) as raster:
        np.testing.assert_allclose(read_values(raster, [1])[0], values, rtol=1e-6)
    within = np.where(
        np.arange(400).reshape(20, 20) == 7, -9999, np.linspace(-20_000, 9000, 400).reshape(20, 20)
    )
    path = write_raster(tmp_path / "b.tif", [within], ("a",), nodata=None)
    with rasterio.open(path) as raster:
        assert (read_values(raster, [1]) == -9999).sum() == 1
