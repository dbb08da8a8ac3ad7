"""Whether several coefficients are zero when clusters are few or a few rows decide: CR2 and Hotelling's T squared.

Residuals of a cluster are multiplied by ``(I - H_gg)^(-1/2)``, which makes the covariance V of the coefficients b
unbiased for independent errors of one variance (Bell and McCaffrey 2002; HC2 where every row is its own cluster); in a
weighted regression, of variances that are as one over the weights. Under that model V is near a Wishart matrix of eta
degrees of freedom, with eta from the variances of its entries; so ``b' V^-1 b (eta - q + 1) / (eta q)`` is compared
with F(q, eta - q + 1) (Pustejovsky and Tipton 2018, doi:10.1080/07350015.2016.1247004, their approximation by Zhang,
"HTZ"). Of one coefficient, these are the degrees of freedom of Bell and McCaffrey.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.stats.least_squares import Regressors

__all__ = ["Joint", "f_tail", "joint_test"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

OWN = 1e-10  # room that a cluster leaves others in a direction, under which the direction is its own


class Joint(NamedTuple):
    """Some coefficients, and the test that all of them are zero.

    Attributes
    ----------
    estimate : ndarray, shape (q,)
    cov : ndarray, shape (q, q)
    statistic, df, p_value : float
        Compared with F(q, df). NaN, and a `df` of 0, where one cluster (or row) decides a coefficient alone or
        residuals are zero.
    """

    estimate: Floats
    cov: Floats
    statistic: float
    df: float
    p_value: float


def joint_test(found: Regressors, y: Floats, which: Floats, group: Codes | None = None) -> Joint:
    """Test that ``which @ coefficients`` is zero in the regression of `y` on the columns of `found`.

    Parameters
    ----------
    found : Regressors
        n rows, k columns, weighted or not.
    y : ndarray, shape (n,)
    which : ndarray, shape (q, k)
        Rows linearly independent.
    group : ndarray of int, shape (n,), optional
        Cluster codes; every row its own by default.
    """
    q = len(which)
    estimate = which @ found.solve(y)
    residual = found.root * found.residual(y)
    loading = which @ found.back  # of the coefficients on the orthonormal basis, shape (q, k)
    half = np.linalg.cholesky(loading @ loading.T)
    loading = np.linalg.solve(half, loading)  # in units in which the working covariance is the identity
    scores, own, shadows = _clusters(found.basis, residual, loading, group)
    spread = scores.T @ scores
    cov = half @ spread @ half.T
    trace = float(np.trace(own.sum(axis=0)) - np.square(shadows).sum())
    if trace < q - math.sqrt(OWN) or np.linalg.matrix_rank(spread, hermitian=True) < q:
        return Joint(estimate, cov, math.nan, 0.0, math.nan)
    eta = q * (q + 1) / _total_variance(own, shadows)
    df = eta - q + 1
    if df <= 0:
        return Joint(estimate, cov, math.nan, 0.0, math.nan)
    standard = np.linalg.solve(half, estimate)
    statistic = float(standard @ np.linalg.solve(spread, standard)) * df / (eta * q)
    return Joint(estimate, cov, statistic, df, f_tail(q, df, statistic))


def f_tail(q: int, df: float, statistic: float) -> float:
    """P-value of an F statistic; the degrees of freedom of the denominator need not be whole."""
    from scipy.special import fdtrc

    return float(fdtrc(q, df, statistic))


def _clusters(
    basis: Floats, residual: Floats, loading: Floats, group: Codes | None
) -> tuple[Floats, Floats, Floats]:
    """Of each cluster: score (G, q); with P = (I - H_gg)^(-1/2) Q_g loading', P'P (G, q, q) and P'Q_g (G, q, k)."""
    group = np.arange(residual.size, dtype=np.intp) if group is None else group
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    sizes = sizes[sizes > 0]
    starts = np.cumsum(sizes) - sizes
    k = basis.shape[1]
    scores, own, shadows = [], [], []
    for size in np.unique(sizes):  # clusters of one size at once
        rows = order[starts[sizes == size][:, None] + np.arange(size)]
        q, e = basis[rows], residual[rows]
        flat = np.swapaxes(q, 1, 2)
        # H_gg = Q_g Q_g' and A_g = Q_g' Q_g share their eigenvalues above zero: the smaller one is decomposed.
        values, vectors = np.linalg.eigh(q @ flat if size <= k else flat @ q)
        room = 1 - np.clip(values, 0.0, 1.0)
        scale = np.where(room > OWN, 1 / np.sqrt(np.maximum(room, OWN)), 0.0)  # Moore and Penrose
        root = (vectors * scale[:, None, :]) @ np.swapaxes(vectors, 1, 2)
        adjusted = root @ (q @ loading.T) if size <= k else q @ (root @ loading.T)
        turned = np.swapaxes(adjusted, 1, 2)
        scores.append((turned @ e[:, :, None])[:, :, 0])
        own.append(turned @ adjusted)
        shadows.append(turned @ q)
    return np.concatenate(scores), np.concatenate(own), np.concatenate(shadows)


def _total_variance(own: Floats, shadows: Floats) -> float:
    """Sum the variances of the entries of V under the working model.

    Scores have covariances ``[g = h] own_g - shadow_g shadow_h'`` there.
    """
    norms = shadows @ np.swapaxes(shadows, 1, 2)
    total = 0.0
    for s in range(own.shape[1]):
        for t in range(own.shape[1]):
            cross = shadows[:, s].T @ shadows[:, t]
            alike = (
                own[:, s, s] * own[:, t, t] - own[:, s, s] * norms[:, t, t] - own[:, t, t] * norms[:, s, s]
            )
            mixed = own[:, s, t] ** 2 - 2 * own[:, s, t] * norms[:, s, t]
            total += float((alike + mixed).sum() + np.square(cross).sum() + (cross * cross.T).sum())
    return total
