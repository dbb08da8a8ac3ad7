"""Atoms: found where many rows have one exact value, and not where values are rounded, graded or merely steep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sustain.stats.atoms import atoms

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=2000)


def at(values, value, share, seed=1):
    """`values` with `value` in a share of the rows, spread over them."""
    rows = np.random.default_rng(seed).permutation(values.size)[: round(share * values.size)]
    out = values.copy()
    out[rows] = value
    return out


@pytest.mark.parametrize("value", [-4.0, 0.0, 0.31, 4.0])
@pytest.mark.parametrize("share", [0.06, 0.16, 0.5])
def test_known_answer(value, share):
    assert atoms(at(NORMAL, value, share)) == [(value, pytest.approx(share))]
    assert atoms(at(NORMAL, value, 0.04)) == []


def test_floor_cap_and_heap_at_once():
    values = at(np.clip(NORMAL, -1.0, 1.0), 0.25, 0.1)
    found = atoms(values)
    assert [value for value, _ in found] == [-1.0, 0.25, 1.0]
    assert [share for _, share in found] == pytest.approx([np.mean(values == v) for v in (-1.0, 0.25, 1.0)])


@pytest.mark.parametrize("decimals", [0, 1, 2])
@pytest.mark.parametrize(
    "values",
    [
        NORMAL * 3,
        RNG.gamma(2.0, 1.0, 2000) * 3,
        RNG.exponential(4.0, 2000),
        RNG.uniform(0, 100, 2000),
        NORMAL,
    ],
    ids=["normal", "gamma", "exponential", "uniform", "narrow"],
)
def test_rounded_numbers_have_none(values, decimals):
    """Where rounding leaves most rows at a few values, all of these have many."""
    assert atoms(np.round(values, decimals)) == []


def test_zeros_among_rounded_numbers():
    assert atoms(at(np.round(RNG.exponential(4.0, 2000), 1), 0.0, 0.2))[0][0] == 0.0


@pytest.mark.parametrize("grades", [2, 5, 9])
def test_grades_have_none(grades):
    assert atoms(RNG.integers(0, grades, 500).astype(float)) == []


def test_few_rows_have_none():
    assert atoms(np.r_[np.zeros(4), NORMAL[:36]]) == []
    assert atoms(np.r_[np.zeros(5), NORMAL[:36]]) == [(0.0, pytest.approx(5 / 41))]


def test_weights_count():
    values = at(NORMAL, 0.0, 0.1)
    heavy = np.where(values == 0, 3.0, 1.0)
    assert atoms(values, heavy) == [(0.0, pytest.approx(0.3 / 1.2))]
    assert atoms(values, np.where(values == 0, 0.1, 1.0)) == []


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_order_scale_and_offset(seed, scale, shift):
    values = np.random.default_rng(seed).permutation(at(NORMAL, 0.5, 0.2))
    ((value, share),) = atoms(scale * values + shift)
    assert value == scale * 0.5 + shift
    assert share == pytest.approx(0.2)
