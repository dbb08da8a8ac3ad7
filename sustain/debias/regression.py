"""Straight-line regression with robust covariances.

The line may be corrected for noise in its regressor: with ``x_observed = x + u`` the slope is
``Cov(x_observed, y) / (Var(x_observed) - Var(u))``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sustain.errors import CalibrationError

__all__ = [
    "EXACT",
    "Line",
    "Moments",
    "Wald",
    "critical_value",
    "fit_line",
    "least_squares",
    "moments",
    "robust_covariance",
    "wald_test",
]

Array = NDArray[np.float64]

EXACT = 1 - 1e-12
"""Squared correlation from which on two columns are one line to rounding, so that residuals test nothing."""


@dataclass(frozen=True)
class Line:
    """A fitted line ``y = intercept + slope * x``.

    Attributes
    ----------
    intercept, slope : float
        Coefficients.
    cov : ndarray, shape (2, 2)
        Covariance of (intercept, slope): HC1, or CRV1 when fitted with groups.
    r2 : float
        Squared correlation of x and y.
    sigma : float
        Residual standard deviation of y about the line (of the noise-free x, if noise was given).
    n : int
        Number of rows.
    df : int
        Degrees of freedom for intervals: ``n - 2``, or the number of groups less one.
    vcov : str
        ``"HC1"`` or ``"CRV1"``.
    influence : ndarray, shape (n, 2)
        Influence of every row on (intercept, slope): they average to zero, and ``influence.T @ influence / n**2``
        is the covariance HC0.
    """

    intercept: float
    slope: float
    cov: Array
    r2: float
    sigma: float
    n: int
    df: int
    vcov: str
    influence: Array = field(repr=False)

    @property
    def slope_se(self) -> float:
        """Standard error of the slope."""
        return math.sqrt(self.cov[1, 1])

    def slope_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the slope, by Student's t with `df` degrees of freedom."""
        margin = critical_value(level, self.df) * self.slope_se
        return self.slope - margin, self.slope + margin


def fit_line(
    x: Array, y: Array, weight: Array, group: NDArray[np.intp] | None = None, noise_var: float = 0.0
) -> Line:
    """Regress `y` on `x`.

    Parameters
    ----------
    x, y, weight : ndarray, shape (n,)
        Regressor, response and weights with a mean of one.
    group : ndarray of int, shape (n,), optional
        Cluster codes; with them the covariance is CRV1, else HC1.
    noise_var : float
        Variance of the noise in `x`, taken off its variance.

    Raises
    ------
    CalibrationError
        When `noise_var` is not below the variance of `x`.
    """
    n = x.size
    mean_x, mean_y = float(np.average(x, weights=weight)), float(np.average(y, weights=weight))
    dx, dy = x - mean_x, y - mean_y
    var_x, var_y = float(np.average(dx**2, weights=weight)), float(np.average(dy**2, weights=weight))
    cov_xy = float(np.average(dx * dy, weights=weight))
    true_var = var_x - noise_var
    if true_var <= 0:
        raise CalibrationError(
            f"target_noise_var: {noise_var:g} is not below the variance of the labels, {var_x:g}. "
            "Give the variance of the labels' sampling error, in squared units of the label."
        )
    slope = cov_xy / true_var
    residual = dy - slope * dx
    # Influence of a ratio of moments; without noise the second term is zero and this is OLS.
    on_slope = (dx * residual - (cov_xy - slope * var_x)) / true_var
    influence = weight[:, None] * np.column_stack([residual - mean_x * on_slope, on_slope])
    used = int(np.count_nonzero(weight))
    residual_var = max(0.0, var_y - slope**2 * true_var) * used / (used - 2)
    cov, df = robust_covariance(influence, group, weight)
    return Line(
        intercept=mean_y - slope * mean_x,
        slope=slope,
        cov=cov,
        r2=cov_xy**2 / (var_x * var_y) if var_y > 0 else 0.0,
        sigma=math.sqrt(residual_var),
        n=n,
        df=df,
        vcov="HC1" if group is None else "CRV1",
        influence=influence,
    )


def robust_covariance(
    influence: Array, group: NDArray[np.intp] | None, weight: Array | None = None
) -> tuple[Array, int]:
    """Covariance of k coefficients from their influences (shape (n, k)), and its degrees of freedom.

    HC1 with ``n - k`` degrees of freedom; with clusters CRV1 with the number of clusters less one. Rows of no weight,
    and clusters of such rows, count as absent. Raises `CalibrationError` when a single cluster is left.
    """
    rows, k = influence.shape
    used = np.ones(rows, dtype=bool) if weight is None else weight > 0
    n = int(used.sum())
    if group is None:
        return influence.T @ influence / rows**2 * (n / (n - k)), n - k
    sums = np.column_stack([np.bincount(group, weights=influence[:, column]) for column in range(k)])
    n_groups = int(np.count_nonzero(np.bincount(group, weights=used)))
    if n_groups < 2:
        raise CalibrationError(
            "groups: all rows that count are in one group, so that nothing is seen of how groups differ. Pass at least "
            "two clusters with rows of some weight, or no groups."
        )
    return sums.T @ sums / rows**2 * (n_groups / (n_groups - 1)) * ((n - 1) / (n - k)), n_groups - 1


def least_squares(
    design: Array, y: Array, weight: Array, group: NDArray[np.intp] | None, noise_var: Array | float = 0.0
) -> tuple[Array, Array, int]:
    """Weighted least squares with a robust covariance: (coefficients, covariance, degrees of freedom).

    Parameters
    ----------
    design : ndarray, shape (n, k)
        Columns of full rank.
    y : ndarray, shape (n,)
    weight : ndarray, shape (n,)
        With a mean of one.
    noise_var : ndarray, shape (k,) or (n, k), or float
        Variance of the noise in each column (and row), independent of all else; taken off the moments (Fuller 1987,
        section 2.2, doi:10.1002/9780470316665).

    Raises
    ------
    CalibrationError
        When the noise is as large as what the other columns leave of the variance of its own.
    """
    noise = np.broadcast_to(np.asarray(noise_var, dtype=np.float64), design.shape)
    weighted = design * weight[:, None]
    products = weighted.T @ design / y.size
    coefficients: Array
    if noise.any():
        products = products - np.diag((weight[:, None] * noise).mean(axis=0))
        if np.linalg.eigvalsh(products)[0] <= 0:
            raise CalibrationError(
                f"target_noise_var: {noise.max():g} is not below the variance of the labels that the covariates leave "
                "unexplained. Give the variance of the labels' sampling error, in squared units of the label."
            )
        coefficients = np.asarray(np.linalg.solve(products, weighted.T @ y / y.size), dtype=np.float64)
    else:
        root = np.sqrt(weight)
        coefficients = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0].astype(np.float64)
    residual = y - design @ coefficients
    influence = (weighted * residual[:, None] + weight[:, None] * noise * coefficients) @ np.linalg.inv(
        products
    )
    cov, df = robust_covariance(influence, group, weight)
    return coefficients, cov, df


@dataclass(frozen=True)
class Wald:
    """Test that some coefficients have given values: F statistic, its degrees of freedom, p-value."""

    statistic: float
    df: tuple[int, int]
    p_value: float


def wald_test(difference: Array, cov: Array, df: int) -> Wald:
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


@dataclass(frozen=True)
class Moments:
    """First and second weighted moments of (x, y), one value a draw (shape (n_draws,) each)."""

    mean_x: Array
    mean_y: Array
    var_x: Array
    var_y: Array
    cov_xy: Array


def moments(x: Array, y: Array, weight: Array, group: NDArray[np.intp] | None, counts: Array) -> Moments:
    """Moments of resampled rows, without touching the rows again for every draw.

    Parameters
    ----------
    x, y, weight : ndarray, shape (n,)
        The sample.
    group : ndarray of int, shape (n,), or None
        Cluster codes; None when every row is its own cluster.
    counts : ndarray, shape (n_draws, n_groups)
        How often each cluster was drawn.
    """
    # Sums are of centred values: raw second moments would cancel when the mean is far from zero.
    centre_x, centre_y = x.mean(), y.mean()
    dx, dy = x - centre_x, y - centre_y
    columns = [weight, weight * dx, weight * dy, weight * dx**2, weight * dy**2, weight * dx * dy]
    if group is not None:
        columns = [np.bincount(group, weights=column) for column in columns]
    total, sx, sy, sxx, syy, sxy = (counts @ np.column_stack(columns)).T
    mx, my = sx / total, sy / total
    return Moments(
        mx + centre_x, my + centre_y, sxx / total - mx**2, syy / total - my**2, sxy / total - mx * my
    )


def critical_value(level: float, df: float = math.inf) -> float:
    """Two-sided critical value of Student's t (of the normal when `df` is infinite).

    Raises
    ------
    CalibrationError
        When `level` is not between 0 and 1.
    """
    from scipy.special import ndtri, stdtrit

    if not 0 < level < 1:
        raise CalibrationError(
            f"level: {level!r} is not a confidence level between 0 and 1. Pass a share such as 0.95."
        )
    upper = 0.5 + level / 2
    return float(ndtri(upper)) if math.isinf(df) else float(stdtrit(df, upper))
