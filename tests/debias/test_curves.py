"""The spline that stands for a curve, and the regression on it: the natural one, its knots, weights."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.interpolate import CubicSpline

from sustain.debias.diagnosis.curves import Spline, knots_for, same_curve
from sustain.errors import CalibrationError

NOTHING = np.empty((300, 0))


def weighted(seed=0, n=300):
    """A distance for a treatment, a skewed truth, predictions that bend, sampling weights, clusters."""
    rng = np.random.default_rng(seed)
    distance = rng.exponential(size=n)
    y = rng.gamma(1.5, size=n) + 0.3 * distance
    x = np.log(0.2 + y) + 0.05 * distance + 0.3 * rng.normal(size=n)
    return distance, x, y, rng.uniform(0.2, 3.0, n), np.arange(n, dtype=np.intp) // 6


def test_spline_is_the_natural_one():
    rng = np.random.default_rng(0)
    x = rng.gamma(1.5, size=400)
    spline = Spline.of(x, 6)
    at = spline.mean + spline.sd * spline.knots
    peer = CubicSpline(at, np.eye(6), bc_type="natural")
    inside = np.linspace(at[0], at[-1], 200)
    basis = np.column_stack([np.ones(200), spline(inside)])
    fitted = basis @ np.linalg.lstsq(basis, peer(inside), rcond=None)[0]
    np.testing.assert_allclose(fitted, peer(inside), atol=1e-8)
    beyond = at[-1] + np.arange(3.0)
    np.testing.assert_allclose(np.diff(spline(beyond), n=2, axis=0), 0, atol=1e-9)


def test_number_of_knots():
    assert [knots_for(n, None) for n in (20, 100, 300, 800, 5000)] == [3, 5, 9, 14, 16]
    assert knots_for(2000, np.arange(2000, dtype=np.intp) % 10) == 4
    alike, few = np.full(300, 7.0), np.where(np.arange(300) < 20, 1.0, 1e-9)
    assert (knots_for(300, None, alike), knots_for(300, None, few)) == (9, 3)


def test_knots_are_quantiles_of_the_values():
    """Equal weights: the nearest value to each quantile. A weight of two is a value that came twice."""
    x = np.random.default_rng(0).gamma(1.5, size=401)
    for n in (3, 6, 16):
        peer = np.quantile(x, np.linspace(0.01, 0.99, n), method="nearest")
        for weight in (None, np.full(401, 0.3)):
            spline = Spline.of(x, n, weight)
            np.testing.assert_allclose(spline.mean + spline.sd * spline.knots, peer)
    twice = Spline.of(x, 5, np.where(x > 2, 2.0, 1.0))
    listed = Spline.of(np.concatenate([x, x[x > 2]]), 5)
    assert (twice.mean, twice.sd) == pytest.approx((listed.mean, listed.sd))
    assert twice.mean + twice.sd * twice.knots == pytest.approx(
        listed.mean + listed.sd * listed.knots, rel=0.05
    )


def test_with_weights_is_the_regression_of_statsmodels():
    distance, x, y, weight, _ = weighted()
    found = same_curve(x, y, distance, NOTHING, ("truth", "distance"), None, weight)
    spline = Spline.of(y, knots_for(300, None, weight), weight)
    centred = y - np.average(y, weights=weight)
    design = sm.add_constant(np.column_stack([distance, distance * centred, spline(y)]))
    fitted = sm.WLS(x, design, weights=weight).fit(cov_type="HC2")
    assert (found.gap, found.slope_gap) == pytest.approx(tuple(fitted.params[1:3]))
    assert (found.gap_std_error, found.slope_gap_std_error) == pytest.approx(tuple(fitted.bse[1:3]))


def test_clusters_with_weights_are_near_those_of_statsmodels():
    """CR2 with fifty clusters against CR1."""
    distance, x, y, weight, group = weighted()
    found = same_curve(x, y, distance, NOTHING, ("truth", "distance"), group, weight)
    spline = Spline.of(y, knots_for(300, group, weight), weight)
    centred = y - np.average(y, weights=weight)
    design = sm.add_constant(np.column_stack([distance, distance * centred, spline(y)]))
    fitted = sm.WLS(x, design, weights=weight).fit(cov_type="cluster", cov_kwds={"groups": group})
    assert (found.gap, found.slope_gap) == pytest.approx(tuple(fitted.params[1:3]))
    assert found.gap_std_error == pytest.approx(fitted.bse[1], rel=0.15)


def test_only_ratios_of_weights_matter_and_no_weight_is_no_row():
    distance, x, y, weight, group = weighted()
    names = ("truth", "distance")
    before = same_curve(x, y, distance, NOTHING, names, group, weight)
    assert same_curve(x, y, distance, NOTHING, names, group, 1e5 * weight).p_value == pytest.approx(
        before.p_value
    )
    some = group > 9
    part = same_curve(x[some], y[some], distance[some], NOTHING[some], names, group[some], weight[some])
    faint = same_curve(
        x, y, distance, NOTHING, names, np.where(some, group, 10), np.where(some, weight, 1e-14)
    )
    assert faint.gap == pytest.approx(part.gap, rel=1e-6)


def test_an_arm_with_one_value_is_refused():
    _, x, y, _, _ = weighted()
    treated = (np.arange(300) < 20) * 1.0
    with pytest.raises(CalibrationError, match="near times truth is constant or a linear combination"):
        same_curve(x, np.where(treated, 1.0, y), treated, NOTHING, ("truth", "near"), error=CalibrationError)
