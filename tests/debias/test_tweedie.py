"""Errors of unequal size, and smoothing: against quadrature, simulation and real predictions."""

import warnings

import numpy as np
import pytest

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.tweedie.calibration import TweedieFormula
from sustain.debias.tweedie.error_variance import NoiseVariance, fit_noise
from sustain.debias.tweedie.score import MixtureScore, kernel_score
from sustain.errors import CalibrationError, WeakCalibrationWarning
from tests.debias.samples import real

NORMAL = MixtureScore(np.ones(1), np.zeros(1), np.ones(1))
X = np.linspace(-9, 9, 20_001)
TRUTH = np.linspace(-2, 3, 51)


def _bias(noise, h):
    """E[h(x) | truth] less the truth, for x ~ N(0, 1) and truth ~ N(x, v(x)), by quadrature."""
    v = noise(X)
    density = NORMAL.density(X) * np.exp(-((TRUTH[:, None] - X) ** 2) / (2 * v)) / np.sqrt(v)
    return density @ h / density.sum(axis=1) - TRUTH


def _formula(noise, second_order=False, score=NORMAL):
    return TweedieFormula(0.0, 1.0, noise, score, 1.0, -np.inf, np.inf, second_order)


class _Tanh:
    """v = 0.4 + 0.2 tanh x, the published example."""

    level = 0.4

    def __call__(self, x):
        return 0.4 + 0.2 * np.tanh(x)

    def log_derivatives(self, x):
        return 0.2 / np.cosh(x) ** 2 / self(x), 0.0


def test_first_order_of_the_published_example():
    noise = _Tanh()
    naive, formula = _bias(noise, X), _bias(noise, _formula(noise)(X))
    plug_in = _bias(noise, X - noise(X) * NORMAL.score(X))
    assert (naive.max(), naive.min()) == pytest.approx((0.44, -1.07), abs=0.01)
    assert (plug_in.min(), plug_in.max()) == pytest.approx((0.076, 0.134), abs=0.001)
    # The published 0.054 is the greatest at whole numbers of the truth.
    assert (formula[::10].min(), formula[::10].max()) == pytest.approx((-0.042, 0.054), abs=0.001)


def test_each_order_is_nearer():
    noise = NoiseVariance(0.3, np.array([0.0, 0.35, -0.05]), 0.0, 1.0, -9.0, 9.0)
    worst = [
        np.abs(_bias(noise, h)).max()
        for h in (
            X - noise(X) * NORMAL.score(X),
            _formula(noise)(X),
            _formula(noise, second_order=True)(X),
        )
    ]
    assert worst[1] < 0.7 * worst[0]
    assert worst[2] < 0.5 * worst[1]


def test_derivatives_are_those_of_the_functions():
    x, step = np.linspace(-1.5, 1.5, 31), 1e-5
    noise = NoiseVariance(0.3, np.array([0.1, 0.35, -0.2]), 0.2, 1.3, -2.0, 2.0)
    mixture = MixtureScore(np.array([0.4, 0.6]), np.array([-1.0, 0.7]), np.array([0.3, 0.8]))
    kernel = kernel_score(np.random.default_rng(0).normal(size=200), np.ones(200), 0.4)
    log_v = lambda at: np.log(noise(at))  # noqa: E731
    first, second = noise.log_derivatives(x)
    np.testing.assert_allclose(first, (log_v(x + step) - log_v(x - step)) / (2 * step), atol=1e-8)
    slope = (noise.log_derivatives(x + step)[0] - noise.log_derivatives(x - step)[0]) / (2 * step)
    np.testing.assert_allclose(slope, second, atol=1e-8)
    for score in (mixture, kernel):
        np.testing.assert_allclose(
            score.slope(x), (score.score(x + step) - score.score(x - step)) / (2 * step), atol=1e-6
        )

    # (v v' p)'' / (2 p) by differences, which the formula adds up from derivatives of logarithms.
    def product(at):
        v = noise(at)
        return v**2 * noise.log_derivatives(at)[0] * mixture.density(at)

    wide = 1e-3
    by_differences = (
        (product(x + wide) - 2 * product(x) + product(x - wide)) / wide**2 / (2 * mixture.density(x))
    )
    one, two = (_formula(noise, second, mixture)(x) for second in (False, True))
    np.testing.assert_allclose(one - two, by_differences, atol=1e-5)


def test_noise_is_found():
    """Log-quadratic variances are found, whatever the shape of the errors; labels' own noise is taken off."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=40_000)
    errors = rng.standard_t(8, size=x.size) / np.sqrt(8 / 6)
    noise = NoiseVariance(0.25, np.array([0.05, 0.5, -0.1]), 0.0, 1.0, -9.0, 9.0)
    known = 0.2
    squares = noise(x) * errors**2 + known * rng.normal(size=x.size) ** 2
    mass = np.ones((1, x.size))
    found = fit_noise(noise.basis(x), mass, squares[None], np.array([0.25]), known)[0]
    np.testing.assert_allclose(found, noise.coefficients, atol=0.06)


def test_errors_without_size_have_none():
    basis = NoiseVariance(1.0, np.zeros(3), 0.0, 1.0, -9.0, 9.0).basis(np.linspace(-1, 1, 50))
    assert not fit_noise(basis, np.ones((1, 50)), np.zeros((1, 50)), np.zeros(1)).any()


def _unequal(n, seed):
    """Berkson errors whose variance rises elevenfold over the predictions."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(3.0, 0.5, size=n) - 1.5
    v = 0.15 * np.exp(0.8 * x)
    return x, x + rng.normal(size=n) * np.sqrt(v)


@pytest.mark.parametrize("score", ["mixture", "kde"])
def test_the_mean_given_the_truth_is_nearer_the_truth(score):
    x, y = _unequal(4000, 0)
    trial, truth = _unequal(400_000, 1)
    tenth = np.searchsorted(np.quantile(truth, np.linspace(0.1, 0.9, 9)), truth)
    off = {}
    for name in (None, False):
        calibration = TweedieCalibration(score, heteroskedastic=name).fit(x, y)
        corrected = calibration.transform(trial, check_support=False)
        off[name] = np.abs([(corrected - truth)[tenth == i].mean() for i in range(10)]).mean()
    assert TweedieCalibration(score).fit(x, y).heteroskedastic_
    assert off[None] < 0.5 * off[False]


def test_errors_of_one_size_are_seen_to_be():
    found = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=500)
        found.append(TweedieCalibration().fit(x, x + rng.normal(size=500)).heteroskedastic_)
    assert sum(found) <= 4


def test_label_noise_leaves_less_to_correct():
    x, y = _unequal(4000, 0)
    noisy = y + 0.4 * np.random.default_rng(2).normal(size=y.size)
    clean, told, untold = (
        TweedieCalibration().fit(x, labels, target_noise_var=known)
        for labels, known in ((y, 0.0), (noisy, 0.16), (noisy, 0.0))
    )
    at = np.linspace(*clean.support_, 50)
    np.testing.assert_allclose(told.noise_(at), clean.noise_(at), rtol=0.4)
    assert (untold.noise_(at) > clean.noise_(at) + 0.08).all()


def test_smoothing_keeps_mean_and_variance_and_a_single_gaussian():
    mixture = MixtureScore(np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.2, 0.5]))
    smooth = mixture.smoothed(0.4)
    at = np.linspace(-12, 12, 20_001)
    share = smooth.density(at) / smooth.density(at).sum()
    mean = mixture.weights @ mixture.means
    assert share @ at == pytest.approx(mean, abs=1e-9)
    variance = mixture.weights @ (mixture.variances + (mixture.means - mean) ** 2)
    assert share @ (at - mean) ** 2 == pytest.approx(variance, abs=1e-9)
    assert np.ptp(np.diff(smooth.score(at))) < np.ptp(np.diff(mixture.score(at)))
    np.testing.assert_allclose(NORMAL.smoothed(0.4).score(at), NORMAL.score(at), atol=1e-12)


def test_contradictory_parameters_are_named():
    x, y = _unequal(200, 0)
    with pytest.raises(CalibrationError, match="heteroskedastic: True"):
        TweedieCalibration("scott", heteroskedastic=True).fit(x, y)
    with pytest.raises(CalibrationError, match="second_order: errors of one size"):
        TweedieCalibration(heteroskedastic=False, second_order=True).fit(x, y)


def _figures(calibration, x, y, rows, test):
    corrected = calibration.fit(x[rows], y[rows]).transform(x[test], check_support=False)
    truth = y[test]
    slope = np.cov(corrected, truth)[0, 1] / truth.var(ddof=1)
    off = corrected - truth
    tenth = np.searchsorted(np.quantile(truth, np.linspace(0.1, 0.9, 9)), truth)
    bias = np.mean([abs(off[tenth == i].mean()) for i in range(10)])
    return np.array([np.sqrt(np.mean(off**2)), slope, np.abs(corrected - x[test]).max(), bias]) / [
        y.std(),
        1,
        y.std(),
        y.std(),
    ]


def test_default_is_monotone_tame_and_stable_on_real_predictions():
    """From 500 to 10,000 calibration rows: RMSE and slope within 5%, no correction beyond 2.5 sd."""
    rows = real("yeh_dhs_incountry.parquet")
    x, y = rows["p_resnet_18_ms"].to_numpy(), rows["y_true"].to_numpy()
    few, many = [], []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(x.size)
        few.append(_figures(TweedieCalibration(), x, y, order[:500], order[10_000:]))
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(x.size)
        calibration = TweedieCalibration()
        many.append(_figures(calibration, x, y, order[:10_000], order[10_000:]))
        curve = calibration.transform(np.linspace(-2, 3, 5001), check_support=False)
        assert (np.diff(curve) >= -1e-12).all()
    few, many = np.mean(few, axis=0), np.mean(many, axis=0)
    np.testing.assert_allclose(many[:2], few[:2], rtol=0.05)
    assert max(few[2], many[2]) < 2.5


def test_unequal_errors_are_most_of_what_was_wrong_on_real_predictions():
    """Bias by tenth of the truth: a third of that with errors of one size, and less than that of the line."""
    rows = real("yeh_dhs_incountry.parquet")
    x, y = rows["p_resnet_18_ms"].to_numpy(), rows["y_true"].to_numpy()
    order = np.random.default_rng(0).permutation(x.size)
    bias = {
        name: _figures(calibration, x, y, order[:10_000], order[10_000:])[3]
        for name, calibration in {
            "default": TweedieCalibration(),
            "one size": TweedieCalibration(heteroskedastic=False),
            "linear": LinearCalibration(),
        }.items()
    }
    assert bias["default"] < 0.75 * bias["one size"]
    assert bias["default"] < 0.8 * bias["linear"]


@pytest.mark.parametrize("seed", range(4))
def test_a_variance_that_runs_away_is_not_used(seed):
    """Most labels zero, a few large: a log-quadratic variance explodes between them, and with it the correction."""
    rng = np.random.default_rng(seed)
    y = (rng.uniform(size=400) < 0.03) * rng.exponential(3, 400)
    x = 0.8 * y + 0.3 * rng.normal(size=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakCalibrationWarning)
        fitted = TweedieCalibration().fit(x, y)
    assert not fitted.heteroskedastic_
    assert np.abs(fitted.transform(x, check_support=False)).max() < 20
    counts = rng.multinomial(400, np.full(400, 1 / 400), size=20)
    assert np.abs(fitted.bootstrap(counts.astype(float), fitted.table_.grid)).max() < 100


def test_errors_that_the_formula_does_not_hold_for_are_said():
    rng = np.random.default_rng(1)
    y = (rng.uniform(size=400) < 0.03) * rng.exponential(3, 400)
    with pytest.warns(WeakCalibrationWarning, match=r"rise by 0\.\d+ .* not what Tweedie's formula assumes"):
        TweedieCalibration().fit(0.8 * y + 0.3 * rng.normal(size=400), y)


def test_nothing_is_said_of_errors_that_the_formula_holds_for(recwarn):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.gamma(2.0, size=300)
        TweedieCalibration().fit(x, x + 0.7 * rng.normal(size=300), target_noise_var=0.1)
    assert not recwarn.list


def test_a_flat_correction_is_refused():
    rng = np.random.default_rng(28)
    refused = 0
    for _ in range(200):
        t = (rng.uniform(size=40) < 0.1) * rng.exponential(size=40)
        x = 0.6 * t + 0.3 * rng.normal(size=40)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeakCalibrationWarning)
            try:
                corrected = TweedieCalibration().fit(x, t).transform(x, check_support=False)
            except CalibrationError as error:
                refused += "came out flat" in str(error)
            else:
                assert np.ptp(corrected) > 0
    assert refused
