"""Mixtures of one to three Gaussians in one dimension, fitted on bins so that cost does not grow with the sample.

All fits are deterministic: fixed starts, fixed order. Many resamples of one sample are fitted side by side, which
is what makes a bootstrap of the score affordable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.tweedie.score import MixtureScore

__all__ = ["Bins", "MixtureFit", "choose_mixture", "fit_mixtures", "refit_mixtures"]

Array = NDArray[np.float64]

MAX_PARTS = 3


_TRIAL_STEPS = 40  # that every start takes before the best goes on alone

# Starting partitions, as the shares of the sample at which it is cut.
_CUTS = {2: ((0.5,), (0.2,), (0.8,)), 3: ((1 / 3, 2 / 3), (0.6, 0.9), (0.1, 0.4), (0.1, 0.9))}


@dataclass(frozen=True)
class Bins:
    """Rows gathered into bins.

    Attributes
    ----------
    index : ndarray of int, shape (n,)
        Bin of each row.
    centre, spread : ndarray, shape (n_bins,)
        Mean and variance of the rows in each bin, so that the bins keep the first two moments.
    """

    index: NDArray[np.intp]
    centre: Array
    spread: Array

    @classmethod
    def of(cls, x: Array, weight: Array, n_bins: int = 512) -> Bins:
        """Even bins over the bulk of `x`; what lies far outside joins the outermost bins.

        The bulk ends ten interquartile ranges from the quartiles: one outlier must not widen every bin.
        """
        used = x[weight > 0]
        low, high = np.quantile(used, [0.25, 0.75])
        reach = 10 * (high - low) if high > low else np.inf
        low, high = max(used.min(), low - reach), min(used.max(), high + reach)
        index = np.clip((x - low) * (n_bins / (high - low)), 0, n_bins - 1).astype(np.intp)
        # Rows without weight must not make a bin: its centre would be undefined.
        mass = np.bincount(index, weights=weight, minlength=n_bins)
        kept = mass > 0
        place = np.maximum(np.cumsum(kept) - 1, 0)
        index, mass = place[index], mass[kept]
        centre = np.bincount(index, weights=weight * x, minlength=mass.size) / mass
        spread = np.bincount(index, weights=weight * (x - centre[index]) ** 2, minlength=mass.size) / mass
        return cls(index, centre, spread)

    def mass(self, weight: Array) -> Array:
        """Weight in each bin."""
        return np.asarray(
            np.bincount(self.index, weights=weight, minlength=self.centre.size), dtype=np.float64
        )


@dataclass(frozen=True)
class MixtureFit:
    """Mixtures with one number of parts, one a draw: parameters of shape (n_draws, k), log likelihoods."""

    weights: Array
    means: Array
    variances: Array
    loglik: Array

    @property
    def k(self) -> int:
        """Number of parts."""
        return int(self.means.shape[1])

    def bic(self, n: Array | float) -> Array:
        """Bayesian information criterion of every draw."""
        return np.asarray(-2 * self.loglik + (3 * self.k - 1) * np.log(n))

    def draw(self, i: int) -> MixtureScore:
        """Get the mixture of draw `i`."""
        return MixtureScore(self.weights[i], self.means[i], self.variances[i])


def fit_mixtures(bins: Bins, mass: Array, floor: float) -> list[MixtureFit]:
    """Fit one, two and three parts from fixed starts; the likeliest start is climbed to its top.

    Parameters
    ----------
    bins : Bins
        Where the rows are.
    mass : ndarray, shape (n_bins,)
        Weight in each bin, adding up to the effective sample size.
    floor : float
        Least variance of a part, as a share of the sample's: a narrower part would make the score explode.
    """
    fits = []
    for k in range(1, MAX_PARTS + 1):
        starts = _starts(bins, mass, k, floor)
        masses = np.broadcast_to(mass, (starts[0].shape[0], mass.size))
        tried = _climb(bins, masses, starts, floor, tolerance=1e-7, limit=_TRIAL_STEPS)
        best = int(np.argmax(tried.loglik))
        start = tuple(value[best : best + 1] for value in (tried.weights, tried.means, tried.variances))
        fits.append(_climb(bins, masses[:1], start, floor, tolerance=1e-7, limit=600))
    return fits


def refit_mixtures(bins: Bins, masses: Array, fits: list[MixtureFit], floor: float) -> list[MixtureFit]:
    """Fit every resample (`masses`, shape (n_draws, n_bins)), starting from the fits of the whole sample."""
    n_draws = masses.shape[0]
    again = []
    for fit in fits:
        start = tuple(np.repeat(value, n_draws, axis=0) for value in (fit.weights, fit.means, fit.variances))
        again.append(_climb(bins, masses, start, floor, tolerance=1e-6, limit=200))
    return again


def choose_mixture(fits: list[MixtureFit], n: Array | float, draw: int = 0) -> MixtureScore:
    """Choose the mixture with the least BIC; fewer parts win a tie."""
    n = np.broadcast_to(n, fits[0].loglik.shape)
    best = min(fits, key=lambda fit: (float(fit.bic(n)[draw]), fit.k))
    return best.draw(draw)


def _starts(bins: Bins, mass: Array, k: int, floor: float) -> tuple[Array, Array, Array]:
    order = np.argsort(bins.centre, kind="stable")
    share = np.empty(mass.size)
    share[order] = (np.cumsum(mass[order]) - mass[order] / 2) / mass.sum()
    mean, variance = _mean_and_variance(bins, mass)
    if k == 1:
        return np.ones((1, 1)), np.array([[mean]]), np.array([[variance]])
    starts = []
    for cuts in _CUTS[k]:
        part = np.searchsorted(cuts, share)
        rows = []
        for j in range(k):
            inside = mass * (part == j)
            if inside.sum() <= 0:
                break
            rows.append((inside.sum() / mass.sum(), *_mean_and_variance(bins, inside)))
        if len(rows) == k:
            starts.append(np.array(rows).T)
    # Parts that share a centre: long tails are a matter of scale, not of place.
    spread = np.geomspace(0.3, 3.0, k) * variance
    starts.append(np.array([np.full(k, 1 / k), mean + np.linspace(-0.1, 0.1, k) * variance**0.5, spread]))
    weights, means, variances = (np.stack(column) for column in zip(*starts, strict=True))
    return weights, means, np.maximum(variances, floor * variance)


def _mean_and_variance(bins: Bins, mass: Array) -> tuple[float, float]:
    mean = float(mass @ bins.centre / mass.sum())
    return mean, float(mass @ ((bins.centre - mean) ** 2 + bins.spread) / mass.sum())


def _climb(
    bins: Bins, masses: Array, start: tuple[Array, ...], floor: float, tolerance: float, limit: int
) -> MixtureFit:
    """Expectation-maximisation of all draws side by side; a draw rests once its gain a row is below `tolerance`."""
    weights, means, variances = (np.array(value, dtype=np.float64) for value in start)
    total = masses.sum(axis=1)
    overall = masses @ bins.centre / total
    second = masses @ (bins.centre**2 + bins.spread) / total
    least = floor * (second - overall**2)
    loglik = np.full(masses.shape[0], -np.inf)
    active = np.arange(masses.shape[0])
    z = bins.centre
    for _ in range(limit):
        w, m, v, mass = weights[active], means[active], variances[active], masses[active]
        log_parts = (np.log(w) - (np.log(v) + np.log(2 * np.pi)) / 2)[:, :, None] - (
            (z - m[:, :, None]) ** 2 + bins.spread
        ) / (2 * v[:, :, None])
        top = log_parts.max(axis=1)
        parts = np.exp(log_parts - top[:, None])
        sums = parts.sum(axis=1)
        now = (mass * (top + np.log(sums))).sum(axis=1)
        gain = now - loglik[active]
        loglik[active] = now
        responsibility = parts * (mass / sums)[:, None]
        size = np.maximum(responsibility.sum(axis=2), 1e-12 * total[active, None])
        new_means = responsibility @ z / size
        centred = (z - new_means[:, :, None]) ** 2 + bins.spread
        new_variances = (responsibility * centred).sum(axis=2) / size
        weights[active] = size / size.sum(axis=1, keepdims=True)
        means[active] = new_means
        variances[active] = np.maximum(new_variances, least[active, None])
        active = active[gain > tolerance * total[active]]
        if active.size == 0:
            break
    return MixtureFit(weights, means, variances, loglik)
