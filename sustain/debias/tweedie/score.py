"""Scores of the density of predictions: ``s(x) = d/dx log p(x)``.

Tweedie's formula (Efron 2011, doi:10.1198/jasa.2011.tm11181; not the Tweedie family of GLMs) needs no more of the
distribution than this. Two forms are kept: a mixture of one to three Gaussians, whose score is smooth and grows
linearly, and a Gaussian kernel density, differentiated exactly instead of by finite differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["KernelScore", "MixtureScore", "Score", "kernel_bandwidth", "kernel_score", "scott_score"]

Array = NDArray[np.float64]

_LOG_2PI = math.log(2 * math.pi)
_ROWS = 16  # values at a time: neighbours see the same few kernels, and the temporaries stay in cache


class Score(Protocol):
    """A density known through its score."""

    def score(self, x: Array) -> Array:
        """``d/dx log p(x)``."""

    def slope(self, x: Array) -> Array:
        """``d/dx s(x)``."""

    def density(self, x: Array) -> Array:
        """``p(x)``."""


@dataclass(frozen=True)
class MixtureScore:
    """A mixture of Gaussians.

    Attributes
    ----------
    weights, means, variances : ndarray, shape (k,)
        Its parts; the weights add up to one.
    """

    weights: Array
    means: Array
    variances: Array

    def _log_parts(self, x: Array) -> Array:
        z = (x[:, None] - self.means) ** 2 / self.variances
        return np.asarray(np.log(self.weights) - (z + np.log(self.variances) + _LOG_2PI) / 2)

    def shares(self, x: Array) -> tuple[Array, Array]:
        """Responsibilities ``r_k(x)`` and pulls ``(mean_k - x) / var_k``, shape (n, k) each."""
        parts = self._log_parts(x)
        parts = np.exp(parts - parts.max(axis=1, keepdims=True))
        return parts / parts.sum(axis=1, keepdims=True), (self.means - x[:, None]) / self.variances

    def score(self, x: Array) -> Array:
        """``sum_k r_k(x) (mean_k - x) / var_k``, with the responsibilities ``r_k``."""
        shares, pull = self.shares(x)
        return np.asarray((shares * pull).sum(axis=1))

    def slope(self, x: Array) -> Array:
        """``sum_k r_k (pull_k^2 - 1 / var_k) - s^2``."""
        shares, pull = self.shares(x)
        return np.asarray((shares * (pull**2 - 1 / self.variances)).sum(axis=1) - self.score(x) ** 2)

    def smoothed(self, variance: float) -> MixtureScore:
        """Give the density of ``x + noise``, drawn together so that mean and variance stay; one part stays as it is."""
        mean = float(self.weights @ self.means)
        own = float(self.weights @ (self.variances + (self.means - mean) ** 2))
        inflation = 1 + variance / own
        means = mean + (self.means - mean) / math.sqrt(inflation)
        return MixtureScore(self.weights, means, (self.variances + variance) / inflation)

    def density(self, x: Array) -> Array:
        """``p(x)``."""
        return np.asarray(np.exp(self._log_parts(x)).sum(axis=1))


@dataclass(frozen=True)
class KernelScore:
    """A Gaussian kernel density.

    Attributes
    ----------
    points, weights : ndarray, shape (m,)
        Kernel centres and their shares, which add up to one.
    bandwidth : float
        Standard deviation of a kernel.
    """

    points: Array
    weights: Array
    bandwidth: float

    def _sums(self, x: Array, with_spread: bool = False) -> tuple[Array, Array, Array]:
        """Log density, then mean and (when asked for) variance of the kernel centres as seen from each x."""
        log_density, seen, spread = np.empty(x.size), np.empty(x.size), np.zeros(x.size)
        order = np.argsort(self.points, kind="stable")
        points, log_share = self.points[order], np.log(self.weights[order])
        ascending = np.argsort(x, kind="stable")
        for begin in range(0, x.size, _ROWS):
            rows = ascending[begin : begin + _ROWS]
            block = x[rows]
            window = self._reach(points, block)
            near = points[window]
            exponent = np.subtract.outer(block, near)
            exponent *= math.sqrt(0.5) / self.bandwidth
            np.multiply(exponent, exponent, out=exponent)
            np.subtract(log_share[window], exponent, out=exponent)
            # The largest term is taken out first: far from all points every kernel underflows.
            top = exponent.max(axis=1)
            exponent -= top[:, None]
            kernel = np.exp(exponent, out=exponent)
            total = kernel.sum(axis=1)
            log_density[rows] = top + np.log(total)
            seen[rows] = kernel @ near / total
            if with_spread:
                centred = near - seen[rows, None]
                spread[rows] = np.einsum("ij,ij,ij->i", kernel, centred, centred) / total
        return log_density - math.log(self.bandwidth) - _LOG_2PI / 2, seen, spread

    def _reach(self, points: Array, block: Array) -> slice:
        """Points that matter to a sorted block: all but those beyond 1e-20 of the largest term."""
        place = np.clip(np.searchsorted(points, block), 1, points.size - 1)
        nearest = np.minimum(np.abs(block - points[place - 1]), np.abs(block - points[place]))
        least = -math.log(float(self.weights.min()))
        reach = math.sqrt(float(nearest.max()) ** 2 + 2 * self.bandwidth**2 * (46.0 + least))
        first, last = np.searchsorted(points, [block[0] - reach, block[-1] + reach])
        return slice(int(first), int(last))

    def score(self, x: Array) -> Array:
        """``(sum_j W_j(x) x_j - x) / bandwidth^2``, with the kernel shares ``W_j``."""
        return (self._sums(x)[1] - x) / self.bandwidth**2

    def slope(self, x: Array) -> Array:
        """``Var_W(x_j) / bandwidth^4 - 1 / bandwidth^2``, the variance under the kernel shares."""
        return (self._sums(x, with_spread=True)[2] / self.bandwidth**2 - 1) / self.bandwidth**2

    def density(self, x: Array) -> Array:
        """``p(x)``."""
        return np.exp(self._sums(x)[0])


def scott_score(x: Array, weight: Array, n: float | None = None) -> KernelScore:
    """Score of the kernel density with Scott's bandwidth: the published estimator, in closed form.

    The bandwidth is ``sd * n**(-1/5)`` as in `scipy.stats.gaussian_kde`; `n` is Kish's effective sample size unless
    it is given, as it must be when the rows are bins.
    """
    share = weight / weight.sum()
    n = n or 1 / np.square(share).sum()
    variance = float(np.cov(x, aweights=share))
    used = share > 0
    return KernelScore(x[used], share[used], math.sqrt(variance) * n**-0.2)


def kernel_bandwidth(x: Array, weight: Array, n: float | None = None) -> float:
    """Normal-reference bandwidth for the derivative of a density: ``(4/5)^(1/7) * scale * n^(-1/7)``.

    `n` is Kish's effective sample size unless it is given, as it must be when the rows are bins.
    The scale is the smaller of the standard deviation and the interquartile range over 1.349 (Silverman 1986, with
    the rate of the first derivative: Wand & Jones 1995, section 2.5).
    """
    share = weight / weight.sum()
    spread = math.sqrt(float(np.cov(x, aweights=share)))
    order = np.argsort(x, kind="stable")
    middle = np.cumsum(share[order]) - share[order] / 2
    quartiles = np.interp([0.25, 0.75], middle, x[order])
    range_ = float(quartiles[1] - quartiles[0]) / 1.349
    scale = min(spread, range_) if range_ > 0 else spread
    n = n or 1 / np.square(share).sum()
    return float((4 / 5) ** (1 / 7) * scale * n ** (-1 / 7))


def kernel_score(x: Array, weight: Array, bandwidth: float) -> KernelScore:
    """Kernel density with the variance of the sample: points and kernels are shrunk together.

    A plain kernel density is that of ``x + noise`` and its score is too flat by ``1 + h^2 / var``; drawing the
    points towards their mean and narrowing the kernels by ``sqrt(1 + h^2 / var)`` mends it, exactly so when the
    density is normal (Jones 1991, "On correcting for variance inflation in kernel density estimation").
    """
    share = weight / weight.sum()
    mean = float(share @ x)
    inflation = math.sqrt(1 + bandwidth**2 / float(share @ (x - mean) ** 2))
    used = share > 0
    return KernelScore(mean + (x[used] - mean) / inflation, share[used], bandwidth / inflation)
