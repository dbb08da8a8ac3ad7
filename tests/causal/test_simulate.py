"""The paper's simulation: its design, its scores, and that corrections do in it what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from sustain.causal.planning.simulate import (
    estimate_paper_world,
    paper_table,
    score_effects,
    simulate_paper_world,
)
from sustain.errors import EffectError


@pytest.fixture(scope="module")
def world():
    return simulate_paper_world(2.0, seed=3, n_upstream=5000, n_trial=6000)


def test_world(world):
    assert world.y_pred.shape == world.y_true.shape == (1000,)
    trial = world.trial
    assert len(trial) == 6000
    fit = sm.OLS(trial["truth"], sm.add_constant(trial[["treated", "confounder"]])).fit()
    np.testing.assert_allclose(fit.params, [0, 2, 1], atol=0.1)
    # Predictions are shrunken but near calibrated upstream, as in the paper (R2 from 0.41 to 0.53, beta 0.93).
    assert 0.3 < np.corrcoef(world.y_pred, world.y_true)[0, 1] ** 2 < 0.65
    assert np.polyfit(world.y_pred, world.y_true, 1)[0] == pytest.approx(1.0, abs=0.15)
    # Measurement stability: given the truth, treatment says nothing about the prediction.
    fit = sm.OLS(trial["prediction"], np.column_stack([np.vander(trial["truth"], 6), trial["treated"]])).fit()
    assert abs(fit.tvalues.iloc[-1]) < 3


def test_corrections(world):
    estimates = estimate_paper_world(world).set_index("method")["estimate"]
    assert estimates["oracle"] == pytest.approx(2.0, abs=0.12)
    assert estimates["none"] < 1.5
    assert estimates["linear"] == pytest.approx(2.0, abs=0.3)
    assert estimates["tweedie"] == pytest.approx(2.0, abs=0.3)
    assert estimates["ppi"] == pytest.approx(2.0, abs=1.0)
    assert estimates["response"] == pytest.approx(2.0, abs=0.3)
    with pytest.raises(EffectError, match="'ratledge' needs a world with a second network"):
        estimate_paper_world(world, ["ratledge"])
    with pytest.raises(EffectError, match="'magic'"):
        estimate_paper_world(world, ["magic"])


def test_networks_are_the_callers(world):
    """A second network's predictions are used as they are; the first one's as the default's are."""

    def flat(images, truths, seed):
        weights = np.linalg.lstsq(images, truths, rcond=None)[0]
        return lambda values: values @ weights

    plain = simulate_paper_world(1.0, 7, 600, 600, fit=flat)
    other = simulate_paper_world(1.0, 7, 600, 600, fit=flat, fit_flat=flat)
    assert "prediction_flat" not in plain.trial
    np.testing.assert_array_equal(other.trial["prediction_flat"], plain.trial["prediction"])
    estimates = estimate_paper_world(other).set_index("method")["estimate"]
    assert estimates["ratledge"] == estimates["none"]


def test_same_seed_same_numbers():
    one, other = (paper_table([1.0], seed=4, n_upstream=500, n_trial=400) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)
    assert len(one) == 6


def test_scores():
    rng = np.random.default_rng(0)
    x = np.linspace(-2, 2, 50)
    y = 0.02 + 0.9 * x + 0.1 * rng.normal(size=50)
    table = pd.concat(
        [
            pd.DataFrame({"effect": x, "method": "shrunken", "estimate": y}),
            pd.DataFrame({"effect": x, "method": "right", "estimate": x + 0.1 * rng.normal(size=50)}),
        ]
    )
    scores = score_effects(table).set_index("method")
    fit = sm.OLS(y, sm.add_constant(x)).fit()
    test = fit.f_test("const = 0, x1 = 1")
    assert scores.loc["shrunken", "slope"] == pytest.approx(fit.params[1])
    assert scores.loc["shrunken", "slope_std_error"] == pytest.approx(fit.bse[1])
    assert scores.loc["shrunken", "f"] == pytest.approx(float(test.fvalue))
    assert scores.loc["shrunken", "p_value"] == pytest.approx(float(test.pvalue))
    assert scores.loc["right", "p_value"] > 0.01
    with pytest.raises(EffectError, match="3 or more"):
        score_effects(table.iloc[:2])
