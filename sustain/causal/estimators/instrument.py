"""Two-stage least squares: the effect of a treatment that an instrument moved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.absorb import Absorbed, params_between
from sustain.causal.estimators.least_squares import Adjustment, LinearEstimator
from sustain.errors import EffectError
from sustain.stats.covariance import cluster_covariance, robust_covariance
from sustain.stats.least_squares import Regressors

__all__ = ["WEAK_F", "first_stage_f", "two_stage_least_squares"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

WEAK_F = 10.0  # Staiger and Stock's rule of thumb


def two_stage_least_squares(
    adjustment: Adjustment,
    instruments: Floats,
    instrument_names: Sequence[str],
    absorbed: Absorbed | None = None,
    clusters: Sequence[Codes] = (),
) -> LinearEstimator:
    """Coefficient of treatment in a regression where instruments stand for it; covariates stand for themselves.

    The influence is omega_i e_i, with omega from the treatment as the instruments predict it and the residual
    e_i from the treatment as it was.

    Parameters
    ----------
    adjustment : Adjustment
    instruments : ndarray, shape (n, m)
    instrument_names : sequence of str
    absorbed : Absorbed, optional
        Fixed effects, which are taken out of every column first.
    clusters : sequence of ndarray of int, shape (n,)
        For the F of the first stage: an instrument given to whole clusters is as strong as they are many.

    Raises
    ------
    EffectError
        When columns are dependent, or the instruments do not move the treatment at all.
    """
    treated, weights = adjustment.treated, adjustment.weights
    root = np.sqrt(weights)
    columns = np.column_stack([adjustment.covariates, instruments])
    labels = [*adjustment.names, *instrument_names]
    within = _unchanged if absorbed is None else absorbed.residual
    size = None if absorbed is None else np.linalg.norm(root[:, None] * columns, axis=0)
    both = Regressors.of(
        within(columns), labels, weights, constant=absorbed is None, size=size, error=EffectError
    ).basis
    held, moving = np.hsplit(both, [both.shape[1] - instruments.shape[1]])
    # What the instruments add to the prediction of treatment once the covariates are held.
    target = root * within(treated)
    partial = moving @ (moving.T @ target)
    strength = float(partial @ target)
    if strength <= 1e-20 * float(np.square(root * treated).sum()):
        raise EffectError(
            f"instrument: {', '.join(instrument_names)} does not move the treatment, given the covariates."
        )
    omega = root * partial / strength
    treatment_left = target - held @ (held.T @ target)

    def influence(outcome: Floats) -> Floats:
        left = root * within(outcome)
        left = left - held @ (held.T @ left)
        return np.asarray(omega * (left - float(omega @ outcome) * treatment_left) / root)

    f = first_stage_f(target, held, moving, absorbed, clusters)
    kind = "clustered" if clusters else "robust"
    notes: tuple[tuple[str, str], ...] = ()
    if math.isnan(f):
        text = (
            "The two-way clustered variance of the first stage is not positive, so how strong the instruments are is "
            "not known. Cluster one way to see."
        )
        notes = (("weak_instrument", text),)
    elif f < WEAK_F:
        text = (
            f"The instruments are weak: the {kind} F of the first stage is {f:.3g}, under {WEAK_F:g}. The "
            "estimate leans towards least squares, and its interval is too short: regress the outcome on the "
            "instruments instead (Anderson and Rubin), whose test asks for no strength."
        )
        notes = (("weak_instrument", text),)
    name = f"two-stage least squares ({kind} first-stage F {f:.4g})"
    if absorbed is None:
        return LinearEstimator(name, omega, influence, held.shape[1] + 1, notes)
    name = f"{name}, {absorbed.described}"
    n_params = held.shape[1] + 1 + absorbed.rank
    return LinearEstimator(name, omega, influence, n_params, notes, effects=absorbed.effects)


def _unchanged(values: Floats) -> Floats:
    return values


def first_stage_f(
    target: Floats,
    held: Floats,
    moving: Floats,
    absorbed: Absorbed | None = None,
    clusters: Sequence[Codes] = (),
) -> float:
    """Wald F of the instruments in the first stage: robust (HC1), or with clusters CRV1.

    With one instrument it is the effective F of Montiel Olea and Pflueger (2013, doi:10.1080/00401706.2013.806694). NaN
    when a two-way clustered variance is not positive.

    Parameters
    ----------
    target : ndarray, shape (n,)
        Treatment times the root of the weights, without what fixed effects explain.
    held, moving : ndarray, shape (n, k) and (n, m)
        Orthonormal bases of the covariates, and of the instruments without them.
    absorbed : Absorbed, optional
        Fixed effects that were taken out of all of these: their dummies are coefficients of the first stage too.
    clusters : sequence of ndarray of int, shape (n,)
    """
    basis = np.column_stack([held, moving])
    residual = target - basis @ (basis.T @ target)
    coefficients = moving.T @ target
    influence, n_params = moving * residual[:, None], basis.shape[1]
    effects: tuple[Codes, ...] = ()
    if absorbed is not None:
        n_params, effects = n_params + absorbed.rank, absorbed.effects
    if clusters:
        n_params = params_between(n_params, effects, clusters)
        covariance = cluster_covariance(influence, clusters, n_params, error=EffectError)
    else:
        covariance = robust_covariance(influence, n_params, error=EffectError)
    if np.linalg.eigvalsh(covariance)[0] < -1e-12 * np.trace(np.abs(covariance)):
        return math.nan
    return float(coefficients @ np.linalg.pinv(covariance, hermitian=True) @ coefficients / moving.shape[1])
