"""The response behind labels with a sampling error of known variance, by expectation and maximisation.

Labels with noise flatten a curve of predictions on them, and widen the distribution. Here each pair of label and
prediction is shared out over the truths that it may have, in proportion to ``f(y) phi(label - y; s^2) K(prediction
| y)``, and distribution, curve and kernel are learned from the shares (Dempster, Laird and Rubin 1977,
doi:10.1111/j.2517-6161.1977.tb01600.x; on errors in regressors Carroll, Ruppert, Stefanski and Crainiceanu 2006,
"Measurement error in nonlinear models"). It starts from the labels alone, deconvolved, and is stopped early.

Rows are counted in cells of label and prediction first, so that the work hardly grows with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.curve import ResponseCurve, knots_for, penalty_for, ridge_of
from sustain.debias.response.kernel import SMOOTHING, ResponseKernel, smooth_kernel, spread_of
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes, support_of
from sustain.errors import CalibrationError
from sustain.stats.natural_spline import NaturalSpline, quantile_knots

__all__ = [
    "LEAST_RELIABILITY",
    "NoisyResponse",
    "expected_basis",
    "fit_noisy",
    "quantiles_on",
    "truth_behind",
]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

LEAST_RELIABILITY = 0.3
"""Of the labels, below which the noise is most of what they say and no curve is learned."""

LABEL_STEPS, PAIR_STEPS = 15, 8
"""Steps with the labels alone, and with labels and predictions."""

BLOCKS = 40
"""Of groups, or of rows, that are left out in turn for the covariance of the curve."""

INNER_SMOOTHING = 0.1
"""Of the kernel between two steps: with that of the last the scatter would grow from step to step."""

N_TRUTH, N_CELLS = 81, 160
"""Nodes in truth, and cells of predictions, in which rows are counted."""

MOST_LEVELS = 12
"""Of the noise, where rows differ in it."""

BEYOND = 0.75  # of the nodes in truth beyond the shrunken labels, in standard deviations of the truth
START_WIDTH = 0.3  # of the shrunken labels' smoothing, likewise
SEED = 0  # of the order in which rows are dealt to blocks


class NoisyResponse(NamedTuple):
    """What was learned behind the noise.

    Attributes
    ----------
    curve : ResponseCurve
        With a jackknife covariance.
    kernel : ResponseKernel
    truth : Nodes
        Nodes in truth.
    distribution : ndarray, shape (truth.n,)
        Of the truth; sums to one.
    """

    curve: ResponseCurve
    kernel: ResponseKernel
    truth: Nodes
    distribution: Array


@dataclass(frozen=True)
class _Cells:
    """Calibration rows, counted in cells of label (and noise) and of prediction."""

    likelihood: Array  # shape (a, truth.n): of the labels, by truth
    edges: Array  # shape (m + 1,): of predictions
    mean: Array  # shape (m,): prediction in each cell, less the mean of all
    row: Codes  # shape (n,): in which row of cells a pair is
    column: Codes

    def count(self, weight: Array) -> Array:
        """Weight in each cell, shape (a, m)."""
        shape = len(self.likelihood), self.mean.size
        flat = self.row * shape[1] + self.column
        return np.asarray(np.bincount(flat, weight, shape[0] * shape[1]), dtype=np.float64).reshape(shape)


@dataclass(frozen=True)
class _Steps:
    """What expectation and maximisation need beside the counts."""

    cells: _Cells
    truth: Nodes
    centre: float
    scale: float
    spline: NaturalSpline
    penalty: float
    n: float
    least: float

    def run(self, count: Array, distribution: Array) -> tuple[Array, Array, ResponseKernel, float]:
        """Distribution, values of the curve at its knots, kernel, and degrees of freedom."""
        from scipy.special import ndtr

        cells, total = self.cells, count.sum()
        basis = self.spline((self.truth.x - self.centre) / self.scale)
        ridge = ridge_of(self.spline, self.penalty, total)
        distribution = _deconvolved(cells.likelihood, count.sum(axis=1), distribution)
        share = _posterior(cells.likelihood, distribution)
        calibrated, by_label = share @ basis, count.sum(axis=1)
        values = np.linalg.solve(
            calibrated.T @ (by_label[:, None] * calibrated) + ridge, calibrated.T @ (count @ cells.mean)
        )
        curve = basis @ values
        middle, square = share @ curve, share @ curve**2
        # About its mean at a label a prediction varies by the noise in truth as well, which is taken off.
        left = count @ cells.mean**2 - 2 * middle * (count @ cells.mean) + by_label * (2 * middle**2 - square)
        spread = np.sqrt(max(float(left.sum() / total), self.least**2))
        up_to = ndtr((cells.edges - curve[:, None]) / spread)
        up_to[:, 0], up_to[:, -1] = 0.0, 1.0
        matrix = np.diff(up_to, axis=1) + 1e-9
        for _ in range(PAIR_STEPS):
            expected = (cells.likelihood * distribution) @ matrix
            shared = distribution[:, None] * matrix * (cells.likelihood.T @ (count / expected))
            at = shared.sum(axis=1)
            distribution = at / at.sum()
            gram = basis.T @ (at[:, None] * basis)
            values = np.linalg.solve(gram + ridge, basis.T @ (shared @ cells.mean))
            curve = basis @ values
            kernel = self._kernel(shared, curve, INNER_SMOOTHING)
            matrix = kernel.matrix(curve, self.truth, cells.edges)
        df = float(np.trace(np.linalg.solve(gram + ridge, gram)))
        return distribution, values, self._kernel(shared, curve, SMOOTHING), df

    def _kernel(self, shared: Array, curve: Array, smoothing: float) -> ResponseKernel:
        """Kernel of rows that are shared out over truths, shape (truth.n, m)."""
        mean = self.cells.mean
        return smooth_kernel(
            np.repeat(self.truth.x, mean.size),
            (mean - curve[:, None]).ravel(),
            shared.ravel(),
            self.truth,
            self.scale,
            self.n,
            self.least,
            smoothing,
        )


def fit_noisy(sample: CalibrationSample) -> NoisyResponse:
    """Learn the response behind noisy labels.

    The covariance of the curve is a jackknife over blocks of groups (of rows, without groups) that repeats every step
    but the choice of the penalty.

    Parameters
    ----------
    sample : CalibrationSample
        With `noise` above zero.

    Raises
    ------
    CalibrationError
        When the labels' reliability is below `LEAST_RELIABILITY`.
    """
    if not sample.reliability >= LEAST_RELIABILITY:
        raise CalibrationError(
            f"target_noise_var: {sample.noise:g} leaves the labels a reliability of {sample.reliability:.2f}, under "
            f"{LEAST_RELIABILITY}: too little to learn a response curve. Use labels from more households, or "
            "method='linear', which needs no more than the variance of the truth."
        )
    weight = sample.weight
    centre = float(np.average(sample.y_true, weights=weight))
    shrunken = _shrunken(sample)
    scale = float(np.sqrt(np.average((shrunken - centre) ** 2, weights=weight)))
    low, high = support_of(shrunken, weight)
    truth = Nodes(low - BEYOND * scale, high + BEYOND * scale, N_TRUTH)
    middle = float(np.average(sample.y_pred, weights=weight))
    cells = _cells(sample, truth, middle)
    count = cells.count(weight)
    start = _start(sample, truth)
    found = _deconvolved(cells.likelihood, count.sum(axis=1), start)
    z = (truth.x - centre) / scale
    low, high = np.interp([0.005, 0.995], np.cumsum(found) - found / 2, z)
    spline = NaturalSpline.on(quantile_knots(z, found, float(low), float(high), knots_for(sample.n)))
    by_label = _posterior(cells.likelihood, found) @ spline(z)
    penalty = penalty_for(sample, spline, by_label[cells.row])
    steps = _Steps(cells, truth, centre, scale, spline, penalty, sample.n_effective, spread_of(sample.y_pred))
    distribution, values, kernel, df = steps.run(count, start)
    block = _blocks(sample)
    n_blocks = int(block.max()) + 1
    without = np.array(
        [
            steps.run(np.maximum(count - cells.count(weight * (block == number)), 0.0), start)[1]
            for number in range(n_blocks)
        ]
    )
    apart = without - without.mean(axis=0)
    cov = (n_blocks - 1) / n_blocks * apart.T @ apart
    curve = ResponseCurve(centre, scale, spline, values + middle, penalty, df, cov, n_blocks - 1.0)
    return NoisyResponse(curve, kernel, truth, distribution)


def truth_behind(sample: CalibrationSample, truth: Nodes) -> Array:
    """Distribution of truth behind noisy labels, without predictions; shape (truth.n,), sums to one."""
    likelihood, row = _labels(sample, truth)
    return _deconvolved(likelihood, _totals(row, sample.weight), _start(sample, truth))


def expected_basis(
    sample: CalibrationSample, truth: Nodes, basis: Array, values: Array
) -> tuple[Array, Array]:
    """Mean of a basis over the truths that each label may have, by which a curve in truth is regressed.

    Parameters
    ----------
    sample : CalibrationSample
        With `noise` above zero.
    truth : Nodes
    basis : ndarray, shape (truth.n, k)
    values : ndarray, shape (k,)
        Of a curve.

    Returns
    -------
    mean : ndarray, shape (n, k)
    variance : ndarray, shape (n,)
        Of the curve over the truths that a label may have.
    """
    likelihood, row = _labels(sample, truth)
    found = _deconvolved(likelihood, _totals(row, sample.weight), _start(sample, truth))
    share, curve = _posterior(likelihood, found), basis @ values
    return (share @ basis)[row], (share @ curve**2 - (share @ curve) ** 2)[row]


def quantiles_on(truth: Nodes, distribution: Array, shares: Array) -> Array:
    """Quantiles of a distribution on nodes, each spread over the truths nearest to it."""
    edges = np.append(truth.x - truth.step / 2, truth.x[-1] + truth.step / 2)
    up_to = np.concatenate([[0.0], np.cumsum(distribution)])
    return np.asarray(np.interp(shares, up_to / up_to[-1], edges))


def _shrunken(sample: CalibrationSample) -> Array:
    """Labels, drawn to their mean until they vary as the truth does."""
    centre = np.average(sample.y_true, weights=sample.weight)
    shrink = np.sqrt(max(sample.reliability, LEAST_RELIABILITY**2))
    return np.asarray(centre + shrink * (sample.y_true - centre))


def _start(sample: CalibrationSample, truth: Nodes) -> Array:
    """Distribution of the shrunken labels, smoothed."""
    shrunken = _shrunken(sample)
    width = START_WIDTH * float(np.sqrt(np.cov(shrunken, aweights=sample.weight)))
    at = np.clip(np.rint((shrunken - truth.start) / truth.step), 0, truth.n - 1).astype(np.intp)
    near = (truth.x[:, None] - truth.x) / max(width, truth.step)
    start = np.exp(-0.5 * near**2) @ np.bincount(at, sample.weight, truth.n) + 1e-9
    return np.asarray(start / start.sum())


def _deconvolved(likelihood: Array, by_label: Array, start: Array) -> Array:
    """Distribution of truth behind the labels alone."""
    found = start
    for _ in range(LABEL_STEPS):
        found = found * (likelihood.T @ (by_label / (likelihood @ found)))
        found = found / found.sum()
    return found


def _totals(kind: Codes, weight: Array) -> Array:
    return np.asarray(np.bincount(kind, weight), dtype=np.float64)


def _posterior(likelihood: Array, distribution: Array) -> Array:
    """Shares of the truths that a label may have."""
    joint = likelihood * distribution
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))


def _labels(sample: CalibrationSample, truth: Nodes) -> tuple[Array, Codes]:
    """Likelihood of each kind of label by truth, and which kind each row has."""
    noise, level = _levels(sample)
    fine = truth.step / 2
    place = np.rint((sample.y_true - truth.start) / fine).astype(np.int64)
    kind, row = np.unique(np.column_stack([place, level]), axis=0, return_inverse=True)
    label = truth.start + fine * kind[:, 0]
    # A node stands for the truths nearest to it, and so does a label: both widen what lies between them.
    variance = noise[kind[:, 1]] + (truth.step**2 + fine**2) / 12
    exponent = -0.5 * (label[:, None] - truth.x) ** 2 / variance[:, None]
    likelihood = np.exp(exponent - exponent.max(axis=1, keepdims=True)) + 1e-12
    return likelihood, row.ravel().astype(np.intp)


def _cells(sample: CalibrationSample, truth: Nodes, middle: float) -> _Cells:
    likelihood, row = _labels(sample, truth)
    y_pred = sample.y_pred - middle
    low, high = support_of(y_pred, sample.weight)
    beyond = 0.25 * (high - low)
    edges = np.linspace(low - beyond, high + beyond, N_CELLS + 1)
    column = np.clip(np.searchsorted(edges, y_pred, side="right") - 1, 0, N_CELLS - 1)
    inside = np.bincount(column, sample.weight, N_CELLS)
    total = np.bincount(column, sample.weight * y_pred, N_CELLS)
    mean = np.where(inside > 0, total / np.where(inside > 0, inside, 1.0), (edges[1:] + edges[:-1]) / 2)
    return _Cells(likelihood, edges, mean, row, column)


def _levels(sample: CalibrationSample) -> tuple[Array, Codes]:
    """Variances of the noise, and which of them each row has; many are grouped by size."""
    if sample.noise_rows is None:
        return np.array([sample.noise]), np.zeros(sample.n, dtype=np.intp)
    values, code = np.unique(sample.noise_rows, return_inverse=True)
    code = code.ravel()
    if values.size > MOST_LEVELS:
        cuts = np.quantile(sample.noise_rows, np.arange(1, MOST_LEVELS) / MOST_LEVELS)
        code = np.unique(np.searchsorted(cuts, sample.noise_rows), return_inverse=True)[1].ravel()
    weight = np.bincount(code, sample.weight)
    return np.bincount(code, sample.weight * sample.noise_rows) / weight, code.astype(np.intp)


def _blocks(sample: CalibrationSample) -> Codes:
    """Block of each row: groups, or rows by their values, dealt in an order that is random and always the same."""
    if sample.group is None:
        order = np.lexsort((sample.weight, sample.y_true, sample.y_pred))
        unit = np.empty(sample.n, dtype=np.intp)
        unit[order] = np.arange(sample.n)
        n_units = sample.n
    else:
        unit, n_units = sample.group, int(sample.group.max()) + 1
    dealt = np.random.default_rng(SEED).permutation(n_units) % min(BLOCKS, n_units)
    return np.asarray(dealt[unit], dtype=np.intp)
