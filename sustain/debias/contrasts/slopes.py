"""Covariance of truth and prediction at one level of variation, noise of group means taken off.

Each function gives a `Term`: a ratio of two sums over independent units, with the influence of every unit on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.contrasts.families import ContrastDesign, ContrastFamily
from sustain.debias.contrasts.spread import (
    NO_SPREAD,
    Pieces,
    Spread,
    new_slope,
    spread_of_contrasts,
    spread_of_slopes,
)
from sustain.debias.sample import MIN_PAIRS, CalibrationSample, read
from sustain.errors import CalibrationError
from sustain.stats.covariance import critical_value

__all__ = [
    "MIN_UNITS",
    "LevelSlope",
    "Term",
    "between",
    "cluster_sums",
    "contrasts",
    "inside",
    "nested",
    "slope_of",
]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

MIN_UNITS = 5
"""Groups (or contrasts) that carry a slope; fewer say nothing of its spread."""


@dataclass(frozen=True)
class Term:
    """A slope as a ratio of sums over units.

    Attributes
    ----------
    slope : float
    influence : ndarray, shape (n_units,)
        Influence of every unit: the sum of their squares is the variance of the slope.
    unit : ndarray of int, shape (n,)
        Unit of each row; -1 for rows that are in none.
    n_units : int
        Groups or contrasts that the slope rests on.
    spread : Spread
        Between contrasts, or between groups of places that each have a slope.
    """

    slope: float
    influence: Array
    unit: Codes
    n_units: int
    spread: Spread = NO_SPREAD


@dataclass(frozen=True)
class LevelSlope:
    """Slope of prediction on truth for one kind of variation.

    Attributes
    ----------
    name : str
    slope, std_error : float
        Mean slope and its error, which is clustered; see `LevelCalibration.fit`.
    df : int
        Degrees of freedom: clusters less one.
    n_units : int
        Groups or contrasts that the slope rests on.
    slope_sd : float
        Standard deviation of the slope between contrasts (of a level: between groups of places), beyond sampling.
    contrast_sd : float
        Standard deviation of predicted contrasts of equal truth, beyond sampling, in the unit of the prediction; zero
        for a level.
    n_spread : int or None
        Contrasts or groups that both rest on; None where there were too few, and both are zero.
    """

    name: str
    slope: float
    std_error: float
    df: int
    n_units: int
    slope_sd: float = 0.0
    contrast_sd: float = 0.0
    n_spread: int | None = None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the mean slope, by Student's t."""
        margin = critical_value(level, self.df, CalibrationError) * self.std_error
        return self.slope - margin, self.slope + margin

    def new_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Prediction interval of a new contrast's slope, or a new group's."""
        error, df = new_slope(self.std_error, self.df, self.slope_sd, self.n_spread)
        margin = critical_value(level, df, CalibrationError) * error
        return self.slope - margin, self.slope + margin

    @property
    def usable(self) -> bool:
        """Whether the mean slope is clearly above zero (95%), so that contrasts may be divided by it."""
        return self.interval()[0] > 0


def nested(parent: Codes, codes: Codes) -> Codes:
    """Codes of the groups that `codes` make within the groups of `parent`."""
    combined = parent * (int(codes.max()) + 1) + codes
    return np.asarray(np.unique(combined, return_inverse=True)[1], dtype=np.intp)


def slope_of(name: str, term: Term, sample: CalibrationSample) -> tuple[LevelSlope, Array]:
    """Give a term's slope with its clustered error, and the influence of every row on it.

    A unit's jackknife influence is shared out evenly among its rows: sums within clusters are the clusters' influences.
    """
    parts = cluster_sums(term, sample)
    error = float(np.sqrt((parts**2).sum() * parts.size / (parts.size - 1)))
    size = np.bincount(term.unit[term.unit >= 0], minlength=term.influence.size)
    shared = np.append(term.influence / np.maximum(size, 1), 0.0)
    slope_sd, contrast_sd, n_spread = term.spread
    found = LevelSlope(name, term.slope, error, parts.size - 1, term.n_units, slope_sd, contrast_sd, n_spread)
    return found, shared[term.unit]


def cluster_sums(term: Term, sample: CalibrationSample) -> Array:
    """Influences on the slope, summed by cluster: the sample's, unless the term's own units are wider."""
    if sample.group is None:
        return term.influence
    rows = np.flatnonzero(term.unit >= 0)
    pairs = np.unique(np.column_stack([term.unit[rows], sample.group[rows]]), axis=0)
    if len(pairs) > np.unique(pairs[:, 0]).size:  # some unit holds several clusters
        return term.influence
    sums = np.bincount(pairs[:, 1], weights=term.influence[pairs[:, 0]])[np.unique(pairs[:, 1])]
    return np.asarray(sums) if sums.size > 1 else term.influence


def between(sample: CalibrationSample, group: Codes, parent: Codes) -> Term | None:
    """Slope of group means within their parents, from products of different members.

    The covariance of the true means of a parent's groups is the mean product of two members of one group, less that
    of members of two groups. Groups count alike; those of one member are left out.
    """
    # Centred first: the products would cancel when means are far from zero.
    x, y = (v - v @ np.ones(sample.n) / sample.n for v in (sample.y_pred, sample.y_true))
    n = np.bincount(group)
    sum_x, sum_y, sum_xy, sum_yy = (np.bincount(group, weights=v) for v in (x, y, x * y, y * y))
    above = np.zeros(n.size, dtype=np.intp)
    above[group] = parent
    usable = np.flatnonzero(n >= 2)
    order = usable[np.argsort(above[usable], kind="stable")]
    siblings = [rows for rows in np.split(order, np.flatnonzero(np.diff(above[order])) + 1) if rows.size > 1]
    if sum(rows.size for rows in siblings) < MIN_UNITS:
        return None
    xy, yy = [], []
    for rows in siblings:
        pairs = n[rows] * (n[rows] - 1)
        mean_x, mean_y = sum_x[rows] / n[rows], sum_y[rows] / n[rows]
        xy.append(_component((sum_x[rows] * sum_y[rows] - sum_xy[rows]) / pairs, mean_x, mean_y))
        yy.append(_component((sum_y[rows] ** 2 - sum_yy[rows]) / pairs, mean_y, mean_y))
    kept = np.concatenate(siblings)
    number = np.full(n.size, -1, dtype=np.intp)
    number[kept] = np.arange(kept.size)
    whole_xy, whole_yy = sum(item[0] for item in xy), sum(item[0] for item in yy)
    without_xy = np.concatenate([whole_xy - own + out for own, out in xy])
    without_yy = np.concatenate([whole_yy - own + out for own, out in yy])
    term = _jackknife(whole_xy, whole_yy, without_xy, without_yy, number[group])
    return None if term is None else replace(term, spread=_spread_of_components(xy, yy))


def inside(sample: CalibrationSample, group: Codes, top: Codes) -> Term | None:
    """Slope of deviations from group means, the labels' own noise taken off; its spread is that between `top`."""
    x, y, weight = sample.y_pred, sample.y_true, sample.weight
    n, total = np.bincount(group), np.bincount(group, weights=weight)
    keep = (n >= 2)[group]
    if np.unique(group[keep]).size < MIN_UNITS:
        return None
    dx = x - (np.bincount(group, weights=weight * x) / total)[group]
    dy = y - (np.bincount(group, weights=weight * y) / total)[group]
    unit = np.full(sample.n, -1, dtype=np.intp)
    unit[keep] = np.unique(group[keep], return_inverse=True)[1]
    w, dx, dy, g = weight[keep], dx[keep], dy[keep], unit[keep]
    # Squared deviations from a mean with shares s of the weight hold sum of w (1 - s) of the noise.
    held = sample.noise * (1 - w / total[group[keep]])
    xy, yy = np.bincount(g, weights=w * dx * dy), np.bincount(g, weights=w * (dy**2 - held))
    term = _jackknife(xy.sum(), yy.sum(), xy.sum() - xy, yy.sum() - yy, unit)
    if term is None:
        return None
    return replace(term, spread=_spread_of_deviations(w, dx, dy, held, g, top[keep]))


def contrasts(sample: CalibrationSample, design: ContrastDesign) -> Term | None:
    """Slope through the origin of predicted on true contrasts, the noise of their arms' means taken off.

    Units are the sample's clusters, each left out of all contrasts in turn; without clusters they are contrasts.
    """
    read.require_same_index(f"family {design.name!r}", design, "y_pred", sample)
    family = design.on(np.ones(sample.n, dtype=bool) if sample.passed is None else sample.passed, 2)
    if sample.passed is not None:
        family = family.take(np.flatnonzero(sample.passed))
    if len(family) < MIN_UNITS:
        return None
    unit = np.full(sample.n, -1, dtype=np.intp)
    if sample.group is None:
        nothing = np.zeros(sample.n, dtype=np.intp)
        pieces = []
        for k, (on, off) in enumerate(family.arms):
            rows = np.concatenate([on, off])
            unit[rows[unit[rows] < 0]] = k  # a row that several contrasts use belongs to the first
            pieces.append(_products(_sums(sample, on, nothing), _sums(sample, off, nothing)))
        xy, yy = np.array(pieces)[:, :, 0].T
        return _of_contrasts(
            _jackknife(xy.sum(), yy.sum(), xy.sum() - xy, yy.sum() - yy, unit), sample, family
        )
    used = np.unique(np.concatenate([rows for arms in family.arms for rows in arms]))
    unit[used] = np.unique(sample.group[used], return_inverse=True)[1]
    whole, without = np.zeros(2), np.zeros((2, int(unit.max()) + 1))
    for on, off in family.arms:
        one, other = _sums(sample, on, unit), _sums(sample, off, unit)
        both = [np.column_stack([s.sum(axis=1), s.sum(axis=1)[:, None] - s]) for s in (one, other)]
        found = _products(*both)
        whole += found[:, 0]
        without += found[:, 1:]
    term = _jackknife(whole[0], whole[1], without[0], without[1], unit, len(family))
    return _of_contrasts(term, sample, family)


def _of_contrasts(term: Term | None, sample: CalibrationSample, family: ContrastFamily) -> Term | None:
    """Put the spread between a family's contrasts into its term."""
    if term is None:
        return None
    rows = []
    for on, off in family.arms:
        cov = sum(np.cov(sample.y_pred[arm], sample.y_true[arm]) / arm.size for arm in (on, off))
        rows.append([*np.ravel(cov)[[0, 1, 3]], 1 / on.size + 1 / off.size])
    var_x, cov_xy, var_y, per_row = np.array(rows).T
    gaps = family.differences(sample.y_pred), family.differences(sample.y_true)
    pieces = Pieces(*gaps, var_x, cov_xy, var_y)
    return replace(term, spread=spread_of_contrasts(pieces, term.slope, per_row))


def _spread_of_deviations(w: Array, dx: Array, dy: Array, held: Array, group: Codes, top: Codes) -> Spread:
    """Spread between the groups `top` of the slope of deviations from the means of the finer `group`."""
    n, places = np.bincount(top), np.bincount(np.unique(np.column_stack([top, group]), axis=0)[:, 0])
    places = np.append(places, np.zeros(n.size - places.size, dtype=places.dtype))
    kept = n >= MIN_PAIRS
    moments = (dx * dx, dx * dy, dy * dy, dy * dy - held)
    square, cross, squared, size = np.array([np.bincount(top, weights=w * v)[kept] for v in moments])
    # Residual variance times the squares of the regressor, by the covariances of both deviations.
    per_row = squared / (n - places)[kept]
    return spread_of_slopes(Pieces(cross, size, per_row * square, per_row * cross, per_row * squared))


def _spread_of_components(xy: Sequence[tuple[float, Array]], yy: Sequence[tuple[float, Array]]) -> Spread:
    """Spread between parents of the slope of their groups' means; parents with five groups or more."""
    rows = []
    for (own_xy, out_xy), (own_yy, out_yy) in zip(xy, yy, strict=True):
        if out_xy.size >= MIN_UNITS:
            covariance = np.cov(own_xy - out_xy, own_yy - out_yy) * out_xy.size
            rows.append([own_xy, own_yy, *covariance[[0, 0, 1], [0, 1, 1]]])
    return spread_of_slopes(Pieces(*np.array(rows, dtype=np.float64).T)) if rows else NO_SPREAD


def _sums(sample: CalibrationSample, rows: Codes, cluster: Codes) -> Array:
    """Count some rows and sum their x, y, xy and yy, by cluster; shape (5, n_groups)."""
    # Centred, so that variances do not cancel; contrasts do not feel it.
    x, y = sample.y_pred[rows] - sample.y_pred.mean(), sample.y_true[rows] - sample.y_true.mean()
    where, size = cluster[rows], int(cluster.max()) + 1
    columns = (np.ones_like(x), x, y, x * y, y * y)
    return np.stack([np.bincount(where, weights=column, minlength=size) for column in columns])


def _products(on: Array, off: Array) -> Array:
    """Product of predicted and true contrast, and square of the true one, less what sampling adds to each.

    From the sums of both arms, shape (5, k); a contrast that has lost an arm counts nothing. Shape (2, k).
    """
    usable = (on[0] >= 2) & (off[0] >= 2)
    gap_x, gap_y, added_xy, added_yy = 0.0, 0.0, 0.0, 0.0
    for sign, (n, x, y, xy, yy) in ((1.0, on), (-1.0, off)):
        size = np.maximum(n, 2.0)
        mean_x, mean_y = x / size, y / size
        gap_x, gap_y = gap_x + sign * mean_x, gap_y + sign * mean_y
        pairs = size * (size - 1.0)
        added_xy = added_xy + (xy - size * mean_x * mean_y) / pairs
        added_yy = added_yy + (yy - size * mean_y**2) / pairs
    return np.where(usable, np.stack([gap_x * gap_y - added_xy, gap_y**2 - added_yy]), 0.0)


def _component(same: Array, left: Array, right: Array) -> tuple[float, Array]:
    """(k - 1) times the covariance of k group means, and its values when each group is left out in turn."""
    k = same.size
    total_l, total_r, cross = left.sum(), right.sum(), left * right

    def value(same_sum: Any, l_sum: Any, r_sum: Any, cross_sum: Any, k: int) -> Any:
        return (k - 1) * (same_sum / k - (l_sum * r_sum - cross_sum) / (k * (k - 1.0)))

    whole = float(value(same.sum(), total_l, total_r, cross.sum(), k))
    if k == 2:
        return whole, np.zeros(2)
    return whole, np.asarray(
        value(same.sum() - same, total_l - left, total_r - right, cross.sum() - cross, k - 1)
    )


def _jackknife(
    xy: float, yy: float, without_xy: Array, without_yy: Array, unit: Codes, n_units: int | None = None
) -> Term | None:
    """Ratio of two sums, and the influence of every unit from the ratios without it."""
    if not (yy > 0 and (without_yy > 0).all()):
        return None
    slopes = without_xy / without_yy
    n = slopes.size
    # Scaled so that n / (n - 1) times the sum of squares is the jackknife's variance.
    influence = (slopes.mean() - slopes) * (n - 1) / n
    return Term(float(xy / yy), influence, unit, n if n_units is None else n_units)
