"""Covariances from influences: against statsmodels, by brute force, and the degenerate cases said."""

import math

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.errors import EffectError, StatisticsError
from sustain.stats.covariance import (
    cluster_covariance,
    critical_value,
    p_value,
    robust_covariance,
    wald_test,
)

few = settings(max_examples=25, deadline=None)


def regression(n=300, k=3, seed=0):
    """Influences of rows on the coefficients of a regression, its clusters, and statsmodels' model of it."""
    rng = np.random.default_rng(seed)
    x = sm.add_constant(rng.normal(size=(n, k - 1)))
    group = rng.integers(0, 30, n)
    y = x @ np.arange(1.0, k + 1) + rng.normal(size=30)[group] + rng.normal(size=n)
    model = sm.OLS(y, x)
    influence = (x * model.fit().resid[:, None]) @ np.linalg.inv(x.T @ x)
    return influence, group, model


def test_robust_is_that_of_statsmodels():
    influence, _, model = regression()
    np.testing.assert_allclose(
        robust_covariance(influence), model.fit(cov_type="HC0").cov_params(), rtol=1e-10
    )
    np.testing.assert_allclose(
        robust_covariance(influence, 3), model.fit(cov_type="HC1").cov_params(), rtol=1e-10
    )


def test_clustered_is_that_of_statsmodels():
    influence, group, model = regression()
    expected = model.fit(cov_type="cluster", cov_kwds={"groups": group}).cov_params()
    np.testing.assert_allclose(cluster_covariance(influence, group, 3), expected, rtol=1e-10)


def test_codes_that_do_not_occur_are_no_clusters():
    influence, group, _ = regression()
    np.testing.assert_allclose(
        cluster_covariance(influence, 7 * group + 3, 3), cluster_covariance(influence, group, 3), rtol=1e-12
    )


@few
@given(seed=st.integers(0, 2**32 - 1), unit=st.floats(-12, 12).map(lambda v: 10.0**v))
def test_order_numbering_and_units(seed, unit):
    influence, group, _ = regression(60, 2, seed)
    rng = np.random.default_rng(seed)
    order, number = rng.permutation(60), rng.permutation(30)
    for of in (
        lambda psi, code: robust_covariance(psi, 2),
        lambda psi, code: cluster_covariance(psi, code, 2),
    ):
        np.testing.assert_allclose(
            of(unit * influence[order], number[group[order]]), unit**2 * of(influence, group), rtol=1e-9
        )


def test_a_cluster_a_row_is_robust_up_to_its_factor():
    influence, _, _ = regression(50, 2)
    clustered = cluster_covariance(influence, np.arange(50), 2)
    np.testing.assert_allclose(clustered, robust_covariance(influence, 2), rtol=1e-12)


def test_what_cannot_be_known_is_an_error_of_the_rooms_own():
    with pytest.raises(EffectError, match="1 cluster, but a clustered variance needs at least 2"):
        cluster_covariance(np.ones(5), np.zeros(5, dtype=int), error=EffectError)
    with pytest.raises(EffectError, match="too few units: 3 units for 3 coefficients"):
        robust_covariance(np.ones((3, 3)), 3, error=EffectError)
    for level in (0, 1, 95, -0.1):
        with pytest.raises(StatisticsError, match="is not a confidence level"):
            critical_value(level)


@pytest.mark.parametrize("df", [1, 4, 30, math.inf])
def test_critical_values_and_p_values_are_scipys(df):
    law = scipy.stats.norm() if math.isinf(df) else scipy.stats.t(df)
    assert critical_value(0.9, df) == pytest.approx(law.ppf(0.95))
    assert p_value(-2.1, df) == pytest.approx(2 * law.sf(2.1))
    assert p_value(critical_value(0.95, df), df) == pytest.approx(0.05)


def test_wald_is_that_of_statsmodels():
    _, _, model = regression()
    fitted = model.fit(cov_type="HC1", use_t=True)
    found = wald_test(fitted.params[1:] - [2.0, 3.0], fitted.cov_params()[1:, 1:], int(fitted.df_resid))
    expected = fitted.f_test((np.eye(3)[1:], [2.0, 3.0]))
    assert found.statistic == pytest.approx(float(expected.fvalue))
    assert found.p_value == pytest.approx(float(expected.pvalue))
    assert found.df == (2, 297)


def test_wald_does_not_depend_on_units_and_knows_what_it_cannot_test():
    difference, cov = np.array([1.0, 2.0]), np.array([[1.0, 0.3], [0.3, 2.0]])
    unit = np.array([1e-12, 1e9])
    scaled = wald_test(unit * difference, np.outer(unit, unit) * cov, 20)
    assert scaled.statistic == pytest.approx(wald_test(difference, cov, 20).statistic)
    assert math.isnan(wald_test(difference, np.ones((2, 2)), 20).p_value)
    assert math.isnan(wald_test(difference, np.zeros((2, 2)), 20).p_value)
