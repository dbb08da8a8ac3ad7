"""The response kernel: how predictions scatter about the response curve at a given truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.curve import ResponseCurve
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes

__all__ = ["ResponseKernel", "fit_kernel", "smooth_kernel", "spread_of"]

Array = NDArray[np.float64]

N_TRUTH, N_RESIDUAL = 21, 41
"""Nodes of a kernel, in truth and in residuals."""

WIDTH = 0.25
"""Of the window in truth, in standard deviations, for 1,000 rows; it grows as rows get fewer (n to the -1/5)."""

WIDER, PRIOR_ROWS = 3.0, 20.0
"""Rows that the same window, three times as wide, counts for: they stand in where a window holds few rows."""

SMOOTHING = 0.25
"""Of the distribution of residuals, in standard deviations of them."""

LEAST_SPREAD = 0.05  # of residuals, in standard deviations of the predictions
REACH = 5.0  # of the nodes, in standard deviations of the residual
_FINE = 4  # cells of the histogram of rows between two nodes


@dataclass(frozen=True)
class ResponseKernel:
    """Distribution of residuals about the response curve, by truth.

    Attributes
    ----------
    truth : Nodes
        Truths at which it is given; straight between.
    residual : Nodes
        Residuals at which it is given.
    density : ndarray, shape (truth.n, residual.n)
        Shares that sum to one for each truth, with a mean residual of zero.
    """

    truth: Nodes
    residual: Nodes
    density: Array

    def matrix(self, curve: Array, truth: Nodes, edges: Array, scale: float = 1.0) -> Array:
        """Response matrix: shares of predictions between `edges`, by truth.

        Parameters
        ----------
        curve : ndarray, shape (..., truth.n)
            Mean prediction at each truth.
        truth : Nodes
            Truths of the rows of the matrix.
        edges : ndarray, shape (m + 1,)
            Of the cells of predictions; the outermost cells take all that lies beyond.
        scale : float
            By which residuals are multiplied.

        Returns
        -------
        ndarray, shape (..., truth.n, m)
            Rows sum to one.
        """
        along = np.clip((truth.x - self.truth.start) / self.truth.step, 0, self.truth.n - 1)
        left = np.minimum(along.astype(np.intp), self.truth.n - 2)
        part = (along - left)[:, None]
        density = (1 - part) * self.density[left] + part * self.density[left + 1]
        mean = density @ self.residual.x
        # A node stands for the residuals nearest to it; the distribution is straight within those.
        below = np.column_stack([np.zeros(truth.n), np.cumsum(density, axis=1)])
        place = (edges - curve[..., None]) / scale + mean[:, None] - self.residual.start
        place = np.clip(place / self.residual.step + 0.5, 0, self.residual.n)
        cell = np.minimum(place.astype(np.intp), self.residual.n - 1)
        share = place - cell
        row = np.arange(truth.n)[:, None]
        up_to = (1 - share) * below[row, cell] + share * below[row, cell + 1]
        up_to[..., 0], up_to[..., -1] = 0.0, 1.0
        matrix = np.diff(up_to, axis=-1) + 1e-9
        return np.asarray(matrix / matrix.sum(axis=-1, keepdims=True))


def fit_kernel(sample: CalibrationSample, curve: ResponseCurve, truth: Nodes) -> ResponseKernel:
    """Learn the scatter of predictions about their curve, by windows in truth.

    Parameters
    ----------
    sample : CalibrationSample
    curve : ResponseCurve
    truth : Nodes
        Range of the truth; the kernel has nodes of its own in it.
    """
    left = sample.y_pred - curve(sample.y_true)
    return smooth_kernel(
        sample.y_true, left, sample.weight, truth, curve.scale, sample.n_effective, spread_of(sample.y_pred)
    )


def smooth_kernel(
    y_true: Array,
    left: Array,
    weight: Array,
    truth: Nodes,
    scale: float,
    n: float,
    least: float,
    smoothing: float = SMOOTHING,
) -> ResponseKernel:
    """Kernel of residuals at given truths.

    Parameters
    ----------
    y_true, left, weight : ndarray, shape (m,)
        Truths, residuals of the prediction, and weights that sum to the number of rows.
    truth : Nodes
        Range of the truth.
    scale : float
        Standard deviation of the truth.
    n : float
        Rows, by which windows are wider or narrower.
    least : float
        Least standard deviation of the residuals; see `spread_of`.
    smoothing : float
        Of their distribution, in standard deviations of them.
    """
    spread = max(float(np.sqrt(np.average(left**2, weights=weight))), least)
    nodes = Nodes(truth.start, truth.stop, N_TRUTH)
    residual = Nodes(-REACH * spread, REACH * spread, N_RESIDUAL)
    fine_truth = Nodes(nodes.start, nodes.stop, _FINE * (N_TRUTH - 1) + 1)
    fine_residual = Nodes(residual.start, residual.stop, _FINE * (N_RESIDUAL - 1) + 1)
    flat = _nearest(fine_truth, y_true) * fine_residual.n + _nearest(fine_residual, left)
    rows = np.bincount(flat, weights=weight, minlength=fine_truth.n * fine_residual.n)
    rows = rows.reshape(fine_truth.n, fine_residual.n)
    width = WIDTH * scale * max(1.0, (1000 / n) ** 0.2)
    wide = _window(nodes.x, fine_truth.x, WIDER * width) @ rows
    density = _window(nodes.x, fine_truth.x, width) @ rows
    density = density + PRIOR_ROWS * wide / np.maximum(wide.sum(axis=1, keepdims=True), 1e-12)
    smooth = _window(residual.x, fine_residual.x, smoothing * spread)
    density = density @ (smooth / smooth.sum(axis=0)).T
    density /= density.sum(axis=1, keepdims=True)
    return ResponseKernel(nodes, residual, density)


def spread_of(y_pred: Array) -> float:
    """Least standard deviation of residuals: perfect predictions are spread as wide as nodes in truth are apart."""
    return LEAST_SPREAD * float(y_pred.std())


def _nearest(nodes: Nodes, values: Array) -> NDArray[np.intp]:
    place = np.rint((values - nodes.start) / nodes.step)
    return np.asarray(np.clip(place, 0, nodes.n - 1).astype(np.intp))


def _window(at: Array, of: Array, width: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((at[:, None] - of[None, :]) / width) ** 2))
