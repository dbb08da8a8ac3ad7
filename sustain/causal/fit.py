"""A design fitted to a trial's units: its estimator, and how much the estimates vary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.causal.design import Design
from sustain.causal.estimate import Estimate
from sustain.causal.estimators.least_squares import LinearEstimator
from sustain.causal.trial.units import Units
from sustain.causal.vcov.vcov import TrialCovariance, Vcov

__all__ = ["FittedDesign"]

Floats = NDArray[np.float64]
Outcomes = Callable[[Units, LinearEstimator, bool], Floats]


@dataclass(frozen=True)
class FittedDesign:
    """An estimator with the covariance of its estimates on one outcome or two.

    Attributes
    ----------
    design : Design
    vcov : Vcov
    units : Units
    outcomes : ndarray, shape (m, n)
        The raw predictions, and where a correction is not one division, the corrected ones.
    estimator : LinearEstimator
    trial : TrialCovariance
        Of the m estimates, as far as the trial's own units go.
    product : int or None
        Place of the covariate whose coefficient the estimate is; None for the treatment's.
    """

    design: Design
    vcov: Vcov
    units: Units
    outcomes: Floats
    estimator: LinearEstimator
    trial: TrialCovariance
    product: int | None = None

    @classmethod
    def fit(
        cls, design: Design, vcov: Vcov, units: Units, outcomes_of: Outcomes, product: int | None = None
    ) -> FittedDesign:
        """Build the estimator of the treatment's coefficient, or of one covariate's, and its covariance.

        Parameters
        ----------
        outcomes_of : callable
            Takes the units, the estimator, and whether its estimate is the coefficient of a product; returns the
            outcomes, shape (m, n).
        product : int, optional
            Place of the covariate among the units' covariates.

        Raises
        ------
        EffectError
            When the design is singular, or its variance cannot be estimated.
        """

        def build(some: Units) -> LinearEstimator:
            return design.build(some, vcov, product)

        def anew(counts: NDArray[np.int64]) -> Floats:
            again = build(units.repeated(counts))
            return np.array([again.estimate(outcome[counts > 0]) for outcome in outcomes])

        estimator = build(units)
        outcomes = outcomes_of(units, estimator, product is not None)
        trial = vcov.covariance(estimator, outcomes, units.extra, anew)
        if units.n_products:
            term = "the treatment" if product is None else units.names[product]
            trial = vcov.unless_one_decides(trial, estimator, units.extra, term)
        return cls(design, vcov, units, outcomes, estimator, trial, product)

    @property
    def naive(self) -> Estimate:
        """The estimate on the predictions as they are."""
        estimate = self.estimator.estimate(self.units.outcome)
        return Estimate("none", estimate, float(self.trial.covariance[0, 0]), 0.0, self.trial.df)

    @property
    def within(self) -> bool:
        """Whether units are compared with themselves or within levels of fixed effects."""
        return bool(self.design.unit or self.design.fixed_effects)

    def influence(self, corrected: Estimate | None, outcome: Floats | None = None) -> Floats:
        """Each unit's share in the trial's error of the corrected estimate, or of the naive one without.

        `outcome` has the influence function of the corrected estimate, where the last of `outcomes` does not.
        """
        psi = self.estimator.influence(self.outcomes[-1] if outcome is None else outcome)
        return psi if corrected is None or math.isnan(corrected.slope) else psi / corrected.slope

    def products(self, outcomes_of: Outcomes) -> Iterator[tuple[str, FittedDesign]]:
        """Give each product of treatment and covariate: its name, and the same regression for its coefficient."""
        first = len(self.units.names) - self.units.n_products
        for place, name in enumerate(self.units.products, first):
            yield name, self.fit(self.design, self.vcov, self.units, outcomes_of, place)
