"""Influence of calibration rows: against the jackknife, in strata, and in a variance that comes out right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sustain.debias import BridgeCalibration, LinearCalibration, TweedieCalibration
from sustain.debias.influence import before_order, node_weights
from sustain.debias.table import Grid, Table, ordered
from sustain.errors import CalibrationError
from tests.debias.samples import pairs

# Choices that the influence holds fixed are fixed, so that refits without some rows cannot make others.
FIXED = [
    LinearCalibration(),
    TweedieCalibration(heteroskedastic=False),
    TweedieCalibration(heteroskedastic=True),
    TweedieCalibration(heteroskedastic=True, second_order=True),
    TweedieCalibration(heteroskedastic=True, recalibrate=False),
    TweedieCalibration("kde", bandwidth=0.25, heteroskedastic=True, second_order=True),
    TweedieCalibration("scott", recalibrate=False, monotone=False),
    BridgeCalibration(penalty=0.01),
]


def _fresh(calibration):
    return type(calibration)(**calibration.get_params())


def _contrast(n=300):
    """Predictions of a trial and the weights of a difference of means."""
    rng = np.random.default_rng(5)
    treated = rng.random(n) < 0.5
    values = pairs(n, 9)[0] + 0.3 * treated
    return values, np.where(treated, 1 / treated.sum(), -1 / (~treated).sum())


def _jackknife(calibration, x, y, weight, trial, share, n_blocks=20):
    """Changes of the estimate when blocks of rows are left out, and those that the influence foretells."""
    fitted = _fresh(calibration).fit(x, y, sample_weight=weight)
    psi = fitted.influence(trial, share)
    estimate = share @ fitted.transform(trial, check_support=False)
    block = np.random.default_rng(1).permutation(x.size) % n_blocks
    real, foretold = np.empty(n_blocks), np.empty(n_blocks)
    for number in range(n_blocks):
        kept = block != number
        again = _fresh(calibration).fit(x[kept], y[kept], sample_weight=weight[kept])
        real[number] = share @ again.transform(trial, check_support=False) - estimate
        foretold[number] = -psi[~kept].sum() / weight[kept].sum() * weight.mean()
    return real, foretold, psi


@pytest.mark.parametrize("calibration", FIXED, ids=str)
def test_foretells_the_jackknife(calibration):
    x, y = pairs(1000, 3)
    weight = np.random.default_rng(2).uniform(0.5, 2, 1000)
    trial, contrast = _contrast()
    for share in (contrast, np.full(300, 1 / 300)):
        real, foretold, psi = _jackknife(calibration, x, y, weight, trial, share)
        assert abs(psi.mean()) < 1e-3 * psi.std()
        # Twentieths are not infinitesimal, and edges of the support and bandwidths move a little.
        assert np.corrcoef(real, foretold)[0, 1] > 0.96
        assert foretold.std() / real.std() == pytest.approx(1.0, abs=0.12)


def test_of_the_linear_correction_in_closed_form():
    """-(t / b) (y - mean y) r / var y for an effect t, as printed in every derivation of the delta method."""
    x, y = pairs(500, 1)
    trial, contrast = _contrast()
    calibration = LinearCalibration().fit(x, y)
    residual = x - calibration.intercept_ - calibration.slope_ * y
    effect = contrast @ calibration.transform(trial, check_support=False)
    expected = -effect / calibration.slope_ * (y - y.mean()) * residual / y.var()
    np.testing.assert_allclose(calibration.influence(trial, contrast), expected, atol=1e-12)


@pytest.mark.parametrize("calibration", FIXED[:3] + FIXED[-1:], ids=str)
def test_strata_share_it_out(calibration):
    rng = np.random.default_rng(4)
    x, y = pairs(900, 2)
    stratum = np.where(rng.random(900) < 0.4, "town", "country")
    x = x + 0.2 * (stratum == "town") * y
    fitted = _fresh(calibration).fit(x, y, strata=stratum)
    trial, share = _contrast()
    where = np.where(rng.random(300) < 0.5, "town", "country")
    total = fitted.influence(trial, share, strata=where)
    expected = np.zeros(900)
    for name in ("town", "country"):
        inside, rows = where == name, stratum == name
        part = fitted.strata_[name]
        expected += (1 - part.weight) * fitted.influence(trial[inside], share[inside])
        own = part.own.influence(trial[inside], share[inside])
        expected[rows] += part.weight * own * 900 / rows.sum()
    assert np.corrcoef(total, expected)[0, 1] > 0.999
    np.testing.assert_allclose(total, expected, atol=0.02 * expected.std())
    one = fitted.influence(trial, share, strata="town")
    np.testing.assert_allclose(one, fitted.influence(trial, share, strata=np.full(300, "town")))


@pytest.mark.parametrize(
    "calibration", [LinearCalibration(), TweedieCalibration(), BridgeCalibration()], ids=str
)
def test_its_variance_is_that_of_repeated_calibrations(calibration):
    trial, contrast = _contrast()
    estimates, errors = [], []
    for seed in range(60):
        fitted = _fresh(calibration).fit(*pairs(600, 100 + seed))
        estimates.append(contrast @ fitted.transform(trial, check_support=False))
        errors.append(np.sqrt(np.square(fitted.influence(trial, contrast)).sum()) / 600)
    assert np.mean(errors) / np.std(estimates) == pytest.approx(1.0, abs=0.3)


def test_clusters_count_once():
    """Rows that come in identical fours: summed in clusters, the variance is four times that of single rows."""
    x, y = (np.repeat(v, 4) for v in pairs(300))
    trial, contrast = _contrast()
    psi = TweedieCalibration().fit(x, y).influence(trial, contrast)
    clustered = np.square(np.bincount(np.repeat(np.arange(300), 4), weights=psi)).sum()
    assert clustered == pytest.approx(4 * np.square(psi).sum())


def test_bad_input_is_named():
    fitted = LinearCalibration().fit(*pairs())
    with pytest.raises(CalibrationError, match="weight: has 3 values, but y_pred has 2"):
        fitted.influence([0.1, 0.2], [1, 2, 3])
    with pytest.raises(CalibrationError, match="y_pred: 1 of 2 values are NaN"):
        fitted.influence([0.1, np.nan])
    with pytest.raises(CalibrationError, match="'town' was not there at the fit"):
        fitted.influence([0.1, 0.2], strata="town")
    with pytest.raises(CalibrationError, match="is not fitted"):
        LinearCalibration().influence([0.1])


values = arrays(np.float64, 9, elements=st.floats(-5, 5))


@settings(max_examples=40, deadline=None)
@given(
    h=values,
    x=arrays(np.float64, 6, elements=st.floats(-3, 4)),
    weight=arrays(np.float64, 6, elements=st.floats(-1, 1)),
)
def test_weights_of_nodes_are_those_of_the_table(h, x, weight):
    grid = Grid(-1.0, 2.0, 9)
    assert node_weights(grid, x, weight) @ h == pytest.approx(weight @ Table(grid, h)(x), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(h=values, nodes=values, seed=st.integers(0, 99))
def test_derivative_through_the_projection(h, nodes, seed):
    rng = np.random.default_rng(seed)
    h = h + rng.normal(scale=0.1, size=9)  # no exact ties, where there is no derivative
    weight, step = rng.uniform(0.5, 2, 9), 1e-7
    on_h, on_weight = before_order(h, weight, nodes)
    for place in range(9):
        e = step * np.eye(9)[place]
        by_h = nodes @ (ordered(h + e, weight) - ordered(h - e, weight)) / (2 * step)
        by_weight = nodes @ (ordered(h, weight + e) - ordered(h, weight - e)) / (2 * step)
        assert (on_h[place], on_weight[place]) == pytest.approx((by_h, by_weight), abs=1e-5)
