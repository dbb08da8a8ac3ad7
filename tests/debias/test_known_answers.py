"""Answers known in closed form or printed by other software, to their digits."""

import math

import numpy as np
import pytest

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.tweedie.score import MixtureScore, kernel_score, scott_score
from sustain.stats.covariance import critical_value
from sustain.stats.fieller import fieller_set

# A mixture of four Gaussians (weights, means, standard deviations): predictions x; truth = x + N(0, sigma^2).
WEIGHTS, MEANS, SDS = (
    np.array([0.64, 0.16, 0.16, 0.04]),
    np.array([5, 7.2, 13, 14.2]),
    np.array([1.0, 2, 4, 5]),
)
X = np.linspace(-60, 80, 200_001)


def _mean_given_truth(function, y, sigma):
    """E[function(x) | truth = y] by quadrature."""
    density = MixtureScore(WEIGHTS, MEANS, SDS**2).density(X) * np.exp(-(((y - X) / sigma) ** 2) / 2)
    return float((function(X) * density).sum() / density.sum())


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        (1.0, (3.982337424358, 9.792182703959, 19.646551639659)),
        (0.5, (3.3833164425, 9.9476458008, 19.9082692424)),
        (2.0, (4.6490558275, 8.6748282160, 18.7693989802)),
    ],
)
def test_tweedie_formula_on_the_mixture(sigma, expected):
    """E[prediction | truth = y] = y + sigma^2 score_Y(y), and the corrected prediction has mean y."""
    score = MixtureScore(WEIGHTS, MEANS, SDS**2)
    truth_score = MixtureScore(WEIGHTS, MEANS, SDS**2 + sigma**2)
    for y, answer in zip((3.0, 10.0, 20.0), expected, strict=True):
        assert _mean_given_truth(lambda x: x, y, sigma) == pytest.approx(answer, abs=1e-9)
        assert y + sigma**2 * truth_score.score(np.array([y]))[0] == pytest.approx(answer, abs=1e-9)
        corrected = _mean_given_truth(lambda x: x - sigma**2 * score.score(x), y, sigma)
        assert corrected == pytest.approx(y, abs=1e-9)


def test_score_of_the_truth_on_the_mixture():
    score = MixtureScore(WEIGHTS, MEANS, SDS**2 + 1).score(np.array([3.0, 10.0, 20.0]))
    np.testing.assert_allclose(score, [0.982337424358, -0.207817296041, -0.353448360341], atol=1e-12)


def test_effects_on_the_mixture():
    """Treated are the second and fourth part, as seen from the truth: naive and linear effects, the true one is 2."""
    y = np.linspace(-60, 80, 200_001)
    parts = WEIGHTS * np.exp(-((y[:, None] - MEANS) ** 2) / (2 * (SDS**2 + 1))) / np.sqrt(SDS**2 + 1)
    density = parts.sum(axis=1)
    mean_prediction = y + MixtureScore(WEIGHTS, MEANS, SDS**2 + 1).score(y)

    def effect(values):
        treated, control = parts[:, [1, 3]].sum(axis=1), parts[:, [0, 2]].sum(axis=1)
        return float(values @ treated / treated.sum() - values @ control / control.sum())

    def covariance(a, b):
        weight = density / density.sum()
        return float(weight @ (a * b) - (weight @ a) * (weight @ b))

    slope = covariance(mean_prediction, y) / covariance(y, y)
    assert effect(y) == pytest.approx(2.0, abs=1e-9)
    # The published 1.7182012231 and 1.8309440855 are from a coarser quadrature: they agree to 2e-8.
    assert effect(mean_prediction) == pytest.approx(1.7182012081, abs=1e-10)
    assert slope == pytest.approx(0.9384236453, abs=1e-9)
    assert effect(mean_prediction) / slope == pytest.approx(1.8309440695, abs=1e-10)


def _normal_scores(n):
    from scipy.special import ndtri

    return ndtri((np.arange(n) + 0.5) / n)


@pytest.mark.filterwarnings("ignore::sustain.errors.InSampleWarning")
def test_gaussian_errors_linear_and_tweedie_agree():
    """Predictions N(0, 1), sigma 0.75: slope 0.64, and both corrections multiply by 1.5625."""
    z, e = np.meshgrid(_normal_scores(300), _normal_scores(300))
    x = z.ravel() / z.std()
    error = 0.75 * e.ravel() / e.std()
    linear = LinearCalibration().fit(x, x + error)
    tweedie = TweedieCalibration(recalibrate=False).fit(x, x + error)
    assert linear.slope_ == pytest.approx(0.64, abs=1e-12)
    assert len(tweedie.score_.weights) == 1
    np.testing.assert_allclose(linear.transform(np.array([-1.0, 0.5])), [-1.5625, 0.78125], atol=1e-12)
    np.testing.assert_allclose(tweedie.transform(np.array([-1.0, 0.5])), [-1.5625, 0.78125], atol=1e-9)


def test_kernel_score_in_the_gaussian_case():
    """A plain kernel density flattens the score to 1 / (1 + h^2); the variance-corrected one does not."""
    z = _normal_scores(20_000)
    z = z / z.std()
    plain = scott_score(z, np.ones_like(z))
    slope = -plain.score(np.array([1e-3]))[0] / 1e-3
    assert slope == pytest.approx(1 / (1 + plain.bandwidth**2), rel=2e-3)
    corrected = kernel_score(z, np.ones_like(z), 0.4)
    assert -corrected.score(np.array([1e-3]))[0] / 1e-3 == pytest.approx(1.0, rel=2e-3)


def test_fieller_of_mecor():
    """R package mecor 1.0.0, data haemoglobin with the external standard: from its printed summary numbers.

    The delta interval of the same example is with the effects, in tests/causal/test_variance.py.
    """
    found = fieller_set(7.76470163, 1.39249697**2, 1.07435684, 0.0638543**2, critical_value(0.95))
    assert found.hull == pytest.approx((4.630319, 10.023133), abs=2e-6)


def test_fieller_is_unbounded_when_the_slope_may_be_zero():
    assert fieller_set(1.0, 0.1**2, 0.2, 0.15**2, 1.96).hull == (-math.inf, math.inf)


def _rogan_gladen():
    """Counts of (measured, true) in the calibration study of Cole et al. 2023."""
    counts = {(0, 0): 71, (1, 0): 18, (0, 1): 38, (1, 1): 203}
    pairs = np.array([pair for pair, count in counts.items() for _ in range(count)], dtype=float)
    return pairs[:, 0], pairs[:, 1]


def test_rogan_gladen_is_the_linear_correction():
    """Prevalence from a test of known sensitivity and specificity; Delicatessen 4.3 prints the same digits."""
    measured, true = _rogan_gladen()
    calibration = LinearCalibration().fit(measured, true)
    assert calibration.intercept_ == pytest.approx(0.2022471910, abs=1e-10)  # 1 - specificity
    assert calibration.slope_ == pytest.approx(0.6400764604, abs=1e-10)  # sensitivity + specificity - 1
    trial = np.repeat([0.0, 1.0], [270, 680])
    prevalence = float(calibration.transform(trial, check_support=False).mean())
    assert prevalence == pytest.approx(0.80231396, abs=1e-8)
    # Influence of the line on the mean of (trial - a) / b.
    on_line = calibration.prediction_on_truth_.influence
    on_mean = -(on_line[:, 0] + on_line[:, 1] * prevalence) / calibration.slope_
    variance = trial.var() / trial.size / calibration.slope_**2 + on_mean @ on_mean
    assert math.sqrt(variance) == pytest.approx(0.0395155144, abs=1e-10)
    margin = critical_value(0.95) * math.sqrt(variance)
    assert prevalence - margin == pytest.approx(0.72486497, abs=1e-8)
    assert prevalence + margin == pytest.approx(0.87976296, abs=2e-8)


def test_duplicated_rows_halve_the_variance():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=400)
    predicted = 0.6 * truth + rng.normal(scale=0.5, size=400)
    once = LinearCalibration().fit(predicted, truth)
    twice = LinearCalibration().fit(np.tile(predicted, 2), np.tile(truth, 2))
    np.testing.assert_allclose(twice.cov_ * (798 / 800) * 2, once.cov_ * (398 / 400), rtol=1e-12)


def test_label_noise_is_taken_off_exactly():
    """Labels with added noise that is orthogonal in sample: the slope and sigma of the clean labels return."""
    truth, error, noise = (v.ravel() for v in np.meshgrid(*[_normal_scores(22)] * 3))
    predicted = 0.7 * truth + 0.4 * error
    clean = LinearCalibration().fit(predicted, truth)
    noisy = LinearCalibration().fit(predicted, truth + 0.5 * noise, target_noise_var=0.25 * noise.var())
    assert noisy.slope_ == pytest.approx(clean.slope_, abs=1e-12)
    assert noisy.sigma_ == pytest.approx(clean.sigma_, abs=1e-12)
    left_in = LinearCalibration().fit(predicted, truth + 0.5 * noise)
    assert left_in.slope_ == pytest.approx(0.7 / (1 + 0.25), abs=1e-12)


def test_clustered_covariance_matches_statsmodels():
    statsmodels = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(40), 10)
    truth = rng.normal(size=400)
    predicted = 0.6 * truth + rng.normal(size=40)[group] * 0.4 + rng.normal(scale=0.3, size=400)
    weight = rng.uniform(0.5, 2, size=400)
    theirs = statsmodels.WLS(predicted, statsmodels.add_constant(truth), weights=weight)
    clustered = LinearCalibration().fit(predicted, truth, weight, group)
    expected = theirs.fit(cov_type="cluster", cov_kwds={"groups": group}).cov_params()
    np.testing.assert_allclose(clustered.cov_, expected, rtol=1e-10)
    robust = LinearCalibration().fit(predicted, truth, weight)
    np.testing.assert_allclose(robust.cov_, theirs.fit(cov_type="HC1").cov_params(), rtol=1e-10)
