"""Clustered variances for few clusters: CR2 and its degrees of freedom (Bell and McCaffrey 2002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.least_squares import LeastSquares

__all__ = ["bias_reduced_covariance"]

Floats = NDArray[np.float64]

# A cluster's leverage this close to 1 means that a coefficient is its own: it has no residual to learn from.
OWN = 1e-10


def bias_reduced_covariance(
    estimator: LeastSquares, outcomes: Floats, clusters: NDArray[np.intp]
) -> tuple[Floats, float]:
    """CR2 covariance of one regression coefficient on several outcomes, and its Satterthwaite degrees of freedom.

    Residuals of a cluster are multiplied by ``(I - H_gg)^(-1/2)``, which makes the variance unbiased when
    errors are independent with variance inverse to the weights; the degrees of freedom are those of the
    variance under that model (Bell and McCaffrey 2002; Imbens and Kolesar 2016, doi:10.1162/REST_a_00552).

    Parameters
    ----------
    estimator : LeastSquares
        Fixed effects that it absorbed must be nested in the clusters: their dummies are then orthogonal, cluster by
        cluster, to what is left of the regressors, and the adjustment is that of the full regression (Pustejovsky and
        Tipton 2018, doi:10.1080/07350015.2016.1247004, theorem 2).
    outcomes : ndarray, shape (m, n)
    clusters : ndarray of int, shape (n,)
        Cluster codes.

    Returns
    -------
    covariance : ndarray, shape (m, m)
    df : float

    Notes
    -----
    With k regressors H_gg = Q_g Q_g' has rank k at most, so one thin singular value decomposition a cluster
    is enough, and the degrees of freedom need only one k-vector a cluster: time and memory are linear in n.
    """
    basis, root = estimator.basis, estimator.root
    loading = estimator.weights / root
    # What a unit adds to the estimate is loading times residual.
    scaled = np.stack([_residual(estimator, outcome) for outcome in outcomes], axis=1)
    order = np.argsort(clusters, kind="stable")
    ends = np.flatnonzero(np.diff(clusters[order], append=-1)) + 1
    scores, norms, shadows = [], [], []
    start = 0
    for end in ends:
        rows = order[start:end]
        q = basis[rows]
        left, singular, _ = np.linalg.svd(q, full_matrices=False)
        room = 1 - np.minimum(singular, 1.0) ** 2
        inverse_root = np.where(room > OWN, 1 / np.sqrt(np.maximum(room, OWN)), 0.0)  # Moore and Penrose
        adjusted = loading[rows] + left @ ((inverse_root - 1) * (left.T @ loading[rows]))
        scores.append(adjusted @ scaled[rows])
        norms.append(float(adjusted @ adjusted))
        shadows.append(q.T @ adjusted)
        start = int(end)
    # Under the working model the scores have covariance diag(norms) - shadows shadows'.
    norm, shadow = np.array(norms), np.array(shadows)
    own = (shadow**2).sum(axis=1)
    trace = float((norm - own).sum())
    square = float((norm**2).sum() - 2 * (norm * own).sum() + np.square(shadow.T @ shadow).sum())
    score = np.array(scores)
    return score.T @ score, trace**2 / square


def _residual(estimator: LeastSquares, outcome: Floats) -> Floats:
    """Residual times the root of the weight."""
    return np.asarray(estimator.root * estimator.residual(outcome))
