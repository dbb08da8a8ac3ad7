"""The `estimator` argument: which design a trial has, and what each design asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from sustain.causal.estimators import (
    Absorbed,
    Adjustment,
    LinearEstimator,
    difference_in_means,
    doubly_robust,
    inverse_propensity,
    learned_doubly_robust,
    least_squares,
    two_stage_least_squares,
    two_way_fixed_effects,
)
from sustain.causal.estimators.doubly_robust import FOLDS, default_folds
from sustain.causal.trial.reader import read
from sustain.causal.trial.roles import EstimatorName
from sustain.causal.trial.units import Units
from sustain.causal.vcov import Vcov
from sustain.errors import EffectError
from sustain.spelling import Placeholder, argument
from sustain.stats.columns import Labels
from sustain.stats.covariance import joint_codes

__all__ = ["Design"]


@dataclass(frozen=True)
class Design:
    """An estimator's name and what only some designs have.

    Attributes
    ----------
    estimator : str
        One of `EstimatorName`.
    unit, time : str or None
        Columns of the panel, for ``"did"``.
    instrumented : bool
        Whether there are instruments, for ``"iv"``.
    fixed_effects : tuple of str
        Columns, or several joined by ``^``, for ``"ols"`` and ``"iv"``.
    outcome_model, propensity_model : object or None
        Learners, for ``"aipw"``.
    n_folds : int or None
    seed : int
        For ``"aipw"``.
    """

    estimator: EstimatorName
    unit: str | None = None
    time: str | None = None
    instrumented: bool = False
    fixed_effects: tuple[str, ...] = ()
    outcome_model: Any = None
    propensity_model: Any = None
    n_folds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that the design has what it needs and nothing that it would ignore."""
        name = self.estimator
        for what, value, least in (("n_folds", self.n_folds, 2), ("seed", self.seed, 0)):
            if value is not None:
                read.whole(what, value, f"a whole number, {least} or more", least=least)
        if name not in get_args(EstimatorName):
            known = ", ".join(map(repr, get_args(EstimatorName)))
            raise EffectError(f"estimator: got {name!r}, expected {known}.")
        panel = self.unit is not None and self.time is not None
        if (name == "did") != panel or (self.unit is None) != (self.time is None):
            raise EffectError(
                f"estimator: got {name!r}, with unit {self.unit!r} and time {self.time!r}; "
                f"{argument('estimator', 'did')} needs both columns (or two fixed effects in the formula), "
                "and no other estimator takes them."
            )
        if (name == "iv") != self.instrumented:
            raise EffectError(
                f"estimator: got {name!r} {'with an' if self.instrumented else 'without an'} instrument; "
                f"{argument('estimator', 'iv')} needs an instrument, and no other estimator takes one."
            )
        if self.fixed_effects and name not in ("ols", "iv"):
            raise EffectError(
                f"fixed_effects: {list(self.fixed_effects)} are absorbed by {argument('estimator', 'ols', 'iv')}, "
                f"not by {name!r}. Name them among the covariates, as categories; {argument('estimator', 'did')} takes "
                f"{argument('unit', Placeholder('column'))} and {argument('time', Placeholder('column'))}."
            )
        if (self.outcome_model is not None or self.propensity_model is not None) and name != "aipw":
            raise EffectError(
                f"outcome_model, propensity_model: learners are for {argument('estimator', 'aipw')}, not for {name!r}."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns of the data that the design needs beside outcome, treatment and covariates."""
        panel = () if self.unit is None or self.time is None else (self.unit, self.time)
        return (*panel, *(part for effect in self.fixed_effects for part in _parts(effect)))

    def build(self, units: Units, vcov: Vcov, covariate: int | None = None) -> LinearEstimator:
        """Make the estimator for these units.

        Parameters
        ----------
        vcov : Vcov
            Tells which units must share a fold.
        covariate : int, optional
            For ``"ols"``: place of the covariate whose coefficient is wanted instead of the treatment's.
        """
        given = _adjustment(units)
        if self.estimator == "difference":
            return difference_in_means(units.treated, units.weights)
        if self.estimator == "ols":
            return least_squares(given, self._absorbed(units), covariate=covariate)
        if self.estimator == "ipw":
            return inverse_propensity(given)
        if self.estimator == "did":
            unit, time = (_labels(units, name) for name in self.columns)
            return two_way_fixed_effects(given, unit, time)
        clusters = vcov.clusters(units.extra)
        if self.estimator == "iv":
            instruments = units.instruments, units.instrument_names
            return two_stage_least_squares(given, *instruments, self._absorbed(units), clusters)
        n_folds = default_folds(clusters) if self.n_folds is None else self.n_folds
        if self.n_folds is None and vcov.kind == "block":
            n_folds = FOLDS  # a bootstrap sees what the split into folds does, and takes long enough
        if self.outcome_model is None and self.propensity_model is None:
            return doubly_robust(given, n_folds=n_folds, seed=self.seed, clusters=clusters)
        return learned_doubly_robust(
            given,
            outcome_model=self.outcome_model,
            propensity_model=self.propensity_model,
            n_folds=n_folds,
            seed=self.seed,
            clusters=clusters,
        )

    def _absorbed(self, units: Units) -> Absorbed | None:
        if not self.fixed_effects:
            return None
        parts = [[_labels(units, part).codes for part in _parts(effect)] for effect in self.fixed_effects]
        return Absorbed([joint_codes(codes) for codes in parts], units.weights)


def _parts(effect: Any) -> list[Any]:
    """Columns whose combinations are one effect; a name that is no text is one column."""
    return effect.split("^") if isinstance(effect, str) else [effect]


def _adjustment(units: Units) -> Adjustment:
    return Adjustment(units.treated, units.covariates, units.names, units.weights, units.n_products)


def _labels(units: Units, column: str) -> Labels:
    return read.labels(f"column {column!r}", units.extra[column])
