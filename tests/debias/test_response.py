"""Curve, kernel, distribution and unfolding: known answers, and what must not matter does not."""

import numpy as np
import pytest
from sklearn.base import clone

from sustain.debias.response import ResponseCalibration
from sustain.debias.response.curve import fit_curve
from sustain.debias.response.kernel import fit_kernel
from sustain.debias.response.model import spread_over
from sustain.debias.response.population import fit_model
from sustain.debias.response.unfolding import Arms, unfold, unfold_effect
from sustain.debias.sample import as_sample
from sustain.debias.table import Nodes, quantiles_of
from sustain.errors import AtomWarning, CalibrationError, WeakCalibrationWarning
from sustain.stats.natural_spline import NaturalSpline

X = np.linspace(-1.5, 1.5, 7)


def curved(truth):
    return 0.7 * truth - 0.1 * truth**2


def rows(n=1000, seed=0, spread=0.4):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    return curved(truth) + spread * rng.normal(size=n), truth


def trial(effect, n=4000, seed=1, spread=0.4, curve=curved):
    """Predictions of controls and treated units, whose truths `effect` moves."""
    rng = np.random.default_rng(seed)
    control, untreated = rng.normal(size=n), rng.normal(size=n)
    return tuple(curve(y) + spread * rng.normal(size=n) for y in (control, effect(untreated)))


def effect_of(predicted, truth, control, treated, **sample):
    """Effect that unfolding reads back."""
    model = fit_model(as_sample(predicted, truth, **sample))
    return effect_in(model, control, treated)


def effect_in(model, control, treated):
    response = model.response(model.pooled)
    arms = Arms(*(response.shares(part, np.ones(part.size)) for part in (control, treated)))
    return float(unfold_effect([response], [arms], treated.mean() - control.mean()).effect)


# --- the curve -------------------------------------------------------------------------------------------------------


def test_the_curve_comes_back():
    curve = fit_curve(as_sample(*rows(20_000)))
    np.testing.assert_allclose(curve(X), curved(X), atol=0.02)


def test_a_straight_line_is_least_squares():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    predicted = 1.0 + 0.5 * truth + 0.3 * rng.normal(size=300)
    sample = as_sample(predicted, truth)
    curve = fit_curve(sample)
    line = sample.prediction_on_truth
    np.testing.assert_allclose(curve(X), line.intercept + line.slope * X, atol=0.06)


def test_the_curve_is_the_solution_of_its_normal_equations():
    sample = as_sample(*rows(400))
    curve = fit_curve(sample)
    basis = curve.basis(sample.y_true)
    ridge = sample.n * curve.penalty * curve.spline.roughness
    gap = basis.T @ (sample.y_pred - basis @ curve.values) - ridge @ curve.values
    np.testing.assert_allclose(gap, 0.0, atol=1e-4)


def test_few_rows_have_a_straight_curve():
    few, many = (fit_curve(as_sample(*rows(n))) for n in (50, 2000))
    assert few.df < 2.6 < many.df
    assert few.penalty > 100 * many.penalty


def test_intervals_of_the_curve_cover_it():
    """Where the curve is straight enough for its penalty: 300 samples of 400 rows."""
    covered = []
    for seed in range(300):
        curve = fit_curve(as_sample(*rows(400, seed)))
        basis = curve.basis(X)
        error = np.sqrt(np.einsum("ij,jk,ik->i", basis, curve.cov, basis))
        covered.append(np.abs(basis @ curve.values - curved(X)) < 1.96 * error)
    assert 0.88 < np.mean(covered) < 0.98


def test_clusters_widen_the_covariance():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 25)
    predicted, truth = rows(1000)
    predicted = predicted + 0.4 * rng.normal(size=40)[group]
    alone, together = (fit_curve(as_sample(predicted, truth, groups=g)) for g in (None, group))
    centre = np.array([0.0])
    width = [np.sqrt((c.basis(centre) @ c.cov @ c.basis(centre).T)[0, 0]) for c in (alone, together)]
    assert width[1] > 2 * width[0]
    assert together.cov_df == 39


# --- the kernel ------------------------------------------------------------------------------------------------------


def test_the_kernel_is_that_of_the_residuals():
    sample = as_sample(*rows(20_000))
    curve = fit_curve(sample)
    kernel = fit_kernel(sample, curve, Nodes(-3.0, 3.0, 81))
    np.testing.assert_allclose(kernel.density.sum(axis=1), 1.0)
    middle = kernel.density[kernel.truth.n // 2]
    assert np.sqrt(middle @ kernel.residual.x**2) == pytest.approx(0.4 * np.hypot(1, 0.25), rel=0.04)


def test_scatter_that_grows_with_truth_is_seen():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=10_000)
    sample = as_sample(truth + np.exp(0.4 * truth) * 0.3 * rng.normal(size=truth.size), truth)
    kernel = fit_kernel(sample, fit_curve(sample), Nodes(-3.0, 3.0, 81))
    width = np.sqrt(kernel.density @ kernel.residual.x**2)
    at = np.interp([-1.5, 0.0, 1.5], kernel.truth.x, width)
    assert at[0] < 0.75 * at[1] < 0.75 * 0.75 * at[2]


def test_rows_of_the_matrix_have_the_mean_of_the_curve():
    model = fit_model(as_sample(*rows(5000)))
    response = model.response(model.pooled)
    cells = (response.edges[1:] + response.edges[:-1]) / 2
    np.testing.assert_allclose(response.matrix.sum(axis=1), 1.0)
    inside = slice(20, -20)
    np.testing.assert_allclose((response.matrix @ cells)[inside], response.curve[inside], atol=0.02)


# --- unfolding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [-0.5, 0.25, 0.5, 1.0])
def test_a_gain_of_all_comes_back(gain):
    found = effect_of(*rows(5000), *trial(lambda y: y + gain, n=20_000))
    assert found == pytest.approx(gain, abs=0.04)


def test_a_gain_of_some_comes_back():
    poor = effect_of(*rows(5000), *trial(lambda y: y + 1.0 * (y < 0), n=20_000))
    assert poor == pytest.approx(0.5, abs=0.06)


def test_the_distribution_behind_predictions_is_that_of_the_truth():
    model = fit_model(as_sample(*rows(5000)))
    response = model.response(model.pooled)
    _, moved = trial(lambda y: 0.6 * y + 0.8, n=20_000)
    found = unfold(response, response.shares(moved, np.ones(moved.size)), response.distribution, 60)
    mean = found @ response.truth.x
    assert mean == pytest.approx(0.8, abs=0.05)
    assert np.sqrt(found @ (response.truth.x - mean) ** 2) == pytest.approx(0.6, abs=0.06)


def test_arms_that_are_equal_have_no_effect():
    control, _ = trial(lambda y: y)
    assert effect_of(*rows(), control, control) == pytest.approx(0.0, abs=1e-9)


# --- what must not matter --------------------------------------------------------------------------------------------

ARMS = trial(lambda y: y + 0.5)


@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(50), 20)])
def test_order_of_rows(groups):
    predicted, truth = rows()
    order = np.random.default_rng(3).permutation(truth.size)
    one = fit_model(as_sample(predicted, truth, groups=groups)).pooled
    other = fit_model(
        as_sample(predicted[order], truth[order], groups=None if groups is None else groups[order])
    ).pooled
    np.testing.assert_allclose(other.values, one.values, rtol=1e-8)
    np.testing.assert_allclose(other.cov, one.cov, rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(other.quantiles, one.quantiles)


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e6), (1000.0, -40.0)])
def test_units_of_truth(scale, offset):
    predicted, truth = rows()
    one = effect_of(predicted, truth, *ARMS)
    other = effect_of(predicted, offset + scale * truth, *ARMS)
    assert other / scale == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e6, 1e-6, 1.0, 250.0])
def test_units_of_predictions(scale, offset):
    predicted, truth = rows()
    one = effect_of(predicted, truth, *ARMS)
    other = effect_of(offset * scale + scale * predicted, truth, *(offset * scale + scale * a for a in ARMS))
    assert other == pytest.approx(one, rel=1e-3)


def test_weights_are_repetitions():
    predicted, truth = rows(600)
    times = np.random.default_rng(2).integers(1, 4, 600)
    again = np.repeat(np.arange(600), times)
    groups = np.arange(600) % 30
    one, other = (
        effect_of(predicted, truth, *ARMS, sample_weight=times, groups=groups),
        effect_of(predicted[again], truth[again], *ARMS, groups=groups[again]),
    )
    # Nearly: windows and the floor of the penalty go by Kish's effective number of rows.
    assert one == pytest.approx(other, rel=0.02)


def test_scale_of_weights():
    predicted, truth = rows()
    weight = np.random.default_rng(2).uniform(0.5, 2.0, truth.size)
    one, other = (effect_of(predicted, truth, *ARMS, sample_weight=weight * by) for by in (1.0, 1e7))
    assert other == pytest.approx(one, rel=1e-9)


def test_rows_of_no_weight_do_not_count():
    predicted, truth = rows(400)
    weight = np.r_[np.ones(300), np.zeros(100)]
    truth[300:] += 50
    assert effect_of(predicted, truth, *ARMS, sample_weight=weight) == pytest.approx(
        effect_of(predicted[:300], truth[:300], *ARMS), rel=1e-9
    )


# --- hard samples ----------------------------------------------------------------------------------------------------


def test_perfect_predictions_have_the_naive_effect():
    truth = np.random.default_rng(0).normal(size=500)
    control, treated = trial(lambda y: y + 0.5, spread=0.0, curve=lambda y: y)
    assert effect_of(truth, truth, control, treated) == pytest.approx(
        treated.mean() - control.mean(), rel=1e-3
    )
    fitted = ResponseCalibration().fit(truth, truth)
    assert fitted.slope_for(0.5).value == pytest.approx(1.0, abs=1e-6)


def test_an_index_of_twelve_values():
    rng = np.random.default_rng(0)
    grades = np.clip(np.rint(rng.normal(5.5, 2.0, 3000)), 0, 11)
    predicted = 2.0 + 0.6 * grades + rng.normal(size=3000)
    up = np.clip(grades + 1, 0, 11)
    control, treated = (2.0 + 0.6 * y + rng.normal(size=3000) for y in (grades, up))
    assert effect_of(predicted, grades, control, treated) == pytest.approx((up - grades).mean(), rel=0.1)


def test_two_grades_are_enough_for_a_line():
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 2, 1000).astype(float)
    predicted = 0.2 + 0.5 * grades + 0.2 * rng.normal(size=1000)
    curve = fit_curve(as_sample(predicted, grades))
    np.testing.assert_allclose(curve(np.array([0.0, 1.0])), [0.2, 0.7], atol=0.05)


def test_weights_of_very_different_size():
    predicted, truth = rows(3000)
    weight = 10.0 ** np.random.default_rng(4).uniform(-3, 3, 3000)
    model = fit_model(as_sample(predicted, truth, weight))
    assert np.isfinite(model.pooled.cov).all()
    assert effect_in(model, *ARMS) == pytest.approx(0.5, abs=0.15)


def test_far_outliers_leave_the_rest_alone():
    predicted, truth = rows(3000)
    truth[0], predicted[1] = 200.0, -200.0
    assert effect_of(predicted, truth, *ARMS) == pytest.approx(effect_of(*rows(3000), *ARMS), rel=0.25)


# --- atoms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["floor", "cap"])
def test_an_atom_at_an_end_stays_on_its_node(end):
    """16% of the truths at the least (greatest): so many are in the distribution there, and none beyond."""
    truth = np.random.default_rng(0).normal(size=4000)
    cut = np.quantile(truth, 0.16 if end == "floor" else 0.84)
    moved = np.maximum(truth, cut) if end == "floor" else np.minimum(truth, cut)
    nodes = Nodes(-4.0, 4.0, 81)
    shares = np.arange(1, 40) / 40
    found = spread_over(nodes, shares, quantiles_of(moved, np.ones(4000), shares), float(moved.std()))
    at = np.abs(nodes.x - cut) <= nodes.step
    beyond = nodes.x < cut - nodes.step if end == "floor" else nodes.x > cut + nodes.step
    assert found[at].sum() == pytest.approx(0.16, abs=0.05)
    assert found[beyond].sum() < 0.001
    assert found @ nodes.x == pytest.approx(moved.mean(), abs=0.01)


def test_an_atom_within_stays_on_its_node():
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(4000) < 0.3, 0.5, rng.normal(size=4000))
    nodes = Nodes(-4.0, 4.0, 81)
    shares = np.arange(1, 40) / 40
    found = spread_over(nodes, shares, quantiles_of(truth, np.ones(4000), shares), 1.0)
    assert found[np.abs(nodes.x - 0.5) <= 1.5 * nodes.step].sum() == pytest.approx(0.3 + 0.08, abs=0.05)


def test_a_distribution_without_atoms_has_tails():
    truth = np.random.default_rng(0).normal(size=4000)
    nodes = Nodes(-4.0, 4.0, 81)
    shares = np.arange(1, 40) / 40
    found = spread_over(nodes, shares, quantiles_of(truth, np.ones(4000), shares), 1.0)
    assert found[nodes.x < -2].sum() == pytest.approx(0.0228, abs=0.008)


def test_atoms_are_said():
    predicted, truth = rows()
    with pytest.warns(AtomWarning, match="atoms in truth"):
        ResponseCalibration().fit(predicted, np.maximum(truth, np.quantile(truth, 0.16)))


# --- the estimator ---------------------------------------------------------------------------------------------------


def test_it_is_an_estimator_as_scikit_learn_has_them():
    fitted = ResponseCalibration().fit(*rows())
    fresh = clone(fitted)
    assert not hasattr(fresh, "model_")
    assert fresh.get_params() == {}
    with pytest.raises(ValueError, match="'knots' is not a parameter"):
        fresh.set_params(knots=3)
    with pytest.raises(CalibrationError, match="is not fitted"):
        fresh.slope_for(0.5)
    assert fitted.n_ == 1000
    assert fitted.reliability_ == 1.0


def test_slope_of_a_small_effect_is_the_mean_derivative():
    fitted = ResponseCalibration().fit(*rows(20_000))
    assert fitted.slope_for(0.0).value == pytest.approx(0.7, abs=0.02)  # of normal truths: E[.7 - .2 y]
    # (g(y + 1) - g(y)) = .7 - .1 (2 y + 1)
    assert fitted.slope_for(1.0).value == pytest.approx(0.6, abs=0.02)
    assert fitted.slope_for(-1.0).value == pytest.approx(0.8, abs=0.02)


def test_predictions_that_do_not_rise_are_refused():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    with pytest.warns(WeakCalibrationWarning), pytest.raises(CalibrationError, match="95% interval of"):
        ResponseCalibration().fit(0.01 * truth + rng.normal(size=300), truth)


def test_knots_span_the_curve():
    model = fit_model(as_sample(*rows()))
    low, high = model.ends
    assert low == pytest.approx(-2.6, abs=0.5)
    assert high == pytest.approx(2.6, abs=0.5)
    basis = NaturalSpline.on(model.knots)(np.array([-5.0, 0.3, 5.0]))
    np.testing.assert_allclose(basis.sum(axis=1), 1.0)
