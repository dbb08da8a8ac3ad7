"""Measurement noise of corrected values: exact for lines, alive on flat pieces, as large as the noise really is."""

import numpy as np
import pytest

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.card.prediction_noise import NoiseProfile, corrected_noise, noise_profile
from sustain.debias.sample import as_sample
from sustain.debias.table import Nodes, Table
from tests.debias.samples import pairs

GRID = Nodes(-4.0, 4.0, 801)


def test_a_line_multiplies_the_noise_by_its_slope():
    table = Table(GRID, 3 + 2 * GRID.x)
    constant = corrected_noise(table, GRID, NoiseProfile(np.zeros(1), np.array([0.7])))
    np.testing.assert_allclose(constant, 4 * 0.49)


def test_a_flat_piece_lets_through_what_leaves_it():
    """A step of one at zero: at x the value is one with the chance that the noise lifts x over it."""
    from scipy.stats import norm

    table = Table(GRID, 1.0 * (GRID.x > 0))
    variance = corrected_noise(table, GRID, NoiseProfile(np.zeros(1), np.array([0.5])))
    chance = norm.cdf(GRID.x / 0.5)
    assert np.abs(variance - chance * (1 - chance)).max() < 0.06
    assert table.derivative(np.array([-0.5]))[0] == 0
    assert np.sqrt(np.interp(-0.5, GRID.x, variance)) > 0.2


def test_profile_finds_noise_that_grows():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    predicted = 0.6 * truth + rng.normal(size=truth.size) * (0.4 + 0.1 * truth.clip(-2, 2))
    profile = noise_profile(as_sample(predicted, truth))
    assert profile.sd.size == 10
    np.testing.assert_allclose(profile.sd, 0.4 + 0.1 * profile.truth.clip(-2, 2), rtol=0.06)


def test_profile_takes_label_noise_off_and_bends_for_none():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40_000)
    predicted = np.tanh(truth) + rng.normal(scale=0.3, size=truth.size)
    bent = noise_profile(as_sample(predicted, truth))
    np.testing.assert_allclose(bent.sd, 0.3, rtol=0.1)
    straight = 0.7 * truth + rng.normal(scale=0.4, size=truth.size)
    labels = truth + rng.normal(scale=0.3, size=truth.size)
    middle = noise_profile(as_sample(straight, labels, target_noise_var=0.09)).sd[2:-2]
    assert middle.mean() == pytest.approx(0.4, rel=0.05)


@pytest.mark.parametrize(("n", "parts"), [(20, 1), (39, 1), (60, 2), (199, 9), (1000, 10)])
def test_parts_have_twenty_rows(n, parts):
    found = noise_profile(as_sample(*pairs(n))).sd.size
    assert 1 <= found <= min(parts, n // 20)


def test_truth_of_two_values():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400).astype(float)
    profile = noise_profile(as_sample(truth + rng.normal(size=400) * (0.2 + 0.3 * truth), truth))
    assert profile.sd[0] == pytest.approx(0.2, rel=0.15)
    assert profile.sd[-1] == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("kind", [LinearCalibration, TweedieCalibration])
def test_standard_errors_are_the_errors_of_corrected_values(kind):
    """Mean squared error given the truth, less that of the mean, against the mean squared standard error."""
    x, y = pairs(3000)
    card = kind().fit(x, y).to_card(target={"name": "w", "unit": "u"}, predictor="m", n_boot=50)
    fresh, truth = pairs(20_000, seed=1)
    corrected = card.transform(fresh, kind.method, check_support=False)
    error = card.standard_error(fresh, kind.method)
    middle = np.abs(truth - np.median(truth)) < 1
    spread = np.mean((corrected - truth)[middle] ** 2)
    assert np.mean(error[middle] ** 2) == pytest.approx(spread, rel=0.2)
