"""What must hold for every sample: equivariance, identity, order, and the table's promise."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sustain.debias import (
    CalibrationCard,
    LevelCalibration,
    LinearCalibration,
    TweedieCalibration,
    build_card,
    diagnose,
)
from sustain.debias.table import Nodes, Table
from tests.debias.samples import pairs

CALIBRATIONS = [
    LinearCalibration(),
    TweedieCalibration(),
    TweedieCalibration(heteroskedastic=True, second_order=True),
    TweedieCalibration("kde"),
    TweedieCalibration("scott", recalibrate=False, monotone=False),
]
each = pytest.mark.parametrize("calibration", CALIBRATIONS, ids=str)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=5, deadline=None)


def _fit(calibration, *args, **kwargs):
    return type(calibration)(**calibration.get_params()).fit(*args, **kwargs)


def _correct(calibration, x, *args, **kwargs):
    return _fit(calibration, *args, **kwargs).transform(x, check_support=False)


@each
@few
@given(seed=seeds, shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_shift_and_scale_of_the_unit_pass_through(calibration, seed, shift, scale):
    x, y = pairs(300, seed)
    expected = shift + scale * _correct(calibration, x, x, y)
    again = _correct(calibration, shift + scale * x, shift + scale * x, shift + scale * y)
    np.testing.assert_allclose(again, expected, rtol=0, atol=2e-5 * scale)


@each
@few
@given(seed=seeds, shift=st.floats(-5, 5), scale=st.floats(0.2, 5))
def test_recalibrated_corrections_ignore_the_scale_of_predictions(calibration, seed, shift, scale):
    if not getattr(calibration, "recalibrate", True):
        return
    x, y = pairs(300, seed)
    again = _correct(calibration, shift + scale * x, shift + scale * x, y)
    np.testing.assert_allclose(again, _correct(calibration, x, x, y), rtol=0, atol=2e-5)


@each
@few
@given(seed=seeds)
def test_order_of_rows_does_not_matter(calibration, seed):
    x, y = pairs(300, seed)
    order = np.random.default_rng(seed).permutation(300)
    np.testing.assert_allclose(
        _correct(calibration, x, x[order], y[order]), _correct(calibration, x, x, y), atol=1e-7
    )


@each
@few
@given(seed=seeds)
def test_equal_weights_are_none(calibration, seed):
    x, y = pairs(300, seed)
    plain = _correct(calibration, x, x, y)
    np.testing.assert_array_equal(_correct(calibration, x, x, y, sample_weight=np.ones(300)), plain)
    np.testing.assert_allclose(
        _correct(calibration, x, x, y, sample_weight=np.full(300, 7.0)), plain, atol=1e-9
    )


@each
@few
@given(seed=seeds, slope=st.floats(0.5, 2))
def test_without_noise_the_truth_returns(calibration, seed, slope):
    _, y = pairs(300, seed)
    slope = slope if getattr(calibration, "recalibrate", True) else 1.0
    x = slope * y
    np.testing.assert_allclose(_correct(calibration, x, x, y), y, atol=1e-9)


@few
@given(seed=seeds, n=st.integers(40, 600), noise=st.floats(0.1, 1.5))
def test_monotone_where_promised(seed, n, noise):
    x, y = pairs(n, seed, noise=noise)
    low, high = x.min() - 3, x.max() + 3
    for score in ("mixture", "kde"):
        calibration = TweedieCalibration(score).fit(x, y)
        corrected = calibration.transform(np.linspace(low, high, 4001), check_support=False)
        assert (np.diff(corrected) >= -1e-12).all()
        assert 0 <= calibration.share_changed_ <= 1


@each
@few
@given(seed=seeds)
def test_table_is_within_its_stated_error_of_the_formula(calibration, seed):
    x, y = pairs(300, seed)
    fitted = _fit(calibration, x, y)
    if fitted.method == "linear":
        exact = (x - fitted.intercept_) / fitted.slope_
    else:
        fitted = type(calibration)(**{**calibration.get_params(), "monotone": False}).fit(x, y)
        exact = fitted.exact(x)
    off = np.abs(fitted.transform(x, check_support=False) - exact)
    # The error is measured half-way between nodes, where that of a parabola is greatest.
    assert off.max() <= 1.3 * fitted.table_error_ + 1e-12 * np.abs(exact).max()


@each
@few
@given(seed=seeds, cuts=st.lists(st.integers(0, 40_000), max_size=6))
def test_chunks_are_the_whole(calibration, seed, cuts):
    x, y = pairs(300, seed)
    fitted = _fit(calibration, x, y)
    values = np.random.default_rng(seed).normal(size=40_000).astype(np.float32)
    whole = fitted.transform(values, check_support=False)
    parts = [fitted.transform(part, check_support=False) for part in np.split(values, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(max_examples=3, deadline=None)
@given(seed=seeds)
def test_cards_come_back_the_same(seed, tmp_path_factory):
    x, y = pairs(200, seed)
    groups = np.arange(200) % 40
    card = build_card(
        x,
        y,
        target={"name": "wealth", "unit": "index"},
        predictor="m",
        groups=groups,
        n_boot=20,
        seed=seed % 1000,
    )
    back = CalibrationCard.load(card.save(tmp_path_factory.mktemp("card") / "card.json"))
    assert back == card
    for method in ("linear", "tweedie"):
        np.testing.assert_array_equal(
            back.transform(x, method=method, check_support=False),
            card.transform(x, method=method, check_support=False),
        )


def test_tails_are_straight_and_tame():
    x, y = pairs(500)
    calibration = TweedieCalibration("kde").fit(x, y)
    far = np.array([-1e6, -1e3, 1e3, 1e6])
    slope = calibration.derivative(far)
    expected = calibration.recalibration_[1] + calibration.sigma_**2 / calibration.recalibration_[1] / x.var()
    np.testing.assert_allclose(slope, expected, rtol=1e-9)
    assert np.diff(calibration.transform(far, check_support=False))[0] == pytest.approx(
        slope[0] * (1e6 - 1e3)
    )


@settings(max_examples=30, deadline=None)
@given(
    h=arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e3, 1e3)),
    start=st.floats(-100, 100),
    width=st.floats(0.1, 100),
    seed=seeds,
)
def test_table_matches_interpolation(h, start, width, seed):
    grid = Nodes(start, start + width, h.size)
    assume(grid.step > 1e-6)
    table, x = Table(grid, h), np.random.default_rng(seed).uniform(start, start + width, 500)
    tolerance = 1e-9 * (1 + np.abs(h).max()) * (1 + (abs(start) + width) / grid.step)
    np.testing.assert_allclose(table(x), np.interp(x, grid.x, h), rtol=0, atol=tolerance)
    beyond = start + width + 3.0
    ahead = h[-1] + (h[-1] - h[-2]) / grid.step * 3.0
    np.testing.assert_allclose(table(np.array([beyond])), [ahead], rtol=1e-7, atol=tolerance)


def _nested(n=400):
    """Predictions, truths, weights, regions, strata: with all that a calibration takes."""
    rng = np.random.default_rng(0)
    region = np.repeat(np.arange(n // 10), 10)
    between = rng.normal(size=n // 10)[region]
    y = between + rng.normal(size=n)
    x = 0.8 * between + 0.45 * (y - between) + 0.35 * rng.normal(size=n)
    return x, y, rng.lognormal(size=n), region, rng.integers(0, 2, n)


CHANGES = {
    "1e30": (1e30, 0.0),
    "1e-30": (1e-30, 0.0),
    "far from zero": (1.0, 1e6),
    "large and far from zero": (1e13, 3e13),
}
changes = pytest.mark.parametrize(("scale", "shift"), CHANGES.values(), ids=list(CHANGES))


@each
@changes
def test_any_unit_with_all_that_a_calibration_takes(calibration, scale, shift):
    x, y, weight, region, stratum = _nested()
    trial = np.random.default_rng(1).normal(size=200)

    def corrected(scale, shift, order, heavier=1.0):
        rows = {
            "sample_weight": heavier * weight[order],
            "groups": region[order] // 3,
            "strata": stratum[order],
        }
        fitted = _fit(
            calibration,
            scale * x[order] + shift,
            scale * y[order] + shift,
            target_noise_var=0.05 * scale**2,
            **rows,
        )
        found = [fitted.transform(scale * trial + shift, name, check_support=False) for name in (None, 0, 1)]
        return (np.array(found) - shift) / scale

    same = np.arange(y.size)
    expected = corrected(1.0, 0.0, same)
    np.testing.assert_allclose(corrected(scale, shift, same), expected, atol=2e-8)
    order = np.random.default_rng(2).permutation(y.size)
    np.testing.assert_allclose(corrected(1.0, 0.0, order, 1e-7), expected, atol=1e-10)


@changes
def test_any_unit_in_levels_and_in_a_diagnosis(scale, shift):
    x, y, weight, region, stratum = _nested()

    def numbers(scale, shift):
        rows = {"sample_weight": weight, "groups": region // 3, "target_noise_var": 0.05 * scale**2}
        rows |= {"levels": {"region": region}, "strata": stratum}
        columns = (scale * x + shift, scale * y + shift)
        levels = LevelCalibration().fit(*columns, **rows).levels_.values()
        d = diagnose(*columns, treatment_like={"s": stratum}, **rows)
        found = d.stability["s"]
        slopes = [v for level in levels for v in (level.slope, level.std_error)]
        tests = [t.p_value for t in (d.berkson, d.linearity, d.strata_differ, d.shape.variance_trend)]
        gaps = np.array([found.truth_gap, found.truth_gap_std_error, found.prediction_gap]) / scale
        return np.array(
            [*slopes, *tests, *gaps, found.outcome_p, found.measurement_p, d.shape.skewness, d.r2]
        )

    before = numbers(1.0, 0.0)
    assert np.isfinite(before).all()
    np.testing.assert_allclose(numbers(scale, shift), before, rtol=1e-5, atol=1e-9)
