"""Dense mode equals the tiles' predictions, or is refused; standard deviations come through to the map."""

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from sustain.config import MapParams
from sustain.errors import ConfigError, ModelError
from sustain.maps.correct.raster import correct_raster
from sustain.maps.grid import Grid
from sustain.maps.predict.dense import N_CHECKED, checked_cells
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import BANDS, OFFSET, SCALE, MeanPredictor, make_card, write_raster, write_scene

torch = pytest.importorskip("torch")
from sustain.models.predictor import ModelDescription, TilePredictor  # noqa: E402

EXACT = MapParams(spacing_px=8, block_cells=3, batch_size=5)
DENSE = EXACT.model_copy(update={"mode": "dense"})


def make_predictor(backbone="resnet_valid", **changes):
    torch.manual_seed(0)
    description = ModelDescription(
        bands=BANDS,
        scale=SCALE,
        offset=OFFSET,
        nodata=0,
        pixel_m=30,
        tile_px=60,
        backbone=backbone,
        statistics={"mean": (0.2, 0.2, 200.0), "std": (0.1, 0.1, 30.0)},
        label={"mean": 0.1, "std": 0.8},
        target={"name": "asset_index", "unit": "index points"},
        weights_sha256="0" * 64,
        params={},
        seed=0,
        versions={},
        **changes,
    )
    network = description.build()
    network.eval()
    return TilePredictor(network, description, device="cpu")


def read(path):
    with rasterio.open(path) as raster:
        return raster.descriptions, raster.units, raster.read()


@pytest.mark.parametrize("spacing", [8, 16])
def test_dense_equals_exact_also_around_holes(tmp_path, pixels, spacing):
    pixels[:, 10:30, :50] = 0
    pixels[1, :, 80] = 0
    path, predictor = write_scene(tmp_path / "scene.tif", pixels), make_predictor(members=2)
    maps = [
        read(predict_map(path, predictor, tmp_path / "w.tif", params=params))[2]
        for params in (p.model_copy(update={"spacing_px": spacing}) for p in (EXACT, DENSE))
    ]
    np.testing.assert_allclose(maps[1], maps[0], rtol=0, atol=1e-5)
    assert np.nanstd(maps[0][0]) > 1e-3


@pytest.mark.parametrize("members", [1, 3])
def test_dense_gives_the_sd_of_exact_mode(tmp_path, scene_path, members):
    """Of several members too, whose mixture's variance is not the mean of anything that one of them puts out."""
    predictor = make_predictor(head="mean_variance", members=members)
    maps = [
        read(predict_map(scene_path, predictor, tmp_path / "w.tif", params=params))
        for params in (EXACT, DENSE)
    ]
    assert maps[1][:2] == maps[0][:2]
    assert maps[1][0] == ("wealth_raw", "coverage", "predictive_sd")
    np.testing.assert_allclose(maps[1][2], maps[0][2], rtol=0, atol=1e-5)
    assert maps[0][2][2].std() > 1e-5


def test_blocks_without_any_imagery_are_empty_in_both_modes(tmp_path, pixels):
    """Of one row of blocks of three, the last alone has imagery; the model never sees the others."""
    pixels[:, :, :92] = 0
    path = write_scene(tmp_path / "scene.tif", pixels)
    predictor = make_predictor(head="mean_variance")
    params = [p.model_copy(update={"block_cells": 2, "min_coverage": 0.1}) for p in (EXACT, DENSE)]
    maps = [read(predict_map(path, predictor, tmp_path / "w.tif", params=one))[2] for one in params]
    np.testing.assert_allclose(maps[1], maps[0], rtol=0, atol=1e-5)
    known = np.isfinite(maps[1][0])
    assert known.any()
    assert not known[:, :4].any()
    np.testing.assert_array_equal(np.isfinite(maps[1][2]), known)
    assert (maps[1][1][:, :4] == 0).all()


@pytest.mark.parametrize(("band", "what"), [(0, "predictions"), (1, "standard deviations")])
def test_a_cell_that_differs_is_refused_and_no_map_is_left(tmp_path, scene_path, band, what):
    predictor = make_predictor(head="mean_variance")
    honest = predictor.combine_cells
    predictor.combine_cells = lambda means: honest(means) + 0.01 * (np.arange(2) == band)[:, None, None]
    with pytest.raises(
        ModelError, match=rf"own {what} by up to 0\.01, more than dense_tolerance 0\.001"
    ) as caught:
        predict_map(scene_path, predictor, tmp_path / "w.tif", params=DENSE)
    assert "in the block at cell row" in caught.value.__notes__[0]
    assert not (tmp_path / "w.tif").exists()


@pytest.mark.parametrize(
    ("changes", "spacing", "message"),
    [
        ({"backbone": "resnet_narrow"}, 8, "whole tiles only"),
        ({"views": 2}, 8, "whole tiles only"),
        ({}, 12, "spacing_px is 12, .* multiple of 8"),
    ],
)
def test_what_cannot_be_dense_is_refused_before_the_first_block(
    tmp_path, scene_path, changes, spacing, message
):
    params = DENSE.model_copy(update={"spacing_px": spacing})
    with pytest.raises(ConfigError, match=message):
        predict_map(scene_path, make_predictor(**changes), tmp_path / "w.tif", params=params)


def test_a_predictor_without_feature_cells_is_refused(tmp_path, scene_path, predictor):
    with pytest.raises(ConfigError, match="mean-0123456789ab predicts whole tiles only"):
        predict_map(scene_path, predictor, tmp_path / "w.tif", params=DENSE)


@pytest.mark.parametrize(("side", "expected"), [(4000, N_CHECKED), (200, 144)])
def test_checked_cells_are_spread_over_the_map_whatever_its_blocks(side, expected):
    grid = Grid(GeoBox((side, side), rasterio.Affine.identity(), None), 16, 16)
    whole = np.zeros(grid.shape, dtype=int)
    for block in grid.blocks(17):
        span = block.cells
        whole[span.row : span.row + span.height, span.col : span.col + span.width] += checked_cells(
            grid, span
        )
    assert whole.max() == 1
    assert whole.sum() == min(expected, whole.size)


def test_a_variance_becomes_a_band(tmp_path, scene_path, pixels):
    predictor = make_predictor(backbone="resnet_narrow", head="mean_variance")
    out = predict_map(scene_path, predictor, tmp_path / "w.tif", params=EXACT)
    names, units, values = read(out)
    assert names == ("wealth_raw", "coverage", "predictive_sd")
    assert units == ("index points", "1", "index points")
    mean, sd = predictor.predict_with_sd(pixels[None, :, 8:68, 16:76].copy())
    np.testing.assert_allclose(values[[0, 2], 1, 2], [mean[0], sd[0]], rtol=1e-5)
    assert (values[2] > 0).all()


def test_a_cell_without_imagery_has_no_sd(tmp_path, pixels):
    pixels[:, :, :76] = 0
    path = write_scene(tmp_path / "scene.tif", pixels)
    predictor = make_predictor(backbone="resnet_narrow", head="mean_variance")
    _, _, values = read(predict_map(path, predictor, tmp_path / "w.tif", params=EXACT))
    np.testing.assert_array_equal(np.isnan(values[2]), np.isnan(values[0]))
    assert np.isnan(values[2]).any()


def test_the_correction_takes_no_notice_of_the_sd(tmp_path):
    raw = np.random.default_rng(0).uniform(-0.9, 0.9, (3, 4, 5)).astype(np.float32)
    names, units = ("wealth_raw", "coverage", "predictive_sd"), ("index points", "1", "index points")
    card = make_card()
    both = []
    for n in (2, 3):
        write_raster(tmp_path / "raw.tif", raw[:n], names[:n], units[:n])
        both.append(correct_raster(tmp_path / "raw.tif", tmp_path / "c.tif", card).read_bytes())
    assert both[0] == both[1]


def test_a_model_without_variance_keeps_its_two_bands(tmp_path, scene_path):
    out = predict_map(scene_path, MeanPredictor(), tmp_path / "w.tif", params=EXACT)
    assert read(out)[0] == ("wealth_raw", "coverage")
