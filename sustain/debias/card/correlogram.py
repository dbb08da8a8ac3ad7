"""How far the errors of neighbouring places are alike: correlograms of the calibration sample's residuals.

One place's error says nothing of the error of a district's mean: that depends on how errors hang together in space.
Pairs of calibration places tell, and a mixture of exponentials through their correlations, with shares that are not
negative, is a correlation function in the plane whatever the shares are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.card.schema import Correlogram, SpatialErrors
from sustain.debias.sample import CalibrationSample, read
from sustain.errors import CalibrationError
from sustain.sphere import EARTH_RADIUS_KM, arc_km, on_sphere

__all__ = ["as_degrees", "correlogram", "spatial_errors"]

Array = NDArray[np.float64]

MIN_PAIRS_OF_PLACES = 200  # in a class of distances; they are of 20 places or more
MIN_CLASSES = 4
MOST_PLACES = 5_000  # pairs grow with the square; more places than these are thinned out at random
NEAREST_KM = 0.1  # end of the first class of distances; each further one ends at 1.41 times the end before


def spatial_errors(sample: CalibrationSample, lon: Any, lat: Any) -> SpatialErrors | None:
    """Correlograms of both residuals: of the prediction given the truth, and of the truth given the prediction.

    Parameters
    ----------
    sample : CalibrationSample
        Its labels' sampling error is taken off: neighbours do not share it.
    lon, lat : array_like, shape (n,)
        Degrees, of all rows that were passed.

    Returns
    -------
    SpatialErrors or None
        None where the places are too few or too close together for four classes of distances of 200 pairs.

    Raises
    ------
    CalibrationError
        When coordinates are missing, of another number than the rows or in another order, or out of range.
    """
    for name, values in (("lon", lon), ("lat", lat)):
        read.require_same_index(name, values, "y_pred", sample)
    lon, lat = as_degrees(lon, lat, sample.n_passed)
    places = on_sphere(sample.kept(lat), sample.kept(lon))
    down, up = sample.prediction_on_truth, sample.truth_on_prediction
    measured = sample.y_pred - down.intercept - down.slope * sample.y_true
    unexplained = sample.y_true - up.intercept - up.slope * sample.y_pred
    found = (
        correlogram(measured, places, sample.weight, down.slope**2 * sample.noise),
        correlogram(unexplained, places, sample.weight, sample.noise),
    )
    if found[0] is None or found[1] is None:
        return None
    return SpatialErrors(prediction_given_truth=found[0], truth_given_prediction=found[1])


def as_degrees(lon: Any, lat: Any, n: int) -> tuple[Array, Array]:
    """Check coordinates; raises `CalibrationError` unless there are `n` in degrees."""
    lon, lat = read.vector("lon", lon, n), read.vector("lat", lat, n)
    for name, values, most in (("lon", lon, 360), ("lat", lat, 90)):
        if (np.abs(values) > most).any():
            raise CalibrationError(
                f"{name}: values reach from {values.min():g} to {values.max():g}; expected degrees within "
                f"-{most}..{most}. Are lon and lat swapped, or in metres?"
            )
    return lon, lat


def correlogram(
    residual: Array, places: Array, weight: Array | None = None, noise: float = 0.0
) -> Correlogram | None:
    """Correlation of residuals over distance, and a mixture of exponentials through it.

    In each class of distances the correlation is the mean product of two residuals over the mean of their squares in
    *that* class, less `noise`: places with near neighbours are towns, whose errors may be larger than others' (as in
    the non-ergodic correlogram of Isaaks and Srivastava 1988, Mathematical Geology 20:313). Classes reach as far as
    the farthest place lies from the middle of all. The mixture is fitted by least squares with shares of zero or more;
    a class weighs its number of pairs over its squared distance, as is usual for variograms.

    Parameters
    ----------
    residual : ndarray, shape (n,)
    places : ndarray, shape (n, 3)
        On the unit sphere, as `sustain.sphere.on_sphere` gives them.
    weight : ndarray, shape (n,), optional
        Sampling weights; a pair weighs their product.
    noise : float
        Part of the residuals' variance that each place has for itself and that is to be left out.

    Returns
    -------
    Correlogram or None
        None with fewer than four classes of 200 pairs.
    """
    weight = np.ones(residual.size) if weight is None else weight
    residual, places, weight = (values[weight > 0] for values in (residual, places, weight))
    if residual.size > MOST_PLACES:
        some = np.sort(np.random.default_rng(0).choice(residual.size, MOST_PLACES, replace=False))
        residual, places, weight = residual[some], places[some], weight[some]
    distance, correlation, pairs = _classes(residual, places, weight, noise)
    if distance.size < MIN_CLASSES:
        return None
    from scipy.optimize import nnls

    doublings = max(1, math.floor(math.log2(distance[-1] / distance[0])))
    ranges = distance[0] * 2.0 ** np.arange(doublings)
    curves = np.exp(-distance[:, None] / ranges)
    importance = np.sqrt(pairs) / distance
    shares, _ = nnls(curves * importance[:, None], correlation * importance)
    shares /= max(1.0, shares.sum())
    used = shares > 0.001
    return Correlogram(
        range_km=[_rounded(v) for v in ranges[used]],
        share=[
            math.floor(v * 1e4) / 1e4 for v in shares[used]
        ],  # down, so that they never sum to more than one
        distance_km=[_rounded(v) for v in distance],
        correlation=[_rounded(v, 3) for v in correlation],
        pairs=[int(n) for n in pairs],
    )


def _classes(residual: Array, places: Array, weight: Array, noise: float) -> tuple[Array, Array, Array]:
    """Mean distance, correlation and number of pairs of each class of distances."""
    from scipy.spatial.distance import cdist

    reach = float(arc_km(np.linalg.norm(places - places.mean(axis=0), axis=1).max()))
    n_edges = max(2, 2 + math.floor(2 * math.log2(max(reach / NEAREST_KM, 1.0))))
    ends = np.minimum(NEAREST_KM * 2.0 ** (np.arange(n_edges) / 2), reach)
    chords = 2 * np.sin(ends / (2 * EARTH_RADIUS_KM))
    sums = np.zeros((5, n_edges + 1))  # weights, products, squares, chords, pairs
    for start in range(0, residual.size, 400):
        rows = np.arange(start, min(start + 400, residual.size))
        chord = cdist(places[rows], places[start:])
        later = (np.arange(start, residual.size) > rows[:, None]) & (chord < chords[-1])
        which = np.searchsorted(chords, chord[later], side="right")
        w = np.outer(weight[rows], weight[start:])
        product = np.outer(residual[rows], residual[start:])
        square = (residual[rows, None] ** 2 + residual[start:] ** 2) / 2
        for row, values in zip(sums, (w, w * product, w * square, w * chord), strict=False):
            row += np.bincount(which, values[later], minlength=n_edges + 1)
        sums[4] += np.bincount(which, minlength=n_edges + 1)
    kept: list[Array] = []
    gathered = np.zeros(5)
    for column in sums.T:
        gathered += column
        if gathered[4] >= MIN_PAIRS_OF_PLACES and gathered[0] > 0:
            kept.append(gathered)
            gathered = np.zeros(5)
    w, product, square, chord, pairs = np.array(kept).reshape(-1, 5).T
    variance, distance = square / w - noise, arc_km(chord / w)
    usable = (variance > 0) & (distance > 0)
    correlation = np.clip(product[usable] / w[usable] / variance[usable], -1, 1)
    return distance[usable], correlation, pairs[usable]


def _rounded(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")
