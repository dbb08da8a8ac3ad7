"""A correction as one table: straight lines between evenly spaced nodes, straight on beyond both ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SUPPORT_QUANTILES",
    "Nodes",
    "Table",
    "mass_on",
    "ordered",
    "quantiles_of",
    "share_changed",
    "support_of",
    "table_error",
]

Array = NDArray[np.float64]

SUPPORT_QUANTILES = (0.005, 0.995)
"""Quantiles of the calibration predictions that bound the support of a correction."""

# Values at a time. Few enough that the temporaries stay in the processor's cache; enough that a thread is not kept
# busy by asking for Python's lock between two operations.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Nodes:
    """Evenly spaced nodes from `start` to `stop`."""

    start: float
    stop: float
    n: int

    @classmethod
    def around(cls, low: float, high: float, core: int = 256, margin: int = 64) -> Nodes:
        """Nodes with `core` steps inside the support and `margin` steps on either side; both edges are nodes."""
        step = (high - low) / core
        return cls(low - margin * step, high + margin * step, core + 2 * margin + 1)

    @property
    def step(self) -> float:
        """Distance between nodes."""
        return (self.stop - self.start) / (self.n - 1)

    @cached_property
    def x(self) -> Array:
        """The nodes, shape (n,)."""
        return np.linspace(self.start, self.stop, self.n)


@dataclass(frozen=True)
class Table:
    """The function that is linear between ``(grid.x, h)`` and continues its outermost pieces.

    Evaluation costs two look-ups a value, whatever the table was made from.
    """

    grid: Nodes
    h: Array

    @cached_property
    def _pieces(self) -> tuple[Array, Array]:
        slope = np.diff(self.h) / self.grid.step
        return self.h[:-1] - slope * self.grid.x[:-1], slope

    @cached_property
    def dh(self) -> Array:
        """Slope at the nodes: the mean of the two pieces that meet there, shape (n,)."""
        slope = self._pieces[1]
        return np.concatenate([slope[:1], (slope[1:] + slope[:-1]) / 2, slope[-1:]])

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Evaluate at `x` (floats, one dimension) in float64; the type is kept, and NaN stays NaN."""
        constant, slope = self._pieces
        scale, last = 1.0 / self.grid.step, slope.size - 1
        out = np.empty(x.shape, dtype=x.dtype)
        size = min(_BLOCK, x.size)
        values, places, indices = np.empty(size), np.empty(size), np.empty(size, dtype=np.intp)
        for begin in range(0, x.size, _BLOCK):
            part = x[begin : begin + _BLOCK]
            value, place, index = values[: part.size], places[: part.size], indices[: part.size]
            value[:] = part
            np.subtract(value, self.grid.start, out=place)
            np.multiply(place, scale, out=place)
            np.fmax(place, 0.0, out=place)  # fmax, fmin: a NaN takes piece 0 and stays NaN in the product
            np.fmin(place, last, out=place)
            index[:] = place
            np.take(slope, index, out=place, mode="clip")
            np.multiply(place, value, out=place)
            np.take(constant, index, out=value, mode="clip")
            np.add(place, value, out=place)
            out[begin : begin + _BLOCK] = place
        return out

    def derivative(self, x: Array) -> Array:
        """Slope at `x`: the node slopes, interpolated; constant beyond the ends; NaN stays NaN."""
        return np.interp(x, self.grid.x, self.dh)


def support_of(x: Array, weight: Array) -> tuple[float, float]:
    """Range of `x` in which a correction is learned: two outer quantiles."""
    low, high = quantiles_of(x, weight, np.array(SUPPORT_QUANTILES))
    return float(low), float(high)


def quantiles_of(x: Array, weight: Array, shares: Array) -> Array:
    """Harrell and Davis's estimates of the quantiles of `x`.

    Each is a weighted mean of several order statistics (Biometrika 1982, 69:635), so that it is steadier than a
    single one and, from some hundred rows on, is nobody's prediction.
    """
    from scipy.special import betainc

    order = np.argsort(x, kind="stable")
    share = np.concatenate([[0.0], np.cumsum(weight[order])])
    share = np.minimum(share / share[-1], 1.0)
    n = weight.sum() ** 2 / np.square(weight).sum()
    edges, ascending = [], x[order]
    for p in shares:
        # Farther away than this the weights are rounding errors.
        reach = 12 * np.sqrt(p * (1 - p) / (n + 2)) + 40 / (n + 1)
        first, last = np.searchsorted(share, [p - reach, p + reach])
        first, last = max(first - 1, 0), min(last + 1, x.size)
        mass = np.diff(betainc((n + 1) * p, (n + 1) * (1 - p), share[first : last + 1]))
        edges.append(float(mass @ ascending[first:last]))
    return np.array(edges)


def table_error(grid: Nodes, h: Array, formula: Callable[[Array], Array]) -> float:
    """Greatest difference between `formula` and the table of its values, half-way between nodes."""
    between = (grid.x[1:] + grid.x[:-1]) / 2
    return float(np.abs((h[1:] + h[:-1]) / 2 - formula(between)).max())


def mass_on(grid: Nodes, x: Array, weight: Array) -> Array:
    """Share of the rows at each node (a row counts for the two nodes about it), at least 1e-9."""
    along = np.clip((x - grid.start) / grid.step, 0, grid.n - 1 - 1e-9)
    index = along.astype(np.intp)
    share = along - index
    mass = np.bincount(index, weights=weight * (1 - share), minlength=grid.n)
    mass += np.bincount(index + 1, weights=weight * share, minlength=grid.n)
    return np.asarray(np.maximum(mass / weight.sum(), 1e-9))


def ordered(h: Array, weight: Array) -> Array:
    """Give the non-decreasing values that are nearest to `h` in weighted squares."""
    if (np.diff(h) >= 0).all():
        return h
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(h, weights=weight).x)


def share_changed(table: Table, raw: Array, x: Array, weight: Array) -> float:
    """Weighted share of the rows `x` at which `table` differs from the table of `raw` values."""
    change = np.abs(table(x) - Table(table.grid, raw)(x))
    return float(np.average(change > 1e-9 * np.ptp(raw), weights=weight))
