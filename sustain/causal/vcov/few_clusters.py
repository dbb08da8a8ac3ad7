"""Clustered variances for few clusters: CR2 and its degrees of freedom (Bell and McCaffrey 2002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.absorb import Absorbed, is_nested
from sustain.causal.estimators.least_squares import LeastSquares
from sustain.errors import EffectError

__all__ = ["bias_reduced_covariance", "rests_on_one_cluster"]

Floats = NDArray[np.float64]

# A cluster's leverage this close to 1 means that a coefficient is its own: it has no residual to learn from.
OWN = 1e-10
MOST_LEVELS = 1000  # of fixed effects across clusters, each of which is a column
FEW_LEVELS = (
    100  # of fixed effects across clusters, up to which each is made a column to see what one cluster decides
)
DEPENDENT = 1e-8  # singular value of scaled dummies, under which it is rounding


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
    outcomes : ndarray, shape (m, n)
    clusters : ndarray of int, shape (n,)
        Cluster codes.

    Returns
    -------
    covariance : ndarray, shape (m, m)
    df : float

    Raises
    ------
    EffectError
        When fixed effects that cut across the clusters have more than 1000 levels.

    Notes
    -----
    Absorbed fixed effects that are nested in the clusters need not be there: their dummies are orthogonal, cluster by
    cluster, to what is left of the regressors, and the adjustment is that of the full regression (Pustejovsky and
    Tipton 2018, doi:10.1080/07350015.2016.1247004, theorem 2). Those that cut across clusters, such as the periods of a
    panel, come back as columns.

    With k regressors H_gg = Q_g Q_g' has rank k at most, so one thin singular value decomposition a cluster
    is enough, and the degrees of freedom need only one k-vector a cluster: time and memory are linear in n.
    """
    basis, root = _basis(estimator, clusters), estimator.root
    loading = estimator.weights / root
    # What a unit adds to the estimate is loading times residual.
    scaled = np.stack([root * estimator.residual(outcome) for outcome in outcomes], axis=1)
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


def rests_on_one_cluster(estimator: LeastSquares, clusters: NDArray[np.intp]) -> bool:
    """Whether a coefficient could not be told without some one cluster.

    Then some combination of the regressors that the coefficient has a part in is zero in all other clusters. Residuals
    are orthogonal to it, so what errors of that cluster add to the estimate is never seen, and a clustered variance
    says next to nothing, CR2 included.

    Parameters
    ----------
    estimator : LeastSquares
    clusters : ndarray of int, shape (n,)
        Cluster codes; ``arange(n)`` for independent units.

    Notes
    -----
    Of fixed effects that cut across the clusters, more than 100 levels are taken as given, not as estimated.
    """
    across = sum(int(code.max()) + 1 for code in estimator.effects if not is_nested(code, clusters))
    basis = estimator.basis if across > FEW_LEVELS else _basis(estimator, clusters)
    loading = estimator.weights / estimator.root
    least = OWN * float(loading @ loading)
    # A leverage of one is an eigenvalue of a cluster's block of the hat matrix, so its trace is one or more.
    for cluster in np.flatnonzero(np.bincount(clusters, np.square(basis).sum(axis=1)) >= 1 - OWN):
        rows = np.flatnonzero(clusters == cluster)
        left, singular, _ = np.linalg.svd(basis[rows], full_matrices=False)
        own = left[:, 1 - np.minimum(singular, 1.0) ** 2 <= OWN].T @ loading[rows]
        if own @ own > least:
            return True
    return False


def _basis(estimator: LeastSquares, clusters: NDArray[np.intp]) -> Floats:
    """Orthonormal basis of the regressors and of fixed effects across clusters, without effects within clusters."""
    within = [code for code in estimator.effects if is_nested(code, clusters)]
    across = [code for code in estimator.effects if not is_nested(code, clusters)]
    if not across:
        return estimator.basis
    n_levels = sum(int(code.max()) + 1 for code in across)
    if n_levels > MOST_LEVELS:
        raise EffectError(
            f"vcov: CR2 with fixed effects of {n_levels} levels that cut across the clusters, each of which it needs "
            "as a column. Use 'CRV1'."
        )
    root = estimator.root
    dummies = np.hstack([code[:, None] == np.arange(code.max() + 1) for code in across]).astype(float)
    dummies /= np.linalg.norm(root[:, None] * dummies, axis=0)
    if within:
        dummies = Absorbed(within, root**2).residual(dummies)
    left, size, _ = np.linalg.svd(root[:, None] * dummies, full_matrices=False)
    return np.column_stack([left[:, size > DEPENDENT], estimator.basis])
