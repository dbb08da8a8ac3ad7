"""Corrections within strata, drawn towards the pooled one where a stratum says little by itself.

A pooled correction fails inside strata: the slope of prediction on truth among rural places is not that between town
and country. A stratum's own correction is right but uncertain, the more so the fewer its rows. Empirical Bayes
(Efron & Morris 1975, doi:10.1080/01621459.1975.10479864) weighs the two: with v the sampling variance of the
difference of the two curves (a jackknife over groups) and t the variance of true differences between strata, the
stratum's own curve gets the weight ``t / (t + v)``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.debias.table import Grid, Table, mass_on
from sustain.errors import CalibrationError, WeakCalibrationWarning

if TYPE_CHECKING:
    from sustain.debias.base import Calibration
    from sustain.debias.sample import CalibrationSample

__all__ = ["StratumFit", "curves_of", "fit_strata", "stratum_columns"]

Array = NDArray[np.float64]

N_BLOCKS = 20  # blocks of groups that the jackknife leaves out in turn


@dataclass(frozen=True)
class StratumFit:
    """Correction within one stratum.

    Attributes
    ----------
    name : str
    n : int
        Pairs of the stratum.
    weight : float
        Weight of the stratum's own correction, 0 to 1; the rest is the pooled one's.
    own : Calibration or None
        The stratum's own correction; None when it cannot carry one.
    table : Table
        The two, weighed.
    """

    name: str
    n: int
    weight: float
    own: Calibration | None
    table: Table


def fit_strata(pooled: Calibration) -> dict[str, StratumFit]:
    """Fit each stratum of the pooled calibration's sample and weigh it against the pooled correction.

    Warns
    -----
    WeakCalibrationWarning
        When a stratum has too few pairs or groups, or a slope that may be zero: it then gets the pooled correction.
    """
    sample = pooled._sample
    owns = [_own_fit(pooled, sample, code) for code in range(len(sample.stratum_names))]
    distances = [(0.0, 0.0) if own is None else _distance(pooled, own, code) for code, own in enumerate(owns)]
    # Method of moments: by how much the squared differences exceed their sampling variance, on average.
    excess = [
        square - variance for own, (square, variance) in zip(owns, distances, strict=True) if own is not None
    ]
    between = max(0.0, float(np.mean(excess))) if excess else 0.0
    fits = {}
    for code, (name, own) in enumerate(zip(sample.stratum_names, owns, strict=True)):
        total = between + distances[code][1]
        weight = between / total if own is not None and total > 0 else 0.0
        grid = pooled._grid() if own is None else own._grid()
        h = (1 - weight) * pooled.table_(grid.x)
        if own is not None:
            h = h + weight * own.table_(grid.x)
        fits[name] = StratumFit(
            name, int(np.count_nonzero(sample.stratum == code)), weight, own, Table(grid, h)
        )
    return fits


def curves_of(calibration: Calibration, counts: Array, grid: Grid) -> Array:
    """Curves of a calibration refitted on resampled groups, shape (n_draws, grid.n)."""
    refits = calibration._bootstrap(counts, grid)
    if isinstance(refits, tuple):
        intercept, slope = refits
        return np.asarray((grid.x - intercept[:, None]) / slope[:, None])
    return refits


def stratum_columns(sample: CalibrationSample, code: int) -> NDArray[np.intp]:
    """Get the groups of the whole sample (rows, without groups) that a stratum's own groups are, in their order."""
    rows = np.flatnonzero(sample.stratum == code)
    return rows if sample.group is None else np.unique(sample.group[rows])


def _own_fit(pooled: Calibration, sample: CalibrationSample, code: int) -> Calibration | None:
    part = sample.take(np.flatnonzero(sample.stratum == code))
    own = type(pooled)(**pooled.get_params())
    try:
        part.require_substance()
        if part.in_one_group:
            raise CalibrationError("all its pairs are in one group, so its uncertainty cannot be known.")
        own._fit_sample(part, pooled.target_noise_var_)
    except CalibrationError as error:
        warnings.warn(
            f"Stratum {sample.stratum_names[code]!r} ({part.n} pairs) gets the pooled correction: {error}",
            WeakCalibrationWarning,
            stacklevel=4,
        )
        return None
    return own


def _distance(pooled: Calibration, own: Calibration, code: int) -> tuple[float, float]:
    """Mean squared difference of the two curves over the stratum's predictions, and its sampling variance.

    Of the lines nearest to the curves: level and slope are what an effect depends on, and the sampling error of the
    bends of a curve, which is most of its error, would make strata look more alike than they are.
    """
    sample = pooled._sample
    columns = stratum_columns(sample, code)
    n_groups = sample.n if sample.n_groups is None else sample.n_groups
    n_blocks = min(N_BLOCKS, columns.size)
    block = np.arange(n_groups) % n_blocks
    block[columns] = np.arange(columns.size) % n_blocks
    counts = (block != np.arange(n_blocks)[:, None]).astype(np.float64)
    grid = own._grid()
    mass = mass_on(grid, own._sample.y_pred, own._sample.weight)
    line = _orthonormal_line(grid.x, mass)
    apart = (curves_of(own, counts[:, columns], grid) - curves_of(pooled, counts, grid)) @ line
    spread = float(((apart - apart.mean(axis=0)) ** 2).sum()) * (n_blocks - 1) / n_blocks
    square = float((((own.table_(grid.x) - pooled.table_(grid.x)) @ line) ** 2).sum())
    return square, spread


def _orthonormal_line(x: Array, mass: Array) -> Array:
    """Columns with which a function on the nodes `x` gives its coordinates on one and `x`, orthonormal in `mass`."""
    share = mass / mass.sum()
    centred = x - share @ x
    return np.column_stack([share, share * centred / np.sqrt(share @ centred**2)])
