"""Least squares: against statsmodels on columns of any scale, then what must hold whatever units rows are in."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.errors import CalibrationError, StatisticsError
from sustain.stats.least_squares import Regressors, least_squares, require_full_rank
from sustain.stats.line import fit_line, weighted_moments

few = settings(max_examples=25, deadline=None)

N = 400


def badly_scaled():
    """Columns as tables hold them, and the same information standardised: (as they come, standardised, names)."""
    rng = np.random.default_rng(0)
    gdp, year, east, north, time, x = rng.uniform(-1, 1, (6, N))
    years = 2000 + 10 * year
    raw = np.column_stack(
        [
            5e11 + 1e11 * gdp,
            years,
            years**2,
            (5e5 + 1e5 * east) * (1e7 + 1e5 * north),
            1.6e18 + 1e16 * time,
            1e-9 * x,
        ]
    )
    # What spans the same space with the constant, well conditioned.
    product = (5 + east) * (100 + north) - 500
    good = np.column_stack([gdp, year, year**2, product, time, x])
    return raw, good, ("gdp", "year", "year squared", "utm product", "nanoseconds", "tiny")


def centred(rng, n=N, k=2):
    x = rng.normal(size=(n, k))
    return x, 0.5 + x @ np.arange(1.0, k + 1) + rng.normal(size=n) * (1 + np.abs(x[:, 0]))


def test_columns_of_any_scale_fit_as_standardised_ones():
    """Residuals are those of statsmodels on a well-conditioned basis of the same space."""
    raw, good, names = badly_scaled()
    y = np.random.default_rng(1).normal(size=N) + good @ [1, 2, -1, 0.1, 3, 0.5]
    found, expected = Regressors.of(raw, names), sm.OLS(y, sm.add_constant(good)).fit()
    np.testing.assert_allclose(found.residual(y), expected.resid, atol=1e-6)
    # The columns that are lines in the standardised ones have coefficients that are known from these.
    coefficients = found.solve(y)
    np.testing.assert_allclose(coefficients[1] * 1e11, expected.params[1], rtol=1e-6)
    np.testing.assert_allclose(coefficients[5] * 1e16, expected.params[5], rtol=1e-6)
    np.testing.assert_allclose(coefficients[6] * 1e-9, expected.params[6], rtol=1e-6)


def test_standard_errors_of_badly_scaled_columns():
    raw, good, names = badly_scaled()
    y = np.random.default_rng(1).normal(size=N) + good @ [1, 2, -1, 0.1, 3, 0.5]
    _, cov, df = least_squares(raw, names, y, np.ones(N), None)
    expected = sm.OLS(y, sm.add_constant(good)).fit(cov_type="HC1")
    assert df == N - 7
    for place, unit in ((1, 1e11), (5, 1e16), (6, 1e-9)):
        assert np.sqrt(cov[place, place]) * unit == pytest.approx(expected.bse[place], rel=1e-6)


def test_a_cube_of_years_is_no_dependent_column():
    rng = np.random.default_rng(2)
    year = rng.integers(1990, 2020, N).astype(float)
    t = year - 2005
    y = rng.normal(size=N) + 0.01 * t + 0.002 * t**2 - 0.0005 * t**3
    found = Regressors.of(np.column_stack([year, year**2, year**3]), ("year", "square", "cube"))
    expected = sm.OLS(y, sm.add_constant(np.column_stack([t, t**2, t**3]) / [10, 100, 1000])).fit()
    np.testing.assert_allclose(found.residual(y), expected.resid, atol=1e-5)
    assert found.solve(y)[3] == pytest.approx(expected.params[3] / 1000, rel=1e-5)


@pytest.mark.parametrize("cov_type", ["HC1", "cluster"])
def test_weighted_robust_covariance_is_statsmodels(cov_type):
    rng = np.random.default_rng(3)
    x, y = centred(rng, k=3)
    weight, group = rng.uniform(0.2, 3, N), rng.integers(0, 40, N)
    group = np.unique(group, return_inverse=True)[1]
    weight /= weight.mean()
    own = group if cov_type == "cluster" else None
    coefficients, cov, df = least_squares(x, "abc", y, weight, own)
    kwds = {"cov_kwds": {"groups": group}} if cov_type == "cluster" else {}
    expected = sm.WLS(y, sm.add_constant(x), weights=weight).fit(cov_type=cov_type, **kwds)
    np.testing.assert_allclose(coefficients, expected.params, rtol=1e-10)
    np.testing.assert_allclose(cov, expected.cov_params(), rtol=1e-9)
    assert df == (group.max() if cov_type == "cluster" else N - 4)


def test_rows_of_no_weight_are_absent():
    rng = np.random.default_rng(4)
    x, y = centred(rng)
    kept = rng.random(N) < 0.6
    weight = kept / kept.mean()
    whole = least_squares(x, "ab", y, weight, None)
    part = least_squares(x[kept], "ab", y[kept], np.ones(kept.sum()), None)
    np.testing.assert_allclose(whole[0], part[0], rtol=1e-10)
    np.testing.assert_allclose(whole[1], part[1], rtol=1e-9)
    assert whole[2] == part[2]


def test_columns_that_a_mean_was_taken_out_of_are_judged_as_those_with_a_constant():
    rng = np.random.default_rng(11)
    e = 1e3 * rng.normal(size=N)
    y = rng.normal(size=N) + 1e-3 * e
    columns = np.column_stack([(5e6 + e) ** k for k in (1, 2, 3)])
    size, left = np.linalg.norm(columns, axis=0), columns - columns.mean(axis=0)
    found = Regressors.of(left, "abc", constant=False, size=size)
    expected = sm.OLS(y, sm.add_constant(np.column_stack([(e / 1e3) ** k for k in (1, 2, 3)]))).fit()
    np.testing.assert_allclose(found.residual(y - y.mean()), expected.resid, atol=1e-4)
    flat = np.full(N, 1e9) * (1 + 1e-15 * rng.normal(size=N))
    with pytest.raises(StatisticsError, match="singular design: b is"):
        Regressors.of(
            np.column_stack([e, flat - flat.mean()]),
            "ab",
            constant=False,
            size=np.array([np.linalg.norm(e), np.linalg.norm(flat)]),
        )


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda x: np.column_stack([x, x[:, 0] + 2 * x[:, 1]]), "third"),
        (lambda x: np.column_stack([x, np.full(N, 5e11)]), "third"),
        (lambda x: np.column_stack([x[:, 0], 1e12 * x[:, 0] + 3, x[:, 1]]), "second"),
        (lambda x: np.column_stack([np.zeros(N), x]), "first"),
        (lambda x: np.column_stack([x, 1 - (x[:, 0] > 0), x[:, 0] > 0])[:, 1:], "third"),
    ],
)
def test_dependent_columns_are_named(make, named):
    x, _ = centred(np.random.default_rng(5))
    with pytest.raises(
        CalibrationError, match=f"singular design: {named} is constant or a linear combination"
    ):
        Regressors.of(make(x), ("first", "second", "third"), error=CalibrationError)
    with pytest.raises(StatisticsError, match="singular design"):
        require_full_rank(make(x), ("first", "second", "third"))


def test_too_few_rows_are_said():
    with pytest.raises(StatisticsError, match="too few units: 3 units for 3 coefficients"):
        Regressors.of(np.random.default_rng(0).normal(size=(3, 2)), "ab")


@few
@given(
    scale=st.floats(-12, 12).map(lambda v: 10.0**v),
    shift=st.floats(-1e6, 1e6),
    unit=st.floats(-12, 12).map(lambda v: 10.0**v),
    seed=st.integers(0, 2**32 - 1),
)
def test_units_order_and_scale_pass_through(scale, shift, unit, seed):
    rng = np.random.default_rng(seed)
    x, y = centred(rng, 80)
    group, order = np.arange(80) // 4, rng.permutation(80)
    coefficients, cov, _ = least_squares(x, "ab", y, np.ones(80), group)
    moved = np.column_stack([scale * (x[:, 0] + shift), x[:, 1]])[order]
    again, again_cov, _ = least_squares(moved, "ab", unit * y[order], np.ones(80), group[order])
    factor = unit / np.array([scale, 1.0])
    np.testing.assert_allclose(again[1:], factor * coefficients[1:], rtol=1e-7, atol=1e-9 * factor.max())
    np.testing.assert_allclose(np.sqrt(np.diag(again_cov))[1:], factor * np.sqrt(np.diag(cov))[1:], rtol=1e-6)


def test_noise_in_a_regressor_is_taken_off():
    """By the closed form: slope times the reliability of the regressor, given the other column."""
    rng = np.random.default_rng(6)
    n = 200_000
    truth, other = rng.normal(size=(2, n))
    truth += 0.5 * other
    y = 2 * truth - other + rng.normal(size=n)
    noisy = truth + rng.normal(scale=0.6, size=n)
    found = least_squares(np.column_stack([noisy, other]), "ab", y, np.ones(n), None, np.array([0.36, 0.0]))[
        0
    ]
    assert found[1] == pytest.approx(2, abs=0.02)
    assert found[2] == pytest.approx(-1, abs=0.02)
    with pytest.raises(StatisticsError, match="is not below the variance of the labels"):
        least_squares(np.column_stack([noisy, other]), "ab", y, np.ones(n), None, np.array([1.4, 0.0]))


def test_a_line_is_that_of_statsmodels():
    rng = np.random.default_rng(7)
    x, y = centred(rng, k=1)
    weight, group = rng.uniform(0.2, 3, N), np.arange(N) % 25
    weight /= weight.mean()
    for own, kind in (
        (None, {"cov_type": "HC1"}),
        (group, {"cov_type": "cluster", "cov_kwds": {"groups": group}}),
    ):
        line = fit_line(x[:, 0], y, weight, own)
        expected = sm.WLS(y, sm.add_constant(x), weights=weight).fit(**kind)
        np.testing.assert_allclose([line.intercept, line.slope], expected.params, rtol=1e-10)
        np.testing.assert_allclose(line.cov, expected.cov_params(), rtol=1e-9)
        assert line.r2 == pytest.approx(expected.rsquared)
        assert line.sigma**2 == pytest.approx(expected.ssr / weight.sum() * N / (N - 2))
        low, high = line.slope_interval(0.9)
        assert (low + high) / 2 == pytest.approx(line.slope)
    with pytest.raises(CalibrationError, match="level: 95"):
        line.slope_interval(95, CalibrationError)
    with pytest.raises(CalibrationError, match="target_noise_var: 9 is not below"):
        fit_line(x[:, 0], y, weight, None, 9.0, CalibrationError)


def test_influence_is_what_a_row_moves():
    """The rows' influences sum to zero, and each is to first order what leaving the row out takes away."""
    rng = np.random.default_rng(8)
    x, y = centred(rng, k=1)
    line = fit_line(x[:, 0], y, np.ones(N))
    np.testing.assert_allclose(line.influence.sum(axis=0), 0, atol=1e-12)
    for row in range(5):
        rest = np.arange(N) != row
        without = fit_line(x[rest, 0], y[rest], np.ones(N - 1))
        assert line.slope - without.slope == pytest.approx(line.influence[row, 1], rel=0.05, abs=1e-5)


def test_moments_of_resamples_are_those_of_repeated_rows():
    rng = np.random.default_rng(9)
    x, y = 1e6 + rng.normal(size=60), rng.normal(size=60)
    weight, group = rng.uniform(0.5, 2, 60), np.arange(60) // 6
    counts = rng.multinomial(10, np.full(10, 0.1), size=3).astype(float)
    found = weighted_moments(x, y, weight, group, counts)
    for draw, count in enumerate(counts):
        w = weight * count[group]
        cov = np.cov(x, y, aweights=w, ddof=0)
        assert found.mean_x[draw] == pytest.approx(np.average(x, weights=w), rel=1e-14)
        np.testing.assert_allclose(
            [found.var_x[draw], found.var_y[draw], found.cov_xy[draw]],
            [cov[0, 0], cov[1, 1], cov[0, 1]],
            rtol=1e-6,
        )
