"""Random effects of several quantities at once, over populations that one factor or several tell apart.

The quantities d_c of a population c (here the coordinates of its response curve about the common one) were estimated
with covariances V_c, and are taken as

    d_c = mean + sum_f u_f(level of c) + e_c + error_c,   u_f ~ N(0, T_f),   e_c ~ N(0, T),   error_c ~ N(0, V_c)

with an effect of every level of each factor (country, urban or rural), and one of the combination by itself. A single
factor leaves the mean and e_c. The covariances T maximise the restricted likelihood (Patterson and Thompson 1971) times
``|T|^(1/2)``, a prior that keeps the estimate off zero, where few populations often put it and intervals are too short
(Chung et al. 2013, doi:10.1007/s11336-013-9328-2), by expectation and maximisation. A population's effects are then
best linear predictions: its own estimate, drawn towards what the others say the less sure it is of itself (Harville
1977, doi:10.1080/01621459.1977.10480998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pooled", "pool"]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

MOST_STEPS, TOLERANCE = 500, 1e-4
"""Steps of the maximisation; it ends when no covariance moves by more than this share of the total."""

_LEAST = 1e-6  # of a covariance, as a share of the mean squared estimate: one of zero could not be inverted


@dataclass(frozen=True)
class Pooled:
    """Random effects of r quantities over S populations.

    Attributes
    ----------
    mean, mean_cov : ndarray, shape (r,) and (r, r)
        Mean over populations, and its covariance.
    found, cov : ndarray, shape (S, r) and (S, r, r)
        Best prediction for each population, and its covariance; that of the mean is in it.
    own : ndarray, shape (r, r)
        Covariance T of populations beside the effects of factors.
    factors : tuple of ndarray, shape (r, r)
        Covariances T_f of the factors.
    """

    mean: Array
    mean_cov: Array
    found: Array
    cov: Array
    own: Array
    factors: tuple[Array, ...]


def pool(estimates: Array, variances: Array, factors: Sequence[Codes] = ()) -> Pooled:
    """Learn how populations differ, and draw each one's estimates towards what the others say.

    Parameters
    ----------
    estimates : ndarray, shape (S, r)
    variances : ndarray, shape (S, r, r)
        Sampling covariances.
    factors : sequence of ndarray of int, shape (S,)
        Level of each population in each factor, if there are several.
    """
    n, r = estimates.shape
    scale = np.sqrt(np.maximum(np.mean(estimates**2, axis=0), 1e-300))
    d = estimates / scale
    v = variances / np.outer(scale, scale)
    levels = [int(codes.max()) + 1 for codes in factors]
    starts = np.concatenate([[1], 1 + np.cumsum(levels)]).astype(int)
    n_blocks = int(starts[-1])
    block = np.column_stack(
        [np.zeros(n, dtype=int), *(start + codes for start, codes in zip(starts, factors, strict=False))]
    )
    unit = np.eye(r)
    own, shared = unit / (1 + len(levels)), [unit / (1 + len(levels)) for _ in levels]
    for _ in range(MOST_STEPS):
        precision = np.linalg.inv(v + own)
        system = np.zeros((n_blocks, n_blocks, r, r))
        right = np.zeros((n_blocks, r))
        for left in block.T:
            np.add.at(right, left, (precision @ d[..., None])[..., 0])
            for other in block.T:
                np.add.at(system, (left, other), precision)
        for start, count, cov in zip(starts, levels, shared, strict=False):
            at = np.arange(start, start + count)
            system[at, at] += np.linalg.inv(cov)
        full = system.transpose(0, 2, 1, 3).reshape(n_blocks * r, n_blocks * r)
        inverse = np.linalg.inv(full).reshape(n_blocks, r, n_blocks, r).transpose(0, 2, 1, 3)
        effects = np.einsum("abij,bj->ai", inverse, right)
        fitted = effects[block].sum(axis=1)
        fitted_cov = inverse[block[:, :, None], block[:, None, :]].sum(axis=(1, 2))
        gain = own @ precision
        beside = (gain @ (d - fitted)[..., None])[..., 0]
        back = np.swapaxes(gain, 1, 2)
        beside_cov = np.asarray(own - gain @ own + gain @ fitted_cov @ back)
        new_own = _least(_mean_square(beside, beside_cov))
        new_shared = []
        for start, count in zip(starts, levels, strict=False):
            at = np.arange(start, start + count)
            new_shared.append(_least(_mean_square(effects[at], np.asarray(inverse[at, at]))))
        moved = max(
            float(np.abs(new - old).max())
            for new, old in zip([new_own, *new_shared], [own, *shared], strict=True)
        )
        if moved < TOLERANCE:
            break
        own, shared = new_own, new_shared
    keep = unit - gain
    cov = own - gain @ own + keep @ fitted_cov @ np.swapaxes(keep, 1, 2)
    square = np.outer(scale, scale)
    return Pooled(
        mean=effects[0] * scale,
        mean_cov=inverse[0, 0] * square,
        found=(fitted + beside) * scale,
        cov=cov * square,
        own=own * square,
        factors=tuple(item * square for item in shared),
    )


def _mean_square(values: Array, covs: Array) -> Array:
    """Mean square of values that are known up to a covariance; by one less than their number, as the prior has it."""
    squares = (values[:, :, None] * values[:, None, :] + covs).sum(axis=0)
    return np.asarray(squares / max(len(values) - 1, 1))


def _least(cov: Array) -> Array:
    return (cov + cov.T) / 2 + _LEAST * np.eye(len(cov))
