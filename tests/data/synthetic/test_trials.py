"""The trials: units, randomisation, and the effect that is the truth."""

import numpy as np
import pytest

from sustain.config import SyntheticWorldParams
from sustain.data.synthetic.fields import Streams
from sustain.data.synthetic.render import LEFT_M
from sustain.data.synthetic.trials import PUBLIC_COLUMNS, TRIALS, design_trials, treat, trial_truth
from sustain.data.synthetic.world import tile_means
from sustain.errors import ConfigError
from tests.data.synthetic.worlds import SMALL, small_world

TILE = SMALL.tile_px


@pytest.fixture(scope="module")
def world():
    return small_world()


@pytest.fixture(scope="module")
def tables(world):
    return design_trials(world.landscape, world.params, world.streams)


def test_every_described_trial_has_its_table(tables):
    assert [trial["name"] for trial in TRIALS] == list(tables)
    for trial in TRIALS:
        assert set(PUBLIC_COLUMNS) <= set(tables[trial["name"]].columns)
        assert trial["assumption"] == ("outcome" if trial["name"] == "towns" else "measurement")
        assert trial["treatment"] in PUBLIC_COLUMNS
        assert "effect" not in trial


@pytest.mark.parametrize("name", ["villages", "districts", "towns"])
def test_catchments_lie_on_the_lattice_apart_from_each_other(tables, name):
    table = tables[name]
    for corner in ("row", "column"):
        assert (table[corner] % TILE == 0).all()
        assert table[corner].between(0, SMALL.scene_px - TILE).all()
    assert not table.duplicated(["row", "column"]).any()
    assert table["unit"].is_unique


@pytest.mark.parametrize("spacing", [TILE, TILE // 2])
def test_catchment_middles_are_map_cell_middles(tables, spacing):
    for table in tables.values():
        for corner in ("row", "column"):
            middle = table[corner] + TILE / 2
            assert ((middle - TILE / 2) % spacing == 0).all()


def test_coordinates_are_those_of_the_middle(tables):
    radius = 6378137.0  # spherical Mercator
    for table in tables.values():
        x = LEFT_M + (table["column"] + TILE / 2) * SMALL.pixel_m
        y = (SMALL.scene_px / 2 - table["row"] - TILE / 2) * SMALL.pixel_m
        np.testing.assert_allclose(table["lon"], np.degrees(x / radius), atol=1e-10)
        np.testing.assert_allclose(table["lat"], np.degrees(np.arctan(np.sinh(y / radius))), atol=1e-10)


def test_villages_are_rural_western_and_half_treated(world, tables):
    villages = tables["villages"]
    assert (villages["column"] < SMALL.scene_px // 2).all()
    assert (villages["urban"] == 0).all()
    town = tile_means(world.landscape.town, TILE)[villages["row"], villages["column"]]
    assert town.max() < 0.05
    assert abs(villages["treated"].sum() - len(villages) / 2) <= 1


def test_districts_are_eastern_and_treated_as_wholes(tables):
    districts = tables["districts"]
    assert (districts["column"] >= SMALL.scene_px // 2).all()
    groups = districts.groupby("district")
    assert (groups["treated"].nunique() == 1).all()
    assert groups.size().max() <= 4
    assert abs(groups["treated"].first().mean() - 0.5) < 0.1
    spread = groups[["row", "column"]].max() - groups[["row", "column"]].min()
    assert spread.to_numpy().max() <= TILE


def test_districts_are_plenty_in_the_default_world():
    default = SyntheticWorldParams()
    assert (default.scene_px // default.tile_px // 2) ** 2 / 2 >= 60


def test_towns_are_town_against_country(world, tables):
    towns = tables["towns"]
    town = tile_means(world.landscape.town, TILE)[towns["row"], towns["column"]]
    assert town[towns["treated"] == 1].min() >= 0.4
    assert town[towns["treated"] == 0].max() < 0.05


def test_treatment_adds_the_effect_to_treated_catchments_and_to_nothing_else(world, tables):
    before = world.landscape.wealth
    villages = tables["villages"]
    after = treat(before, villages, 0.5, TILE)
    inside = np.zeros(before.shape, bool)
    for row, column in villages.loc[villages["treated"] == 1, ["row", "column"]].to_numpy():
        inside[row : row + TILE, column : column + TILE] = True
    np.testing.assert_array_equal(after[~inside], before[~inside])
    np.testing.assert_allclose((after - before)[inside], 0.5, atol=1e-6)
    gain = (
        trial_truth("villages", villages, after, TILE)["wealth_true"]
        - trial_truth("villages", villages, before, TILE)["wealth_true"]
    )
    np.testing.assert_allclose(gain, 0.5 * villages["treated"], atol=1e-6)


def test_the_lot_is_drawn_anew_by_another_seed(world, tables):
    other = design_trials(world.landscape, world.params, Streams(99))
    assert (other["villages"]["treated"] != tables["villages"]["treated"]).any()
    np.testing.assert_array_equal(other["towns"]["treated"], tables["towns"]["treated"])


def test_a_scene_without_towns_has_no_third_trial(world):
    landscape = type(world.landscape)(
        **{**world.landscape.__dict__, "town": np.zeros_like(world.landscape.town)}
    )
    with pytest.raises(ConfigError, match="'towns' has 0 treated"):
        design_trials(landscape, world.params, world.streams)
