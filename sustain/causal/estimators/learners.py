"""Doubly robust estimation with scikit-learn's regressors and classifiers in place of lines and logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.doubly_robust import (
    FOLDS,
    CrossFitted,
    Fold,
    Regress,
    augmented,
    doubly_robust,
)
from sustain.causal.estimators.least_squares import Adjustment, LinearEstimator
from sustain.errors import EffectError

__all__ = ["LearnedEstimator", "learned_doubly_robust"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class LearnedEstimator(LinearEstimator):
    """A doubly robust estimate whose outcome regressions are learned, and so not linear in the outcome.

    ``weights`` are those of the same estimate with least squares as outcome regressions and the same propensities; they
    say how much of the estimate rests on which predictions, and are not what the estimate is made with.
    """

    score: Any = field(repr=False, kw_only=True)

    def estimate(self, outcome: Floats) -> float:
        """Effect on an outcome of shape (n,); fits the regressions anew for each outcome."""
        mean, _ = self.score(outcome)
        return float(mean)


def learned_doubly_robust(
    adjustment: Adjustment,
    *,
    outcome_model: Any = None,
    propensity_model: Any = None,
    n_folds: int = FOLDS,
    seed: int = 0,
    clusters: Sequence[Codes] = (),
) -> LinearEstimator:
    """`doubly_robust` with learners, cross-fitted.

    Parameters
    ----------
    adjustment, n_folds, seed, clusters
        As in `doubly_robust`. Learners that draw at random and have no ``random_state`` take `seed`.
    outcome_model : regressor, optional
        Cloned and fitted for each arm and fold; least squares by default.
    propensity_model : classifier, optional
        With ``predict_proba``; cloned and fitted for each fold; a logistic regression by default.

    Raises
    ------
    EffectError
        When a model is of the wrong kind or takes no weights where there are weights, or when propensities come to 0
        or 1.
    """
    _check("outcome_model", outcome_model, "regressor", "predict")
    _check("propensity_model", propensity_model, "classifier", "predict_proba")
    treated, covariates, weights = adjustment.treated, adjustment.covariates, adjustment.weights
    equal = bool(np.all(weights == weights[0]))

    def fitted(role: str, model: Any, rows: Rows, target: Floats) -> Any:
        return _fit(role, model, covariates[rows], target[rows], None if equal else weights[rows], seed)

    def classify(rest: Rows, rows: Rows) -> Floats:
        model = fitted("propensity_model", propensity_model, rest, treated)
        return np.asarray(model.predict_proba(covariates[rows])[:, 1], dtype=float)

    linear = doubly_robust(
        adjustment,
        n_folds=n_folds,
        seed=seed,
        clusters=clusters,
        classify=None if propensity_model is None else classify,
    )
    described = ", ".join(
        f"{kind} by {type(model).__name__}"
        for kind, model in (("outcome", outcome_model), ("propensity", propensity_model))
        if model is not None
    )
    name = f"{linear.name}; {described}"
    if outcome_model is None:
        return replace(linear, name=name)

    def regress(fold: Fold, arm: int, outcome: Floats) -> Floats:
        model = fitted("outcome_model", outcome_model, fold.train[arm], outcome)
        return np.asarray(model.predict(covariates[fold.rows]), dtype=float)

    score = _Score(linear, weights / weights.sum(), regress)
    return LearnedEstimator(
        name, linear.weights, lambda outcome: score(outcome)[1], 1, linear.notes, score=score
    )


class _Score:
    """Estimate and influence on an outcome; the last outcomes are kept, because each is asked for twice."""

    def __init__(self, linear: CrossFitted, share: Floats, regress: Regress) -> None:
        self._linear, self._share, self._regress = linear, share, regress
        self._kept: dict[bytes, tuple[float, Floats]] = {}

    def __call__(self, outcome: Floats) -> tuple[float, Floats]:
        key = outcome.tobytes()
        if key not in self._kept:
            self._kept = dict(list(self._kept.items())[-1:])
            found = augmented(self._linear.folds, self._share, self._linear.arms, outcome, self._regress)
            self._kept[key] = found
        return self._kept[key]


def _check(role: str, model: Any, kind: str, method: str) -> None:
    if model is None:
        return
    from sklearn.base import is_classifier, is_regressor

    kinds = {"regressor": is_regressor, "classifier": is_classifier}
    if isinstance(model, type) or not kinds[kind](model) or not hasattr(model, method):
        raise EffectError(
            f"{role}: got {model!r}, expected a scikit-learn {kind} with {method}(), such as "
            f"{'RandomForestRegressor(min_samples_leaf=5)' if kind == 'regressor' else 'LogisticRegressionCV()'}."
        )


def _fit(role: str, model: Any, z: Floats, target: Floats, weights: Floats | None, seed: int) -> Any:
    from sklearn.base import clone
    from sklearn.utils.validation import has_fit_parameter

    fresh = clone(model)
    random = {
        name: seed
        for name, value in fresh.get_params().items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    fresh.set_params(**random)
    if weights is None:
        return fresh.fit(z, target)
    if not has_fit_parameter(fresh, "sample_weight"):
        raise EffectError(f"{role}: {type(model).__name__} takes no sample weights, and the trial has some.")
    return fresh.fit(z, target, sample_weight=weights)
