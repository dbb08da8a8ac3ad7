"""Estimators as what they have in common: weights on the outcome, and an influence function.

Each of them is linear in the outcome, ``tau_hat = sum_i omega_i y_i``, with weights that depend on treatment
and covariates only. That is what lets a corrected outcome, or every bootstrap draw of a correction, pass
through without estimating again, and what makes a linear correction of the outcome a division of the effect.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sustain.errors import EffectError

__all__ = ["LinearEstimator", "difference_in_means", "inverse_propensity", "least_squares"]

Floats = NDArray[np.float64]

# A propensity this close to 0 or 1 is a fit that separates the arms, not an estimate.
SEPARATION = 1e-6


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
    """

    name: str
    weights: Floats
    influence: Callable[[Floats], Floats] = field(repr=False)
    n_params: int
    notes: tuple[tuple[str, str], ...] = ()

    def estimate(self, outcome: Floats) -> float:
        """Effect on an outcome of shape (n,)."""
        return float(self.weights @ outcome)


def difference_in_means(treated: Floats, weights: Floats) -> LinearEstimator:
    """Weighted mean of the treated minus that of the controls; `least_squares` without covariates.

    Parameters
    ----------
    treated : ndarray, shape (n,)
        0 or 1.
    weights : ndarray, shape (n,)
        Positive weights.
    """
    estimator = least_squares(treated, np.empty((len(treated), 0)), (), weights)
    return LinearEstimator("difference in means", estimator.weights, estimator.influence, estimator.n_params)


def least_squares(
    treated: Floats, covariates: Floats, names: Sequence[str], weights: Floats
) -> LinearEstimator:
    """Coefficient of treatment in a weighted regression on treatment, covariates and a constant.

    The influence is omega_i e_i with residual e_i, so that HC1 and CRV1 equal those of a regression package.

    Parameters
    ----------
    treated : ndarray, shape (n,)
        0 or 1.
    covariates : ndarray, shape (n, k)
    names : sequence of str
        Names of the covariates, for the error message.
    weights : ndarray, shape (n,)
        Positive weights.

    Raises
    ------
    EffectError
        When the columns are linearly dependent.
    """
    n = len(treated)
    design = np.column_stack([np.ones(n), covariates, treated])
    root = np.sqrt(weights)
    scaled = root[:, None] * _unit_columns(design)
    require_full_rank(scaled, ["the constant", *names, "the treatment"])
    basis, _ = np.linalg.qr(scaled)
    # Frisch, Waugh and Lovell: the last column of the basis is the treatment without what the others explain.
    partial = basis[:, -1]
    omega = root * partial / float(partial @ (root * treated))

    def influence(outcome: Floats) -> Floats:
        residual = outcome - (basis @ (basis.T @ (root * outcome))) / root
        return np.asarray(omega * residual)

    return LinearEstimator("least squares", omega, influence, design.shape[1])


def inverse_propensity(
    treated: Floats, covariates: Floats, names: Sequence[str], weights: Floats
) -> LinearEstimator:
    """Inverse-propensity weighting with weights that add up to one in each arm (Hajek).

    The propensity is a logistic regression on the covariates. The influence includes that it is estimated
    (Lunceford and Davidian 2004, the M-estimation of the IPW2 estimator).

    Parameters
    ----------
    treated, covariates, names, weights
        As in `least_squares`.

    Raises
    ------
    EffectError
        When covariates are linearly dependent, or tell (almost) exactly who is treated: no overlap.
    """
    z = np.column_stack([np.ones(len(treated)), covariates])
    require_full_rank(np.sqrt(weights)[:, None] * _unit_columns(z), ["the constant", *names])
    propensity = fit_propensity(treated, z, weights)
    arms = (weights * treated / propensity, weights * (1 - treated) / (1 - propensity))
    share = tuple(arm / arm.sum() for arm in arms)
    omega = share[0] - share[1]
    information = (z * (weights * propensity * (1 - propensity))[:, None]).T @ z
    score = (weights * (treated - propensity))[:, None] * z
    fitted = np.linalg.solve(
        information, score.T
    ).T  # influence of each unit on the propensity's coefficients

    def influence(outcome: Floats) -> Floats:
        residual = tuple(arm * (outcome - float(arm @ outcome)) for arm in share)
        slope = -(((1 - propensity) * residual[0] + propensity * residual[1]) @ z)
        return np.asarray(residual[0] - residual[1] + fitted @ slope)

    heaviest = max(float(arm.max()) for arm in share)
    notes: tuple[tuple[str, str], ...] = ()
    if heaviest > 0.1:
        notes = (
            (
                "overlap",
                f"One unit carries {heaviest:.0%} of its arm's weight (propensities {propensity.min():.3g} "
                f"to {propensity.max():.3g}): the estimate leans on few units.",
            ),
        )
    return LinearEstimator("inverse-propensity weighting", omega, influence, z.shape[1] + 1, notes)


def fit_propensity(treated: Floats, z: Floats, weights: Floats) -> Floats:
    """Fitted probabilities of a weighted logistic regression of `treated` on `z`, by maximum likelihood.

    Raises
    ------
    EffectError
        When the likelihood has no maximum or propensities come (almost) to 0 or 1.
    """
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

    model = GLM(treated, z / np.abs(z).max(axis=0), family=Binomial(), freq_weights=weights / weights.mean())
    with warnings.catch_warnings():
        # Both end in the error below, which says what to do.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = model.fit(tol=1e-12, maxiter=100)
    propensity = np.asarray(fit.fittedvalues, dtype=float)
    if not fit.converged or propensity.min() < SEPARATION or propensity.max() > 1 - SEPARATION:
        raise EffectError(
            f"{_NO_OVERLAP} Fitted propensities run from {propensity.min():.2g} to {propensity.max():.6g}."
        )
    return propensity


_NO_OVERLAP = (
    "covariates: they tell (almost) exactly who is treated, so treated and controls cannot be compared by "
    "weighting. Drop the covariate that decides treatment, or keep to the units where both arms occur."
)


def require_full_rank(design: Floats, names: Sequence[str]) -> None:
    """Raise `EffectError` naming the first column of `design` that the columns before it explain."""
    if design.shape[0] <= design.shape[1]:
        raise EffectError(
            f"too few units: {design.shape[0]} units for {design.shape[1]} coefficients. Use fewer "
            "covariates."
        )
    diagonal = np.abs(np.diag(np.linalg.qr(design, mode="r")))
    norms = np.linalg.norm(design, axis=0)
    dependent = [
        name for name, size, norm in zip(names, diagonal, norms, strict=True) if size <= 1e-10 * norm
    ]
    if dependent:
        raise EffectError(
            f"singular design: {', '.join(map(str, dependent))} is constant or a linear combination of the "
            f"columns before it ({', '.join(map(str, names))}). Drop it from the covariates."
        )


def _unit_columns(design: Floats) -> Floats:
    # Columns of very different size (income and a dummy) would hide dependence from the rank check.
    size = np.abs(design).max(axis=0)
    return np.asarray(design / np.where(size > 0, size, 1.0))
