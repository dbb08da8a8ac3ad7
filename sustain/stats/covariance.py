"""From influences to variances, and from variances to critical values and tests.

An estimate is handed over as the influence psi of each row, scaled so that ``estimate - truth = sum_i psi_i`` up to
smaller terms. What differs between variances is which products psi_i psi_j are summed: a row with itself (HC1), with
its cluster or clusters (CRV1), or with its neighbours (Conley, `sustain.causal.vcov.conley`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.errors import StatisticsError

__all__ = [
    "Wald",
    "cluster_covariance",
    "critical_value",
    "joint_codes",
    "p_value",
    "residual_df",
    "robust_covariance",
    "robust_or_clustered",
    "wald_test",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def robust_covariance(
    influence: ArrayLike,
    n_params: int = 0,
    *,
    n_used: int | None = None,
    error: type[StatisticsError] = StatisticsError,
) -> Floats:
    """Heteroskedasticity-robust covariance: HC0, or HC1 when `n_params` is given.

    Parameters
    ----------
    influence : array_like, shape (n,) or (n, p)
        Influence of each row on each of p estimates, scaled to sum to the error of the estimate.
    n_params : int
        Number k of estimated coefficients; the result is multiplied by n / (n - k) (HC1). 0 gives HC0.
    n_used : int, optional
        Rows that count; by default all. Rows of no weight are to be left out.
    error : type of StatisticsError
        What is raised with too few rows.

    Returns
    -------
    ndarray, shape (p, p)
    """
    psi = as_matrix(influence)
    n = len(psi) if n_used is None else n_used
    return np.asarray((psi.T @ psi) * (n / residual_df(n, n_params, error)), dtype=float)


def cluster_covariance(
    influence: ArrayLike,
    clusters: Codes | Sequence[Codes],
    n_params: int | None = None,
    *,
    n_used: int | None = None,
    n_clusters: int | None = None,
    error: type[StatisticsError] = StatisticsError,
) -> Floats:
    """Cluster-robust covariance: CR0, or CRV1 when `n_params` is given.

    Parameters
    ----------
    influence : array_like, shape (n,) or (n, p)
        As in `robust_covariance`.
    clusters : ndarray of int, shape (n,), or several of them
        Cluster codes, 0, 1, ... (`sustain.stats.columns.ColumnReader.labels` makes them). Rows that share a cluster of
        any of several are dependent (Cameron, Gelbach and Miller 2011, doi:10.1198/jbes.2010.07136).
    n_params : int, optional
        Number k of estimated coefficients. The result is then multiplied by G/(G-1) * (n-1)/(n-k), as in
        Stata and statsmodels (Liang and Zeger 1986, with the usual small-sample factor). Of several clusterings, G is
        that with the fewest clusters, as in fixest.
    n_used, n_clusters : int, optional
        Rows and clusters that count; by default all rows, and all clusters that occur. Rows of no weight, and clusters
        of such rows, are to be left out.
    error : type of StatisticsError
        What is raised.

    Returns
    -------
    ndarray, shape (p, p)
        With several clusterings variances can be negative.

    Raises
    ------
    StatisticsError
        With fewer than two clusters: nothing is seen of how clusters differ.
    """
    psi = as_matrix(influence)
    ways = [clusters] if isinstance(clusters, np.ndarray) else list(clusters)
    count = min(np.count_nonzero(np.bincount(way)) for way in ways) if n_clusters is None else n_clusters
    if count < 2:
        raise error(
            f"clusters: got {count} cluster, but a clustered variance needs at least 2 (and wants 10 or more): nothing "
            "is seen of how clusters differ. Cluster at a finer level, or take the rows as independent if they are."
        )
    covariance: Floats = np.zeros((psi.shape[1], psi.shape[1]))
    for several in range(1, len(ways) + 1):
        for shared in combinations(ways, several):  # rows alike in all of these were counted for each of them
            code = joint_codes(shared)
            sums = np.stack([np.bincount(code, column) for column in psi.T], axis=1)
            covariance -= (-1) ** several * (sums.T @ sums)
    if n_params is None:
        return covariance
    n = len(psi) if n_used is None else n_used
    return covariance * (count / (count - 1)) * ((n - 1) / residual_df(n, n_params, error))


def joint_codes(codes: Sequence[Codes]) -> Codes:
    """Codes of the combinations of several columns of codes."""
    joint = codes[0]
    for code in codes[1:]:
        pairs = joint.astype(np.int64) * (int(code.max()) + 1) + code
        joint = np.unique(pairs, return_inverse=True)[1].astype(np.intp)
    return joint


def robust_or_clustered(
    influence: Floats,
    group: Codes | None,
    weight: Floats | None = None,
    error: type[StatisticsError] = StatisticsError,
) -> tuple[Floats, int]:
    """Covariance of k estimates from their influences, shape (n, k), and its degrees of freedom.

    HC1 with ``n - k`` degrees of freedom; with clusters CRV1 with the number of clusters less one. Rows of no weight,
    and clusters of such rows, count as absent. Raises `error` when a single cluster is left.
    """
    rows, k = influence.shape
    used = np.ones(rows, dtype=bool) if weight is None else weight > 0
    n = int(used.sum())
    if group is None:
        return robust_covariance(influence, k, n_used=n, error=error), n - k
    n_groups = int(np.count_nonzero(np.bincount(group, weights=used)))
    cov = cluster_covariance(influence, group, k, n_used=n, n_clusters=n_groups, error=error)
    return cov, n_groups - 1


def residual_df(n: int, n_params: int, error: type[StatisticsError] = StatisticsError) -> int:
    """Rows less coefficients; raises `error` unless some are left."""
    if n <= n_params:
        raise error(
            f"too few units: {n} units for {n_params} coefficients. Use fewer covariates or more units."
        )
    return n - n_params


def critical_value(
    level: float, df: float = math.inf, error: type[StatisticsError] = StatisticsError
) -> float:
    """Two-sided critical value of Student's t (of the normal when `df` is infinite).

    Raises
    ------
    StatisticsError
        When `level` is not between 0 and 1.
    """
    from scipy.special import ndtri, stdtrit

    if not 0 < level < 1:
        raise error(f"level: {level!r} is not a confidence level between 0 and 1. Pass a share such as 0.95.")
    upper = 0.5 + level / 2
    return float(ndtri(upper)) if math.isinf(df) else float(stdtrit(df, upper))


def p_value(statistic: float, df: float) -> float:
    """Two-sided p-value of a t statistic (normal when `df` is infinite)."""
    from scipy.special import ndtr, stdtr

    tail = -abs(statistic)
    return float(2 * (ndtr(tail) if math.isinf(df) else stdtr(df, tail)))


@dataclass(frozen=True)
class Wald:
    """Test that some coefficients have given values: F statistic, its degrees of freedom, p-value."""

    statistic: float
    df: tuple[int, int]
    p_value: float


def wald_test(difference: Floats, cov: Floats, df: int) -> Wald:
    """Test that `difference` (shape (k,)) is zero, by F with (k, `df`) degrees of freedom.

    The statistic is NaN when `cov` is singular: predictions without error, or a covariance of too few clusters.
    """
    from scipy.special import fdtrc

    k = difference.size
    spread = np.sqrt(np.diag(cov))
    if not (spread > 0).all():
        return Wald(math.nan, (k, df), math.nan)
    # In standard errors: an intercept and a slope may be of very different size, which is no sign of a singular matrix.
    scaled, correlation = difference / spread, cov / np.outer(spread, spread)
    if np.linalg.matrix_rank(correlation, hermitian=True) < k:
        return Wald(math.nan, (k, df), math.nan)
    statistic = float(scaled @ np.linalg.solve(correlation, scaled)) / k
    return Wald(statistic, (k, df), float(fdtrc(k, df, statistic)))


def as_matrix(values: ArrayLike) -> Floats:
    """Values of shape (n,) as a column; of shape (n, p) as they are."""
    array = np.asarray(values, dtype=float)
    return array[:, None] if array.ndim == 1 else array
