"""Least squares that is safe with any scale of columns, and the straight line with noise in its regressor.

Columns are centred and scaled before anything is decided or solved, so that years, populations, GDP in currency units
and products of UTM coordinates are as good as standardised ones. Dependent columns are an error that names them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sustain.errors import StatisticsError
from sustain.stats.covariance import cluster_covariance, critical_value, robust_covariance

__all__ = [
    "EXACT",
    "Line",
    "Regressors",
    "WeightedMoments",
    "fit_line",
    "least_squares",
    "require_full_rank",
    "robust_or_clustered",
    "weighted_moments",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

EXACT = 1 - 1e-12
"""Two columns with a squared correlation above this are one line to rounding, so that residuals test nothing."""

CONSTANT = "the constant"

DEPENDENT = (
    1e-10  # share of a centred column that others leave of it, up to which it counts as explained by them
)
ROUNDING = 1e-13  # share of a column as it came, up to which what is left of it is rounding


@dataclass(frozen=True)
class Regressors:
    """Columns of a weighted regression: checked for rank, orthogonalised, with the way back to their own scale.

    With X the columns and w the weights, ``root[:, None] * X = basis @ inv(back)`` where root is the square root of w.

    Attributes
    ----------
    basis : ndarray, shape (n, k)
        Orthonormal basis of the weighted columns, in their order.
    root : ndarray, shape (n,)
        Square roots of the weights.
    back : ndarray, shape (k, k)
        Takes coefficients on `basis` to those on the columns, so that ``back @ back.T`` is the inverse of ``X'WX``.
    """

    basis: Floats
    root: Floats
    back: Floats

    @classmethod
    def of(
        cls,
        columns: Floats,
        names: Sequence[str],
        weight: Floats | None = None,
        *,
        constant: bool = True,
        size: Floats | None = None,
        error: type[StatisticsError] = StatisticsError,
    ) -> Regressors:
        """Check and orthogonalise columns.

        Parameters
        ----------
        columns : ndarray, shape (n, p)
            Finite; without the constant.
        names : sequence of str, length p
            For the error.
        weight : ndarray, shape (n,), optional
            Weights of zero or more; all alike by default.
        constant : bool
            Whether a column of ones comes before `columns`; then k is p + 1.
        size : ndarray, shape (p,), optional
            Norm of each weighted column before something was taken out of it (fixed effects); by default that of the
            columns as they are.
        error : type of StatisticsError
            What is raised.

        Raises
        ------
        StatisticsError
            When there are no more rows than columns, or a column is constant or a combination of those before it.
        """
        n, k = len(columns), columns.shape[1] + constant
        if n <= k:
            raise error(f"too few units: {n} units for {k} coefficients. Use fewer covariates.")
        root = np.ones(n) if weight is None else np.sqrt(weight)
        mass = root @ root
        mean = root**2 @ columns / mass if constant else np.zeros(columns.shape[1])
        centred = root[:, None] * (columns - mean)
        norm = np.linalg.norm(centred, axis=0)
        # A column as it came says how large its rounding is; one that is all rounding is not scaled up to one.
        whole = np.hypot(norm, np.abs(mean) * math.sqrt(mass)) if size is None else size
        scale = np.where(norm > 0, norm, 1.0)
        scaled = centred / scale
        labels = [*([CONSTANT] if constant else []), *names]
        if constant:
            scaled = np.column_stack([root / math.sqrt(mass), scaled])
            norm, whole = np.append(math.sqrt(mass), norm), np.append(math.sqrt(mass), whole)
        basis, upper = np.linalg.qr(scaled)
        left = np.abs(np.diag(upper))
        own = np.append(1.0, scale) if constant else scale
        least = np.maximum(DEPENDENT, (ROUNDING if size is None else DEPENDENT) * whole / own)
        _refuse_dependent(labels, left <= least, error, "" if size is None else "the fixed effects and ")
        inverse = np.linalg.solve(upper, np.eye(len(upper)))
        back = inverse / np.append(math.sqrt(mass), scale)[:, None] if constant else inverse / scale[:, None]
        if constant:
            back[0] -= mean @ back[1:]
        return cls(basis, root, back)

    def solve(self, y: Floats) -> Floats:
        """Coefficients of the regression of `y`, shape (n,) or (n, m), on the columns, the constant first."""
        return np.asarray(self.back @ (self.basis.T @ (y.T * self.root).T))

    def residual(self, y: Floats) -> Floats:
        """Residuals of `y`, shape (n,); rows of no weight have `y` itself less what the others predict."""
        seen = self.root > 0
        weighted = self.root * y
        left = weighted - self.basis @ (self.basis.T @ weighted)
        return np.asarray(np.divide(left, self.root, out=np.zeros_like(left), where=seen))

    def influence(self, residual: Floats) -> Floats:
        """Influence of every row on the coefficients, shape (n, k): they sum to the error of the estimate."""
        return np.asarray((self.basis * (self.root * residual)[:, None]) @ self.back.T)


def require_full_rank(
    columns: Floats,
    names: Sequence[str],
    weight: Floats | None = None,
    error: type[StatisticsError] = StatisticsError,
) -> None:
    """Raise `error` unless the columns and a constant are linearly independent; see `Regressors.of`."""
    Regressors.of(columns, names, weight, error=error)


def _refuse_dependent(
    names: Sequence[str], dependent: NDArray[np.bool_], error: type[StatisticsError], absorbed: str = ""
) -> None:
    found = [name for name, bad in zip(names, dependent, strict=True) if bad]
    if found:
        raise error(
            f"singular design: {', '.join(map(str, found))} is constant or a linear combination of {absorbed}the "
            f"columns before it ({', '.join(map(str, names))}). Drop it from the covariates."
        )


def least_squares(
    columns: Floats,
    names: Sequence[str],
    y: Floats,
    weight: Floats,
    group: Codes | None,
    noise_var: Floats | float = 0.0,
    error: type[StatisticsError] = StatisticsError,
) -> tuple[Floats, Floats, int]:
    """Regress on a constant and columns, with a robust covariance: (coefficients, covariance, degrees of freedom).

    Parameters
    ----------
    columns : ndarray, shape (n, p)
        Without the constant, whose coefficient comes first.
    names : sequence of str, length p
    y : ndarray, shape (n,)
    weight : ndarray, shape (n,)
        With a mean of one.
    group : ndarray of int, shape (n,), optional
        Cluster codes; with them the covariance is CRV1, else HC1.
    noise_var : ndarray, shape (p,) or (n, p), or float
        Variance of the noise in each column (and row), independent of all else; taken off the moments (Fuller 1987,
        section 2.2, doi:10.1002/9780470316665).
    error : type of StatisticsError
        What is raised.

    Raises
    ------
    StatisticsError
        When columns are dependent, or the noise is as large as what the other columns leave of the variance of its own.
    """
    found = Regressors.of(columns, names, weight, error=error)
    noise = np.broadcast_to(np.asarray(noise_var, dtype=np.float64), columns.shape)
    if not noise.any():
        coefficients = found.solve(y)
        influence = found.influence(y - coefficients[0] - columns @ coefficients[1:])
        return coefficients, *robust_or_clustered(influence, group, weight, error)
    # In an orthonormal basis: whether noise exceeds what is left of a variance must not depend on units, nor on how
    # alike columns without noise are (a year and its cube).
    n = y.size
    back = found.back * math.sqrt(n)
    z = np.divide(
        found.basis, found.root[:, None], out=np.zeros_like(found.basis), where=found.root[:, None] > 0
    )
    z *= math.sqrt(n)
    noise = np.column_stack([np.zeros(n), noise])
    products = np.eye(len(back)) - (back.T * (weight[:, None] * noise).mean(axis=0)) @ back
    if np.linalg.eigvalsh(products)[0] <= DEPENDENT:
        raise error(
            f"target_noise_var: {np.max(noise_var):g} is not below the variance of the labels that the covariates "
            "leave unexplained. Give the variance of the labels' sampling error, in squared units of the label."
        )
    # The response too, for its level is large where its spread is small.
    centre = float(np.average(y, weights=weight))
    standard = np.linalg.solve(products, z.T @ (weight * (y - centre)) / n)
    residual = y - centre - z @ standard
    pieces = weight[:, None] * (z * residual[:, None] + (noise * (back @ standard)) @ back)
    influence = np.linalg.solve(products, pieces.T).T / n
    coefficients = back @ standard
    coefficients[0] += centre
    return coefficients, *robust_or_clustered(influence @ back.T, group, weight, error)


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
