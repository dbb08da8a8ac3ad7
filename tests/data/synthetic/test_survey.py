"""The survey: where sites lie, what their labels know, how they are displaced."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sustain.data.sustainbench.dhs import COLUMNS
from sustain.data.synthetic.render import LEFT_M
from sustain.data.synthetic.survey import (
    draw_sites,
    label_table,
    max_displacement_m,
    site_truth,
)
from sustain.data.synthetic.world import URBAN
from sustain.errors import ConfigError
from tests.data.synthetic.worlds import SMALL, small_world

PARAMS = SMALL.model_copy(update={"n_sites": 3000})


@pytest.fixture(scope="module")
def world():
    return small_world()


@pytest.fixture(scope="module")
def sites(world):
    return draw_sites(world.landscape, PARAMS, world.streams)


def pixels(sites, params=PARAMS):
    row = params.scene_px // 2 - sites["y_true"] / params.pixel_m
    column = (sites["x_true"] - LEFT_M) / params.pixel_m
    return row.to_numpy(), column.to_numpy()


def test_label_noise_has_the_variance_of_a_mean_over_households(sites):
    noise = sites["label"] - sites["wealth_true"]
    expected = PARAMS.household_sd**2 / PARAMS.households
    assert noise.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / PARAMS.n_sites))
    assert abs(noise.mean()) < 4 * np.sqrt(expected / PARAMS.n_sites)
    assert abs(np.corrcoef(noise, sites["wealth_true"])[0, 1]) < 0.08


def test_without_household_spread_the_label_is_the_truth(world):
    exact = draw_sites(world.landscape, PARAMS.model_copy(update={"household_sd": 0.0}), world.streams)
    np.testing.assert_array_equal(exact["label"], exact["wealth_true"])


def test_truth_is_the_mean_wealth_around_the_true_place(world, sites):
    row, column = pixels(sites)
    tile = PARAMS.tile_px
    for site in range(0, len(sites), 300):
        top, left = round(row[site] - tile / 2), round(column[site] - tile / 2)
        window = world.landscape.wealth[top : top + tile, left : left + tile]
        assert sites["wealth_true"][site] == pytest.approx(window.mean(dtype=float), abs=1e-6)


def test_displacement_is_the_dhs_one_in_proportion_to_the_tile(sites):
    limit = max_displacement_m(PARAMS)
    tile_m = PARAMS.tile_px * PARAMS.pixel_m
    assert limit["urban"] == pytest.approx(2000 * tile_m / 6720)
    assert limit["rural"] == pytest.approx(5000 * tile_m / 6720)
    assert limit["rural far"] == pytest.approx(10_000 * tile_m / 6720)
    east, north = sites["x"] - sites["x_true"], sites["y"] - sites["y_true"]
    distance, urban = np.hypot(east, north), sites["urban"]
    assert distance[urban].max() <= limit["urban"] + 1e-6
    assert distance[~urban].max() <= limit["rural far"] + 1e-6
    far = distance[~urban] > limit["rural"]
    assert 0.0005 < far.mean() < 0.012  # 1%, of which half falls beyond the ordinary limit
    assert stats.kstest(distance[urban] / limit["urban"], "uniform").pvalue > 1e-3
    near = distance[~urban][~far] / limit["rural"]
    assert stats.kstest(near, "uniform").pvalue > 1e-3
    angle = np.arctan2(north, east) / (2 * np.pi) + 0.5
    assert stats.kstest(angle, "uniform").pvalue > 1e-3


def test_towns_have_their_share_of_sites_and_more_by_area(world, sites):
    assert sites["urban"].sum() == round(PARAMS.urban_share * PARAMS.n_sites)
    row, column = pixels(sites)
    town = world.landscape.town[row.astype(int), column.astype(int)]
    np.testing.assert_array_equal(town >= URBAN, sites["urban"])
    assert sites["urban"].mean() > 2 * np.mean(world.landscape.town >= URBAN)
    assert world.landscape.water[row.astype(int), column.astype(int)].max() < 1


def test_tiles_lie_around_the_displaced_place_and_inside_the_scene(sites):
    tile, pixel = PARAMS.tile_px, PARAMS.pixel_m
    middle_x = LEFT_M + (sites["column"] + tile / 2) * pixel
    middle_y = (PARAMS.scene_px // 2 - sites["row"] - tile / 2) * pixel
    assert (middle_x - sites["x"]).abs().max() <= pixel / 2 + 1e-6
    assert (middle_y - sites["y"]).abs().max() <= pixel / 2 + 1e-6
    for corner in ("row", "column"):
        assert sites[corner].between(0, PARAMS.scene_px - tile).all()


def test_the_public_table_is_sustainbenchs(sites):
    table = label_table(sites, PARAMS)
    assert tuple(table.columns) == COLUMNS
    filled = ["DHSID_EA", "cname", "year", "lat", "lon", "n_asset", "asset_index", "cluster_id", "urban"]
    assert table[filled].notna().all().all()
    assert table.drop(columns=filled).isna().all().all()
    assert table["DHSID_EA"].is_unique
    assert table["DHSID_EA"].str.fullmatch(r"XA-2016-9#-\d{8}").all()
    assert set(table["urban"]) == {"U", "R"}
    assert (table["n_asset"] == PARAMS.households).all()
    # Displaced coordinates, not true ones; one degree is 111.32 km here.
    truth = site_truth(sites)
    moved_km = 111.32 * np.hypot(table["lon"] - truth["lon_true"], table["lat"] - truth["lat_true"])
    expected_km = np.hypot(sites["x"] - sites["x_true"], sites["y"] - sites["y_true"]) / 1000
    np.testing.assert_allclose(moved_km, expected_km, rtol=1e-3, atol=1e-6)


def test_the_order_of_sites_tells_nothing(sites):
    assert abs(stats.spearmanr(np.arange(len(sites)), sites["urban"]).statistic) < 0.08


def test_a_scene_without_room_for_towns_is_an_error(world):
    empty = np.zeros_like(world.landscape.town)
    landscape = type(world.landscape)(**{**world.landscape.__dict__, "town": empty})
    with pytest.raises(ConfigError, match="urban place"):
        draw_sites(landscape, PARAMS, world.streams)


def test_sites_do_not_repeat_or_crowd_one_pixel(sites):
    assert not pd.DataFrame({"x": sites["x_true"], "y": sites["y_true"]}).duplicated().any()
