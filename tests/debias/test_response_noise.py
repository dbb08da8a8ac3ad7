"""The response behind labels with noise: known curves come back, of rows alike and of rows that differ."""

import numpy as np
import pytest

from sustain.debias.response import ResponseCalibration
from sustain.debias.response.noisy_labels import BLOCKS, expected_basis, fit_noisy, truth_behind
from sustain.debias.response.population import fit_model
from sustain.debias.sample import as_sample
from sustain.errors import CalibrationError, WeakCalibrationWarning
from sustain.stats.natural_spline import NaturalSpline


def curved(truth):
    return 0.7 * truth - 0.1 * truth**2


def rows(n, reliability, seed=0, curve=curved, spread=0.4):
    """Predictions, labels, truth and the variance of the labels' noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    noise = (1 - reliability) / reliability
    label = truth + np.sqrt(noise) * rng.normal(size=n)
    return curve(truth) + spread * rng.normal(size=n), label, truth, noise


def at(model, x, population=None):
    """Values of the curve at a truth, and their standard errors."""
    population = model.pooled if population is None else population
    basis = NaturalSpline.on(model.knots)((x - model.centre) / model.scale)
    return basis @ population.values, np.sqrt(np.einsum("ij,jk,ik->i", basis, population.cov, basis))


X = np.linspace(-1.5, 1.5, 7)


@pytest.mark.parametrize(("reliability", "least"), [(0.9, 0.03), (0.8, 0.03), (0.65, 0.06)])
def test_the_curve_behind_the_noise_comes_back(reliability, least):
    predicted, label, _, noise = rows(20_000, reliability)
    found, error = at(fit_model(as_sample(predicted, label, target_noise_var=noise)), X)
    assert np.abs(found - curved(X)).max() < least
    assert (error > 0).all()
    ignored = at(fit_model(as_sample(predicted, label)), X)[0]
    assert np.abs(ignored - curved(X)).max() > 2 * np.abs(found - curved(X)).max()


def test_the_distribution_behind_the_noise_is_that_of_the_truth():
    predicted, label, truth, noise = rows(5000, 0.7)
    model = fit_model(as_sample(predicted, label, target_noise_var=noise))
    response = model.response(model.pooled)
    mean = response.distribution @ response.truth.x
    spread = np.sqrt(response.distribution @ (response.truth.x - mean) ** 2)
    assert mean == pytest.approx(truth.mean(), abs=0.03)
    assert spread == pytest.approx(truth.std(), rel=0.05)
    assert model.scale == pytest.approx(truth.std(), rel=0.03)


def test_the_scatter_behind_the_noise_is_that_about_the_truth():
    predicted, label, _, noise = rows(5000, 0.7, spread=0.4)
    kernel = fit_model(as_sample(predicted, label, target_noise_var=noise)).kernel
    middle = kernel.density[kernel.truth.n // 2]
    # Smoothing widens it by a quarter of a standard deviation.
    assert np.sqrt(middle @ kernel.residual.x**2) == pytest.approx(0.4 * np.hypot(1, 0.25), rel=0.08)


def test_without_noise_to_speak_of_it_is_the_curve_of_exact_labels():
    predicted, _, truth, _ = rows(3000, 0.9)
    exact, error = at(fit_model(as_sample(predicted, truth)), X)
    nearly, nearly_error = at(fit_model(as_sample(predicted, truth, target_noise_var=1e-6)), X)
    assert np.abs(exact - nearly).max() < error.min()
    assert nearly_error == pytest.approx(error, rel=0.5)


def test_a_variance_for_each_row():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=8000)
    noise = np.where(rng.random(8000) < 0.5, 0.02, 1.0)
    label = truth + np.sqrt(noise) * rng.normal(size=8000)
    predicted = curved(truth) + 0.4 * rng.normal(size=8000)
    by_row, error_by_row = at(fit_model(as_sample(predicted, label, target_noise_var=noise)), X)
    by_mean, error_by_mean = at(fit_model(as_sample(predicted, label, target_noise_var=noise.mean())), X)
    assert np.abs(by_row - curved(X)).max() < 0.05
    assert np.abs(by_row - curved(X)).max() < np.abs(by_mean - curved(X)).max()
    assert error_by_row.mean() < 0.8 * error_by_mean.mean()  # exact labels count for more


def test_a_variance_for_each_row_that_is_the_same_is_one_variance():
    predicted, label, _, noise = rows(400, 0.8)
    one = fit_model(as_sample(predicted, label, target_noise_var=noise)).pooled
    each = fit_model(as_sample(predicted, label, target_noise_var=np.full(400, noise))).pooled
    np.testing.assert_allclose(each.values, one.values)
    sample = as_sample(predicted, label, target_noise_var=np.full(400, noise))
    assert sample.noise_rows is None
    assert sample.noise == pytest.approx(noise)


def test_rows_of_no_weight_take_their_noise_along():
    predicted, label, _, _ = rows(200, 0.8)
    noise = np.linspace(0.01, 0.3, 200)
    weight = np.r_[np.zeros(50), np.ones(150)]
    sample = as_sample(predicted, label, weight, target_noise_var=noise)
    np.testing.assert_array_equal(sample.noise_rows, noise[50:])
    assert sample.noise == pytest.approx(noise[50:].mean())
    assert sample.take(np.arange(50)).noise == pytest.approx(noise[50:100].mean())


def test_labels_vary_by_truth_and_noise():
    predicted, label, truth, noise = rows(5000, 0.75)
    sample = as_sample(predicted, label, target_noise_var=noise)
    assert sample.reliability == pytest.approx(0.75, abs=0.02)
    assert as_sample(predicted, truth).reliability == 1.0
    assert ResponseCalibration().fit(predicted, label, target_noise_var=noise).reliability_ == pytest.approx(
        sample.reliability
    )


@pytest.mark.parametrize("groups", [False, True])
def test_order_of_rows_does_not_matter(groups):
    predicted, label, _, noise = rows(500, 0.8)
    group = np.repeat(np.arange(50), 10) if groups else None
    order = np.random.default_rng(1).permutation(500)
    one = fit_noisy(as_sample(predicted, label, None, group, target_noise_var=noise))
    other = fit_noisy(
        as_sample(
            predicted[order],
            label[order],
            None,
            None if group is None else group[order],
            target_noise_var=noise,
        )
    )
    np.testing.assert_allclose(other.curve.values, one.curve.values, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(other.curve.cov, one.curve.cov, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e6), (-0.01, 3.0)])
def test_units_of_labels_do_not_matter(scale, offset):
    predicted, label, _, noise = rows(500, 0.8, spread=0.2)
    one = fit_noisy(as_sample(predicted, label, target_noise_var=noise))
    other = fit_noisy(as_sample(predicted, offset + scale * label, target_noise_var=noise * scale**2))
    x = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(other.curve(offset + scale * x), one.curve(x), atol=1e-4)


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e6)])
def test_units_of_predictions_do_not_matter(scale, offset):
    predicted, label, _, noise = rows(500, 0.8)
    one = fit_noisy(as_sample(predicted, label, target_noise_var=noise)).curve
    other = fit_noisy(as_sample(offset + scale * predicted, label, target_noise_var=noise)).curve
    np.testing.assert_allclose((other.values - offset) / scale, one.values, atol=1e-5)
    np.testing.assert_allclose(other.cov / scale**2, one.cov, rtol=1e-3, atol=1e-8)


def test_strata_behind_noise():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=6000)
    stratum = np.repeat(["a", "b", "c"], 2000)
    slope = np.repeat([0.3, 0.5, 0.8], 2000)
    predicted = slope * truth + 0.3 * rng.normal(size=6000)
    label = truth + 0.6 * rng.normal(size=6000)
    model = fit_model(as_sample(predicted, label, strata=stratum, target_noise_var=0.36))
    for name, expected in (("a", 0.3), ("b", 0.5), ("c", 0.8)):
        low, high = at(model, np.array([-1.0, 1.0]), model.population(name))[0]
        assert (high - low) / 2 == pytest.approx(expected, abs=0.06)


def test_expected_basis_of_a_straight_line_is_the_shrunken_label():
    predicted, label, _, noise = rows(20_000, 0.7)
    sample = as_sample(predicted, label, target_noise_var=noise)
    truth = fit_noisy(sample).truth
    mean, variance = expected_basis(sample, truth, truth.x[:, None], np.ones(1))
    # Of normal truths and noise: reliability times the label, with a variance of reliability times that of the noise.
    middle = np.abs(label) < 1.5
    assert np.polyfit(label[middle], mean[middle, 0], 1)[0] == pytest.approx(0.7, abs=0.05)
    assert variance[middle].mean() == pytest.approx(0.7 * noise, rel=0.1)


def test_truth_behind_labels_alone():
    predicted, label, truth, noise = rows(20_000, 0.7)
    sample = as_sample(predicted, label, target_noise_var=noise)
    nodes = fit_noisy(sample).truth
    found = truth_behind(sample, nodes)
    assert found.sum() == pytest.approx(1.0)
    assert np.sqrt(found @ (nodes.x - found @ nodes.x) ** 2) == pytest.approx(truth.std(), rel=0.04)


def test_groups_make_the_covariance_that_of_groups():
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(60), 20)
    predicted, label, _, noise = rows(1200, 0.8)
    predicted = predicted + 0.4 * rng.normal(size=60)[group]
    _, alone_error = at(fit_model(as_sample(predicted, label, target_noise_var=noise)), X)
    model = fit_model(as_sample(predicted, label, None, group, target_noise_var=noise))
    _, error = at(model, X)
    assert error[3] > 1.5 * alone_error[3]
    assert model.pooled.df == BLOCKS - 1
    few = fit_model(as_sample(predicted, label, None, group // 6, target_noise_var=noise))
    assert few.pooled.df == 9


def test_labels_that_are_mostly_noise_are_refused():
    predicted, label, _, _ = rows(1000, 0.5)
    with (
        pytest.warns(WeakCalibrationWarning, match="labels: "),
        pytest.raises(CalibrationError, match=r"target_noise_var: .* a reliability of 0\.2"),
    ):
        ResponseCalibration().fit(predicted, label, target_noise_var=0.8 * label.var())


def test_labels_with_much_noise_are_warned_of_and_a_card_says_so():
    predicted, label, _, noise = rows(1000, 0.5)
    fitted = ResponseCalibration()
    with pytest.warns(
        WeakCalibrationWarning, match=r"labels: the labels' reliability is 0\.[45]\d, under 0\.6"
    ):
        fitted.fit(predicted, label, target_noise_var=noise)
    card = fitted.to_card(target={"name": "wealth", "unit": "index"}, predictor="model", n_boot=20)
    assert str(card).startswith("WEAK, labels: ")
    assert "labels' reliability 0." in str(card)
    good = ResponseCalibration().fit(*rows(1000, 0.9)[:2], target_noise_var=1 / 9)
    said = str(good.to_card(target={"name": "wealth", "unit": "index"}, predictor="model", n_boot=20))
    assert "WEAK, labels" not in said
    assert f"labels' reliability {good.reliability_:.2f}" in said


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (np.full(99, 0.1), "target_noise_var"),
        (np.r_[np.full(99, 0.1), -1.0], "1 of 100 values are below zero"),
        (np.r_[np.full(99, 0.1), np.nan], "target_noise_var"),
        (-0.1, "target_noise_var: -0.1 is not a variance"),
        ("a lot", "target_noise_var: got str"),
    ],
)
def test_what_is_no_variance_is_refused(noise, said):
    predicted, label, _, _ = rows(100, 0.8)
    with pytest.raises(CalibrationError, match=said):
        as_sample(predicted, label, target_noise_var=noise)
