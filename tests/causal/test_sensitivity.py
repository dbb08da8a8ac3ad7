"""What it takes to overturn an effect."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sustain.causal import estimate_effect
from sustain.causal.labels.arms import effect_with_arm_lines
from sustain.causal.result.sensitivity import Sensitivity
from sustain.debias import build_card
from sustain.errors import EffectError, SupportWarning
from sustain.stats.covariance import critical_value

BASE = Sensitivity(
    "treated", effect=1.0, effect_var=0.01, slope=0.64, slope_var=0.0009, df=math.inf, level=0.95
)

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "m"}


@pytest.fixture(scope="module")
def card():
    rng = np.random.default_rng(0)
    f = rng.normal(size=600)
    return build_card(f, f + 0.75 * rng.normal(size=600), **ABOUT, n_boot=20)


@pytest.fixture(scope="module")
def trial():
    rng = np.random.default_rng(1)
    treated = rng.integers(0, 2, 2000)
    truth = 1.25 * rng.normal(size=2000) + 0.5 * treated
    return pd.DataFrame({"t": treated, "f": 0.64 * truth + 0.6 * rng.normal(size=2000)})


def effect_of(trial, card, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SupportWarning)
        return estimate_effect(trial, outcome="f", treatment="t", calibration=card, **arguments)


class TestSensitivity:
    def test_ends_are_the_results_own(self, card, trial):
        result = effect_of(trial, card, method="linear", assumption="bracket")
        doubt = result.sensitivity(card)
        assert doubt.visibility(0.0).estimate == pytest.approx(result.naive.estimate)
        assert doubt.visibility(0.0).std_error == pytest.approx(result.naive.std_error)
        assert doubt.visibility(1.0).estimate == pytest.approx(result.corrected.estimate)
        assert doubt.visibility(1.0).std_error == pytest.approx(result.corrected.std_error)
        assert doubt.differential(0.0).std_error == pytest.approx(result.corrected.std_error)
        assert doubt.residual_sd == card.residual_sd
        assert "standard deviations" in doubt.summary()
        path = doubt.path()
        assert path["estimate"].is_monotonic_increasing
        assert (path["conf_low"].iloc[-1], path["conf_high"].iloc[-1]) == pytest.approx(
            result.corrected.conf_int(0.95)
        )

    def test_differential_error(self):
        assert BASE.differential(0.3).estimate == pytest.approx(0.7 / 0.64)
        assert BASE.differential(BASE.breakdown).estimate == 0

    @settings(deadline=None)
    @example(effect=-2.0, effect_var=1.0, slope=0.21875, slope_var=0.015625, correlation=-0.6)
    @example(effect=3.0, effect_var=1e-2, slope=0.2, slope_var=0.05, correlation=0.6)
    @given(
        effect=st.floats(-3, 3).filter(lambda d: abs(d) > 1e-3),
        effect_var=st.floats(1e-4, 1),
        slope=st.floats(0.2, 1.2),
        slope_var=st.floats(1e-6, 0.05),
        correlation=st.sampled_from([0.0, -0.6, 0.6]),
    )
    def test_robust_breakdown_is_where_the_interval_reaches_zero(
        self, effect, effect_var, slope, slope_var, correlation
    ):
        shared = correlation * math.sqrt(effect_var * slope_var)
        doubt = Sensitivity(
            "t", effect, effect_var, slope, slope_var, df=math.inf, level=0.95, covariance=shared
        )
        delta = doubt.robust_breakdown
        critical = critical_value(0.95, math.inf)
        at = doubt.differential(delta)
        if delta == 0:
            assert abs(at.estimate) <= critical * at.std_error * (1 + 1e-9)
        else:
            assert abs(at.estimate) == pytest.approx(critical * at.std_error, rel=1e-6)
            assert math.copysign(1, delta) == math.copysign(1, effect)

    def test_bounds(self):
        bounds, interval = BASE.bounds(0.0)
        assert bounds == (pytest.approx(1 / 0.64), pytest.approx(1 / 0.64))
        half = critical_value(0.95, math.inf) * BASE.differential(0.0).std_error
        assert interval == (
            pytest.approx(bounds[0] - half, rel=1e-6),
            pytest.approx(bounds[1] + half, rel=1e-6),
        )
        bounds, interval = BASE.bounds(0.64)
        assert bounds == (pytest.approx(0.36 / 0.64), pytest.approx(1.64 / 0.64))
        # Wide bounds: only one end can miss, so the critical value is one-sided.
        low = BASE.differential(0.64)
        assert (bounds[0] - interval[0]) / low.std_error == pytest.approx(1.644854, abs=1e-4)

    @pytest.mark.parametrize("df", [3.0, 12.5, math.inf])
    def test_bounds_of_no_width_have_the_effects_own_interval(self, df):
        doubt = Sensitivity("t", 1.0, 0.04, 0.64, 0.0004, df=df, level=0.95)
        table = doubt.table([0.0]).iloc[0]
        assert doubt.bounds(0.0)[1] == pytest.approx((table["conf_low"], table["conf_high"]), rel=1e-6)

    def test_bounds_cover_an_effect_at_their_edge(self):
        """True differential error 0.2, bounds that allow 0.2: the true effect is at the lower bound."""
        rng = np.random.default_rng(0)
        covered = 0
        for _ in range(2000):
            slope = 0.64 + 0.02 * rng.normal()
            effect = 0.64 * 1.0 + 0.2 + 0.1 * rng.normal()
            doubt = Sensitivity("t", effect, 0.01, slope, 0.0004, df=math.inf, level=0.95)
            _, (low, high) = doubt.bounds(0.2)
            covered += low <= 1.0 <= high
        assert covered / 2000 == pytest.approx(0.95, abs=0.015)

    def test_table_and_plot(self):
        import matplotlib as mpl

        mpl.use("Agg")
        assert BASE.table([0.0, 1.0])["estimate"].tolist() == [pytest.approx(1 / 0.64), 0.0]
        assert len(BASE.table()) == 9
        assert BASE.plot().get_ylabel() == "effect of treated"

    def test_needs_a_linear_correction(self, card, trial):
        for arguments in ({"method": "tweedie"}, {"method": "none"}, {"assumption": "outcome"}):
            with pytest.raises(EffectError, match="linear correction"):
                effect_of(trial, card, **arguments).sensitivity()

    def test_impossible_values(self):
        with pytest.raises(EffectError, match="0 or more"):
            BASE.bounds(-1.0)
        with pytest.raises(EffectError, match="shares between"):
            BASE.visibility(1.5)


class TestArmLines:
    def test_one_line_for_both_is_the_correction(self):
        line = (0.1, 0.64, [[0.0, 0.0], [0.0, 0.0]])
        effect = effect_with_arm_lines((1.0, 0.01), (0.4, 0.02), line, line)
        assert effect.estimate == pytest.approx(0.6 / 0.64)
        assert effect.std_error == pytest.approx(math.sqrt(0.03) / 0.64)

    def test_covers_with_differential_lines(self):
        """Both arms in the calibration sample, with lines of their own; nominal 95%, 500 replications."""
        covered = naive = 0
        lines = {0: (0.1, 0.5), 1: (-0.2, 0.8)}
        for seed in range(500):
            rng = np.random.default_rng(seed)
            means, fits = {}, {}
            for arm, (a, b) in lines.items():
                y = rng.normal(size=150) + arm
                f = a + b * y + 0.3 * rng.normal(size=150)
                x = np.column_stack([np.ones(150), y])
                inverse = np.linalg.inv(x.T @ x)
                beta = inverse @ x.T @ f
                residual = f - x @ beta
                fits[arm] = (*beta, inverse * (residual @ residual / 148))
                trial = a + b * (rng.normal(size=400) + arm) + 0.3 * rng.normal(size=400)
                means[arm] = (trial.mean(), trial.var() / 400)
            effect = effect_with_arm_lines(means[1], means[0], fits[1], fits[0])
            covered += abs(effect.estimate - 1.0) <= 1.96 * effect.std_error
            naive += abs((means[1][0] - means[0][0]) / 0.65 - 1.0) <= 1.96 * effect.std_error
        assert covered / 500 == pytest.approx(0.95, abs=0.03)
        assert naive / 500 < 0.5


def test_is_drawn_with_a_card_that_has_no_levels():
    import matplotlib

    matplotlib.use("agg")
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=500)
    about = {"target": {"name": "wealth", "unit": "index"}, "predictor": "m"}
    card = build_card(
        predicted, predicted + 0.5 * rng.normal(size=500), methods=["linear"], n_boot=40, **about
    )
    assert not card.levels
    trial = pd.DataFrame({"wealth": rng.normal(size=400), "treated": np.arange(400) % 2})
    found = estimate_effect(
        trial, "wealth ~ treated", calibration=card, method="linear", assumption="measurement"
    )
    axes = found.sensitivity(card).plot(card=card)
    labels = axes.get_legend_handles_labels()[1]
    assert "as the card's levels" not in labels
    assert "no differential error (corrected)" in labels


def test_a_card_may_be_named_by_its_file(card, trial, tmp_path):
    """As everywhere else."""
    result = effect_of(trial, card, method="linear")
    path = card.save(tmp_path / "card.json")
    assert repr(result.sensitivity(str(path))) == repr(result.sensitivity(card))
