"""Doubt: tests on labelled rows, placebos from the card's levels, transport, spread between groups."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.causal.correction.elsewhere import error_share
from sustain.causal.correction.ratio import corrected_effect
from sustain.causal.labels.arms import arm_lines, effect_with_arm_lines, effect_with_slope_ratio
from sustain.causal.planning.transport import classifier_auc, transport_checks
from sustain.causal.result.sensitivity import Sensitivity
from sustain.debias import CalibrationCard, build_card
from sustain.debias.card.slope_spread import prediction_quantiles, slope_spread
from sustain.debias.sample import as_sample
from sustain.errors import CardError, EffectError, SupportWarning, TransportWarning

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "m"}


def berkson(seed=0, n=2000):
    rng = np.random.default_rng(seed)
    f = rng.normal(size=n)
    return f, f + 0.75 * rng.normal(size=n)


@pytest.fixture(scope="module")
def card():
    f, y = berkson()
    return build_card(f, y, **ABOUT, methods=["linear", "tweedie"], n_boot=40)


@pytest.fixture(scope="module")
def country_card():
    """Twenty countries whose slopes have a standard deviation of 0.12 about 0.64."""
    rng = np.random.default_rng(5)
    country = np.repeat(np.arange(20), 150)
    truth = 1.25 * rng.normal(size=3000)
    f = (0.64 + 0.12 * rng.normal(size=20))[country] * truth + 0.6 * rng.normal(size=3000)
    return build_card(f, truth, **ABOUT, methods=["linear", "tweedie"], groups=country, n_boot=40)


def with_levels(card, **slopes) -> CalibrationCard:
    """The card with some levels, slope and standard error each."""
    levels = [
        {
            "name": name,
            "n_units": 50,
            "slope": slope,
            "std_error": error,
            "df": 49,
            "residual_sd": 0.5,
            "centre": {"y_pred": 0.0, "y_true": 0.0},
        }
        for name, (slope, error) in slopes.items()
    ]
    return CalibrationCard.model_validate(card.model_dump() | {"levels": levels})


def mediated(seed, n):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 2, n)
    y = 1.25 * rng.normal(size=n) + 1.2 * t
    return pd.DataFrame({"t": t, "f": 0.64 * y + 0.6 * rng.normal(size=n), "y": y, "g": np.arange(n) // 10})


class TestLinesOfTheArms:
    def test_lines_of_the_arms_undo_a_differential_error(self):
        """Treated places of the same truth are predicted 0.3 higher and flatter; lines by arm see it."""
        found = []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            y, t = 1.25 * rng.normal(size=1000), np.arange(1000) % 2
            predict = lambda y, t, rng=rng: (0.64 - 0.15 * t) * y + 0.3 * t + 0.5 * rng.normal(size=y.size)  # noqa: E731
            lines = arm_lines(predict(y, t), y, t)
            trial = 1.25 * rng.normal(size=4000) + 0.5 * (np.arange(4000) % 2)
            arm = np.arange(4000) % 2
            f = predict(trial, arm)
            means = [(f[arm == k].mean(), f[arm == k].var() / 2000) for k in (1, 0)]
            effect = effect_with_arm_lines(*means, *lines)
            found.append((effect.estimate - 0.5) / effect.std_error)
        assert abs(np.mean(found)) < 0.4
        assert np.std(found) == pytest.approx(1.0, abs=0.3)


class TestSlopeRatio:
    line = (0.2, 0.64, [[0.004, 0.001], [0.001, 0.0009]])

    def test_no_difference_is_the_corrected_effect(self):
        """At a ratio of 1 the intercept cancels and the delta method's variance is that of a division."""
        found = effect_with_slope_ratio((0.9, 0.001), (0.5, 0.002), self.line, 1.0)
        plain = corrected_effect(0.4, 0.003, 0.64, 0.0009)
        assert found.estimate == pytest.approx(plain.estimate)
        assert found.variance_trial == pytest.approx(plain.variance_trial)
        assert found.variance_calibration == pytest.approx(plain.variance_calibration)

    @pytest.mark.parametrize("ratio", [0.7, 1.3])
    def test_variance_by_simulation(self, ratio):
        rng = np.random.default_rng(0)
        means = rng.normal([0.9, 0.5], np.sqrt([0.001, 0.002]), size=(40_000, 2))
        a, b = rng.multivariate_normal(self.line[:2], self.line[2], size=40_000).T
        drawn = (means[:, 0] - a) / (ratio * b) - (means[:, 1] - a) / b
        found = effect_with_slope_ratio((0.9, 0.001), (0.5, 0.002), self.line, ratio)
        assert found.estimate == pytest.approx(np.median(drawn), abs=0.01)
        assert found.std_error == pytest.approx(drawn.std(), rel=0.04)

    def test_agrees_with_lines_of_the_arms(self):
        treated = (0.2, 0.64 * 0.8, [[0.0, 0.0], [0.0, 0.0]])
        control = (0.2, 0.64, [[0.0, 0.0], [0.0, 0.0]])
        lines = effect_with_arm_lines((0.9, 0.001), (0.5, 0.002), treated, control)
        known = effect_with_slope_ratio((0.9, 0.001), (0.5, 0.002), control, 0.8)
        assert lines.estimate == pytest.approx(known.estimate)
        assert lines.std_error == pytest.approx(known.std_error)
        with pytest.raises(EffectError, match="ratio: got 0"):
            effect_with_slope_ratio((0.9, 0.001), (0.5, 0.002), control, 0)


class TestPlacebos:
    base = Sensitivity("treated", 1.0, 0.01, 0.64, 0.0009, math.inf, 0.95)

    def test_a_level_is_a_differential_error(self, card):
        bank = with_levels(card, **{"between survey": (0.9, 0.05), "within region": (0.5, 0.02)})
        table = self.base.levels(bank).set_index("level")
        assert table.loc["within region", "estimate"] == pytest.approx(2.0)
        for name in table.index:
            assert self.base.differential(table.loc[name, "delta"]).estimate == pytest.approx(
                table.loc[name, "estimate"]
            )
        assert table.loc["between survey", "delta"] > 0 > table.loc["within region", "delta"]

    def test_the_pooled_slope_is_no_error(self, card):
        table = self.base.levels(with_levels(card, pooled=(0.64, 0.03)))
        assert table["delta"].item() == pytest.approx(0)
        assert table["estimate"].item() == pytest.approx(self.base.differential(0).estimate)
        assert table["std_error"].item() == pytest.approx(self.base.differential(0).std_error)

    def test_needs_levels(self, card):
        with pytest.raises(EffectError, match="holds 0 levels"):
            self.base.levels(card)
        with pytest.raises(EffectError, match="none with a slope clearly above zero"):
            self.base.levels(with_levels(card, odd=(0.1, 0.2)))

    def test_plot_names_them(self, card):
        import matplotlib.pyplot as plt

        bank = with_levels(card, **{"between survey": (0.9, 0.05), "within region": (0.5, 0.02)})
        axes = self.base.plot(card=bank)
        assert {text.get_text() for text in axes.texts} == {"between survey", "within region"}
        assert any("interval reaches zero" in text.get_text() for text in axes.get_legend().get_texts())
        plt.close(axes.figure)


class TestTransport:
    def test_same_population(self, card):
        f, _ = berkson(9, 1500)
        with warnings.catch_warnings():
            warnings.simplefilter("error", TransportWarning)
            report = transport_checks(f, card)
        assert report.auc == pytest.approx(0.5, abs=0.04)
        assert abs(report.shift) < 0.1
        assert report.share_outside == pytest.approx(0.01, abs=0.01)

    @pytest.mark.parametrize(("scale", "move"), [(1.0, 1.5), (0.3, 0.0)])
    def test_sees_a_shift_and_a_narrower_trial(self, card, scale, move):
        """Its area is that of the best classifier; a shift of 1.5 sd has Phi(1.5 / sqrt 2) = 0.856."""
        f, _ = berkson(9, 3000)
        with pytest.warns(TransportWarning, match="easily told apart"):
            report = transport_checks(scale * f + move, card)
        if move:
            assert report.auc == pytest.approx(0.856, abs=0.02)
            assert report.shift == pytest.approx(1.5, abs=0.1)
        else:
            assert report.auc > 0.72
        assert "AUC" in report.summary()

    def test_card_and_predictions_agree(self, card):
        f, _ = berkson()
        trial = 0.8 * berkson(3, 800)[0] + 0.3
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TransportWarning)
            one, other = transport_checks(trial, card), transport_checks(trial, card, y_pred_calibration=f)
        assert one.auc == pytest.approx(other.auc, abs=0.01)

    def test_only_controls_are_compared(self, card):
        f, _ = berkson(9, 1000)
        treated = np.arange(1000) % 2
        report = transport_checks(f + 3 * treated, card, treated=treated)
        assert report.n == 500
        assert report.auc < 0.6
        with pytest.raises(EffectError, match="treated: has 2 values, but y_pred has 1000"):
            transport_checks(f, card, treated=[1, 0])
        with pytest.raises(EffectError, match="10 or more"):
            transport_checks(f[:5], card)

    def test_classifier_with_covariates(self):
        rng = np.random.default_rng(0)
        same, other = rng.normal(size=(2, 400, 2))
        assert classifier_auc(same, other) == pytest.approx(0.5, abs=0.07)
        assert classifier_auc(same, other + np.array([0, 2])) > 0.85
        with pytest.raises(EffectError, match="same columns"):
            classifier_auc(same, other[:, :1])

    def test_card_without_quantiles(self, card):
        bare = CalibrationCard.model_validate(card.model_dump() | {"predictions": None})
        assert math.isnan(transport_checks(berkson(1)[0], bare).auc)


class TestSpread:
    def test_random_effects_are_found(self, country_card):
        spread = country_card.slope_spread
        assert spread.n_groups == 20
        assert spread.sd == pytest.approx(0.12, abs=0.05)
        assert spread.mean == pytest.approx(0.64, abs=0.06)
        assert spread.p_value < 1e-6

    def test_none_where_there_is_none(self):
        found = []
        for seed in range(30):
            rng = np.random.default_rng(seed)
            y = rng.normal(size=1000)
            sample = as_sample(0.6 * y + 0.5 * rng.normal(size=1000), y, None, np.arange(1000) % 20)
            found.append(slope_spread(sample))
        assert np.median([spread.sd for spread in found]) < 0.03
        assert np.mean([spread.p_value < 0.05 for spread in found]) < 0.3

    def test_known_answer(self):
        """DerSimonian and Laird by hand: slopes 1..5 with variance 1 each have Q = 10, tau^2 = (10 - 4) / 4."""
        from sustain.stats.random_effects import random_effects

        found = random_effects(np.arange(1.0, 6.0), np.ones(5))
        assert found.q == pytest.approx(10)
        assert found.sd**2 == pytest.approx(1.5)
        assert found.mean == pytest.approx(3)
        assert found.i2 == pytest.approx(0.6)

    def test_too_few_groups(self, card):
        f, y = berkson(0, 200)
        assert card.slope_spread is None
        assert slope_spread(as_sample(f, y, None, np.arange(200) % 4)) is None
        with pytest.raises(CardError, match=r"needs a card that knows what .* built with groups"):
            self.effect(card, transport="groups")

    def effect(self, card, seed=0, **arguments):
        data = mediated(seed, 1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SupportWarning)
            return estimate_effect(data, outcome="f", treatment="t", calibration=card, **arguments)

    @pytest.mark.parametrize("method", ["linear", "tweedie"])
    def test_widens(self, country_card, method):
        result = self.effect(country_card, method=method, assumption="measurement")
        wider = self.effect(country_card, method=method, assumption="measurement", transport="groups")
        spread = country_card.recovered_by(method)
        added = (result.estimate * error_share(spread.mean, spread.sd)) ** 2
        assert wider.estimate == result.estimate
        assert wider.std_error**2 == pytest.approx(result.std_error**2 + added)
        assert any(note.kind == "transport" for note in wider.notes)

    def test_covers_in_new_countries(self):
        """Trials in countries of their own slope: the plain interval does not cover, the widened one does."""
        rng = np.random.default_rng(1)
        plain = wide = 0
        country = np.repeat(np.arange(25), 100)
        for _ in range(150):
            slopes = 0.64 + 0.12 * rng.normal(size=26)
            truth = 1.25 * rng.normal(size=2500)
            f = slopes[country] * truth + 0.6 * rng.normal(size=2500)
            card = build_card(f, truth, **ABOUT, methods=["linear"], groups=country, n_boot=20)
            t = rng.integers(0, 2, 2000)
            there = 1.25 * rng.normal(size=2000) + 2.0 * t
            trial = pd.DataFrame({"t": t, "f": slopes[25] * there + 0.6 * rng.normal(size=2000)})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SupportWarning)
                limits = [
                    estimate_effect(
                        *(trial, "f ~ t"), estimator="difference", calibration=card, transport=transport
                    ).conf_int()
                    for transport in (None, "groups")
                ]
            plain += limits[0][0] <= 2.0 <= limits[0][1]
            wide += limits[1][0] <= 2.0 <= limits[1][1]
        assert plain / 150 < 0.7
        assert wide / 150 == pytest.approx(0.93, abs=0.05)

    def test_quantiles_leave_twenty_places_between_two(self):
        f, y = berkson(0, 130)
        shares, values = prediction_quantiles(as_sample(f, y))
        np.testing.assert_allclose(shares, np.arange(1, 6) / 6)
        assert np.all(np.diff(values) > 0)
        assert not np.isin(np.round(values, 5), np.round(f, 5)).any()
        assert len(prediction_quantiles(as_sample(*berkson(0, 5000)))[0]) == 19


class TestBadInput:
    def test_arm_lines_of_a_single_cluster(self):
        f, y = berkson(n=200)
        treated = np.arange(200) % 2
        with pytest.raises(EffectError, match="the treated rows lie in a single cluster"):
            arm_lines(f, y, treated, clusters=np.where(treated == 1, 99, np.arange(200)))

    def test_transport_of_what_is_no_prediction(self, card):
        for values, match in ((["a"] * 30, "expected numbers"), ([np.inf] * 30, "infinite")):
            with pytest.raises(EffectError, match=match):
                transport_checks(values, card)
        with pytest.raises(EffectError, match="card: got None"):
            transport_checks(np.zeros(30), None)

    def test_a_profile_where_all_stand_at_one_place(self, card):
        data = pd.DataFrame({"p": berkson(n=200)[0], "t": np.arange(200) % 2, "lat": 1.0, "lon": 2.0})
        result = estimate_effect(data, outcome="p", treatment="t", calibration=card)
        assert result.conley_profile(data, "lat", "lon")["std_error"].isna().all()
