"""Bootstrap draws of a correction: held as curves, stored as lines or as a few principal components."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sustain.debias.table import Nodes
from sustain.errors import CardWarning

__all__ = ["Components", "Decomposition", "Draws", "compress", "expand", "knots"]

Array = NDArray[np.float64]

KNOT_EVERY = 4  # a knot of the stored deviations at every fourth node of the grid
WINDOW = 32  # nodes: an eighth of the support of a grid as `Nodes.around` makes it
TOLERANCE = 0.05  # of the bootstrap standard deviation, at which components are enough
MOST = 24  # components that are kept at most
FAITHFUL = 0.14  # leaves out 2% of the variance


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of a correction, as curves that are straight between nodes and beyond them.

    Draw number k of every method in a card comes from the same resample of calibration groups.

    Attributes
    ----------
    grid : Nodes
        Nodes.
    h : ndarray, shape (n_draws, grid.n)
        Corrected value at each node.
    """

    grid: Nodes
    h: Array

    def __len__(self) -> int:
        return int(self.h.shape[0])

    def __call__(self, y_pred: Array) -> Array:
        """Corrected predictions under every draw, shape (n_draws, n)."""
        index, share = self._place(np.asarray(y_pred, dtype=np.float64))
        return self.h[:, index] * (1 - share) + self.h[:, index + 1] * share

    def weighted_sum(self, y_pred: Array, weight: Array) -> Array:
        """``sum_i weight_i h_k(y_pred_i)`` under every draw k, shape (n_draws,).

        A difference of arm means, or any estimate that is linear in the outcome, is such a sum; its cost does not
        depend on the number of draws times units.
        """
        index, share = self._place(np.asarray(y_pred, dtype=np.float64))
        weight = np.asarray(weight, dtype=np.float64)
        on_nodes = np.bincount(index, weights=weight * (1 - share), minlength=self.grid.n)
        on_nodes = on_nodes + np.bincount(index + 1, weights=weight * share, minlength=self.grid.n)
        return np.asarray(self.h @ on_nodes)

    def variance(self, y_pred: Array) -> Array:
        """Variance of the corrected value across draws at each prediction, shape (n,); NaN stays NaN."""
        index, share = self._place(y_pred)
        here, cross = self._second_moments
        left, right = 1 - share, share
        return np.asarray(
            left**2 * here[index] + 2 * left * right * cross[index] + right**2 * here[index + 1]
        )

    @cached_property
    def _second_moments(self) -> tuple[Array, Array]:
        """Variance at each node, and covariance of each node with the next."""
        centred = self.h - self.h.mean(axis=0)
        scale = 1.0 / max(1, len(self) - 1)
        return scale * (centred**2).sum(axis=0), scale * (centred[:, :-1] * centred[:, 1:]).sum(axis=0)

    def _place(self, x: Array) -> tuple[NDArray[np.intp], Array]:
        """Piece of each value, and how far along that piece (below 0 and above 1 beyond the ends)."""
        along = (x - self.grid.start) / self.grid.step
        index = np.fmin(np.fmax(along, 0.0), self.grid.n - 2).astype(np.intp)
        return index, along - index


@dataclass(frozen=True)
class Components:
    """Curves as deviations from one curve: ``h + scale * scores @ curves``, `curves` on every fourth node.

    Attributes
    ----------
    scale : float
        Common factor, so that scores and curves are whole numbers.
    scores : ndarray of int, shape (n_draws, r)
        Coordinates of the draws.
    curves : ndarray of int, shape (r, n_knots)
        Components on the knots.
    max_error : float
        Greatest difference between a stored and an original draw at any node.
    """

    scale: float
    scores: NDArray[np.int64]
    curves: NDArray[np.int64]
    max_error: float


@dataclass(frozen=True)
class Decomposition:
    """All components of some draws, of which a card keeps the first few.

    Attributes
    ----------
    parts : Components
        As many as the draws have.
    misses : ndarray, shape (r,)
        With the first 1, 2, ... r components: the greatest root mean squared error over the draws, as a share of
        their standard deviation (of a tenth of the largest one where there is less), of means of the curves over an
        eighth of the support and of rises between such means. Effects are made of these; a single node, at which
        a monotone projection bends every draw in another place, is not what must be kept.
    errors : ndarray, shape (r,)
        Greatest difference between a stored and an original draw at any node.
    """

    parts: Components
    misses: Array
    errors: Array

    @classmethod
    def of(cls, draws: Array, h: Array) -> Decomposition:
        """Decompose draws, shape (n_draws, n), about the curve `h`."""
        places = knots(h.size)
        deviation = draws - h
        u, s, vt = np.linalg.svd(deviation[:, places], full_matrices=False)
        # Directions in which draws do not vary are what rounding makes them, and may not set the unit of the others.
        rank = max(1, int(np.count_nonzero(s > 1e-9 * s[0])))
        u, s, vt = u[:, :rank], s[:rank], vt[:rank]
        # The sign of a singular vector is arbitrary; fixed, so that the same draws always give the same bytes.
        sign = np.where(vt[np.arange(len(s)), np.abs(vt).argmax(axis=1)] < 0, -1.0, 1.0)
        scores, curves = u * s * sign, vt * sign[:, None]
        unit_scores, unit_curves = _unit(scores), _unit(curves)
        whole_scores = np.rint(scores / unit_scores).astype(np.int64)
        whole_curves = np.rint(curves / unit_curves).astype(np.int64)
        scale = float(
            f"{unit_scores * unit_curves:.9g}"
        )  # a card's digits are to be the same on every machine
        averages = _averages(deviation)
        allowed = averages.std(axis=0)
        allowed = np.maximum(allowed, 0.1 * allowed.max())
        allowed += 1e-9 * np.abs(h).max()  # draws may not differ at all
        misses, errors, left = [], [], deviation
        for score, curve in zip(whole_scores.T[:MOST], whole_curves[:MOST], strict=True):
            left = left - scale * np.outer(score, np.interp(np.arange(h.size), places, curve))
            misses.append(float((np.sqrt((_averages(left) ** 2).mean(axis=0)) / allowed).max()))
            errors.append(np.abs(left).max())
            if misses[-1] <= TOLERANCE:
                break
        kept = len(misses)
        parts = Components(scale, whole_scores[:, :kept], whole_curves[:kept], 0.0)
        return cls(parts, np.array(misses), np.array(errors))

    def first(self, rank: int) -> Components:
        """Keep the first `rank` components."""
        return Components(
            self.parts.scale,
            self.parts.scores[:, :rank],
            self.parts.curves[:rank],
            float(self.errors[rank - 1]),
        )

    def size(self, rank: int) -> int:
        """Characters that the first `rank` components take in a card: digits, signs and commas."""
        numbers = np.concatenate([self.parts.scores[:, :rank].ravel(), self.parts.curves[:rank].ravel()])
        digits = np.floor(np.log10(np.maximum(np.abs(numbers), 1))) + 1
        return int((digits + (numbers < 0) + 1).sum())


def compress(found: Sequence[Decomposition], budget: int) -> list[Components]:
    """Keep of every decomposition the components that together fit into `budget` characters.

    One component after the other is added where most is missing, until nothing misses more than 5% or the next does
    not fit. Components are uncorrelated, so that a miss of 14% leaves out 2% of the variance.

    Warns
    -----
    CardWarning
        When the draws of some curve miss more than 14%.
    """
    ranks = [1] * len(found)
    size = sum(item.size(1) for item in found)
    while found:
        misses = [
            item.misses[rank - 1] if rank < item.misses.size else 0.0
            for item, rank in zip(found, ranks, strict=True)
        ]
        worst = int(np.argmax(misses))
        more = found[worst].size(ranks[worst] + 1) - found[worst].size(ranks[worst])
        if misses[worst] <= TOLERANCE or size + more > budget:
            break
        ranks[worst], size = ranks[worst] + 1, size + more
    miss = max((item.misses[rank - 1] for item, rank in zip(found, ranks, strict=True)), default=0.0)
    if miss > FAITHFUL:
        warnings.warn(
            f"The draws of {len(found)} curves do not fit into the {budget} characters that a card of 300 kB has left "
            f"for them. What is stored leaves out up to {min(miss, 1.0) ** 2:.0%} of the variance of a correction, "
            "so that intervals come out too short. Pass fewer strata or methods, or a smaller n_boot.",
            CardWarning,
            stacklevel=4,
        )
    return [item.first(rank) for item, rank in zip(found, ranks, strict=True)]


def _averages(curves: Array) -> Array:
    """Means of curves over windows of the grid and rises between windows, shape (n_draws, n_windows)."""
    n = curves.shape[1]
    total = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(curves, axis=1)], axis=1)
    begin = np.arange(0, max(1, n - WINDOW + 1), WINDOW // 2)
    end = np.minimum(begin + WINDOW, n)
    means = (total[:, end] - total[:, begin]) / (end - begin)
    return np.concatenate([means, means[:, 2:] - means[:, :-2]], axis=1)


def expand(parts: Components, h: Array) -> Array:
    """Curves of every draw on the nodes of `h`, shape (n_draws, n)."""
    nodes, places = np.arange(h.size), knots(h.size)
    curves = np.stack([np.interp(nodes, places, curve) for curve in parts.curves])
    return np.asarray(h + parts.scale * (parts.scores @ curves))


def _unit(values: Array) -> float:
    """Give the unit in which the largest value is 999: rounding costs less than the components that are left out."""
    top = float(np.abs(values).max())
    return top / 999 if top > 0 else 1.0


def knots(n: int) -> NDArray[np.intp]:
    """Nodes out of `n` at which deviations are stored."""
    # The last two nodes on either side are knots, so that the straight ends go on straight.
    return np.unique(np.concatenate([np.arange(0, n, KNOT_EVERY), [1, n - 2, n - 1]]))
