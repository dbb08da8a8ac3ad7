"""Somebody else's raster becomes a raw map: the same values on the same grid, and nothing left unsaid."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from sustain.debias import build_card
from sustain.errors import FileFormatError, RasterError
from sustain.maps.correct.adopt import adopt_raster
from sustain.maps.correct.raster import correct_raster

TARGET = {"name": "wealth_index", "unit": "index points"}
REAL = (
    Path(__file__).parents[4] / "shared/mirror/africa_poverty/data/predictions/nigeria_2012_2014_ms_vals.tif"
)


def foreign(path: Path, values: np.ndarray, **profile: object) -> Path:
    layout = {
        "driver": "GTiff",
        "dtype": values.dtype,
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "crs": "EPSG:3857",
        "transform": from_origin(290_700, 1_568_250, 7650, 7650),
    }
    with rasterio.open(path, "w", **layout | profile) as raster:
        raster.write(values)
    return path


def grid(seed: int = 0, height: int = 600, width: int = 40) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(1, height, width)).astype(np.float32)
    values[0, :2] = np.nan
    return values


def test_values_and_grid_stay_and_the_rest_is_put_in(tmp_path: Path) -> None:
    values = grid()
    source = foreign(tmp_path / "theirs.tif", values)
    ours = adopt_raster(source, tmp_path / "maps" / "wealth.tif", target=TARGET, predictor="them-1")
    with rasterio.open(source) as before, rasterio.open(ours) as after:
        np.testing.assert_array_equal(after.read(), values)
        assert after.transform == before.transform
        assert after.crs == before.crs
        assert after.dtypes == ("float32",)
        assert np.isnan(after.nodata)
        assert after.descriptions == ("wealth_raw",)
        assert after.units == ("index points",)
        assert after.tags()["SUSTAIN_TARGET"] == "wealth_index"
        assert after.tags()["SUSTAIN_PREDICTOR"] == "them-1"
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["wealth.tif"]


def test_the_same_raster_gives_the_same_bytes(tmp_path: Path) -> None:
    source = foreign(tmp_path / "theirs.tif", grid())
    first, second = (
        adopt_raster(source, tmp_path / name, target=TARGET, predictor="p") for name in ("a.tif", "b.tif")
    )
    assert first.read_bytes() == second.read_bytes()


def test_numbers_that_mean_nothing_become_nan(tmp_path: Path) -> None:
    values = np.array([[[-9999, 12], [34, -9999]]], dtype=np.int16)
    source = foreign(tmp_path / "theirs.tif", values, nodata=-9999)
    with rasterio.open(source, "r+") as raster:
        raster.scales, raster.offsets = (0.1,), (1.0,)
    ours = adopt_raster(source, tmp_path / "wealth.tif", target=TARGET, predictor="p")
    with rasterio.open(ours) as raster:
        np.testing.assert_allclose(raster.read(1), [[np.nan, 2.2], [4.4, np.nan]], rtol=1e-6)


def test_a_band_may_be_chosen(tmp_path: Path) -> None:
    values = np.concatenate([grid(1, 5, 5), grid(2, 5, 5)])
    source = foreign(tmp_path / "theirs.tif", values)
    ours = adopt_raster(source, tmp_path / "wealth.tif", target=TARGET, predictor="p", band=2)
    with rasterio.open(ours) as raster:
        np.testing.assert_array_equal(raster.read(1), values[1])
    with pytest.raises(RasterError, match=r"band= is 3, .* the bands are 1 \(without a name\), 2"):
        adopt_raster(source, tmp_path / "other.tif", target=TARGET, predictor="p", band=3)


def test_another_models_card_is_refused_afterwards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    card = build_card(
        0.7 * truth + rng.normal(scale=0.3, size=200), truth, target=TARGET, predictor="them-2", n_boot=20
    )
    source = foreign(tmp_path / "theirs.tif", grid(0, 20, 20))
    ours = adopt_raster(source, tmp_path / "wealth.tif", target=TARGET, predictor="them-1")
    with pytest.raises(RasterError, match="predictor"):
        correct_raster(ours, tmp_path / "corrected.tif", card)


def test_what_is_no_map_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    out = tmp_path / "out" / "wealth.tif"
    with pytest.raises(RasterError, match="no such raster"):
        adopt_raster(tmp_path / "none.tif", out, target=TARGET, predictor="p")
    (tmp_path / "page.tif").write_text("<html></html>")
    with pytest.raises(FileFormatError, match="cannot open"):
        adopt_raster(tmp_path / "page.tif", out, target=TARGET, predictor="p")
    empty = foreign(tmp_path / "empty.tif", np.full((1, 4, 4), np.nan, dtype=np.float32))
    with pytest.raises(RasterError, match="no value at all"):
        adopt_raster(empty, out, target=TARGET, predictor="p")
    nowhere = foreign(tmp_path / "nowhere.tif", grid(0, 4, 4), crs=None)
    with pytest.raises(RasterError, match="no coordinate system"):
        adopt_raster(nowhere, out, target=TARGET, predictor="p")
    assert not out.parent.exists() or not list(out.parent.iterdir())


@pytest.mark.skipif(not REAL.is_file(), reason="no published rasters in ../shared/mirror")
def test_the_real_raster(tmp_path: Path) -> None:
    ours = adopt_raster(
        REAL, tmp_path / "wealth.tif", target=TARGET, predictor="yeh2020-resnet_18_ms", band=1
    )
    with rasterio.open(ours) as raster:
        assert (raster.height, raster.width) == (143, 176)
        assert np.isfinite(raster.read(1)).sum() == 16_474
