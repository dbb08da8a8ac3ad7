"""How much of an effect a correction recovers in one group and in another: what a trial elsewhere must reckon with.

A correction that is right over all groups (countries) recovers more than all of an effect in some and less in others.
The share is measured by a gain that everybody has alike: with g(y) = E[h(prediction) | truth = y] of a group, half a
standard deviation of truth recovers ``mean(g(y + d) - g(y)) / d`` of itself there. For a line h and straight g this is
the group's slope over the pooled one; for curves, and where g bends at the group's own truths, a slope would not do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import MIN_PAIRS, CalibrationSample
from sustain.debias.table import quantiles_of
from sustain.stats.natural_spline import NaturalSpline
from sustain.stats.random_effects import RandomEffects, random_effects

__all__ = ["MIN_GROUPS", "recovered_share", "recovery_spread"]

Array = NDArray[np.float64]

MIN_GROUPS = 5
"""Groups that a variance between groups needs."""

GAIN = 0.5  # of the truth's standard deviation
CURVED = 100  # rows under which a group's g is taken as a line
KNOTS = (0.05, 0.35, 0.65, 0.95)  # quantiles of truth (Harrell 2015, table 2.3)


def recovered_share(sample: CalibrationSample, corrected: Array, gain: float) -> tuple[float, float] | None:
    """Share of a gain that corrected predictions recover in a sample, with the share's sampling variance.

    Parameters
    ----------
    sample : CalibrationSample
        One group's rows, with weights of a mean of one.
    corrected : ndarray, shape (n,)
        Corrected predictions.
    gain : float
        In units of the truth, other than zero.

    Returns
    -------
    (share, variance) : tuple of float, or None
        None where the truth hardly varies, or by no more than its labels' noise.
    """
    truth, weight = sample.y_true, sample.weight
    variance = float(np.average((truth - np.average(truth, weights=weight)) ** 2, weights=weight))
    if not variance > max(sample.noise, 1e-12 * float(np.square(truth).max())):
        return None
    basis = _basis(truth, weight)
    columns = basis(truth)
    moved = np.average(basis(truth + gain) - columns, axis=0, weights=weight) / gain
    weighed = columns * weight[:, None]
    bread = np.linalg.inv(columns.T @ weighed)
    fitted = bread @ (weighed.T @ corrected)
    pieces = weighed * (corrected - columns @ fitted)[:, None] @ bread @ moved
    few = sample.n / (sample.n - columns.shape[1])
    reliability = 1 - sample.noise / variance  # noise of labels flattens g by as much
    return float(moved @ fitted) / reliability, float(pieces @ pieces) * few / reliability**2


def recovery_spread(
    sample: CalibrationSample,
    correct: Callable[[Array], Array],
    curve: Callable[[Array], Array] | None = None,
) -> RandomEffects | None:
    """Spread over the groups of a sample of the share that a correction recovers.

    Parameters
    ----------
    sample : CalibrationSample
        With groups.
    correct : callable
        The correction of predictions, learned from all groups.
    curve : callable, optional
        For a method that reads effects back through E[corrected | truth] of all groups: this curve. A group's share
        is then what a gain shows there over what the curve says it would show at the group's truths.

    Returns
    -------
    RandomEffects or None
        None with fewer than five groups of 20 rows or more.
    """
    if sample.group is None or (sample.n_groups or 0) < MIN_GROUPS:
        return None
    corrected = np.asarray(correct(sample.y_pred))
    centre = np.average(sample.y_true, weights=sample.weight)
    spread = float(np.average((sample.y_true - centre) ** 2, weights=sample.weight)) - sample.noise
    if not spread > 0:
        return None
    gain = GAIN * spread**0.5
    found = []
    for rows in _groups(sample.group):
        part = sample.take(rows)
        pair = recovered_share(part, corrected[rows], gain)
        expected = 1.0 if curve is None else _rise(curve, part, gain)
        if pair is not None and pair[1] > 0 and expected > 0:
            found.append((pair[0] / expected, pair[1] / expected**2))
    told = np.array(found).reshape(-1, 2)
    return random_effects(told[:, 0], told[:, 1]) if len(told) >= MIN_GROUPS else None


def _groups(group: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Rows of each group of 20 or more."""
    ends = np.cumsum(np.bincount(group))[:-1]
    for rows in np.split(np.argsort(group, kind="stable"), ends):
        if rows.size >= MIN_PAIRS:
            yield rows


def _rise(curve: Callable[[Array], Array], part: CalibrationSample, gain: float) -> float:
    rise = curve(part.y_true + gain) - curve(part.y_true)
    return float(np.average(rise, weights=part.weight)) / gain


def _basis(truth: Array, weight: Array) -> NaturalSpline:
    """Natural spline in truth, straight beyond its knots; a line where rows or values are few."""
    knots = quantiles_of(truth, weight, np.array(KNOTS))
    if truth.size >= CURVED and (np.diff(knots) > 1e-6 * np.ptp(truth)).all():
        spline = NaturalSpline.on(knots)
        if np.linalg.matrix_rank(spline(truth)) == knots.size:
            return spline
    return NaturalSpline.on(np.array([truth.min(), truth.max()]))
