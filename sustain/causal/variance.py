"""From influence functions to variances: robust and clustered.

Every estimator of `sustain.causal` hands over one number a unit, its influence psi_i, scaled so that
``tau_hat - tau = sum_i psi_i`` up to smaller terms. What differs between variances is only which products
psi_i psi_j are summed: a unit with itself (HC1), with its cluster (CRV1), or with its
neighbours (Conley, `sustain.causal.conley`).
The calibration sample is another, independent sample, so its part is added.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.debias import regression
from sustain.errors import CalibrationError, EffectError

__all__ = [
    "cluster_covariance",
    "critical_value",
    "p_value",
    "robust_covariance",
]

Floats = NDArray[np.float64]


def robust_covariance(influence: ArrayLike, n_params: int = 0) -> Floats:
    """Heteroskedasticity-robust covariance: HC0, or HC1 when `n_params` is given.

    Parameters
    ----------
    influence : array_like, shape (n,) or (n, p)
        Influence of each unit on each of p estimates, scaled to sum to the error of the estimate.
    n_params : int
        Number k of estimated coefficients; the result is multiplied by n / (n - k) (HC1). 0 gives HC0.

    Returns
    -------
    ndarray, shape (p, p)
    """
    psi = as_matrix(influence)
    return (psi.T @ psi) * (len(psi) / residual_df(len(psi), n_params))


def cluster_covariance(influence: ArrayLike, clusters: ArrayLike, n_params: int | None = None) -> Floats:
    """Cluster-robust covariance: CR0, or CRV1 when `n_params` is given.

    Parameters
    ----------
    influence : array_like, shape (n,) or (n, p)
        Influence of each unit, as in `robust_covariance`.
    clusters : array_like, shape (n,)
        Cluster label of each unit, of any kind that can be compared.
    n_params : int, optional
        Number k of estimated coefficients. The result is then multiplied by G/(G-1) * (n-1)/(n-k), as in
        Stata and statsmodels (Liang and Zeger 1986, with the usual small-sample factor).

    Returns
    -------
    ndarray, shape (p, p)

    Raises
    ------
    EffectError
        With fewer than two clusters.
    """
    psi = as_matrix(influence)
    _, code = np.unique(np.asarray(clusters), return_inverse=True)
    n_clusters = int(code.max()) + 1 if len(code) else 0
    if n_clusters < 2:
        raise EffectError(
            f"clusters: got {n_clusters} cluster, but a clustered variance needs at least 2 (and wants 10 "
            "or more). Cluster at a finer level, or use vcov='HC1' if units are independent."
        )
    sums = np.stack([np.bincount(code, column, minlength=n_clusters) for column in psi.T], axis=1)
    covariance: Floats = np.asarray(sums.T @ sums, dtype=float)
    if n_params is None:
        return covariance
    n = len(psi)
    return covariance * (n_clusters / (n_clusters - 1)) * ((n - 1) / residual_df(n, n_params))


def critical_value(level: float, df: float) -> float:
    """Two-sided critical value of Student's t with `df` degrees of freedom (normal when infinite)."""
    try:
        return regression.critical_value(level, df)
    except CalibrationError as error:
        raise EffectError(str(error)) from error


def p_value(statistic: float, df: float) -> float:
    """Two-sided p-value of a t statistic (normal when `df` is infinite)."""
    from scipy.special import ndtr, stdtr

    tail = -abs(statistic)
    return float(2 * (ndtr(tail) if math.isinf(df) else stdtr(df, tail)))


def as_matrix(values: ArrayLike) -> Floats:
    """Values of shape (n,) as a column; of shape (n, p) as they are."""
    array = np.asarray(values, dtype=float)
    return array[:, None] if array.ndim == 1 else array


def residual_df(n: int, n_params: int) -> int:
    """Units less coefficients; raises `EffectError` unless some are left."""
    if n <= n_params:
        raise EffectError(
            f"too few units: {n} units for {n_params} coefficients. Use fewer covariates or more units."
        )
    return n - n_params
