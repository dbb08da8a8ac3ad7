"""From influence functions to variances: robust, clustered, spatial, and the calibration's part.

Every estimator of `sustain.causal` hands over one number a unit, its influence psi_i, scaled so that
``tau_hat - tau = sum_i psi_i`` up to smaller terms. What differs between variances is only which products
psi_i psi_j are summed: a unit with itself (HC1), with its cluster (CRV1), or with its neighbours (Conley).
The calibration sample is another, independent sample, so its part is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.errors import EffectError

__all__ = [
    "EARTH_RADIUS_KM",
    "CorrectedEffect",
    "FiellerSet",
    "cluster_covariance",
    "conley_covariance",
    "corrected_effect",
    "corrected_mean",
    "critical_value",
    "fieller_set",
    "kernel_covariance",
    "p_value",
    "robust_covariance",
]

EARTH_RADIUS_KM = 6371.0088  # mean radius of the Earth (IUGG)

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
    psi = _matrix(influence)
    return (psi.T @ psi) * (len(psi) / _residual_df(len(psi), n_params))


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
    psi = _matrix(influence)
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
    return covariance * (n_clusters / (n_clusters - 1)) * ((n - 1) / _residual_df(n, n_params))


def kernel_covariance(
    influence: ArrayLike,
    points: ArrayLike,
    cutoff: float,
    *,
    kernel: Literal["bartlett", "uniform"] = "bartlett",
    distance: Callable[[Floats], Floats] | None = None,
    reach: float | None = None,
) -> Floats:
    """Spatial covariance, the sum over pairs of K(d_ij) psi_i psi_j' (Conley 1999).

    Parameters
    ----------
    influence : array_like, shape (n,) or (n, p)
        Influence of each unit, as in `robust_covariance`.
    points : array_like, shape (n, d)
        Coordinates in which Euclidean distance is meaningful.
    cutoff : float
        Distance from which on two units count as independent, in the unit of `distance`.
    kernel : {"bartlett", "uniform"}
        Bartlett weighs a pair by 1 - d/cutoff; uniform by 1, and can give negative variances.
    distance : callable, optional
        Turns Euclidean distances between points into those that `cutoff` is in; the identity by default.
    reach : float, optional
        The Euclidean distance that `cutoff` corresponds to; `cutoff` itself by default.

    Returns
    -------
    ndarray, shape (p, p)
        No small-sample factor is applied; a cutoff near zero gives HC0.

    Notes
    -----
    Pairs are found with a k-d tree and summed in blocks, so memory grows with the neighbours in one block and
    not with n squared.
    """
    if not cutoff > 0:
        raise EffectError(f"cutoff: got {cutoff!r}, expected a distance above 0.")
    if kernel not in ("bartlett", "uniform"):
        raise EffectError(f"kernel: got {kernel!r}, expected 'bartlett' or 'uniform'.")
    # Units at one place have the same neighbours: their sum stands for them.
    places, code = np.unique(_matrix(points), axis=0, return_inverse=True)
    psi = np.stack(
        [np.bincount(code.ravel(), column, minlength=len(places)) for column in _matrix(influence).T], axis=1
    )
    covariance: Floats = np.zeros((psi.shape[1], psi.shape[1]))
    for row, column, separation in _pairs(places, cutoff if reach is None else reach):
        ground = separation if distance is None else distance(separation)
        weight = (
            np.clip(1.0 - ground / cutoff, 0.0, None) if kernel == "bartlett" else (ground <= cutoff) * 1.0
        )
        covariance += psi[row].T @ (weight[:, None] * psi[column])
    return (covariance + covariance.T) / 2


def conley_covariance(
    influence: ArrayLike,
    lat: ArrayLike,
    lon: ArrayLike,
    cutoff_km: float,
    *,
    kernel: Literal["bartlett", "uniform"] = "bartlett",
    n_params: int = 0,
) -> Floats:
    """Conley covariance on great-circle distances.

    Parameters
    ----------
    influence : array_like, shape (n,) or (n, p)
        Influence of each unit, as in `robust_covariance`.
    lat, lon : array_like, shape (n,)
        Degrees.
    cutoff_km : float
        Distance in kilometres from which on two units count as independent.
    kernel : {"bartlett", "uniform"}
        As in `kernel_covariance`.
    n_params : int
        The result is multiplied by n / (n - n_params), so that a cutoff near zero gives HC1.

    Returns
    -------
    ndarray, shape (p, p)
    """
    latitude, longitude = np.asarray(lat, dtype=float), np.asarray(lon, dtype=float)
    if not (np.all(np.abs(latitude) <= 90) and np.all(np.abs(longitude) <= 360)):
        raise EffectError(
            "conley: lat must lie within -90..90 and lon within -360..360 degrees. Are they swapped?"
        )
    half_angle = cutoff_km / (2 * EARTH_RADIUS_KM)
    # A chord grows with its great-circle distance, so a k-d tree of points on the sphere finds neighbours.
    reach = 2.0 if half_angle >= math.pi / 2 else 2 * math.sin(half_angle)
    covariance = kernel_covariance(
        influence,
        _on_sphere(latitude, longitude),
        cutoff_km,
        kernel=kernel,
        distance=_arc_km,
        reach=reach * (1 + 1e-12),
    )
    return covariance * (len(latitude) / _residual_df(len(latitude), n_params))


class CorrectedEffect(NamedTuple):
    """A corrected effect and where its variance comes from."""

    estimate: float
    std_error: float
    variance_trial: float
    variance_calibration: float

    @property
    def share_calibration(self) -> float:
        """Share of the variance that the calibration sample contributes, 0..1."""
        total = self.variance_trial + self.variance_calibration
        return self.variance_calibration / total if total > 0 else 0.0


def corrected_effect(effect: float, effect_var: float, slope: float, slope_var: float) -> CorrectedEffect:
    """Divide an effect by the slope of prediction on truth, with the delta-method variance.

    V(tau) = V_d / b^2 + tau^2 V_b / b^2 with tau = d / b, for independent trial and calibration samples
    (Nab et al. 2019, doi:10.1002/sim.8359).

    Parameters
    ----------
    effect, effect_var : float
        Effect d on the prediction and its variance.
    slope, slope_var : float
        Slope b of prediction on truth in the calibration sample and its variance.

    Raises
    ------
    EffectError
        When the slope is zero or not finite, or a variance is negative.
    """
    if not math.isfinite(slope) or slope == 0:
        raise EffectError(
            f"slope: got {slope!r}; predictions that do not move with the truth cannot be corrected."
        )
    if effect_var < 0 or slope_var < 0:
        raise EffectError(
            f"variances must not be negative; got effect_var={effect_var!r}, slope_var={slope_var!r}."
        )
    tau = effect / slope
    trial, calibration = effect_var / slope**2, tau**2 * slope_var / slope**2
    return CorrectedEffect(tau, math.sqrt(trial + calibration), trial, calibration)


def corrected_mean(
    mean: float, mean_var: float, intercept: float, slope: float, cov: Sequence[Sequence[float]]
) -> CorrectedEffect:
    """Level of the truth from a mean prediction, mu = (m - a) / b, with the delta-method variance.

    V(mu) = (V_m + (1, mu) Cov(a, b) (1, mu)') / b^2. For a proportion this is the estimator of Rogan and Gladen (1978).

    Parameters
    ----------
    mean, mean_var : float
        Mean prediction in the trial and its variance.
    intercept, slope : float
        Line of prediction on truth in the calibration sample.
    cov : array_like, shape (2, 2)
        Covariance of (intercept, slope).
    """
    level = corrected_effect(mean - intercept, mean_var, slope, 0.0)
    loading = np.array([1.0, level.estimate])
    calibration = float(loading @ np.asarray(cov, dtype=float) @ loading) / slope**2
    return level._replace(
        std_error=math.sqrt(level.variance_trial + calibration), variance_calibration=calibration
    )


@dataclass(frozen=True)
class FiellerSet:
    """Fieller's confidence set of a ratio: an interval, its outside, or the whole line.

    Attributes
    ----------
    kind : {"bounded", "exclusive", "line"}
        ``bounded``: from `low` to `high`. ``exclusive``: everything outside ]`low`, `high`[. ``line``:
        everything.
    low, high : float
        The roots, or -inf and inf for ``line``.
    """

    kind: Literal["bounded", "exclusive", "line"]
    low: float
    high: float

    @property
    def hull(self) -> tuple[float, float]:
        """The smallest interval that holds the set."""
        return (self.low, self.high) if self.kind == "bounded" else (-math.inf, math.inf)

    def __contains__(self, value: float) -> bool:
        if self.kind == "bounded":
            return self.low <= value <= self.high
        return self.kind == "line" or value <= self.low or value >= self.high

    def __str__(self) -> str:
        if self.kind == "bounded":
            return f"[{self.low:.4g}, {self.high:.4g}]"
        if self.kind == "exclusive":
            return f"unbounded: (-inf, {self.low:.4g}] and [{self.high:.4g}, inf)"
        return "unbounded: the whole line"


def fieller_set(
    effect: float, effect_var: float, slope: float, slope_var: float, critical: float
) -> FiellerSet:
    """Fieller's confidence set of effect / slope (Fieller 1954), for independent numerator and denominator.

    All t with (d - t b)^2 <= c^2 (V_d + t^2 V_b): bounded only when the slope differs from zero at that
    level.

    Parameters
    ----------
    effect, effect_var, slope, slope_var : float
        As in `corrected_effect`.
    critical : float
        Critical value c, for example 1.96.
    """
    square = slope**2 - critical**2 * slope_var
    middle = effect * slope
    constant = effect**2 - critical**2 * effect_var
    discriminant = middle**2 - square * constant
    if square == 0 or discriminant < 0:
        return FiellerSet("line", -math.inf, math.inf)
    first = (middle - math.sqrt(discriminant)) / square
    second = (middle + math.sqrt(discriminant)) / square
    return FiellerSet("bounded" if square > 0 else "exclusive", min(first, second), max(first, second))


def critical_value(level: float, df: float) -> float:
    """Two-sided critical value of Student's t with `df` degrees of freedom (normal when infinite)."""
    from scipy.special import ndtri, stdtrit

    if not 0 < level < 1:
        raise EffectError(f"level: got {level!r}, expected a confidence level between 0 and 1, such as 0.95.")
    upper = 0.5 + level / 2
    return float(ndtri(upper) if math.isinf(df) else stdtrit(df, upper))


def p_value(statistic: float, df: float) -> float:
    """Two-sided p-value of a t statistic (normal when `df` is infinite)."""
    from scipy.special import ndtr, stdtr

    tail = -abs(statistic)
    return float(2 * (ndtr(tail) if math.isinf(df) else stdtr(df, tail)))


def _matrix(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    return array[:, None] if array.ndim == 1 else array


def _residual_df(n: int, n_params: int) -> int:
    if n <= n_params:
        raise EffectError(
            f"too few units: {n} units for {n_params} coefficients. Use fewer covariates or more units."
        )
    return n - n_params


def _on_sphere(lat: Floats, lon: Floats) -> Floats:
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=1)


def _arc_km(chord: Floats) -> Floats:
    arc: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1.0))
    return arc


def _pairs(points: Floats, reach: float, room: int = 2_000_000) -> Iterator[tuple[Any, Any, Floats]]:
    """Yield ordered pairs (i, j, distance), a point with itself included, about `room` at a time."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    counts = tree.query_ball_point(points, reach, return_length=True)
    ends = np.flatnonzero(np.diff(np.cumsum(counts) // room, append=-1)) + 1
    start = 0
    for end in ends:
        found = cKDTree(points[start:end]).sparse_distance_matrix(tree, reach, output_type="ndarray")
        yield found["i"] + start, found["j"], found["v"]
        start = int(end)
