"""Estimators as what they have in common: weights on the outcome, and an influence function.

Each of them is linear in the outcome, ``tau_hat = sum_i omega_i y_i``, with weights that depend on treatment
and covariates only. That is what lets a corrected outcome, or every bootstrap draw of a correction, pass
through without estimating again, and what makes a linear correction of the outcome a division of the effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.absorb import Absorbed
from sustain.errors import EffectError
from sustain.stats.line import Regressors

__all__ = [
    "LeastSquares",
    "LinearEstimator",
    "difference_in_means",
    "from_basis",
    "least_squares",
    "negative_weights",
]

Floats = NDArray[np.float64]

FEW_LEFT = 0.02  # share of the treatment's variance that covariates leave, under which it is said


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
    notes: tuple[tuple[str, str], ...] = ()
    effects: tuple[NDArray[np.intp], ...] = field(default=(), repr=False, kw_only=True)

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
    return least_squares(treated, np.empty((len(treated), 0)), (), weights, name="difference in means")


def least_squares(
    treated: Floats,
    covariates: Floats,
    names: Sequence[str],
    weights: Floats,
    *,
    name: str = "least squares",
    absorbed: Absorbed | None = None,
) -> LeastSquares:
    """Coefficient of treatment in a weighted regression on treatment, covariates and a constant.

    The influence is omega_i e_i with residual e_i, so that HC1 and CRV1 equal those of a regression package.

    Parameters
    ----------
    treated : ndarray, shape (n,)
        0 or 1; any other regressor of interest works too.
    covariates : ndarray, shape (n, k)
    names : sequence of str
        Names of the covariates, for the error message.
    weights : ndarray, shape (n,)
        Positive weights.
    name : str
        Name of the estimator.
    absorbed : Absorbed, optional
        Fixed effects, which then stand in for the constant (Frisch, Waugh and Lovell).

    Raises
    ------
    EffectError
        When the columns are linearly dependent, also once the fixed effects are taken out.
    """
    columns = np.column_stack([covariates, treated])
    labels = [*names, "the treatment"]
    if absorbed is None:
        found = Regressors.of(columns, labels, weights, error=EffectError)
        n_params = columns.shape[1] + 1
    else:
        size = np.linalg.norm(np.sqrt(weights)[:, None] * columns, axis=0)
        columns = absorbed.residual(columns)
        _require_within(np.sqrt(weights) * columns[:, -1], size[-1])
        found = Regressors.of(columns, labels, weights, constant=False, size=size, error=EffectError)
        n_params = columns.shape[1] + absorbed.rank
        name = f"{name}, {absorbed.described}"
    basis, root = found.basis, found.root
    # Frisch, Waugh and Lovell: the last column of the basis is the treatment without what the others explain.
    partial = basis[:, -1]
    omega = root * partial / float(partial @ (root * treated))

    within = None if absorbed is None else absorbed.residual
    varies = root * (columns[:, -1] - (0.0 if absorbed else np.average(treated, weights=weights)))
    kept = float((partial @ varies) ** 2 / (varies @ varies))
    effects = () if absorbed is None else absorbed.effects
    notes = _notes(kept) + (negative_weights(omega, treated) if len(effects) > 1 else [])
    return from_basis(name, omega, basis, root, n_params, tuple(notes), within=within, effects=effects)


def from_basis(
    name: str,
    omega: Floats,
    basis: Floats,
    root: Floats,
    n_params: int,
    notes: tuple[tuple[str, str], ...] = (),
    *,
    within: Callable[[Floats], Floats] | None = None,
    effects: tuple[NDArray[np.intp], ...] = (),
) -> LeastSquares:
    """Regression from its parts; `within` takes absorbed fixed effects out of the outcome."""

    def residual(outcome: Floats) -> Floats:
        left = outcome if within is None else within(outcome)
        return np.asarray(left - (basis @ (basis.T @ (root * left))) / root)

    def influence(outcome: Floats) -> Floats:
        return np.asarray(omega * residual(outcome))

    return LeastSquares(
        name, omega, influence, n_params, notes, effects=effects, basis=basis, root=root, residual=residual
    )


def negative_weights(omega: Floats, treated: Floats) -> list[tuple[str, str]]:
    """Say so when treated rows count against the effect, as with two-way fixed effects and staggered treatment."""
    on = treated == 1
    negative = float(-omega[on & (omega < 0)].sum() / np.abs(omega[on]).sum())
    if negative <= 1e-9:
        return []
    text = (
        f"Two-way fixed effects give negative weight to {negative:.1%} of the treated observations' "
        "weight (some units serve as controls after they were treated). When effects differ between "
        "units or over time the estimate need not be an average of them (de Chaisemartin and "
        "D'Haultfoeuille 2020)."
    )
    return [("negative_weights", text)]


def _notes(kept: float) -> list[tuple[str, str]]:
    """Say so when covariates leave next to nothing of the treatment; `kept` is its share that they do not explain."""
    if kept >= FEW_LEFT:
        return []
    text = (
        f"The covariates explain {1 - kept:.4%} of who is treated: the estimate rests on the little that is left, and "
        "compares units that hardly overlap. Drop the covariate that decides treatment."
    )
    return [("overlap", text)]


def _require_within(left: Floats, size: float) -> None:
    if np.linalg.norm(left) <= 1e-10 * size:
        raise EffectError(
            "fixed_effects: the treatment does not vary within their levels, so nothing is left to estimate its "
            "effect from. Drop the effect that decides the treatment."
        )
