import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError

SHARES = {"train": 0.45, "val": 0.1, "calibration": 0.25, "test": 0.2}


def kilometres(lat1, lon1, lat2, lon2):
    """Great-circle distance, by the haversine formula."""
    lat1, lon1, lat2, lon2 = np.radians([lat1, lon1, lat2, lon2])
    h = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371.0088 * np.arcsin(np.sqrt(np.minimum(h, 1)))


# --- blocks


@pytest.mark.parametrize("lat", [0.0, 35.0, -60.0])
def test_a_block_is_as_wide_as_asked_at_any_latitude(lat):
    lon = np.linspace(20, 24, 4001)
    blocks = spatial_block(np.full_like(lon, lat), lon, 25.0)
    starts = np.flatnonzero(blocks[1:] != blocks[:-1])
    widths = np.diff(lon[starts]) * 111.195 * np.cos(np.radians(lat))
    np.testing.assert_allclose(widths, 25.0, rtol=0.02)


def test_a_block_is_as_high_as_asked():
    lat = np.linspace(-4, 4, 8001)
    blocks = spatial_block(lat, np.full_like(lat, 0.01), 10.0)
    starts = np.flatnonzero(blocks[1:] != blocks[:-1])
    np.testing.assert_allclose(np.diff(lat[starts]) * 111.195, 10.0, rtol=0.02)


places = st.tuples(st.floats(-85, 85), st.floats(-180, 180))


@settings(max_examples=200, deadline=None)
@given(first=places, second=places, km=st.floats(1, 500))
def test_places_of_one_block_are_near_and_places_far_apart_are_not_in_one(first, second, km):
    (lat1, lon1), (lat2, lon2) = first, second
    one, other = spatial_block([lat1, lat2], [lon1, lon2], km)
    if one == other:
        # The diagonal of a square, and a little for the difference between its sides towards the poles.
        assert kilometres(lat1, lon1, lat2, lon2) <= 2 * km * 1.5


def test_both_names_of_the_antimeridian_are_one_block():
    west, east = spatial_block([10, 10], [-180, 180], 50)
    assert west == east


def test_block_sizes_have_different_names():
    assert spatial_block([1.0], [1.0], 10)[0] != spatial_block([1.0], [1.0], 20)[0]


@pytest.mark.parametrize(
    ("lat", "lon", "km", "message"),
    [
        ([1.0, np.nan], [1.0, 2.0], 10, "1 place.s. with lat/lon missing or out of range"),
        ([101.0], [12.0], 10, "Are lat and lon swapped"),
        ([1.0, 2.0], [1.0], 10, "equally long"),
        ([1.0], [1.0], 0, "km is 0"),
        ([1.0], [1.0], np.inf, "km is inf"),
    ],
)
def test_bad_places_are_refused(lat, lon, km, message):
    with pytest.raises(DataError, match=message):
        spatial_block(lat, lon, km)


# --- parts


@st.composite
def worlds(draw):
    sizes = draw(st.lists(st.integers(1, 60), min_size=4, max_size=80))
    return np.repeat([f"b{i}" for i in range(len(sizes))], sizes), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=150, deadline=None)
@given(world=worlds())
def test_whole_blocks_every_part_and_no_part_over_its_share_by_more_than_a_block(world):
    blocks, seed = world
    parts = assign_splits(blocks, SHARES, seed)
    assert all(len(set(parts[blocks == block])) == 1 for block in np.unique(blocks))
    assert set(parts) == set(SHARES)
    largest = np.unique(blocks, return_counts=True)[1].max()
    for part, share in SHARES.items():
        assert np.sum(parts == part) <= share * len(blocks) + largest


@settings(max_examples=30, deadline=None)
@given(world=worlds())
def test_the_order_of_rows_does_not_matter(world):
    blocks, seed = world
    order = np.random.default_rng(0).permutation(len(blocks))
    np.testing.assert_array_equal(
        assign_splits(blocks, SHARES, seed)[order], assign_splits(blocks[order], SHARES, seed)
    )


def test_shares_are_met_closely_with_many_blocks():
    blocks = np.repeat(np.arange(400).astype(str), 5)
    parts = assign_splits(blocks, SHARES, 0)
    for part, share in SHARES.items():
        assert np.mean(parts == part) == pytest.approx(share, abs=0.005)


def test_the_seed_decides():
    blocks = np.repeat(np.arange(40).astype(str), 5)
    first, same, other = (assign_splits(blocks, SHARES, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_too_few_blocks_is_an_error_not_an_empty_part():
    with pytest.raises(DataError, match=r"3 spatial block.*cannot fill 4 parts .*smaller blocks"):
        assign_splits(["a", "b", "c"] * 10, SHARES, 0)
    with pytest.raises(DataError, match="0 spatial block"):
        assign_splits([], SHARES, 0)


@pytest.mark.parametrize("shares", [{}, {"train": 0.5, "test": 0.4}, {"train": 1.5, "test": -0.5}])
def test_shares_must_be_positive_and_add_up(shares):
    with pytest.raises(DataError, match="positive and add up to 1"):
        assign_splits(["a", "b"], shares, 0)
