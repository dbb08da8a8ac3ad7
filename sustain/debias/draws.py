"""Bootstrap draws of a correction: held as curves, stored as lines or as a few principal components."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sustain.debias.table import Grid

__all__ = ["Components", "Draws", "compress", "expand", "knots"]

Array = NDArray[np.float64]

KNOT_EVERY = 4  # a knot of the stored deviations at every fourth node of the grid
TOLERANCE = 0.05  # of the pointwise bootstrap standard deviation


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws of a correction, as curves that are straight between nodes and beyond them.

    Draw number k of every method in a card comes from the same resample of calibration groups.

    Attributes
    ----------
    grid : Grid
        Nodes.
    h : ndarray, shape (n_draws, grid.n)
        Corrected value at each node.
    """

    grid: Grid
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


def compress(draws: Array, h: Array, max_components: int) -> Components:
    """Store draws (shape (n_draws, n)) as the fewest components that keep them near enough.

    Near enough: the root mean squared difference at every node is at most 5% of the bootstrap standard deviation
    there (or of a tenth of the largest one), with `max_components` at most.
    """
    deviation = draws - h
    u, s, vt = np.linalg.svd(deviation[:, knots(h.size)], full_matrices=False)
    # The sign of a singular vector is arbitrary; fixed, so that the same draws always give the same bytes.
    sign = np.where(vt[np.arange(len(s)), np.abs(vt).argmax(axis=1)] < 0, -1.0, 1.0)
    scores, curves = u * s * sign, vt * sign[:, None]
    unit_scores, unit_curves = _unit(scores), _unit(curves)
    spread = draws.std(axis=0)
    allowed = TOLERANCE * np.maximum(spread, 0.1 * spread.max())
    for rank in range(1, min(max_components, len(s)) + 1):
        parts = Components(
            unit_scores * unit_curves,
            np.rint(scores[:, :rank] / unit_scores).astype(np.int64),
            np.rint(curves[:rank] / unit_curves).astype(np.int64),
            0.0,
        )
        miss = expand(parts, h) - draws
        if (np.sqrt((miss**2).mean(axis=0)) <= allowed).all():
            break
    return replace(parts, max_error=float(np.abs(miss).max()))


def expand(parts: Components, h: Array) -> Array:
    """Curves of every draw on the nodes of `h`, shape (n_draws, n)."""
    nodes, places = np.arange(h.size), knots(h.size)
    curves = np.stack([np.interp(nodes, places, curve) for curve in parts.curves])
    return np.asarray(h + parts.scale * (parts.scores @ curves))


def _unit(values: Array) -> float:
    """Power of ten in which the largest value has four digits."""
    top = float(np.abs(values).max())
    return 10.0 ** (np.floor(np.log10(top)) - 3) if top > 0 else 1.0


def knots(n: int) -> NDArray[np.intp]:
    """Nodes out of `n` at which deviations are stored."""
    # The last two nodes on either side are knots, so that the straight ends go on straight.
    return np.unique(np.concatenate([np.arange(0, n, KNOT_EVERY), [1, n - 2, n - 1]]))
