"""Doubly robust with learners: the same formula, whoever fits the nuisances; and intervals that cover."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sustain.causal import estimate_effect
from sustain.debias import build_card
from sustain.errors import EffectError


def make_trial(seed: int, n: int = 600) -> pd.DataFrame:
    """Confounding that no straight line takes out: the effect is 0.4, the naive difference is not."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.uniform(-1, 1, n)
    treated = (rng.uniform(size=n) < 0.2 + 0.6 * (np.abs(x) > 0.7)).astype(int)
    wealth = 0.4 * treated + 1.5 * (np.abs(x) > 0.7) + 0.3 * z + 0.5 * rng.normal(size=n)
    return pd.DataFrame({"wealth": wealth, "treated": treated, "x": x, "z": z, "w": rng.uniform(0.3, 2, n)})


def effect_of(data: pd.DataFrame, **arguments):
    arguments = {"covariates": ["x", "z"], "estimator": "aipw"} | arguments
    return estimate_effect(data, outcome="wealth", treatment="treated", **arguments)


@pytest.mark.parametrize("weights", [None, "w"])
def test_lines_and_logits_as_learners_are_the_default(weights):
    data = make_trial(0)
    learned = effect_of(
        data,
        outcome_model=LinearRegression(),
        propensity_model=LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000),
        weights=weights,
        seed=3,
    )
    default = effect_of(data, weights=weights, seed=3)
    assert learned.estimate == pytest.approx(default.estimate, rel=1e-5)
    assert learned.std_error == pytest.approx(default.std_error, rel=1e-4)
    assert "outcome by LinearRegression, propensity by LogisticRegression" in learned.estimator


def test_covers_where_lines_do_not():
    """Effect 0.4 behind confounding by |x|: nominal 95%, 100 replications; trees see it, lines don't."""
    models = {
        "outcome_model": DecisionTreeRegressor(max_leaf_nodes=6, min_samples_leaf=20),
        "propensity_model": DecisionTreeClassifier(max_leaf_nodes=4, min_samples_leaf=70),
    }
    covered = straight = 0
    for seed in range(100):
        data = make_trial(seed)
        low, high = effect_of(data, n_folds=2, **models).conf_int()
        covered += low <= 0.4 <= high
        low, high = effect_of(data, n_folds=2).conf_int()
        straight += low <= 0.4 <= high
    assert covered >= 88
    assert straight < 20


def test_same_seed_same_numbers():
    data = make_trial(1)
    models = {
        "outcome_model": RandomForestRegressor(5, min_samples_leaf=10),
        "propensity_model": RandomForestClassifier(50, min_samples_leaf=40),
    }
    one, two, other = (effect_of(data, seed=seed, **models) for seed in (1, 1, 2))
    assert one.to_dict() == two.to_dict()
    assert one.estimate != other.estimate
    assert models["outcome_model"].random_state is None  # the caller's object is left alone


@pytest.mark.filterwarnings("ignore::sustain.errors.SupportWarning")
def test_corrections_go_through():
    rng = np.random.default_rng(0)
    y_pred = rng.normal(size=500)
    about = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model"}
    card = build_card(y_pred, y_pred + 0.75 * rng.normal(size=500), n_boot=60, **about)
    data = make_trial(2)
    model = make_pipeline(PolynomialFeatures(3), LinearRegression())
    arguments = {"outcome_model": model, "calibration": card, "assumption": "measurement"}
    linear = effect_of(data, method="linear", **arguments)
    assert linear.estimate == pytest.approx(linear.naive.estimate / card.slope, rel=1e-12)
    curve = effect_of(data, method="tweedie", **arguments)
    by_hand = effect_of(
        data.assign(wealth=card.transform(data["wealth"], "tweedie", False)), outcome_model=model
    )
    assert curve.estimate == pytest.approx(by_hand.estimate, rel=1e-9)
    assert curve.main.variance_trial == pytest.approx(by_hand.std_error**2, rel=1e-9)
    # The calibration's part, against fitting the learner anew to every draw.
    draws = [
        effect_of(data.assign(wealth=values), outcome_model=model).estimate
        for values in card.draws("tweedie")(data["wealth"].to_numpy())
    ]
    assert curve.main.variance_calibration == pytest.approx(np.var(draws, ddof=1) * 500 / 499, rel=0.02)


class TestBadInput:
    def test_wrong_kind(self):
        with pytest.raises(EffectError, match=r"outcome_model: got .* expected a scikit-learn regressor"):
            effect_of(make_trial(0), outcome_model=LogisticRegression())
        with pytest.raises(EffectError, match=r"propensity_model: got .* expected a scikit-learn classifier"):
            effect_of(make_trial(0), propensity_model=LinearRegression())
        with pytest.raises(EffectError, match="expected a scikit-learn regressor"):
            effect_of(make_trial(0), outcome_model=LinearRegression)

    def test_other_designs(self):
        with pytest.raises(EffectError, match="learners are for estimator='aipw'"):
            effect_of(make_trial(0), estimator="ols", outcome_model=LinearRegression())

    def test_weights_that_a_learner_does_not_take(self):
        with pytest.raises(EffectError, match="KNeighborsRegressor takes no sample weights"):
            effect_of(make_trial(0), outcome_model=KNeighborsRegressor(), weights="w")

    def test_propensities_of_zero_and_one(self):
        with pytest.raises(EffectError, match="who is treated"):
            effect_of(make_trial(0), propensity_model=DecisionTreeClassifier())
