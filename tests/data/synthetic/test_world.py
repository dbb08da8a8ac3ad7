"""The landscape and what a satellite sees of it."""

import numpy as np
import pytest

from sustain.data.synthetic import landcover, render
from sustain.data.synthetic.landcover import COVERS, build_season, cover_shares
from sustain.data.synthetic.world import SHARES, tile_means
from tests.data.synthetic.worlds import small_world

PIXEL_M = 30.0


@pytest.fixture(scope="module")
def world():
    return small_world()


@pytest.fixture(scope="module")
def season(world):
    return build_season(world.landscape, world.landscape.wealth, "baseline", PIXEL_M, world.streams)


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def test_wealth_is_standard_and_towns_explain_their_share(world):
    wealth = world.landscape.wealth
    assert wealth.mean(dtype=float) == pytest.approx(0, abs=1e-3)
    assert wealth.std(dtype=float) == pytest.approx(1, abs=2e-3)
    assert correlation(wealth, world.landscape.town) ** 2 == pytest.approx(SHARES[0], abs=2e-3)


@pytest.mark.parametrize("name", ["soil", "wood", "people"])
def test_nuisances_know_nothing_of_wealth(world, name):
    assert abs(correlation(getattr(world.landscape, name), world.landscape.wealth)) < 1e-3


def test_towns_and_water_are_where_they_can_be(world):
    town, water = world.landscape.town, world.landscape.water
    assert 0.04 < np.mean(town > 0.5) < 0.13
    for share in (town, water):
        assert share.min() >= 0
        assert share.max() <= 1
    assert water[town > 0.9].max() < 0.11
    assert world.landscape.road.min() == 0


def test_tile_means_are_means_of_windows():
    field = np.random.default_rng(0).standard_normal((20, 20)).astype(np.float32)
    means = tile_means(field, 6)
    assert means.shape == (15, 15)
    for row, column in ((0, 0), (14, 14), (3, 9)):
        expected = field[row : row + 6, column : column + 6].mean(dtype=float)
        assert means[row, column] == pytest.approx(expected, abs=1e-6)


def test_land_covers_share_out_every_pixel(world, season):
    cover = cover_shares(world.landscape, season, slice(100, 200))
    assert cover.shape == (len(COVERS), 100, 512)
    assert cover.min() >= 0
    np.testing.assert_allclose(cover.sum(axis=0), 1, atol=1e-5)


def test_wealth_opens_its_four_doors_in_the_known_direction(world, season):
    landscape = world.landscape
    richer = build_season(landscape, landscape.wealth + np.float32(1), "baseline", PIXEL_M, world.streams)
    assert richer.metal.mean() > season.metal.mean() + 0.1
    assert richer.vigour.mean() > season.vigour.mean() + 0.1
    assert richer.lights.mean() > season.lights.mean()
    assert share_of_borders(richer.crop) < 0.9 * share_of_borders(season.crop)  # larger parcels
    for name in ("built", "rain", "haze", "warmth", "missing"):
        np.testing.assert_array_equal(getattr(richer, name), getattr(season, name))


def share_of_borders(crop):
    return np.mean(crop[1:] != crop[:-1])


def test_a_local_rise_in_wealth_is_seen_there_and_nowhere_else(world, season):
    landscape = world.landscape
    wealth = landscape.wealth.copy()
    wealth[200:264, 300:364] += 1
    after = build_season(landscape, wealth, "baseline", PIXEL_M, world.streams)
    shade = render.hill_shade(landscape)
    images = [
        render.render_rows(landscape, state, shade, slice(0, 512), world.streams.rng("sensor"))
        for state in (season, after)
    ]
    changed = (images[0][:7] != images[1][:7]).any(axis=0)
    assert changed[200:264, 300:364].mean() > 0.5
    # A parcel goes by the wealth at its middle, which may lie on the other side of the border.
    reach = 4 * landcover.PARCEL_PX
    changed[200 - reach : 264 + reach, 300 - reach : 364 + reach] = False
    assert not changed.any()


def test_the_seasons_are_the_same_country(world, season):
    later = build_season(world.landscape, world.landscape.wealth, "endline", PIXEL_M, world.streams)
    np.testing.assert_array_equal(later.built, season.built)
    assert np.mean(later.crop == season.crop) > 0.97  # parcels merge or split as customs drift
    assert correlation(later.metal, season.metal) > 0.95
    assert 0.5 < correlation(later.rain, season.rain) < 0.95
    assert (later.missing != season.missing).any()


def test_bands_are_physical(world, season):
    shade = render.hill_shade(world.landscape)
    bands = render.render_rows(world.landscape, season, shade, slice(0, 512), world.streams.rng("sensor"))
    seen = bands[:, ~season.missing]
    blue, _green, red, _swir1, _swir2, kelvin, nir, lights = seen
    reflectance = np.delete(seen, [5, 7], axis=0)
    assert reflectance.min() > 0
    assert reflectance.max() <= 1
    assert 280 < kelvin.min() < kelvin.max() < 330
    assert lights.min() >= 0
    assert np.median(nir) > np.median(red) > np.median(blue)
    water = world.landscape.water[~season.missing] > 0.95
    if water.any():
        assert np.median(nir[water]) < 0.1
    town = world.landscape.town[~season.missing]
    assert np.median(lights[town > 0.9]) > 5 * np.median(lights[town < 0.1])


def test_missing_pixels_are_zero_in_every_band_and_only_they(world, season):
    shade = render.hill_shade(world.landscape)
    bands = render.render_rows(world.landscape, season, shade, slice(0, 512), world.streams.rng("sensor"))
    numbers = render.to_numbers(bands)
    assert season.missing.any()
    assert (numbers[:, season.missing] == 0).all()
    assert (numbers[:, ~season.missing] > 0).all()
    assert (bands[:7, ~season.missing] > 0).all()


def test_digital_numbers_survive_the_way_to_physical_values_and_back():
    numbers = np.random.default_rng(0).integers(7280, 43_000, (8, 30, 30)).astype(np.uint16)
    numbers[7] = np.random.default_rng(1).integers(1, 65_535, (30, 30))
    numbers[:, 4:9, 2:5] = 0
    bands = render.from_numbers(numbers)
    assert (bands[:, 4:9, 2:5] == 0).all()
    np.testing.assert_array_equal(render.to_numbers(bands), numbers)
