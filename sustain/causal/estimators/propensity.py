"""The propensity to be treated, positivity, and weighting by it: Hajek's estimator (IPW)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.least_squares import Adjustment, LinearEstimator
from sustain.errors import EffectError
from sustain.spelling import argument
from sustain.stats.least_squares import Regressors

__all__ = [
    "fit_propensity",
    "inverse_propensity",
    "logistic",
    "overlap_notes",
    "require_overlap",
    "standardised",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Rows = NDArray[np.intp]


# A propensity this close to 0 or 1 is a fit that separates the arms, not an estimate.
SEPARATION = 1e-6
# A unit with more than this share of its arm's weight is said.
HEAVY = 0.1
# Mean score of a standardised column, up to which a likelihood is at its maximum.
CONVERGED = 1e-8


_NO_OVERLAP = (
    "covariates: they tell (almost) exactly who is treated, so treated and controls cannot be compared by "
    "weighting. Drop the covariate that decides treatment, or keep to the units where both arms occur."
)


def inverse_propensity(adjustment: Adjustment) -> LinearEstimator:
    """Inverse-propensity weighting with weights that add up to one in each arm (Hajek).

    The propensity is a logistic regression on the covariates. The influence includes that it is estimated
    (Lunceford and Davidian 2004, doi:10.1002/sim.1903, the M-estimation of their second estimator).

    Raises
    ------
    EffectError
        When covariates are linearly dependent, or tell (almost) exactly who is treated: no overlap.
    """
    treated, weights, z = adjustment.treated, adjustment.weights, standardised(adjustment)
    coefficients = fit_propensity(treated, z, weights)
    propensity = logistic(z, coefficients)
    arms = (weights * treated / propensity, weights * (1 - treated) / (1 - propensity))
    share = tuple(arm / arm.sum() for arm in arms)
    omega = share[0] - share[1]
    information = (z * (weights * propensity * (1 - propensity))[:, None]).T @ z
    score = (weights * (treated - propensity))[:, None] * z
    fitted = np.linalg.solve(information, score.T).T  # influence of each unit on the coefficients

    def influence(outcome: Floats) -> Floats:
        residual = tuple(arm * (outcome - float(arm @ outcome)) for arm in share)
        slope = -(((1 - propensity) * residual[0] + propensity * residual[1]) @ z)
        return np.asarray(residual[0] - residual[1] + fitted @ slope)

    notes = overlap_notes(share, propensity)
    return LinearEstimator("inverse-propensity weighting", omega, influence, z.shape[1] + 1, notes)


def fit_propensity(treated: Floats, z: Floats, weights: Floats) -> Floats:
    """Coefficients of a weighted logistic regression of `treated` on the columns of `z`, by maximum likelihood.

    The columns must be standardised: of calendar years and their powers no solver finds the maximum.

    Raises
    ------
    EffectError
        When the likelihood has no maximum, propensities come (almost) to 0 or 1, or the fit has not converged.
    """
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Newton's method on the k by k Hessian, so that millions of units need little more than their own columns.
    model = LogisticRegression(
        C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-10, max_iter=100
    )
    with warnings.catch_warnings():
        # Both end in an error below, which says what to do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        model.fit(z, treated, sample_weight=weights / weights.mean())
    coefficients = np.asarray(model.coef_[0], dtype=float)
    propensity = logistic(z, coefficients)
    require_overlap(propensity)
    score = (weights * (treated - propensity)) @ z / weights.sum()
    if np.abs(score).max() > CONVERGED:
        raise EffectError(
            f"covariates: the logistic regression of treatment on them has not converged (score "
            f"{np.abs(score).max():.1g} for columns of variance one). Use fewer of them, or "
            f"{argument('estimator', 'ols')}."
        )
    return coefficients


def require_overlap(propensity: Floats) -> None:
    """Raise `EffectError` when propensities come (almost) to 0 or 1: nothing is trimmed silently."""
    if not (propensity.min() >= SEPARATION and propensity.max() <= 1 - SEPARATION):
        raise EffectError(
            f"{_NO_OVERLAP} Fitted propensities run from {propensity.min():.2g} to {propensity.max():.6g}."
        )


def overlap_notes(share: Sequence[Floats], propensity: Floats) -> tuple[tuple[str, str], ...]:
    """Say so when one unit carries much of its arm's weight; `share` holds each arm's weights, which add up to one."""
    heaviest = max(float(arm.max()) for arm in share)
    if heaviest <= HEAVY:
        return ()
    text = (
        f"One unit carries {heaviest:.0%} of its arm's weight (propensities {propensity.min():.3g} to "
        f"{propensity.max():.3g}): the estimate leans on few units."
    )
    return (("overlap", text),)


def standardised(adjustment: Adjustment) -> Floats:
    """Columns that span a constant and the covariates, uncorrelated and of variance one; the constant first.

    Each is a covariate without what those before it explain. Fits are the same as on the covariates, and as good for
    years, their powers and coordinates in metres as for standardised numbers.
    """
    covariates, weights = adjustment.covariates, adjustment.weights
    found = Regressors.of(covariates, adjustment.names, weights, error=EffectError)
    z = np.asarray(found.basis * (np.sqrt(weights.sum()) / found.root)[:, None])
    z[:, 0] = 1.0
    return z


def logistic(z: Floats, coefficients: Floats) -> Floats:
    """Propensities by the logistic curve, shape (n,)."""
    return np.asarray(1 / (1 + np.exp(-(z @ coefficients))))
