"""Fitting: scikit-learn's conventions, weak samples, bad input."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from sustain.debias import LinearCalibration, TweedieCalibration, linear_correct, tweedie_correct
from sustain.debias.table import support_of
from sustain.debias.tweedie.mixture import Bins, choose_mixture, fit_mixtures
from sustain.errors import CalibrationError, InSampleWarning, WeakCalibrationWarning
from tests.debias.samples import pairs

BOTH = [LinearCalibration, TweedieCalibration]


def test_sklearn_clone_and_parameters():
    sklearn = pytest.importorskip("sklearn.base")
    original = TweedieCalibration("kde", bandwidth=0.3)
    copy = sklearn.clone(original.fit(*pairs()))
    assert copy.get_params() == original.get_params()
    assert not hasattr(copy, "table_")
    assert copy.set_params(bandwidth=0.5).bandwidth == 0.5
    with pytest.raises(ValueError, match="'width' is not a parameter"):
        copy.set_params(width=1)
    assert "bandwidth=0.3" in repr(original)


def test_import_is_light():
    """No scipy, pandas, xarray or scikit-learn is loaded by importing the room."""
    code = (
        "import sys; from sustain.debias import tweedie_correct; "
        "print([m for m in ('scipy', 'pandas', 'xarray', 'sklearn', 'torch', 'rasterio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: {"y_true": y[:-1]}, r"y_true: has 99 values, but y_pred has 100"),
        (lambda x, y: {"y_true": np.where(np.arange(100) == 7, np.nan, y)}, r"y_true: 1 of 100 .* row 7"),
        (lambda x, y: {"y_pred": np.where(np.arange(100) == 7, np.inf, x)}, r"y_pred: 1 of 100"),
        (lambda x, y: {"y_pred": np.full(100, 0.3)}, r"y_pred: every value is 0\.3"),
        (lambda x, y: {"y_true": np.full(100, 2.0)}, r"y_true: every value is 2"),
        (lambda x, y: {"y_pred": x[:19], "y_true": y[:19]}, r"19 pairs are too few .* 20"),
        (lambda x, y: {"y_pred": x[:0], "y_true": y[:0]}, r"y_pred: 0 pairs are too few .* 20"),
        (lambda x, y: {"y_pred": x[:, None]}, r"y_pred: expected one dimension"),
        (lambda x, y: {"y_pred": np.array(["a"] * 100)}, r"y_pred: expected numbers"),
        (lambda x, y: {"sample_weight": -np.ones(100)}, r"sample_weight: 100 weights are negative"),
        (lambda x, y: {"sample_weight": np.zeros(100)}, r"sample_weight: all 100 weights are zero"),
        (lambda x, y: {"sample_weight": np.ones(5)}, r"sample_weight: has 5 values"),
        (lambda x, y: {"groups": np.zeros(100)}, r"groups: all rows are in one group"),
        (lambda x, y: {"groups": np.zeros(99)}, r"groups: has shape \(99,\)"),
        (lambda x, y: {"groups": [None] + ["a", "b", "c"] * 33}, r"groups: 1 values are missing"),
        (lambda x, y: {"target_noise_var": -1.0}, r"target_noise_var: -1\.0"),
        (lambda x, y: {"target_noise_var": 1e9}, r"target_noise_var: 1e\+09"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_named(kind, change, message):
    x, y = pairs(100)
    with pytest.raises(CalibrationError, match=message):
        kind().fit(**{"y_pred": x, "y_true": y, **change(x, y)})


def test_misaligned_pandas_is_an_error():
    x, y = (pd.Series(v) for v in pairs(50))
    with pytest.raises(CalibrationError, match="different indexes"):
        LinearCalibration().fit(x, y.sort_values())


@pytest.mark.parametrize("kind", BOTH)
def test_predictions_without_signal_are_refused(kind):
    rng = np.random.default_rng(0)
    with pytest.raises(CalibrationError, match="not above zero"):
        kind().fit(rng.normal(size=200), rng.normal(size=200))
    x, y = pairs(200)
    with pytest.raises(CalibrationError, match="not above zero"):
        kind().fit(-x, y)


@pytest.mark.parametrize("kind", BOTH)
def test_weak_predictions_warn(kind):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=5000)
    with pytest.warns(WeakCalibrationWarning, match="explain"):
        kind().fit(0.2 * truth + rng.normal(size=5000), truth)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"score": "gmm"}, "score: 'gmm' is unknown"),
        ({"bandwidth": 0.3}, "bandwidth: 0.3 with score='mixture'"),
        ({"score": "kde", "bandwidth": 0.0}, "bandwidth: 0.0"),
        ({"variance_floor": 0.0}, "variance_floor: 0.0"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(CalibrationError, match=message):
        TweedieCalibration(**parameters).fit(*pairs())


def test_interval_methods():
    calibration = LinearCalibration().fit(*pairs(200))
    delta, fieller = calibration.factor_interval(), calibration.factor_interval(method="fieller")
    low, high = calibration.slope_interval()
    assert fieller == pytest.approx((1 / high, 1 / low), rel=1e-12)
    assert np.mean(delta) == pytest.approx(1 / calibration.slope_)
    assert np.ptp(delta) == pytest.approx((high - low) / calibration.slope_**2)
    with pytest.raises(CalibrationError, match="method: 'exact'"):
        calibration.factor_interval(method="exact")
    with pytest.raises(CalibrationError, match="level"):
        calibration.slope_interval(level=95)


def test_interval_covers():
    """95% intervals of the slope cover it, with and without clusters."""
    covered = {"HC1": 0, "CRV1": 0}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(30), 5)
        truth = rng.normal(size=150) + rng.normal(size=30)[group]
        shared = rng.normal(size=30)[group] if seed % 2 else 0.0
        predicted = 0.6 * truth + 0.4 * shared + rng.normal(scale=0.5, size=150)
        calibration = LinearCalibration().fit(predicted, truth, groups=group if seed % 2 else None)
        low, high = calibration.slope_interval()
        covered[calibration.prediction_on_truth_.vcov] += low < 0.6 < high
    assert 0.88 < covered["HC1"] / 150 < 0.99
    assert 0.86 < covered["CRV1"] / 150 < 0.99


@pytest.mark.parametrize("kind", BOTH)
def test_fitted_values_are_found_out(kind, recwarn):
    """Predictions of a regression on its own rows are; those of left-out rows, or rounded labels, are not."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(400, 5))
    truth = images @ rng.normal(size=5) + rng.normal(scale=2, size=400)
    half = slice(0, 200)
    coefficients = np.linalg.lstsq(np.c_[np.ones(200), images[half]], truth[half], rcond=None)[0]
    predicted = np.c_[np.ones(400), images] @ coefficients
    kind().fit(predicted[200:], truth[200:])
    kind().fit(truth, truth)
    assert not [w for w in recwarn if issubclass(w.category, InSampleWarning)]
    with pytest.warns(InSampleWarning, match="fitted values"):
        kind().fit(predicted[half], truth[half])


def test_recalibration_removes_bias_of_level_and_scale():
    x, y = pairs(2000, skewed=False)
    corrected = TweedieCalibration().fit(5 + 0.5 * x, y).transform(5 + 0.5 * x)
    assert corrected.mean() == pytest.approx(y.mean(), abs=1e-6)
    assert np.polyfit(y, corrected, 1)[0] == pytest.approx(1.0, abs=0.01)
    left = TweedieCalibration(recalibrate=False).fit(x + 5, y).transform(x + 5)
    assert left.mean() - y.mean() > 4.9


def test_tweedie_finds_the_effect_that_the_line_misses():
    """Skewed mixture, effect through the truth only: linear is 8% short, Tweedie is right."""
    rng = np.random.default_rng(2)
    weights, means, sds = [0.64, 0.16, 0.16, 0.04], np.array([5, 7.2, 13, 14.2]), np.array([1.0, 2, 4, 5])

    def draw(n):
        part = rng.choice(4, n, p=weights)
        predicted = rng.normal(means[part], sds[part])
        truth = predicted + rng.normal(size=n)
        seen = weights * np.exp(-((truth[:, None] - means) ** 2) / 2 / (sds**2 + 1)) / np.sqrt(sds**2 + 1)
        return predicted, truth, rng.random(n) < seen[:, [1, 3]].sum(axis=1) / seen.sum(axis=1)

    def effect(values, treated):
        return values[treated].mean() - values[~treated].mean()

    x, y, _ = draw(3000)
    trial, trial_truth, treated = draw(200_000)
    true = effect(trial_truth, treated)
    assert true == pytest.approx(2.0, abs=0.05)
    assert effect(linear_correct(trial, (x, y)), treated) / true == pytest.approx(0.92, abs=0.02)
    assert effect(tweedie_correct(trial, (x, y)), treated) / true == pytest.approx(1.0, abs=0.03)


def test_functions_take_what_they_say_and_nothing_else(tmp_path):
    x, y = pairs()
    linear = LinearCalibration().fit(x, y)
    card = linear.to_card(target={"name": "wealth", "unit": "index"}, predictor="m", n_boot=20)
    path = card.save(tmp_path / "card.json")
    expected = linear.transform(x)
    for calibration in (linear, card, path, str(path), (x, y)):
        np.testing.assert_allclose(linear_correct(x, calibration), expected, atol=1e-9)
    with pytest.raises(CalibrationError, match="got LinearCalibration"):
        tweedie_correct(x, linear)
    with pytest.raises(CalibrationError, match="got ndarray"):
        tweedie_correct(x, x)


def test_mixture_recovers_its_parts():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-1, 0.5, 6000), rng.normal(2, 1.0, 4000)])
    bins = Bins.of(x, np.ones_like(x))
    mixture = choose_mixture(fit_mixtures(bins, bins.mass(np.ones_like(x)), 0.01), x.size)
    order = np.argsort(mixture.means)
    np.testing.assert_allclose(mixture.means[order], [-1, 2], atol=0.1)
    np.testing.assert_allclose(np.sqrt(mixture.variances[order]), [0.5, 1.0], atol=0.1)


def test_mixture_of_a_normal_sample_is_one_part():
    chosen = []
    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=500)
        bins = Bins.of(x, np.ones_like(x))
        chosen.append(len(choose_mixture(fit_mixtures(bins, bins.mass(np.ones_like(x)), 0.1), 500.0).weights))
    assert chosen.count(1) >= 9


def test_binned_mixture_matches_sklearn():
    """On bins the likelihood is as high as scikit-learn's on the rows."""
    sklearn = pytest.importorskip("sklearn.mixture")
    x = pairs(1500)[0]
    bins = Bins.of(x, np.ones_like(x))
    ours = fit_mixtures(bins, bins.mass(np.ones_like(x)), 0.02)[1].draw(0)
    theirs = sklearn.GaussianMixture(2, n_init=5, tol=1e-8, max_iter=2000, random_state=0).fit(x[:, None])
    assert np.log(ours.density(x)).mean() > theirs.score(x[:, None]) - 1e-3


def test_one_outlier_does_not_widen_the_bins():
    x = np.append(np.random.default_rng(0).normal(size=1000), 1e6)
    bins = Bins.of(x, np.ones_like(x))
    assert np.median(np.diff(np.sort(bins.centre))) < 0.1


def test_support_is_the_bulk():
    x = np.random.default_rng(0).normal(size=20_000)
    low, high = support_of(x, np.ones_like(x))
    assert (low, high) == pytest.approx((-2.576, 2.576), abs=0.08)
    assert low not in x
    doubled = support_of(x[:50], np.repeat([1.0, 3.0], 25))
    assert doubled[0] < doubled[1]
