"""The straight line, with noise in its regressor taken off, and its moments over resamples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sustain.errors import StatisticsError
from sustain.stats.covariance import critical_value, robust_or_clustered

__all__ = ["EXACT", "Line", "WeightedMoments", "fit_line", "weighted_moments"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

EXACT = 1 - 1e-12
"""Two columns with a squared correlation above this are one line to rounding, so that residuals test nothing."""


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
        Influence of every row on (intercept, slope): they sum to the error of the estimate, and
        ``influence.T @ influence`` is the covariance HC0.
    """

    intercept: float
    slope: float
    cov: Floats
    r2: float
    sigma: float
    n: int
    df: int
    vcov: str
    influence: Floats = field(repr=False)

    @property
    def slope_se(self) -> float:
        """Standard error of the slope."""
        return math.sqrt(self.cov[1, 1])

    def slope_interval(
        self, level: float = 0.95, error: type[StatisticsError] = StatisticsError
    ) -> tuple[float, float]:
        """Confidence interval of the slope, by Student's t with `df` degrees of freedom; raises `error` on no level."""
        margin = critical_value(level, self.df, error) * self.slope_se
        return self.slope - margin, self.slope + margin


def fit_line(
    x: Floats,
    y: Floats,
    weight: Floats,
    group: Codes | None = None,
    noise_var: float = 0.0,
    error: type[StatisticsError] = StatisticsError,
) -> Line:
    """Regress `y` on `x`, which may hold noise: ``slope = Cov(x, y) / (Var(x) - noise_var)``.

    Parameters
    ----------
    x, y, weight : ndarray, shape (n,)
        Regressor, response and weights with a mean of one.
    group : ndarray of int, shape (n,), optional
        Cluster codes; with them the covariance is CRV1, else HC1.
    noise_var : float
        Variance of the noise in `x`, taken off its variance.
    error : type of StatisticsError
        What is raised.

    Raises
    ------
    StatisticsError
        When `noise_var` is not below the variance of `x`, or all rows that count are in one cluster.
    """
    n = x.size
    mean_x, mean_y = float(np.average(x, weights=weight)), float(np.average(y, weights=weight))
    dx, dy = x - mean_x, y - mean_y
    var_x, var_y = float(np.average(dx**2, weights=weight)), float(np.average(dy**2, weights=weight))
    cov_xy = float(np.average(dx * dy, weights=weight))
    true_var = var_x - noise_var
    if true_var <= 0:
        raise error(
            f"target_noise_var: {noise_var:g} is not below the variance of the labels, {var_x:g}. "
            "Give the variance of the labels' sampling error, in squared units of the label."
        )
    slope = cov_xy / true_var
    residual = dy - slope * dx
    # Influence of a ratio of moments; without noise the second term is zero and this is OLS.
    on_slope = (dx * residual - (cov_xy - slope * var_x)) / true_var
    influence = weight[:, None] * np.column_stack([residual - mean_x * on_slope, on_slope]) / n
    used = int(np.count_nonzero(weight))
    residual_var = max(0.0, var_y - slope**2 * true_var) * used / (used - 2)
    cov, df = robust_or_clustered(influence, group, weight, error)
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


@dataclass(frozen=True)
class WeightedMoments:
    """First and second weighted moments of (x, y), one value a draw (shape (n_draws,) each)."""

    mean_x: Floats
    mean_y: Floats
    var_x: Floats
    var_y: Floats
    cov_xy: Floats


def weighted_moments(
    x: Floats, y: Floats, weight: Floats, group: Codes | None, counts: Floats
) -> WeightedMoments:
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
    return WeightedMoments(
        mx + centre_x, my + centre_y, sxx / total - mx**2, syy / total - my**2, sxy / total - mx * my
    )
