"""Natural cubic splines: smooth between knots, straight beyond the outermost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

__all__ = ["NaturalSpline", "quantile_knots"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NaturalSpline:
    """Basis of natural cubic splines; a coefficient is the value of the function at its knot.

    Attributes
    ----------
    knots : ndarray, shape (k,), increasing
        With two knots the basis is that of straight lines.
    inside : scipy.interpolate.CubicSpline
        The basis between the outermost knots.
    ends : ndarray, shape (2, k)
        Slopes of the basis at the outermost knots, with which it goes straight on.
    roughness : ndarray, shape (k, k)
        ``c @ roughness @ c`` is the integral of the squared second derivative.
    """

    knots: Array
    inside: CubicSpline
    ends: Array
    roughness: Array

    @classmethod
    def on(cls, knots: Array) -> NaturalSpline:
        """Basis on the given knots."""
        from scipy.interpolate import CubicSpline

        k, gap = knots.size, np.diff(knots)
        inside = CubicSpline(knots, np.eye(k), bc_type="natural")
        # Between knots a second derivative is straight, so that its square integrates in closed form.
        mass = np.zeros((k, k))
        left = np.arange(k - 1)
        mass[left, left] += gap / 3
        mass[left + 1, left + 1] += gap / 3
        mass[left, left + 1] = mass[left + 1, left] = gap / 6
        second = inside(knots, 2)
        return cls(knots, inside, inside(knots[[0, -1]], 1), second.T @ mass @ second)

    def __call__(self, x: Array) -> Array:
        """Evaluate the basis at `x`, shape (n, k)."""
        nearest = np.clip(x, self.knots[0], self.knots[-1])
        below, above = np.minimum(x - self.knots[0], 0.0), np.maximum(x - self.knots[-1], 0.0)
        return np.asarray(
            self.inside(nearest) + np.outer(below, self.ends[0]) + np.outer(above, self.ends[1])
        )


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
