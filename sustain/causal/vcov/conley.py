"""Spatial covariance: the products of neighbours' influences, weighted by their distance (Conley 1999)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.errors import EffectError
from sustain.sphere import EARTH_RADIUS_KM, arc_km, on_sphere
from sustain.stats.covariance import as_matrix, residual_df

__all__ = ["conley_covariance", "kernel_covariance", "require_degrees"]

Floats = NDArray[np.float64]


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
    places, code = np.unique(as_matrix(points), axis=0, return_inverse=True)
    psi = np.stack(
        [np.bincount(code.ravel(), column, minlength=len(places)) for column in as_matrix(influence).T],
        axis=1,
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
    require_degrees(latitude, longitude)
    half_angle = cutoff_km / (2 * EARTH_RADIUS_KM)
    # A chord grows with its great-circle distance, so a k-d tree of points on the sphere finds neighbours.
    reach = 2.0 if half_angle >= math.pi / 2 else 2 * math.sin(half_angle)
    covariance = kernel_covariance(
        influence,
        on_sphere(latitude, longitude),
        cutoff_km,
        kernel=kernel,
        distance=arc_km,
        reach=reach * (1 + 1e-12),
    )
    return covariance * (len(latitude) / residual_df(len(latitude), n_params))


def require_degrees(lat: Floats, lon: Floats) -> None:
    """Raise `EffectError` unless coordinates are latitudes and longitudes."""
    if not (np.all(np.abs(lat) <= 90) and np.all(np.abs(lon) <= 360)):
        raise EffectError(
            "lat, lon: lat must lie within -90..90 and lon within -360..360 degrees. Are they swapped?"
        )


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
