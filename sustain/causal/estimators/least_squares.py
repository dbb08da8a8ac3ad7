"""Estimators as what they have in common, weights on the outcome and an influence function; and least squares.

Each of them is linear in the outcome, ``tau_hat = sum_i omega_i y_i``, with weights that depend on treatment
and covariates only. That is what lets a corrected outcome, or every bootstrap draw of a correction, pass
through without estimating again, and what makes a linear correction of the outcome a division of the effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.absorb import Absorbed
from sustain.errors import EffectError
from sustain.stats.columns import Labels
from sustain.stats.covariance import joint_codes
from sustain.stats.least_squares import Regressors

__all__ = [
    "Adjustment",
    "LeastSquares",
    "LinearEstimator",
    "difference_in_means",
    "least_squares",
    "two_way_fixed_effects",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Notes = tuple[tuple[str, str], ...]

FEW_LEFT = 0.02  # share of the treatment's variance that covariates leave, under which it is said
NOTHING_LEFT = 1e-10  # share of the treatment that fixed effects leave, under which it is rounding


@dataclass(frozen=True)
class Adjustment:
    """Who is treated, what is held equal between the arms, and how much each unit counts.

    Attributes
    ----------
    treated : ndarray, shape (n,)
        0 or 1; in a regression any other regressor of interest too.
    covariates : ndarray, shape (n, k)
    names : tuple of str, length k
        Names of the covariates.
    weights : ndarray, shape (n,)
        Above zero.
    n_products : int
        How many of the covariates, the last ones, are products of the treatment with others. The effect is then that
        where the others are zero.
    """

    treated: Floats
    covariates: Floats
    names: tuple[str, ...]
    weights: Floats
    n_products: int = 0


@dataclass(frozen=True)
class LinearEstimator:
    """An effect estimate that is linear in the outcome.

    Attributes
    ----------
    name : str
        For summaries, such as "difference in means".
    weights : ndarray, shape (n,)
        omega, with ``tau_hat = omega @ y``.
    influence : callable
        Takes an outcome of shape (n,) and returns psi of shape (n,), each unit's share in ``tau_hat - tau``.
    n_params : int
        Number of estimated coefficients, for small-sample factors.
    notes : tuple of (kind, text)
        What a reader of the result should know.
    effects : tuple of ndarray of int, shape (n,)
        Level of each unit in the fixed effects that were absorbed; `n_params` counts their dummies.
    """

    name: str
    weights: Floats
    influence: Callable[[Floats], Floats] = field(repr=False)
    n_params: int
    notes: Notes = ()
    effects: tuple[Codes, ...] = field(default=(), repr=False, kw_only=True)

    def estimate(self, outcome: Floats) -> float:
        """Effect on an outcome of shape (n,)."""
        return float(self.weights @ outcome)


@dataclass(frozen=True)
class LeastSquares(LinearEstimator):
    """A coefficient of a weighted regression, with what its leverage is computed from.

    Attributes
    ----------
    basis : ndarray, shape (n, k)
        Orthonormal basis of the regressors' columns, each row times the root of its weight; of what absorbed fixed
        effects leave of them.
    root : ndarray, shape (n,)
        Square roots of the weights.
    residual : callable
        Takes an outcome of shape (n,) and returns its residuals.
    """

    basis: Floats = field(repr=False, kw_only=True)
    root: Floats = field(repr=False, kw_only=True)
    residual: Callable[[Floats], Floats] = field(repr=False, kw_only=True)


def difference_in_means(treated: Floats, weights: Floats) -> LeastSquares:
    """Weighted mean of the treated minus that of the controls; `least_squares` without covariates.

    Parameters
    ----------
    treated : ndarray, shape (n,)
        0 or 1.
    weights : ndarray, shape (n,)
        Positive weights.
    """
    alone = Adjustment(treated, np.empty((len(treated), 0)), (), weights)
    return least_squares(alone, name="difference in means")


def least_squares(
    adjustment: Adjustment,
    absorbed: Absorbed | None = None,
    *,
    covariate: int | None = None,
    name: str | None = None,
) -> LeastSquares:
    """Coefficient of treatment, or of one covariate, in a weighted regression on treatment, covariates and a constant.

    The influence is omega_i e_i with residual e_i, so that HC1 and CRV1 equal those of a regression package.

    Parameters
    ----------
    adjustment : Adjustment
    absorbed : Absorbed, optional
        Fixed effects, which then stand in for the constant (Frisch, Waugh and Lovell).
    covariate : int, optional
        Place of the covariate whose coefficient is wanted instead of the treatment's.
    name : str, optional
        Name of the estimator.

    Raises
    ------
    EffectError
        When the columns are linearly dependent, also once the fixed effects are taken out.
    """
    regression = _Regression.of(adjustment, absorbed)
    if name is None:
        name = "least squares" if absorbed is None else f"least squares, {absorbed.described}"
    if covariate is not None:
        return regression.coefficient(
            f"{name}, coefficient of {adjustment.names[covariate]}", regression.place_of(covariate)
        )
    found = regression.coefficient(name, regression.treatment)
    notes = regression.overlap_notes()
    if len(found.effects) > 1:
        notes += _negative_weights(found.weights, adjustment.treated)
    return replace(found, notes=notes)


def two_way_fixed_effects(adjustment: Adjustment, unit: Labels, time: Labels) -> LeastSquares:
    """Coefficient of treatment status with an effect for every unit and every period.

    With two periods and treatment in the second this is the difference-in-differences of means. It is `least_squares`
    with both effects absorbed, so that unbalanced panels, and units that were never seen in the same periods, are
    exact.

    Parameters
    ----------
    adjustment : Adjustment
        `treated` is the status of the unit in the period; covariates must vary within units.
    unit, time : Labels
        Unit and period of each row.

    Raises
    ------
    EffectError
        When a unit occurs twice in a period, there is one period, treatment never changes within a unit, or units
        and periods explain it fully.
    """
    if time.n < 2:
        raise EffectError(
            f"time: a single period ({time.names[0]}), but a difference in differences needs two or more."
        )
    times = np.bincount(joint_codes((unit.codes, time.codes)))
    if times.max() > 1:
        row = int(np.flatnonzero(joint_codes((unit.codes, time.codes)) == times.argmax())[0])
        raise EffectError(
            f"unit, time: unit {unit.names[unit.codes[row]]} occurs {times.max()} times in period "
            f"{time.names[time.codes[row]]}. Give one row for each unit and period."
        )
    treated, weights = adjustment.treated, adjustment.weights
    if _is_explained(treated, Absorbed((unit.codes,), weights).residual(treated), weights):
        raise EffectError(
            "treatment: it never changes within a unit, so there is no before and after. Code it as the "
            "status in the period: 0 before treatment starts, 1 from then on."
        )
    both = Absorbed((unit.codes, time.codes), adjustment.weights)
    name = f"difference-in-differences ({time.n} periods, {unit.n} units)"
    found = least_squares(adjustment, both, name=name)
    alone = int((np.bincount(unit.codes) == 1).sum())
    if alone:
        text = f"{alone} units occur in one period only and carry no information."
        found = replace(found, notes=(*found.notes, ("singletons", text)))
    return found


@dataclass(frozen=True)
class _Regression:
    """Columns of a regression, with fixed effects taken out, and any coefficient of it.

    The columns are covariates, treatment, and products of it with covariates; `treatment` is its place.
    """

    columns: Floats
    found: Regressors
    treatment: int
    absorbed: Absorbed | None

    @classmethod
    def of(cls, adjustment: Adjustment, absorbed: Absorbed | None) -> _Regression:
        place = adjustment.covariates.shape[1] - adjustment.n_products
        columns = np.insert(adjustment.covariates, place, adjustment.treated, axis=1)
        labels = [*adjustment.names[:place], "the treatment", *adjustment.names[place:]]
        weights, size = adjustment.weights, None
        if absorbed is not None:
            size = np.linalg.norm(np.sqrt(weights)[:, None] * columns, axis=0)
            columns = absorbed.residual(columns)
            if _is_explained(adjustment.treated, columns[:, place], weights):
                raise EffectError(
                    "fixed_effects: the treatment does not vary within their levels (of a panel: units and periods "
                    "explain it fully), so nothing is left to estimate its effect from. Drop the effect that decides "
                    "the treatment, or add units that were treated at other times."
                )
        found = Regressors.of(
            columns, labels, weights, constant=absorbed is None, size=size, error=EffectError
        )
        return cls(columns, found, place, absorbed)

    def place_of(self, covariate: int) -> int:
        """Place of a covariate among the columns, where the treatment stands before its products."""
        return covariate + (covariate >= self.treatment)

    def coefficient(self, name: str, place: int) -> LeastSquares:
        """Coefficient of the column at `place`."""
        found, absorbed = self.found, self.absorbed
        basis, root = found.basis, found.root
        omega = root * (basis @ found.back[place + (absorbed is None)])

        def residual(outcome: Floats) -> Floats:
            return found.residual(outcome if absorbed is None else absorbed.residual(outcome))

        def influence(outcome: Floats) -> Floats:
            return np.asarray(omega * residual(outcome))

        n_params = self.columns.shape[1] + (1 if absorbed is None else absorbed.rank)
        effects = () if absorbed is None else absorbed.effects
        return LeastSquares(
            name, omega, influence, n_params, effects=effects, basis=basis, root=root, residual=residual
        )

    def overlap_notes(self) -> Notes:
        """Say so when covariates leave next to nothing of the treatment; products with it are no such covariates."""
        root, treated = self.found.root, self.columns[:, self.treatment]
        centre = 0.0 if self.absorbed else np.average(treated, weights=root**2)
        varies = root * (treated - centre)
        partial = self.found.basis[:, self.treatment + (self.absorbed is None)]
        kept = float((partial @ varies) ** 2 / (varies @ varies))
        if kept >= FEW_LEFT:
            return ()
        text = (
            f"The covariates explain {1 - kept:.4%} of who is treated: the estimate rests on the little that is left, "
            "and compares units that hardly overlap. Drop the covariate that decides treatment."
        )
        return (("overlap", text),)


def _is_explained(treated: Floats, left: Floats, weights: Floats) -> bool:
    """Whether what fixed effects leave of the treatment is rounding."""
    return bool(weights @ left**2 <= (NOTHING_LEFT * NOTHING_LEFT) * (weights @ treated**2))


def _negative_weights(omega: Floats, treated: Floats) -> Notes:
    """Say so when treated rows count against the effect, as with two-way fixed effects and staggered treatment."""
    on = treated == 1
    negative = float(-omega[on & (omega < 0)].sum() / np.abs(omega[on]).sum())
    if negative <= 1e-9:
        return ()
    text = (
        f"Two-way fixed effects give negative weight to {negative:.1%} of the treated observations' "
        "weight (some units serve as controls after they were treated). When effects differ between "
        "units or over time the estimate need not be an average of them (de Chaisemartin and "
        "D'Haultfoeuille 2020)."
    )
    return (("negative_weights", text),)
