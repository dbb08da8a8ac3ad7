"""Random fields: correlation as promised, independent streams, nuisances that are none of wealth's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.data.synthetic.fields import Streams, fractal_field, gaussian_field, orthogonal, standard


@pytest.mark.parametrize("length", [4.0, 12.5, 18.0])
def test_correlation_is_gaussian_in_distance(length):
    lags = (0.5, 1.0, 2.0)
    found = {lag: [] for lag in lags}
    for seed in range(20):
        field = gaussian_field(np.random.default_rng(seed), 400, length)
        for lag in lags:
            shift = round(lag * length)
            for moved, kept in (
                (field[shift:], field[:-shift]),
                (field[:, shift:], field[:, :-shift]),
            ):
                found[lag].append(np.mean(moved * kept))
    for lag in lags:
        expected = np.exp(-(round(lag * length) ** 2) / (2 * length**2))
        assert np.mean(found[lag]) == pytest.approx(expected, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(3, 200), length=st.floats(1, 60), seed=st.integers(0, 2**32))
def test_any_size_gives_a_standard_float32_square(size, length, seed):
    field = gaussian_field(np.random.default_rng(seed), size, length)
    assert field.shape == (size, size)
    assert field.dtype == np.float32
    assert field.mean(dtype=float) == pytest.approx(0, abs=1e-3)
    assert field.std(dtype=float) == pytest.approx(1, abs=1e-3)


def test_a_field_does_not_wrap_around():
    edges = [gaussian_field(np.random.default_rng(seed), 128, 16.0)[:, [0, -1]] for seed in range(40)]
    assert abs(np.mean([np.mean(edge[:, 0] * edge[:, 1]) for edge in edges])) < 0.25


def test_fractal_fields_are_rougher():
    smooth = gaussian_field(np.random.default_rng(0), 200, 32.0)
    rough = fractal_field(np.random.default_rng(0), 200, 32.0, octaves=4)
    assert np.std(np.diff(rough, axis=0)) > 1.5 * np.std(np.diff(smooth, axis=0))


def test_orthogonal_removes_every_trace_of_the_others():
    rng = np.random.default_rng(3)
    first = standard(rng.standard_normal((60, 60)).astype(np.float32))
    second = orthogonal(rng.standard_normal((60, 60)).astype(np.float32), first)
    mixed = (first + 2 * second + rng.standard_normal((60, 60))).astype(np.float32)
    clean = orthogonal(mixed, first, second)
    assert abs(np.mean(clean * first, dtype=float)) < 1e-5
    assert abs(np.mean(clean * second, dtype=float)) < 1e-5


def test_streams_depend_on_seed_name_and_index_alone():
    streams = Streams(5)
    first = streams.rng("towns").random()
    streams.rng("another name").random()
    assert Streams(5).rng("towns").random() == first
    assert (
        len(
            {
                first,
                streams.rng("towns", 1).random(),
                streams.rng("roads").random(),
                Streams(6).rng("towns").random(),
            }
        )
        == 4
    )
