"""Influence of every calibration row on what is computed from corrected predictions.

The influence psi_i of row i on an estimate T is its derivative with respect to the row's weight, n-fold: to first
order ``T - E[T] = sum_i psi_i / n``, so that ``sum_i psi_i^2 / n^2`` is the variance of T (sums of psi within clusters,
for clustered rows). All estimates here are weighed sums of corrected predictions, ``T = sum_j w_j h(x_j)``, the x_j and
w_j given: what a trial computes.

Held fixed, because their influence is of lower order or not smooth: the edges of the support, the number of parts of
a mixture, the bandwidth of a kernel density, the bridge's knots and penalty, the weights of strata, and where the
monotone projection ties values together (but not the values themselves).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.apply import named
from sustain.debias.table import Grid, mass_on
from sustain.debias.tweedie.noise import PRIOR_ROWS
from sustain.debias.tweedie.score import MixtureScore
from sustain.errors import CalibrationError

if TYPE_CHECKING:
    from sustain.debias.base import Calibration
    from sustain.debias.bridge.calibration import BridgeCalibration
    from sustain.debias.tweedie.calibration import TweedieCalibration, TweedieFormula

__all__ = ["before_order", "bridge_influence", "node_weights", "sum_influence", "tweedie_influence"]

Array = NDArray[np.float64]

_STEP = 1e-5  # of numerical derivatives, in units of each parameter's size
_BLOCK = 256  # nodes at a time


def sum_influence(fit: Calibration, x: Array, weight: Array, strata: Any) -> Array:
    """Influence of every row on ``sum_j weight_j h(x_j)``; see `Calibration.influence`."""
    if strata is None:
        return fit._influence_of(node_weights(fit.table_.grid, x, weight))
    names = np.full(x.shape, strata) if np.ndim(strata) == 0 else np.asarray(strata)
    if names.shape != x.shape:
        raise CalibrationError(
            f"strata: has shape {names.shape}, but y_pred has {x.shape}. Pass one name, or one for each."
        )
    sample = fit._sample
    pooled, total = np.zeros(fit.table_.grid.n), np.zeros(sample.n)
    for name in np.unique(names.astype(str)):
        stratum, inside = named(fit.strata_, str(name)), names.astype(str) == name
        nodes = node_weights(stratum.table.grid, x[inside], weight[inside])
        at, share = stratum.table.grid.x, stratum.weight
        pooled += node_weights(fit.table_.grid, at, (1 - share) * nodes)
        if stratum.own is not None and share > 0:
            rows = np.flatnonzero(sample.stratum == sample.stratum_names.index(str(name)))
            own = stratum.own._influence_of(node_weights(stratum.own.table_.grid, at, share * nodes))
            total[rows] += own * (sample.n / rows.size)
    return np.asarray(total + fit._influence_of(pooled))


def node_weights(grid: Grid, x: Array, weight: Array) -> Array:
    """Weights of a table's nodes with which its values add up to ``sum_j weight_j table(x_j)``."""
    along = (x - grid.start) / grid.step
    index = np.clip(np.floor(along), 0, grid.n - 2).astype(np.intp)
    share = along - index  # beyond the ends below zero or above one: the outermost pieces go on
    nodes = np.bincount(index, weights=weight * (1 - share), minlength=grid.n)
    nodes += np.bincount(index + 1, weights=weight * share, minlength=grid.n)
    return np.asarray(nodes)


def before_order(h: Array, weight: Array, nodes: Array) -> tuple[Array, Array]:
    """Give the derivatives of ``nodes @ ordered(h, weight)`` with respect to `h` and to `weight`, shape (n,)."""
    if (np.diff(h) >= 0).all():
        return nodes, np.zeros_like(nodes)
    from scipy.optimize import isotonic_regression

    start = np.asarray(isotonic_regression(h, weights=weight).blocks)[:-1]
    block = np.repeat(np.arange(start.size), np.diff(np.append(start, h.size)))
    total = np.add.reduceat(weight, start)
    level = np.add.reduceat(weight * h, start) / total
    pull = np.add.reduceat(nodes, start) / total
    return pull[block] * weight, pull[block] * (h - level[block])


def derivatives(function: Callable[[Array], Array], at: Array, size: Array) -> Array:
    """Central differences of a function of `at`, stacked: the first axis is that of the parameters."""
    rows = []
    for place, step in enumerate(_STEP * size):
        shift = np.zeros_like(at)
        shift[place] = step
        rows.append((function(at + shift) - function(at - shift)) / (2 * step))
    return np.stack(rows)


def bridge_influence(fit: BridgeCalibration, nodes: Array) -> Array:
    """Influence of every row on ``nodes @ fit.table_.h``.

    The coefficients are a function of sums over rows, so that the influence is that function's derivative along the
    row's own products.
    """
    problem, grid = fit._problem, fit.table_.grid
    sums = problem.sums(np.ones((1, fit._sample.n_groups or fit._sample.n)))
    raw = nodes
    if fit.monotone:
        mass = mass_on(grid, fit._sample.y_pred, fit._sample.weight)
        raw = before_order(fit.exact(grid.x), mass, nodes)[0]  # mass moves at knots of no width: held fixed
    step = _STEP * np.abs(sums).max()
    shifts = step * np.eye(sums.size).reshape(-1, *sums.shape[1:])
    curves = [
        problem.evaluate(grid.x, problem.solve(sums + sign * shifts, fit.penalty_)) @ raw for sign in (1, -1)
    ]
    gradient = ((curves[0] - curves[1]) / (2 * step)).reshape(sums.shape[1:])
    return fit._sample.n * problem.along(gradient)


def tweedie_influence(fit: TweedieCalibration, nodes: Array) -> Array:
    """Influence of every row on ``nodes @ fit.table_.h``."""
    grid, formula = fit.table_.grid, fit._formula
    raw, on_density = nodes, np.zeros_like(nodes)
    if fit.monotone:
        raw, on_density = before_order(formula(grid.x), formula.score.density(grid.x), nodes)

    def value(changed: TweedieFormula) -> Array:
        h = raw @ changed(grid.x)
        if on_density.any():
            h = h + on_density @ changed.score.density(grid.x)
        return np.asarray(h)

    x, weight = fit._sample.y_pred, fit._sample.weight
    on_mean = weight * (x - formula.noise.centre)
    on_variance = weight * ((x - formula.noise.centre) ** 2 - formula.variance)
    on_parameters = np.column_stack([*_line_and_noise(fit, formula), on_variance])
    mixture = fit._mixture

    def parameters(phi: Array) -> TweedieFormula:
        noise = replace(formula.noise, level=float(phi[2]), coefficients=phi[3:6])
        score = formula.score
        if mixture is not None:
            score = mixture.smoothed(fit._smoothing(float(phi[2]), float(phi[1])))
        return replace(
            formula,
            intercept=float(phi[0]),
            slope=float(phi[1]),
            noise=noise,
            variance=float(phi[6]),
            score=score,
        )

    level = formula.noise.level
    at = np.array([formula.intercept, formula.slope, level, *formula.noise.coefficients, formula.variance])
    spread = formula.slope**2 * formula.variance
    size = np.array([np.sqrt(spread), formula.slope, max(level, 1e-6 * spread), 1, 1, 1, formula.variance])
    total = on_parameters @ derivatives(lambda phi: value(parameters(phi)), at, size)
    if mixture is not None:
        return total + _mixture_part(fit, mixture, value, on_variance)
    return total + _kernel_part(fit, raw, on_density, value, on_mean, on_variance)


def _line_and_noise(fit: TweedieCalibration, formula: TweedieFormula) -> tuple[Array, ...]:
    """Influence on intercept and slope of the recalibration, on the noise's level and on its coefficients."""
    sample, noise, known = fit._sample, formula.noise, fit.target_noise_var_
    x, y, weight, n = sample.y_pred, sample.y_true, sample.weight, sample.n
    if fit.recalibrate:
        used = sample.n_used
        on_line, centre, factor = fit.truth_on_prediction_.influence, formula.intercept, used / (used - 2)
    else:
        centre, factor = float(np.average(y - x, weights=weight)), 1.0
        on_line = np.column_stack([weight * (y - x - centre), np.zeros(n)])
    error = y - centre - formula.slope * x
    on_level = factor * weight * (error**2 - np.average(error**2, weights=weight))
    on_coefficients = np.zeros((n, 3))
    if fit.heteroskedastic_ and noise.level > 0:
        basis = noise.basis(x)

        def pieces(phi: Array) -> Array:
            """Rows' parts of the gradient of the noise's likelihood, at (intercept, slope, level, coefficients)."""
            signal = phi[2] * np.exp(basis @ phi[3:])
            mean = known + signal
            squares = (y - phi[0] - phi[1] * x) ** 2
            return np.asarray((weight * (squares - mean) / mean**2 * signal)[:, None] * basis)

        at = np.array([centre, formula.slope, noise.level, *noise.coefficients])
        size = np.array([np.sqrt(noise.level), formula.slope, noise.level, 1, 1, 1])
        jacobian = derivatives(lambda phi: pieces(phi).mean(axis=0), at, size)
        own = pieces(at)
        moved = own - own.mean(axis=0) + np.column_stack([on_line, on_level]) @ jacobian[:3]
        prior = PRIOR_ROWS / sample.n_effective * np.diag([0.0, 1.0, 1.0])
        on_coefficients = -np.linalg.solve((jacobian[3:] - prior).T, moved.T).T
    if not fit.recalibrate:
        on_line = np.zeros((n, 2))
    return on_line[:, 0], on_line[:, 1], on_level, *on_coefficients.T


def _mixture_part(
    fit: TweedieCalibration,
    mixture: MixtureScore,
    value: Callable[[TweedieFormula], Array],
    on_variance: Array,
) -> Array:
    """Influence by way of the mixture's weights (all but the last), means and variances: maximum likelihood."""
    k, sample, formula = mixture.weights.size, fit._sample, fit._formula
    smoothing = fit._smoothing(formula.noise.level, formula.slope)

    def build(theta: Array) -> MixtureScore:
        first, rest = theta[: k - 1], theta[k - 1 :]
        return MixtureScore(np.append(first, 1 - first.sum()), rest[:k], rest[k:])

    def gradients(theta: Array, x: Array) -> Array:
        now = build(theta)
        shares, pull = now.shares(x)
        on_weights = shares / now.weights
        on_means = shares * pull
        on_variances = shares * (pull**2 - 1 / now.variances) / 2
        return np.column_stack([on_weights[:, :-1] - on_weights[:, -1:], on_means, on_variances])

    at = np.concatenate([mixture.weights[:-1], mixture.means, mixture.variances])
    size = np.concatenate(
        [np.minimum(mixture.weights[:-1], mixture.weights[-1]), np.sqrt(mixture.variances), mixture.variances]
    )
    mass = fit._bins.mass(sample.weight)
    jacobian = derivatives(lambda theta: mass @ gradients(theta, fit._bins.centre) / mass.sum(), at, size).T
    own = gradients(at, sample.y_pred)
    own = sample.weight[:, None] * (own - mass @ gradients(at, fit._bins.centre) / mass.sum())
    # A part at the floor follows the variance of the sample; the others have the top of the likelihood.
    held = np.zeros(at.size, dtype=bool)
    held[2 * k - 1 :] = mixture.variances <= fit.variance_floor * formula.variance * (1 + 1e-6)
    on_theta = np.zeros((sample.n, at.size))
    on_theta[:, held] = fit.variance_floor * on_variance[:, None]
    moved = own[:, ~held] + on_theta[:, held] @ jacobian[np.ix_(~held, held)].T
    on_theta[:, ~held] = -np.linalg.solve(jacobian[np.ix_(~held, ~held)], moved.T).T
    slopes = derivatives(
        lambda theta: value(replace(formula, score=build(theta).smoothed(smoothing))), at, size
    )
    return on_theta @ slopes


def _kernel_part(
    fit: TweedieCalibration,
    raw: Array,
    on_density: Array,
    value: Callable[[TweedieFormula], Array],
    on_mean: Array,
    on_variance: Array,
) -> Array:
    """Influence by way of a kernel density: of a row's own kernel, and of mean and variance, to which all are drawn."""
    formula, grid, kernel = fit._formula, fit.table_.grid, fit._kernel
    on_score, on_slope = formula.sensitivity(grid.x)
    inside = np.clip(grid.x, formula.low, formula.high)
    place = np.zeros(kernel.points.size)
    used = np.flatnonzero((raw != 0) | (on_density != 0))
    for begin in range(0, used.size, _BLOCK):
        part = used[begin : begin + _BLOCK]
        seen, _ = kernel.shares_over(inside[part])
        pull = (kernel.points - inside[part, None]) / kernel.bandwidth**2
        pull -= ((seen * pull) @ kernel.weights)[:, None]  # less the score
        place += (raw[part] * on_score[part]) @ (pull * seen)
        if formula.second_order:
            spread = (seen * pull**2) @ kernel.weights
            place += (raw[part] * on_slope[part]) @ ((pull**2 - spread[:, None]) * seen)
        if on_density[part].any():
            seen, density = kernel.shares_over(grid.x[part])
            place += (on_density[part] * density) @ (seen - 1)
    weight = fit._sample.weight
    index = np.maximum(np.cumsum(weight > 0) - 1, 0) if fit.score == "scott" else fit._bins.index
    total = weight * place[index]

    def drawn(phi: Array) -> Array:
        return value(replace(formula, score=fit._drawn_kernel(float(phi[0]), float(phi[1]))))

    at = np.array([formula.noise.centre, formula.variance])
    slopes = derivatives(drawn, at, np.array([np.sqrt(formula.variance), formula.variance]))
    return total + np.column_stack([on_mean, on_variance]) @ slopes
