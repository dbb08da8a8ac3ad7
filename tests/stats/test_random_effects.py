"""DerSimonian and Laird: by hand, against statsmodels, and what must hold whatever the estimates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.meta_analysis import combine_effects

from sustain.stats.random_effects import random_effects


def groups(seed, n=12):
    rng = np.random.default_rng(seed)
    variances = rng.uniform(0.01, 0.2, n)
    return rng.normal(0.6, 0.3, n) + rng.normal(size=n) * np.sqrt(variances), variances


@pytest.mark.parametrize("seed", range(5))
def test_is_that_of_statsmodels(seed):
    estimates, variances = groups(seed)
    found = random_effects(estimates, variances)
    expected = combine_effects(estimates, variances, method_re="dl")
    assert found.n == 12
    assert found.q == pytest.approx(expected.q)
    assert found.sd**2 == pytest.approx(max(0.0, expected.tau2), abs=1e-12)
    assert found.mean == pytest.approx(
        expected.mean_effect_re if expected.tau2 > 0 else expected.mean_effect_fe
    )
    assert found.p_value == pytest.approx(expected.test_homogeneity().pvalue)
    assert found.i2 == pytest.approx(max(0.0, expected.i2))


def test_by_hand():
    """Estimates 1..5 with variance 1 each have Q = 10 and tau^2 = (10 - 4) / 4."""
    found = random_effects(np.arange(1.0, 6.0), np.ones(5))
    assert (found.q, found.mean) == (pytest.approx(10), pytest.approx(3))
    assert found.sd**2 == pytest.approx(1.5)
    assert found.i2 == pytest.approx(0.6)


def test_equal_estimates_have_no_spread():
    found = random_effects(np.full(6, 0.4), np.linspace(0.1, 1, 6))
    assert (found.sd, found.q, found.i2, found.mean) == (
        0,
        pytest.approx(0, abs=1e-12),
        0,
        pytest.approx(0.4),
    )
    assert found.p_value == pytest.approx(1)


@given(st.integers(0, 1000), st.floats(0.001, 1000), st.floats(-1000, 1000))
def test_order_units_and_offset(seed, scale, shift):
    estimates, variances = groups(seed)
    before = random_effects(estimates, variances)
    order = np.random.default_rng(seed).permutation(12)
    after = random_effects(scale * estimates[order] + shift, scale**2 * variances[order])
    assert after.mean == pytest.approx(scale * before.mean + shift, rel=1e-8, abs=1e-6 * scale)
    assert after.sd == pytest.approx(scale * before.sd, rel=1e-4, abs=1e-4 * scale)
    assert after.p_value == pytest.approx(before.p_value, abs=1e-4)
