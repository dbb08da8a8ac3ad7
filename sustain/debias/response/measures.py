"""What is said of a distribution of truth on nodes: headcounts, quantiles, shortfalls, means of parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.table import Nodes

__all__ = ["Measure", "headcount", "mean_of_part", "quantile", "shortfall"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A number that is computed from a distribution.

    Attributes
    ----------
    kind : str
        ``"headcount"``, ``"quantile"``, ``"shortfall"`` or ``"gain"``.
    at : float
        The line, or the quantile; of a part, the quantile at its upper end.
    value : callable
        Takes distributions, shape (..., truth.n), and returns the number of each.
    gradient : callable
        Takes one distribution and returns the derivative by the share of each node, shape (truth.n,), but for a
        constant.
    """

    kind: str
    at: float
    value: Callable[[Array], Array]
    gradient: Callable[[Array], Array]


def headcount(truth: Nodes, line: float) -> Measure:
    """Share below a line; what a node stands for lies evenly about it."""
    below = np.clip((line - truth.x) / truth.step + 0.5, 0.0, 1.0)
    return Measure("headcount", line, lambda p: np.asarray(p @ below), lambda p: below)


def shortfall(truth: Nodes, line: float) -> Measure:
    """Mean distance to a line from below, zero above it: the poverty gap, in units of the truth."""
    missing = _missing(truth, np.asarray(line))
    return Measure("shortfall", line, lambda p: np.asarray(p @ missing), lambda p: missing)


def quantile(truth: Nodes, share: float) -> Measure:
    """Truth below which a share lies."""

    def gradient(p: Array) -> Array:
        at = float(_quantiles(truth, p, share))
        place = int(np.clip(np.rint((at - truth.start) / truth.step), 0, truth.n - 1))
        density = max(float(p[place]), 1e-6) / truth.step
        return -headcount(truth, at).gradient(p) / density

    return Measure("quantile", share, lambda p: _quantiles(truth, p, share), gradient)


def mean_of_part(truth: Nodes, low: float, high: float) -> Measure:
    """Mean truth between two quantiles, ``int_low^high Q(u) du / (high - low)``."""

    def lorenz(p: Array, share: float) -> Array:
        # int_0^a Q = a Q(a) - E (Q(a) - y)+ , whose derivative by the distribution is - (Q(a) - y)+
        if share >= 1:
            return np.asarray(p @ truth.x)
        at = _quantiles(truth, p, share)
        return (
            np.asarray(share * at - (p * _missing(truth, at)).sum(axis=-1))
            if share > 0
            else np.zeros(at.shape)
        )

    def slope(p: Array, share: float) -> Array:
        if share <= 0:
            return np.zeros(truth.n)
        return truth.x if share >= 1 else -_missing(truth, _quantiles(truth, p, share))

    width = high - low
    return Measure(
        "gain",
        high,
        lambda p: (lorenz(p, high) - lorenz(p, low)) / width,
        lambda p: (slope(p, high) - slope(p, low)) / width,
    )


def _missing(truth: Nodes, line: Array) -> Array:
    """Mean of ``(line - y)+`` over what each node stands for."""
    over = np.clip((line[..., None] - truth.x) / truth.step + 0.5, 0.0, None)
    return np.asarray(truth.step * np.where(over < 1, over**2 / 2, over - 0.5))


def _quantiles(truth: Nodes, p: Array, share: float) -> Array:
    """Quantile of each distribution: where the cumulated shares, straight within a node's reach, pass it."""
    flat = p.reshape(-1, truth.n)
    up_to = np.cumsum(flat, axis=1) / flat.sum(axis=1, keepdims=True)
    at = np.minimum((up_to < share).sum(axis=1), truth.n - 1)
    row = np.arange(len(flat))
    before = np.where(at > 0, up_to[row, at - 1], 0.0)
    inside = (share - before) / np.maximum(up_to[row, at] - before, 1e-300)
    return np.asarray(truth.x[at] + truth.step * (np.clip(inside, 0, 1) - 0.5)).reshape(p.shape[:-1])
