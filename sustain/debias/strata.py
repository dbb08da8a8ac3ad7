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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.debias.card.tabulate import FittedCurve
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes, Table, mass_on
from sustain.errors import CalibrationError, WeakCalibrationWarning

__all__ = ["StratumFit", "fit_strata", "stratum_curve"]

Array = NDArray[np.float64]

N_BLOCKS = 20  # blocks of groups that the jackknife leaves out in turn


class Refittable(Protocol):
    """A correction of one sample that can be made again of another, and refitted on resamples."""

    table_: Table
    weaknesses_: dict[str, str]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters as passed to ``__init__``."""

    def learn(self, sample: CalibrationSample) -> None:
        """Learn the correction."""

    def nodes(self) -> Nodes:
        """Nodes on which the correction is tabulated by itself."""

    def tabulate(self, grid: Nodes) -> tuple[Table, float]:
        """Evaluate the correction on `grid`, with the error of the table."""

    def bootstrap(self, counts: Array, grid: Nodes) -> Array:
        """Curves refitted on resampled groups, shape (n_draws, grid.n)."""


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
    own : calibration or None
        The stratum's own correction; None when it cannot carry one.
    table : Table
        The two, weighed.
    """

    name: str
    n: int
    weight: float
    own: Refittable | None
    table: Table


def fit_strata(pooled: Refittable, sample: CalibrationSample) -> dict[str, StratumFit]:
    """Fit each stratum of the sample of a pooled correction, and weigh it against that.

    Warns
    -----
    WeakCalibrationWarning
        When a stratum has too few pairs or groups, or a slope that may be zero: it then gets the pooled correction.
    """
    owns = {name: _own_fit(pooled, name, part) for name, part in sample.strata.items()}
    distances = {
        name: (0.0, 0.0) if own is None else _distance(pooled, own, sample, name)
        for name, own in owns.items()
    }
    # Method of moments: by how much the squared differences exceed their sampling variance, on average.
    excess = [square - variance for name, (square, variance) in distances.items() if owns[name] is not None]
    between = max(0.0, float(np.mean(excess))) if excess else 0.0
    fits = {}
    for name, own in owns.items():
        total = between + distances[name][1]
        weight = between / total if own is not None and total > 0 else 0.0
        grid = pooled.nodes() if own is None else own.nodes()
        h = (1 - weight) * pooled.table_(grid.x)
        if own is not None:
            h = h + weight * own.table_(grid.x)
        fits[name] = StratumFit(name, sample.strata[name].n, weight, own, Table(grid, h))
    return fits


def stratum_curve(fit: StratumFit, pooled: FittedCurve, counts: Array) -> FittedCurve:
    """Weigh a stratum's correction and the pooled one on the nodes of the latter.

    Parameters
    ----------
    fit : StratumFit
    pooled : FittedCurve
    counts : ndarray, shape (n_draws, n_groups)
        How often each of the stratum's own groups is in each draw.
    """
    grid = pooled.table.grid
    h, refits, error = (1 - fit.weight) * pooled.table.h, (1 - fit.weight) * pooled.refits, pooled.error
    if fit.own is not None:
        own, own_error = fit.own.tabulate(grid)
        h = h + fit.weight * own.h
        refits = refits + fit.weight * fit.own.bootstrap(counts, grid)
        error = max(error, own_error)
    return FittedCurve(fit.name, Table(grid, h), error, refits, {"weight": fit.weight, "n": float(fit.n)})


def _own_fit(pooled: Refittable, name: str, part: CalibrationSample) -> Refittable | None:
    own = type(pooled)(**pooled.get_params())
    try:
        part.require_substance()
        if part.in_one_group:
            raise CalibrationError("all its pairs are in one group, so its uncertainty cannot be known.")
        own.learn(part)
    except CalibrationError as error:
        warnings.warn(
            f"Stratum {name!r} ({part.n} pairs) gets the pooled correction: {error}",
            WeakCalibrationWarning,
            stacklevel=5,
        )
        return None
    return own


def _distance(
    pooled: Refittable, own: Refittable, sample: CalibrationSample, name: str
) -> tuple[float, float]:
    """Mean squared difference of the two curves over the stratum's predictions, and its sampling variance.

    Of the lines nearest to the curves: level and slope are what an effect depends on, and the sampling error of the
    bends of a curve, which is most of its error, would make strata look more alike than they are.
    """
    part, columns = sample.strata[name], sample.groups_of(name)
    n_groups = sample.n if sample.n_groups is None else sample.n_groups
    n_blocks = min(N_BLOCKS, columns.size)
    block = np.arange(n_groups) % n_blocks
    block[columns] = np.arange(columns.size) % n_blocks
    counts = (block != np.arange(n_blocks)[:, None]).astype(np.float64)
    grid = own.nodes()
    line = _orthonormal_line(grid.x, mass_on(grid, part.y_pred, part.weight))
    apart = (own.bootstrap(counts[:, columns], grid) - pooled.bootstrap(counts, grid)) @ line
    spread = float(((apart - apart.mean(axis=0)) ** 2).sum()) * (n_blocks - 1) / n_blocks
    square = float((((own.table_(grid.x) - pooled.table_(grid.x)) @ line) ** 2).sum())
    return square, spread


def _orthonormal_line(x: Array, mass: Array) -> Array:
    """Columns with which a function on the nodes `x` gives its coordinates on one and `x`, orthonormal in `mass`."""
    share = mass / mass.sum()
    centred = x - share @ x
    return np.column_stack([share, share * centred / np.sqrt(share @ centred**2)])
