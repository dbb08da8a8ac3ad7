"""Natural splines against SciPy, and knots at quantiles."""

import numpy as np
import pytest

from sustain.stats.natural_spline import NaturalSpline, quantile_knots


def test_spline_reproduces_lines_and_is_straight_outside():
    knots = np.array([0.0, 0.4, 1.0, 3.0])
    spline, x = NaturalSpline.on(knots), np.linspace(-2, 5, 141)
    np.testing.assert_allclose(spline(x) @ (2 + 3 * knots), 2 + 3 * x, atol=1e-12)
    values = np.array([1.0, -1.0, 2.0, 0.0])
    np.testing.assert_allclose(spline(knots) @ values, values, atol=1e-12)
    curve = spline(x) @ values
    np.testing.assert_allclose(np.diff(curve[x < 0], 2), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(curve[x > 3], 2), 0, atol=1e-12)


def test_spline_matches_scipy():
    from scipy.interpolate import CubicSpline

    knots, values = np.array([0.0, 0.4, 1.0, 3.0]), np.array([1.0, -1.0, 2.0, 0.0])
    theirs, x = CubicSpline(knots, values, bc_type="natural"), np.linspace(0, 3, 3001)
    spline = NaturalSpline.on(knots)
    np.testing.assert_allclose(spline(x) @ values, theirs(x), atol=1e-12)
    roughness = np.trapezoid(theirs(x, 2) ** 2, x)
    assert values @ spline.roughness @ values == pytest.approx(roughness, rel=1e-5)


def test_knots_merge_at_ties():
    x = np.concatenate([np.zeros(90), np.arange(10)])
    knots = quantile_knots(x, np.ones_like(x), 0.0, 9.0, 8)
    assert (np.diff(knots) > 0).all()
    assert (knots[0], knots[-1]) == (0.0, 9.0)
    assert knots.size < 8
