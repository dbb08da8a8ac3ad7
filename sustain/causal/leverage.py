"""Clustered variances for few clusters: CR2 and its degrees of freedom (Bell and McCaffrey 2002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators import LeastSquares

__all__ = ["bias_reduced_variance"]

Floats = NDArray[np.float64]

# A cluster's leverage this close to 1 means that a coefficient is its own: it has no residual to learn from.
OWN = 1e-10


def bias_reduced_variance(
    estimator: LeastSquares, outcome: Floats, clusters: NDArray[np.intp]
) -> tuple[float, float]:
    """CR2 variance of a regression coefficient and its Satterthwaite degrees of freedom.

    Residuals of a cluster are multiplied by ``(I - H_gg)^(-1/2)``, which makes the variance unbiased when
    errors are independent with variance inverse to the weights; the degrees of freedom are those of the
    variance under that model (Bell and McCaffrey 2002; Imbens and Kolesar 2016, doi:10.1162/REST_a_00552).

    Parameters
    ----------
    estimator : LeastSquares
    outcome : ndarray, shape (n,)
    clusters : ndarray of int, shape (n,)
        Cluster codes.

    Returns
    -------
    variance, df : float

    Notes
    -----
    With k regressors H_gg = Q_g Q_g' has rank k at most, so one thin singular value decomposition a cluster
    is enough, and the degrees of freedom need only one k-vector a cluster: time and memory are linear in n.
    """
    basis, root = estimator.basis, estimator.root
    scaled = root * outcome
    residual = scaled - basis @ (basis.T @ scaled)
    loading = estimator.weights / root
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
        scores.append(float(adjusted @ residual[rows]))
        norms.append(float(adjusted @ adjusted))
        shadows.append(q.T @ adjusted)
        start = int(end)
    # Under the working model the scores have covariance diag(norms) - shadows shadows'.
    norm, shadow = np.array(norms), np.array(shadows)
    own = (shadow**2).sum(axis=1)
    trace = float((norm - own).sum())
    square = float((norm**2).sum() - 2 * (norm * own).sum() + np.square(shadow.T @ shadow).sum())
    return float(np.square(scores).sum()), trace**2 / square
