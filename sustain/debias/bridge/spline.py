"""Natural cubic splines: smooth between knots, straight beyond the outermost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NaturalSpline", "quantile_knots"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NaturalSpline:
    """Basis of natural cubic splines; a coefficient is the value of the function at its knot.

    Attributes
    ----------
    knots : ndarray, shape (k,), increasing
        With two knots the basis is that of straight lines.
    curvature : ndarray, shape (k, k)
        Maps values at the knots to second derivatives there (Green & Silverman 1994, section 2.1).
    roughness : ndarray, shape (k, k)
        ``c @ roughness @ c`` is the integral of the squared second derivative.
    """

    knots: Array
    curvature: Array
    roughness: Array

    @classmethod
    def on(cls, knots: Array) -> NaturalSpline:
        """Basis on the given knots."""
        k = knots.size
        gap = np.diff(knots)
        differences, gram = np.zeros((k - 2, k)), np.zeros((k - 2, k - 2))
        for i in range(k - 2):
            differences[i, i : i + 3] = 1 / gap[i], -1 / gap[i] - 1 / gap[i + 1], 1 / gap[i + 1]
            gram[i, i] = (gap[i] + gap[i + 1]) / 3
            if i + 1 < k - 2:
                gram[i, i + 1] = gram[i + 1, i] = gap[i + 1] / 6
        inner = np.linalg.solve(gram, differences) if k > 2 else differences
        curvature = np.vstack([np.zeros(k), inner, np.zeros(k)])
        return cls(knots, curvature, differences.T @ inner)

    def __call__(self, x: Array) -> Array:
        """Evaluate the basis at `x`, shape (n, k)."""
        knots, k = self.knots, self.knots.size
        gap = np.diff(knots)
        inside = np.clip(x, knots[0], knots[-1])
        left = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, k - 2)
        width = gap[left]
        after, before = (inside - knots[left]) / width, (knots[left + 1] - inside) / width
        basis = np.zeros((x.size, k))
        row = np.arange(x.size)
        basis[row, left] = before
        basis[row, left + 1] += after
        basis += ((before**3 - before) * width**2 / 6)[:, None] * self.curvature[left]
        basis += ((after**3 - after) * width**2 / 6)[:, None] * self.curvature[left + 1]
        return basis + self._ends(x, gap)

    def _ends(self, x: Array, gap: Array) -> Array:
        k = self.knots.size
        first, last = np.zeros(k), np.zeros(k)
        first[:2] = -1 / gap[0], 1 / gap[0]
        last[-2:] = -1 / gap[-1], 1 / gap[-1]
        first -= gap[0] / 6 * self.curvature[1]
        last += gap[-1] / 6 * self.curvature[-2]
        below, above = np.minimum(x - self.knots[0], 0.0), np.maximum(x - self.knots[-1], 0.0)
        return np.asarray(below[:, None] * first + above[:, None] * last)


def quantile_knots(x: Array, weight: Array, low: float, high: float, n: int) -> Array:
    """Knots from `low` to `high` with equal weight of `x` between them; fewer where `x` has ties.

    Knots closer together than a thousandth of the range are merged.
    """
    inside = (x >= low) & (x <= high) & (weight > 0)
    order = np.argsort(x[inside], kind="stable")
    ascending, share = x[inside][order], np.cumsum(weight[inside][order])
    share = (share - weight[inside][order] / 2) / share[-1] if share.size else share
    knots = [low]
    if share.size:
        for value in np.interp(np.linspace(0, 1, n)[1:-1], share, ascending):
            if value - knots[-1] > 1e-3 * (high - low) and high - value > 1e-3 * (high - low):
                knots.append(float(value))
    return np.array([*knots, high])
