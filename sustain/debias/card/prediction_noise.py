"""What the measurement noise of a prediction does to its corrected value.

Given the truth, a prediction x varies with a standard deviation that may grow or fall with the truth. The corrected
value h(x) then varies as h does over that noise, ``Var(h(x + e))``: for a straight h this is ``h'(x)^2 Var(e)``, but on
a flat piece of a monotone h, where h' is zero, noise that leaves the piece still moves the corrected value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import MIN_PAIRS, CalibrationSample
from sustain.debias.table import Nodes, Table

__all__ = ["NoiseProfile", "corrected_noise", "noise_profile"]

Array = NDArray[np.float64]

MAX_PARTS = 10  # of the truth, with equal numbers of rows
_PLACES, _SHARES = np.polynomial.hermite_e.hermegauss(24)  # quadrature over a standard normal
_SHARES = _SHARES / _SHARES.sum()


@dataclass(frozen=True)
class NoiseProfile:
    """Standard deviation of the prediction given the truth, straight between parts and constant beyond them.

    Attributes
    ----------
    truth : ndarray, shape (n_parts,), increasing
        Mean truth of each part.
    sd : ndarray, shape (n_parts,)
    """

    truth: Array
    sd: Array

    def __call__(self, truth: Array) -> Array:
        """Give the standard deviation at the truths."""
        return np.asarray(np.interp(truth, self.truth, self.sd))


def noise_profile(sample: CalibrationSample) -> NoiseProfile:
    """Estimate the noise within up to ten parts of the truth, each of 20 rows or more.

    Within a part it is the residual standard deviation about the part's own line, so that a bent relation is not
    taken for noise; of its square, the variance of the labels' error times the squared slope of prediction on truth
    is taken off. Equal truths stay together.
    """
    order = np.argsort(sample.y_true, kind="stable")
    label_noise = sample.prediction_on_truth.slope**2 * sample.noise
    truths, variances = [], []
    for rows in np.split(order, _cuts(sample.y_true[order])):
        weight = sample.weight[rows]
        y, x = (v - np.average(v, weights=weight) for v in (sample.y_true[rows], sample.y_pred[rows]))
        along, cross, total = (float(np.average(v, weights=weight)) for v in (y * y, x * y, x * x))
        left = total - (cross**2 / along if along > 0 else 0.0)
        truths.append(float(np.average(sample.y_true[rows], weights=weight)))
        variances.append(max(0.0, left * rows.size / (rows.size - 2) - label_noise))
    return NoiseProfile(np.array(truths), np.sqrt(variances))


def _cuts(truth: Array) -> list[int]:
    """Where to cut ascending truths into parts of 20 rows or more, never between equal ones."""
    cuts, last = [], 0
    for k in range(1, MAX_PARTS):
        cut = int(np.searchsorted(truth, truth[k * truth.size // MAX_PARTS]))
        if cut - last >= MIN_PAIRS and truth.size - cut >= MIN_PAIRS:
            cuts.append(cut)
            last = cut
    return cuts


def corrected_noise(table: Table, grid: Nodes, profile: NoiseProfile) -> Array:
    """Variance of ``h(x + e)`` at the nodes of `grid`, for normal e with the standard deviation at the truth h(x)."""
    sd = profile(table(grid.x))
    values = table((grid.x[:, None] + sd[:, None] * _PLACES).ravel()).reshape(grid.n, -1)
    mean = values @ _SHARES
    return np.asarray(((values - mean[:, None]) ** 2) @ _SHARES)
