"""How far one contrast, or one group of places, lies from the mean slope of its kind.

The standard error of a slope says how well the *mean* slope is known. A trial is one more contrast, whose own slope
lies around that mean, and whose prediction is off even where its truth does not differ. For contrasts k

    D_x,k = (b + beta_k) D_y,k + u_k + e_k

with sd(beta) the spread of the slope, sd(u) the contrasts' own error, and e_k what sampling within the arms adds. Where
only a slope is read off every group, there is no u, and the spread is DerSimonian and Laird's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.stats.random_effects import random_effects

__all__ = ["NO_SPREAD", "Pieces", "Spread", "new_slope", "spread_of_contrasts", "spread_of_slopes"]

Array = NDArray[np.float64]

MIN_PIECES = 5
"""Pieces that a variance between pieces needs."""

_STEPS = 20  # of the scoring; it settles to three digits in fewer than ten
_FLOOR = 1e-12  # of the sampling variance, beside the squares: predictions without noise have none


class Pieces(NamedTuple):
    """A slope piece by piece: ``found = slope * size``, and the sampling error of either.

    Attributes
    ----------
    found, size : ndarray, shape (k,)
        Such as the predicted and the true contrast.
    var_found, cov, var_size : ndarray, shape (k,)
        Sampling variances and covariance of the two.
    """

    found: Array
    size: Array
    var_found: Array
    cov: Array
    var_size: Array

    def noise(self, slope: Any) -> Array:
        """Give the sampling variance of ``found - slope * size``."""
        return np.asarray(np.maximum(self.var_found - 2 * slope * self.cov + slope**2 * self.var_size, 0.0))


class Spread(NamedTuple):
    """Spread between pieces.

    Attributes
    ----------
    slope_sd : float
        Of their slopes.
    contrast_sd : float
        Of the predicted contrasts at equal truth, in the unit of the prediction.
    n : int or None
        Pieces that it rests on; None when it was not estimated.
    """

    slope_sd: float
    contrast_sd: float
    n: int | None


NO_SPREAD = Spread(0.0, 0.0, None)


def spread_of_slopes(pieces: Pieces) -> Spread:
    """Spread of the pieces' slopes beyond their sampling errors (DerSimonian and Laird 1986)."""
    kept = pieces.size > 0
    if np.count_nonzero(kept) < MIN_PIECES:
        return NO_SPREAD
    pieces = Pieces(*(values[kept] for values in pieces))
    slopes = pieces.found / pieces.size
    # About each piece's own slope: its distance from the mean is what is looked for, and no noise.
    variances = pieces.noise(slopes) / pieces.size**2
    if not variances.min() > 0:
        return NO_SPREAD
    return Spread(random_effects(slopes, variances).sd, 0.0, slopes.size)


def spread_of_contrasts(pieces: Pieces, slope: float, per_row: Array) -> Spread:
    """Spread of slopes and the contrasts' own error, from the squares of what the mean slope leaves.

    ``E (D_x - b D_y)^2 = s^2 + sd(u)^2 + sd(beta)^2 D_y^2``: a regression whose weights are the squared inverse of
    that expectation, as the variance of a normal square is. Repeated, this is scoring of the normal likelihood.

    Parameters
    ----------
    pieces : Pieces
        Contrasts.
    slope : float
        Their mean slope.
    per_row : ndarray, shape (k,)
        One over the rows of either arm, summed: what `s^2` is proportional to. In the weights, the variance of small
        arms is not their own, which may be small by luck.
    """
    noise = pieces.noise(slope)
    if noise.size < MIN_PIECES:
        return NO_SPREAD
    # One degree of freedom went to the slope.
    square = (pieces.found - slope * pieces.size) ** 2 * noise.size / (noise.size - 1)
    if not square.max() > 0:
        return Spread(0.0, 0.0, noise.size)
    columns = np.column_stack([np.ones_like(square), pieces.size**2])
    usual = per_row * max(float(noise.sum() / per_row.sum()), _FLOOR * float(square.mean()))
    found = np.array([max(float((square - noise).mean()), 0.0), 0.0])
    for _ in range(_STEPS):
        found = _not_negative(columns, square - noise, 1 / (usual + columns @ found))
    return Spread(math.sqrt(found[1]), math.sqrt(found[0]), noise.size)


def new_slope(std_error: float, df: int, slope_sd: float, n: int | None) -> tuple[float, int]:
    """Give standard error and degrees of freedom of a new contrast's slope, from the mean's and the spread."""
    return math.hypot(std_error, slope_sd), df if n is None else min(df, n - 1)


def _not_negative(columns: Array, values: Array, weight: Array) -> Array:
    """Weighted least squares on two columns, with neither coefficient below zero."""
    scaled, target = columns * weight[:, None], values * weight
    both = np.linalg.lstsq(scaled, target, rcond=None)[0]
    if both.min() >= 0:
        return np.asarray(both)
    cross = scaled.T @ target
    alone = np.maximum(cross / np.square(scaled).sum(axis=0), 0.0)
    # What is left of the sum of squares is least for the column that takes most off.
    best = int(np.argmax(alone * cross))
    return np.where(np.arange(2) == best, alone, 0.0)
