"""Cloud Optimised GeoTIFFs: overviews are GDAL's averages, and those of the raster that was given."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rio_cogeo.cogeo import cog_validate

from sustain.maps.cog import copy_as_cog, halve
from tests.maps.fakes import write_raster


def field(height, width, seed=0):
    values = np.random.default_rng(seed).normal(size=(2, height, width))
    values[:, : height // 3, : width // 2] = np.nan
    values[0, ::7, ::5] = np.nan
    return values


def read(path, level=None):
    options = {} if level is None else {"overview_level": level}
    with rasterio.open(path, **options) as raster:
        return raster.read()


def test_halving_averages_what_there_is():
    nan = np.nan
    cells = np.array([[[1, 2, nan, nan, 5], [3, 6, 4, nan, nan], [7, nan, nan, nan, 9]]], dtype=np.float32)
    np.testing.assert_array_equal(halve(cells), [[[3, 4, 5], [7, nan, 9]]])
    assert halve(cells).dtype == np.float32


def test_overviews_are_those_of_gdal(tmp_path):
    plain = write_raster(
        tmp_path / "plain.tif", field(2048, 1536), ("a", "b"), units=("m", "1"), tags={"T": "t"}
    )
    copy_as_cog(plain, tmp_path / "ours.tif")
    rasterio.shutil.copy(
        plain, tmp_path / "gdal.tif", driver="COG", compress="DEFLATE", overview_resampling="AVERAGE"
    )
    with rasterio.open(tmp_path / "ours.tif") as ours, rasterio.open(tmp_path / "gdal.tif") as theirs:
        assert ours.overviews(1) == theirs.overviews(1) == [2, 4]
        assert (ours.transform, ours.crs, ours.descriptions, ours.units) == (
            theirs.transform,
            theirs.crs,
            ("a", "b"),
            ("m", "1"),
        )
        assert ours.tags() == theirs.tags()
    for level in (None, 0, 1):
        np.testing.assert_allclose(
            read(tmp_path / "ours.tif", level), read(tmp_path / "gdal.tif", level), atol=1e-6
        )


@pytest.mark.parametrize("shape", [(512, 512), (1, 3000), (513, 1027), (1300, 701)])
def test_any_size_is_a_valid_cog_of_the_same_values(tmp_path, shape):
    values = field(*shape)
    plain = write_raster(tmp_path / "plain.tif", values, ("a", "b"))
    copy_as_cog(plain, tmp_path / "cog.tif")
    assert cog_validate(tmp_path / "cog.tif", strict=True) == (True, [], [])
    np.testing.assert_array_equal(read(tmp_path / "cog.tif"), values.astype(np.float32))
    with rasterio.open(tmp_path / "cog.tif") as cog:
        levels = cog.overviews(1)
        assert bool(levels) == (max(shape) > 512)
    for i in range(len(levels)):
        assert max(read(tmp_path / "cog.tif", i).shape) >= max(shape) / levels[i] - 1
        known = read(tmp_path / "cog.tif", i)[1]
        assert np.nanmax(known) <= values[1][np.isfinite(values[1])].max() + 1e-6


def test_a_second_raster_under_the_same_names_has_its_own_overviews(tmp_path):
    means = []
    for value in (1, 5):
        plain = write_raster(tmp_path / "plain.tif", np.full((1, 1100, 600), value), ("a",))
        copy_as_cog(plain, tmp_path / "cog.tif")
        means.append([float(read(tmp_path / "cog.tif", level).mean()) for level in (None, 0, 1)])
        for path in tmp_path.iterdir():
            path.unlink()
    assert means == [[1, 1, 1], [5, 5, 5]]
