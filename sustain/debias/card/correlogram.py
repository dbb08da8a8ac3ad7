"""How far the errors of neighbouring places are alike: correlograms of the calibration sample's residuals.

One place's error says nothing of the error of a district's mean: that depends on how errors hang together in space.
Pairs of calibration places tell, and a mixture of exponentials through their correlations, with shares that are not
negative, is a correlation function in the plane whatever the shares are.

Countries err as wholes, too: surveys, years and ways of building differ. What a country's places share however far
apart they lie is no function of distance, so with countries it is estimated apart: the correlogram is of errors about
the mean of their country, and the spread of these means stands beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.card.schema import Correlogram, CountryErrors, SpatialErrors
from sustain.debias.sample import MIN_PAIRS, CalibrationSample, read
from sustain.errors import CalibrationError
from sustain.sphere import EARTH_RADIUS_KM, arc_km, on_sphere

__all__ = ["as_degrees", "correlogram", "spatial_errors"]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

MIN_PAIRS_OF_PLACES = 200  # in a class of distances; they are of 20 places or more
MIN_CLASSES = 4
MIN_COUNTRIES = 5  # of `MIN_PAIRS` rows or more, that a variance between countries needs
MOST_PLACES = 5_000  # pairs grow with the square; more places than these are thinned out at random
MOST_OF_A_MEAN = 1_000  # places of a country that its mean's sampling variance is computed from
NEAREST_KM = 0.1  # end of the first class of distances; each further one ends at 1.41 times the end before


def spatial_errors(
    sample: CalibrationSample, lon: Any, lat: Any, countries: Any = None
) -> SpatialErrors | None:
    """Correlograms of both residuals: of the prediction given the truth, and of the truth given the prediction.

    With five countries of 20 rows or more, the residuals are taken about the mean of their country, pairs are of places
    of one country, and the variance of the countries' mean residuals is estimated beside it: that of the means as they
    are, less the average of their sampling variances, which follow from the correlogram (Hedges and Olkin 1985,
    Statistical Methods for Meta-Analysis, 9.B). Countries count alike: weights by sampling variances, as DerSimonian
    and Laird's, would go by how dense a survey is where these variances are a small part of the spread. Means taken out
    lower the correlations by their own share of the variance, which is small where countries are wide.

    Parameters
    ----------
    sample : CalibrationSample
        Its labels' sampling error is taken off: neighbours do not share it.
    lon, lat : array_like, shape (n,)
        Degrees, of all rows that were passed.
    countries : array_like, shape (n,), optional
        Country of each row that was passed. Of any other length, it names the extent only and is not used here.

    Returns
    -------
    SpatialErrors or None
        None where the places are too few or too close together for four classes of distances of 200 pairs.

    Raises
    ------
    CalibrationError
        When coordinates are missing, of another number than the rows or in another order, or out of range; when
        `countries` is a column of the rows in another order.
    """
    for name, values in (("lon", lon), ("lat", lat)):
        read.require_same_index(name, values, "y_pred", sample)
    lon, lat = as_degrees(lon, lat, sample.n_passed)
    places = on_sphere(sample.kept(lat), sample.kept(lon))
    country = _large_countries(sample, countries)
    down, up = sample.prediction_on_truth, sample.truth_on_prediction
    measured = sample.y_pred - down.intercept - down.slope * sample.y_true
    unexplained = sample.y_true - up.intercept - up.slope * sample.y_pred
    found = (
        _errors(measured, places, sample.weight, down.slope**2 * sample.noise, country),
        _errors(unexplained, places, sample.weight, sample.noise, country),
    )
    if found[0] is None or found[1] is None:
        return None
    return SpatialErrors(prediction_given_truth=found[0], truth_given_prediction=found[1])


def _large_countries(sample: CalibrationSample, countries: Any) -> Codes | None:
    """Code of each row's country, -1 in those of fewer than `MIN_PAIRS` rows; None with too few countries."""
    if not hasattr(countries, "__len__") or len(countries) != sample.n_passed:
        return None
    read.require_same_index("countries", countries, "y_pred", sample)
    country = sample.kept(read.labels("countries", countries, sample.n_passed).codes)
    large = np.bincount(country) >= MIN_PAIRS
    if large.sum() < MIN_COUNTRIES:
        return None
    return np.asarray(np.where(large, np.cumsum(large) - 1, -1)[country], dtype=np.intp)


def _errors(
    residual: Array, places: Array, weight: Array, noise: float, country: Codes | None
) -> Correlogram | None:
    """Correlogram of residuals; with countries of those about their means, whose spread is put beside it."""
    if country is None:
        return correlogram(residual, places, weight, noise)
    rows = country >= 0
    residual, places, weight, country = residual[rows], places[rows], weight[rows], country[rows]
    mean = np.bincount(country, weight * residual) / np.bincount(country, weight)
    about = residual - mean[country]
    # A mean takes a degree of freedom of each country, or countries of few rows would seem to err too little.
    free = 1 - np.bincount(country, weight**2) / np.bincount(country, weight) ** 2
    total = float(weight @ about**2 / (weight @ free[country]))
    found = correlogram(about, places, weight, noise, country)
    if found is None or total <= noise:
        return None
    variance = _variances_of_means(found, places, weight, country, total, noise)
    spread = max(0.0, float(mean.var(ddof=1) - variance.mean()))
    between = CountryErrors(
        n=mean.size, sd=_rounded(math.sqrt(spread)), within_sd=_rounded(math.sqrt(total - noise))
    )
    return found.model_copy(update={"countries": between})


def _variances_of_means(
    found: Correlogram, places: Array, weight: Array, country: Codes, total: float, noise: float
) -> Array:
    """Compute the sampling variance of each country's mean: residuals have variance `total` and correlate as found."""
    from scipy.spatial.distance import cdist

    variances = []
    for rows in _by_code(country):
        share = weight[rows] / weight[rows].sum()
        alone = float(share @ share)
        if rows.size > MOST_OF_A_MEAN:
            rows = np.sort(np.random.default_rng(0).choice(rows, MOST_OF_A_MEAN, replace=False))
        w = weight[rows]
        alike = found(arc_km(cdist(places[rows], places[rows])))
        np.fill_diagonal(alike, 0)
        pairs = float(w @ alike @ w) / float(w.sum() ** 2 - w @ w)  # mean correlation of two places
        variances.append(total * alone + (total - noise) * (1 - alone) * pairs)
    return np.array(variances)


def _by_code(codes: Codes) -> list[NDArray[np.intp]]:
    """Rows of each code."""
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


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
    residual: Array,
    places: Array,
    weight: Array | None = None,
    noise: float = 0.0,
    country: Codes | None = None,
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
    country : ndarray, shape (n,), int, optional
        Codes; pairs are then of places of one country only.

    Returns
    -------
    Correlogram or None
        None with fewer than four classes of 200 pairs.
    """
    weight = np.ones(residual.size) if weight is None else weight
    country = np.zeros(residual.size, dtype=np.intp) if country is None else country
    rows = np.flatnonzero(weight > 0)
    if rows.size > MOST_PLACES:
        rows = np.sort(rows[np.random.default_rng(0).choice(rows.size, MOST_PLACES, replace=False)])
    parts = [rows[some] for some in _by_code(country[rows]) if some.size]
    distance, correlation, pairs = _classes(residual, places, weight, noise, parts)
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


def _classes(
    residual: Array, places: Array, weight: Array, noise: float, parts: list[NDArray[np.intp]]
) -> tuple[Array, Array, Array]:
    """Mean distance, correlation and number of pairs of each class of distances; pairs are of rows of one part."""
    from scipy.spatial.distance import cdist

    reach = max(
        float(arc_km(np.linalg.norm(places[rows] - places[rows].mean(axis=0), axis=1).max()))
        for rows in parts
    )
    n_edges = max(2, 2 + math.floor(2 * math.log2(max(reach / NEAREST_KM, 1.0))))
    ends = np.minimum(NEAREST_KM * 2.0 ** (np.arange(n_edges) / 2), reach)
    chords = 2 * np.sin(ends / (2 * EARTH_RADIUS_KM))
    sums = np.zeros((5, n_edges + 1))  # weights, products, squares, chords, pairs
    for rows, others in ((p[k : k + 400], p[k:]) for p in parts for k in range(0, p.size, 400)):
        chord = cdist(places[rows], places[others])
        later = (np.arange(others.size) > np.arange(rows.size)[:, None]) & (chord < chords[-1])
        which = np.searchsorted(chords, chord[later], side="right")
        w = np.outer(weight[rows], weight[others])
        product = np.outer(residual[rows], residual[others])
        square = (residual[rows, None] ** 2 + residual[others] ** 2) / 2
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
