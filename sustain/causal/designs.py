"""The `estimator` argument: which design a trial has, and what each design asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sustain.causal.estimators import LinearEstimator, difference_in_means, least_squares
from sustain.causal.instrument import two_stage_least_squares
from sustain.causal.panel import two_way_fixed_effects
from sustain.causal.propensity import doubly_robust, inverse_propensity
from sustain.causal.units import Units
from sustain.causal.vcov import Vcov
from sustain.errors import EffectError

__all__ = ["Design", "EstimatorName"]

EstimatorName = Literal["difference", "ols", "ipw", "aipw", "did", "iv"]


@dataclass(frozen=True)
class Design:
    """An estimator's name and what only some designs have.

    Attributes
    ----------
    estimator : str
        One of `EstimatorName`.
    unit, time : str or None
        Columns of the panel, for ``"did"``.
    instruments : tuple of str
        Columns, for ``"iv"``.
    n_folds, seed : int
        For ``"aipw"``.
    """

    estimator: EstimatorName
    unit: str | None = None
    time: str | None = None
    instruments: tuple[str, ...] = ()
    n_folds: int = 5
    seed: int = 0

    @classmethod
    def parse(
        cls,
        estimator: EstimatorName,
        covariates: Sequence[str],
        unit: str | None,
        time: str | None,
        instrument: str | Sequence[str] | None,
        n_folds: int,
        seed: int,
    ) -> Design:
        """Check that the design has what it needs and nothing that it would ignore."""
        if estimator not in get_args(EstimatorName):
            known = ", ".join(map(repr, get_args(EstimatorName)))
            raise EffectError(f"estimator: got {estimator!r}, expected {known}.")
        if instrument is None:
            instruments: tuple[str, ...] = ()
        else:
            instruments = (instrument,) if isinstance(instrument, str) else tuple(instrument)
        if estimator == "difference" and covariates:
            raise EffectError(
                f"covariates: {list(covariates)} given, but a difference in means adjusts for none. "
                "Use estimator='ols'."
            )
        if (estimator == "did") != (unit is not None and time is not None) or (unit is None) != (
            time is None
        ):
            raise EffectError(
                f"estimator={estimator!r} with unit={unit!r} and time={time!r}: estimator='did' needs both "
                "columns, and no other estimator takes them."
            )
        if (estimator == "iv") != bool(instruments):
            raise EffectError(
                f"estimator={estimator!r} with instrument={instrument!r}: estimator='iv' needs an "
                "instrument, and no other estimator takes one."
            )
        return cls(estimator, unit, time, instruments, n_folds, seed)

    @property
    def columns(self) -> tuple[str, ...]:
        """Label columns of the data that the design needs beside outcome, treatment and covariates."""
        return () if self.unit is None or self.time is None else (self.unit, self.time)

    def build(self, units: Units, vcov: Vcov) -> LinearEstimator:
        """Make the estimator for these units. `vcov` tells which of them must share a fold."""
        common = units.treated, units.covariates, units.names
        if self.estimator == "difference":
            return difference_in_means(units.treated, units.weights)
        if self.estimator == "ols":
            return least_squares(*common, units.weights)
        if self.estimator == "ipw":
            return inverse_propensity(*common, units.weights)
        if self.estimator == "aipw":
            clusters = vcov.clusters(units.extra)
            return doubly_robust(
                *common, units.weights, n_folds=self.n_folds, seed=self.seed, clusters=clusters
            )
        if self.estimator == "iv":
            return two_stage_least_squares(*common, units.instruments, units.instrument_names, units.weights)
        unit, time = (units.extra[name] for name in self.columns)
        return two_way_fixed_effects(*common, unit, time, units.weights)
