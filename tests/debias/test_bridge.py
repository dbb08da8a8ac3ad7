"""The bridge function: right where lines and normality fail, the line where they hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.debias import (
    BridgeCalibration,
    LinearCalibration,
    TweedieCalibration,
    bridge_correct,
    build_card,
)
from sustain.stats.natural_spline import NaturalSpline, quantile_knots
from sustain.errors import CalibrationError
from tests.debias.samples import pairs, real

few = settings(max_examples=6, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def _saturating(n, seed=0):
    """Predictions that level off at both ends, with noise that grows: nothing a line or one variance describes."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 0.7, size=n) - 1.4
    return 1.2 * np.tanh(0.8 * truth) + rng.normal(size=n) * (0.1 + 0.15 * (truth > 0)), truth


def _share(correct, shift=0.4, n=200_000):
    """Share of a uniform effect through the truth that a correction recovers."""
    rng = np.random.default_rng(9)
    truth = rng.gamma(2.0, 0.7, size=n) - 1.4

    def predict(y):
        return 1.2 * np.tanh(0.8 * y) + rng.normal(size=n) * (0.1 + 0.15 * (y > 0))

    return (correct(predict(truth + shift)).mean() - correct(predict(truth)).mean()) / shift


def test_recovers_effects_that_the_others_miss():
    x, y = _saturating(4000)

    def share(calibration):
        fitted = calibration.fit(x, y)
        return _share(lambda values: fitted.transform(values, check_support=False))

    bridge, linear, tweedie = (
        share(BridgeCalibration()),
        share(LinearCalibration()),
        share(TweedieCalibration()),
    )
    assert bridge == pytest.approx(1.0, abs=0.08)
    assert abs(linear - 1) > 0.12
    assert abs(tweedie - 1) > 0.06


@pytest.mark.parametrize("shift", [0.1, 0.4, 0.8])
def test_recovers_small_and_large_effects(shift):
    x, y = _saturating(8000)
    fitted = BridgeCalibration().fit(x, y)
    share = _share(lambda values: fitted.transform(values, check_support=False), shift, n=1_000_000)
    assert share == pytest.approx(1.0, abs=0.08)


def test_meets_the_moments_of_level_and_slope_exactly():
    x, y = pairs(500)
    weight = np.random.default_rng(0).uniform(0.5, 2, 500)
    corrected = BridgeCalibration(monotone=False).fit(x, y, sample_weight=weight).exact(x)
    assert np.average(corrected, weights=weight) == pytest.approx(np.average(y, weights=weight), abs=1e-10)
    centred = y - np.average(y, weights=weight)
    slope = np.average(centred * corrected, weights=weight) / np.average(centred * y, weights=weight)
    assert slope == pytest.approx(1.0, abs=1e-10)


def test_a_great_penalty_on_normal_data_gives_the_linear_correction():
    x, y = pairs(3000, skewed=False)
    linear = LinearCalibration().fit(x, y)
    at = np.linspace(*linear.support_, 40)
    stiff = BridgeCalibration(penalty=1e6).fit(x, y)
    np.testing.assert_allclose(stiff.transform(at), linear.transform(at), atol=0.05)
    chosen = BridgeCalibration().fit(x, y)
    assert np.abs(chosen.transform(at) - linear.transform(at)).max() < 0.3


def test_predictions_or_truth_of_two_values_give_the_linear_correction():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400).astype(float)
    measured = np.where(rng.random(400) < 0.8, truth, 1 - truth)
    bridge, linear = BridgeCalibration().fit(measured, truth), LinearCalibration().fit(measured, truth)
    np.testing.assert_allclose(bridge.transform(measured), linear.transform(measured), atol=1e-9)
    assert bridge.j_test_ is None
    continuous = truth + rng.normal(size=400)
    corrected = BridgeCalibration(monotone=False).fit(continuous, truth).exact(continuous)
    assert [corrected[truth == k].mean() for k in (0, 1)] == pytest.approx([0, 1], abs=1e-9)


def test_j_test_has_its_size_and_finds_curvature():
    p_values = [
        BridgeCalibration().fit(*pairs(300, seed, skewed=False)).j_test_.p_value for seed in range(60)
    ]
    assert sum(p < 0.05 for p in p_values) <= 9
    assert BridgeCalibration().fit(*_saturating(1000)).j_test_.p_value < 1e-6


def test_label_noise_is_taken_off_all_moments():
    """Normal noise in the labels, known: the same function as from clean labels."""
    x, y = _saturating(20_000)
    noisy = y + np.random.default_rng(1).normal(scale=0.4, size=y.size)
    clean = BridgeCalibration().fit(x, y)
    allowed = BridgeCalibration().fit(x, noisy, target_noise_var=0.16)
    ignored = BridgeCalibration().fit(x, noisy)
    shares = [_share(lambda v, c=c: c.transform(v, check_support=False)) for c in (clean, allowed, ignored)]
    assert shares[1] == pytest.approx(shares[0], abs=0.07)
    assert shares[2] > shares[0] + 0.12


@few
@given(seed=seeds, shift=st.floats(-50, 50), scale=st.floats(0.01, 100), other=st.floats(0.1, 10))
def test_units_pass_through(seed, shift, scale, other):
    x, y = pairs(300, seed)
    expected = shift + scale * BridgeCalibration().fit(x, y).transform(x, check_support=False)
    again = (
        BridgeCalibration()
        .fit(other * x - shift, shift + scale * y)
        .transform(other * x - shift, check_support=False)
    )
    np.testing.assert_allclose(again, expected, rtol=0, atol=1e-4 * scale)


@few
@given(seed=seeds)
def test_order_and_equal_weights_do_not_matter(seed):
    x, y = pairs(300, seed)
    plain = BridgeCalibration().fit(x, y).transform(x)
    order = np.random.default_rng(seed).permutation(300)
    np.testing.assert_allclose(BridgeCalibration().fit(x[order], y[order]).transform(x), plain, atol=1e-6)
    np.testing.assert_allclose(
        BridgeCalibration().fit(x, y, np.full(300, 3.0)).transform(x), plain, atol=1e-6
    )


@few
@given(seed=seeds, n=st.integers(60, 500))
def test_monotone_table_within_its_error(seed, n):
    x, y = pairs(n, seed)
    fitted = BridgeCalibration().fit(x, y)
    wide = np.linspace(x.min() - 2, x.max() + 2, 3001)
    assert (np.diff(fitted.transform(wide, check_support=False)) >= -1e-12).all()
    free = BridgeCalibration(monotone=False).fit(x, y)
    off = np.abs(free.transform(x, check_support=False) - free.exact(x)).max()
    assert off <= 1.3 * free.table_error_ + 1e-9


def test_without_noise_the_truth_returns():
    _, y = pairs(300)
    np.testing.assert_allclose(BridgeCalibration().fit(2 * y + 1, y).transform(2 * y + 1), y, atol=1e-6)


def test_card_carries_it():
    x, y = _saturating(600)
    groups = np.arange(600) // 6
    card = build_card(
        x,
        y,
        groups=groups,
        methods=("linear", "tweedie", "bridge"),
        target={"name": "wealth", "unit": "index"},
        predictor="m",
    )
    assert card.methods == ("none", "linear", "tweedie", "bridge")
    own = BridgeCalibration().fit(x, y, groups=groups)
    np.testing.assert_allclose(bridge_correct(x, card), own.transform(x), atol=1e-8)
    np.testing.assert_allclose(bridge_correct(x, own), own.transform(x))
    assert len(card.to_json()) < 200_000
    spread = np.sqrt(card.draws("bridge").variance(np.linspace(*card.support, 30)))
    assert (spread > 0).all()
    assert card.corrections[2].notes["penalty"] == pytest.approx(own.penalty_)


def test_bootstrap_spread_is_the_sampling_spread():
    """Draws of one card against refits on fresh samples, as effects."""
    rng = np.random.default_rng(0)
    trial, weight = _saturating(2000, 1)[0], rng.choice([-1.0, 1.0], 2000) / 1000
    trial = trial + 0.2 * (weight > 0)
    effects = []
    for seed in range(60):
        fitted = BridgeCalibration().fit(*_saturating(500, 100 + seed))
        effects.append(fitted.transform(trial, check_support=False) @ weight)
    spreads = []
    for seed in range(3):
        card = (
            BridgeCalibration()
            .fit(*_saturating(500, seed))
            .to_card(target={"name": "w", "unit": "u"}, predictor="m", n_boot=100)
        )
        spreads.append(card.draws("bridge").weighted_sum(trial, weight).std())
    assert np.mean(spreads) == pytest.approx(np.std(effects), rel=0.35)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"penalty": 0.0}, "penalty: 0.0"), ({"n_knots": 2}, "n_knots: 2")],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(CalibrationError, match=message):
        BridgeCalibration(**parameters).fit(*pairs())


def test_real_predictions_stay_tame_and_stable():
    """ResNet-18 MS: monotone, corrections of at most 2.5 sd, slope and RMSE alike from 500 and from 10,000 rows."""
    rows = real("yeh_dhs_incountry.parquet")
    x, y = rows["p_resnet_18_ms"].to_numpy(), rows["y_true"].to_numpy()
    figures = []
    for n in (500, 10_000):
        found = []
        for seed in range(6):
            order = np.random.default_rng(seed).permutation(x.size)
            test = order[10_000:]
            fitted = BridgeCalibration().fit(x[order[:n]], y[order[:n]])
            corrected = fitted.transform(x[test], check_support=False)
            found.append(
                (
                    np.abs(corrected - x[test]).max() / y.std(),
                    np.polyfit(y[test], corrected, 1)[0],
                    np.sqrt(np.mean((corrected - y[test]) ** 2)),
                )
            )
        assert np.mean(found, axis=0)[0] < 2.5
        figures.append(np.mean(found, axis=0))
    assert figures[1][0] < 2
    np.testing.assert_allclose(figures[0][1:], figures[1][1:], rtol=0.05)


def test_shares_of_effects_in_real_populations():
    """Effects that reach the image through wealth, in the half that did not calibrate, on smoothed E[h | truth].

    What `benchmarks/donor_trials.py` measures at length, on five countries and few halvings.
    """
    rows = real("yeh_dhs_incountry.parquet")
    off = {"linear": [], "bridge": []}
    for country in ("ethiopia", "kenya", "malawi", "nigeria", "tanzania"):
        part = rows[rows["country"] == country].sort_values("y_true")
        x, y = part["p_resnet_18_msnl_concat"].to_numpy(), part["y_true"].to_numpy()
        shares = {"linear": [], "bridge": []}
        for seed in range(8):
            half = np.random.default_rng(seed).permutation(y.size) < y.size // 2
            truth = y[~half]
            moved = [np.minimum(truth + tau, truth[-1]) for tau in (0.1, 0.5)]
            spline = NaturalSpline.on(quantile_knots(truth, np.ones_like(truth), truth[0], truth[-1], 10))
            here, there = spline(truth), [spline(at) for at in moved]
            for kind in (LinearCalibration, BridgeCalibration):
                corrected = kind().fit(x[half], y[half]).transform(x[~half], check_support=False)
                mean = np.linalg.lstsq(here, corrected, rcond=None)[0]
                rises = [(basis @ mean - here @ mean).mean() for basis in there]
                effects = [(at - truth).mean() for at in moved]
                shares[kind.method].append(np.divide(rises, effects))
        for method, values in shares.items():
            off[method].extend(np.abs(np.mean(values, axis=0) - 1))
    assert np.mean(off["bridge"]) < 0.06
    assert np.max(off["bridge"]) < 0.15
    assert np.mean(off["bridge"]) < 0.6 * np.mean(off["linear"])


def test_few_groups_give_as_many_folds(recwarn):
    x, y = pairs(400)
    fitted = BridgeCalibration().fit(x, y, groups=np.arange(400) % 3)
    assert np.isfinite(fitted.transform(x, check_support=False)).all()
    assert not [item for item in recwarn if issubclass(item.category, RuntimeWarning)]


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


def test_noise_of_labels_does_not_make_a_straight_bridge_wild():
    """The truth is a line: with noisy labels the bridge must be nearly as right, and as steady, as the line."""
    place = np.random.default_rng(99).normal(size=20_000)
    noise = 0.4 * np.random.default_rng(98).normal(size=20_000)
    found = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=600)
        predicted = 0.6 * truth + 0.4 * rng.normal(size=600)
        labels = truth + 0.8 * rng.normal(size=600)
        fit = BridgeCalibration().fit(predicted, labels, target_noise_var=0.64)
        above, below = (
            fit.transform(0.6 * (place + move) + noise, check_support=False).mean() for move in (0.25, -0.25)
        )
        found.append((above - below) / 0.5)
    assert np.mean(found) == pytest.approx(1, abs=0.05)
    assert np.std(found) < 0.12
