"""How large the errors are at each prediction: a variance that is log-quadratic in the prediction.

Errors of wealth maps are far from being of one size: half as large among the poorest places as in the middle. A
correction that takes them to be equal then moves the poor twice too far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NoiseVariance", "fit_noise", "mean_ratio", "prefers_one_size"]

Array = NDArray[np.float64]

PRIOR_ROWS = 10.0  # that say "of one size" beside those of the sample: a fit to 20 rows must not run away
_STEPS = 50


@dataclass(frozen=True)
class NoiseVariance:
    """``v(x) = level * exp(c0 + c1 z + c2 (z^2 - 1))`` with ``z = (x - centre) / scale``; constant beyond the support.

    Attributes
    ----------
    level : float
        Variance of all errors together.
    coefficients : ndarray, shape (3,)
        ``c0, c1, c2``; zeros for errors of one size.
    centre, scale : float
        Mean and standard deviation of the predictions.
    low, high : float
        The support: beyond it v is what it is at the edge.
    """

    level: float
    coefficients: Array
    centre: float
    scale: float
    low: float
    high: float

    def __call__(self, x: Array) -> Array:
        """``v(x)``."""
        return np.asarray(self.level * np.exp(self.basis(x) @ self.coefficients))

    def basis(self, x: Array) -> Array:
        """One, z and ``z^2 - 1`` at the nearest place in the support, shape (n, 3)."""
        z = (np.clip(x, self.low, self.high) - self.centre) / self.scale
        return np.column_stack([np.ones_like(z), z, z**2 - 1])

    def log_derivatives(self, x: Array) -> tuple[Array, float]:
        """First and second derivative of ``log v`` inside the support."""
        _, c1, c2 = self.coefficients
        z = (x - self.centre) / self.scale
        return np.asarray((c1 + 2 * c2 * z) / self.scale), float(2 * c2 / self.scale**2)


def fit_noise(basis: Array, mass: Array, squares: Array, level: Array, known: float = 0.0) -> Array:
    """Fit ``E[error^2] = known + level * exp(basis @ c)`` for several resamples side by side.

    By quasi-likelihood of the gamma family (variance proportional to the squared mean), which is consistent whatever
    the distribution of the errors; a regression of log squared errors is not. Newton's steps are halved until
    the likelihood rises.

    Parameters
    ----------
    basis : ndarray, shape (n_bins, 3)
        The first column is one.
    mass : ndarray, shape (n_draws, n_bins)
        Rows in each bin, adding up to the effective sample size.
    squares : ndarray, shape (n_draws, n_bins)
        Sums of squared errors in each bin.
    level : ndarray, shape (n_draws,)
        Variance of all errors, less `known`.
    known : float
        Variance of the labels' own noise, the same everywhere.

    Returns
    -------
    ndarray, shape (n_draws, 3)
        Zeros where `level` is nothing beside the rounding of the squares.
    """
    c = np.zeros((len(level), basis.shape[1]))
    active = np.flatnonzero((level > 1e-9 * known) & (level > 0))
    size = mass.sum(axis=1)
    prior = PRIOR_ROWS * np.array([0.0, 1.0, 1.0])
    for _ in range(_STEPS):
        if not active.size:
            break
        now, m, sq, lev = c[active], mass[active], squares[active], level[active, None]
        signal = lev * np.exp(now @ basis.T)
        mean = known + signal
        share = signal / mean
        gradient = ((sq - m * mean) / mean * share) @ basis - prior * now
        information = np.einsum("db,bi,bj->dij", m * share**2, basis, basis) + np.diag(prior)
        information += 1e-9 * size[active, None, None] * np.eye(3)
        step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
        before = _deviance(now, basis, m, sq, lev, known, prior)
        length = np.ones(active.size)
        for _ in range(30):
            worse = _deviance(now + length[:, None] * step, basis, m, sq, lev, known, prior) > before
            if not worse.any():
                break
            length[worse] /= 2
        length[worse] = 0.0
        c[active] = now + length[:, None] * step
        active = active[(np.abs(length[:, None] * step).max(axis=1) > 1e-9)]
    return c


def prefers_one_size(
    c: Array, basis: Array, mass: Array, squares: Array, level: float, known: float, dispersion: float
) -> bool:
    """Whether errors of one size do, against the fit `c` (shape (3,)) of two more parameters.

    By the criterion of Hannan and Quinn (1979), between AIC and BIC: errors of one size are taken for varying ones in
    a few percent of samples, and varying ones are found in some hundred rows. `dispersion` is the mean of
    ``(error^2 / v - 1)^2 / 2``: one for normal errors, more for long tails, which make the likelihood ratio larger
    than it should be.
    """
    args = (basis, mass[None], squares[None], np.array([[level]]), known, np.zeros(3))
    ratio = float(_deviance(np.zeros((1, 3)), *args)[0] - _deviance(c[None], *args)[0])
    return not ratio > 4 * max(1.0, dispersion) * np.log(np.log(max(3.0, mass.sum())))


def mean_ratio(c: Array, basis: Array, mass: Array) -> float:
    """Mean of ``v / level`` over the rows, given coefficients `c` of shape (3,); near one where the form fits.

    Variances that are log-quadratic in the prediction average to the variance of all errors. Far above it the form does
    not describe them: most errors are small, a few large ones lie far out, and v runs away between them.
    """
    with np.errstate(over="ignore"):
        return float(mass @ np.exp(basis @ c) / mass.sum())


def _deviance(
    c: Array, basis: Array, mass: Array, squares: Array, level: Array, known: float, prior: Array
) -> Array:
    with np.errstate(over="ignore"):  # a step too long is infinitely bad, and is halved
        mean = known + level * np.exp(c @ basis.T)
    fit = (squares / mean + mass * np.log(mean)).sum(axis=1) + (prior * c**2).sum(axis=1) / 2
    return np.where(np.isfinite(fit), fit, np.inf)
