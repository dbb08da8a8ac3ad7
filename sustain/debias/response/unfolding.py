"""Unfolding: the distribution of truth behind a sample of predictions, and the effect between two of them.

An effect on predictions is read back through the response curve. Where on the curve it lies is found by *unfolding* the
predictions of both arms: expectation and maximisation from the calibration's distribution of truth, stopped early
(Richardson 1972; Lucy 1974; D'Agostini 1995, doi:10.1016/0168-9002(95)00274-X).

All arrays may have a leading axis of draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.debias.table import Nodes

__all__ = [
    "Arms",
    "Response",
    "Unfolded",
    "common_gains",
    "gains",
    "mean_slope",
    "moved",
    "unfold",
    "unfold_effect",
    "unfold_treated",
    "working_shift",
]

Array = NDArray[np.float64]

CONTROL_STEPS = 30
"""Steps from the calibration's distribution to that of the controls."""

TREATED_STEPS, COMMON_STEPS = 60, 20
"""Steps from the calibration's distribution to that of the treated; and from the mean of this and of the controls',
moved by the working shift."""

FLOOR = 1e-3  # share of the calibration's distribution in every start: what is zero stays zero
SMALL = 0.05  # change of the mean truth, in standard deviations, below which its slope is that of the working shift
FURTHEST = 3.0  # working shift, in standard deviations of the truth


@dataclass(frozen=True)
class Response:
    """How truth becomes predictions in one population.

    Attributes
    ----------
    truth : Nodes
        Nodes in truth.
    edges : ndarray, shape (m + 1,)
        Of the cells of predictions; the outermost take all that lies beyond.
    curve : ndarray, shape (..., truth.n)
        Mean prediction by truth.
    matrix : ndarray, shape (..., truth.n, m)
        Shares of predictions in the cells, by truth.
    distribution : ndarray, shape (..., truth.n)
        Of the truth in the calibration sample.
    ends : (float, float)
        Truths between which the curve was learned; it is straight beyond.
    scale : float
        Standard deviation of the truth in the calibration sample.
    """

    truth: Nodes
    edges: Array
    curve: Array
    matrix: Array
    distribution: Array
    ends: tuple[float, float]
    scale: float

    def shares(self, y_pred: Array, weight: Array) -> Array:
        """Shares of the weight in the cells of predictions, shape (m,)."""
        found = np.bincount(self.cells(y_pred), weights=weight, minlength=self.edges.size - 1)
        return np.asarray(found / found.sum())

    def cells(self, y_pred: Array) -> NDArray[np.intp]:
        """Cell of each prediction."""
        return np.clip(np.searchsorted(self.edges, y_pred, side="right") - 1, 0, self.edges.size - 2)


class Arms(NamedTuple):
    """The predictions of one population's units in both arms, as shares of cells.

    Attributes
    ----------
    control, treated : ndarray, shape (..., m)
        Shares that sum to one.
    weight_control, weight_treated : float or ndarray
        Share of this population in each arm.
    """

    control: Array
    treated: Array
    weight_control: float | Array = 1.0
    weight_treated: float | Array = 1.0


@dataclass(frozen=True)
class Unfolded:
    """An effect that was read back through response curves.

    Attributes
    ----------
    effect : ndarray
        Effect on the truth.
    shift : ndarray
        The effect if every unit gains alike.
    slope : ndarray
        Of prediction on truth, along the trial's own contrast: the effect on predictions over that on the truth.
    told : ndarray of bool
        Whether the two arms differ by enough for a slope of their own; without, `effect` is `shift`.
    moved_truth, moved_prediction : ndarray
        Difference of the arms' mean truth and mean prediction, by the unfolded distributions.
    control, treated : tuple of ndarray, shape (..., truth.n)
        Distributions of truth, for each population.
    """

    effect: Array
    shift: Array
    slope: Array
    told: NDArray[np.bool_]
    moved_truth: Array
    moved_prediction: Array
    control: tuple[Array, ...]
    treated: tuple[Array, ...]


def unfold(response: Response, observed: Array, start: Array, steps: int) -> Array:
    """Distribution of truth behind observed shares of predictions.

    Parameters
    ----------
    response : Response
    observed : ndarray, shape (..., m)
    start : ndarray, shape (..., truth.n)
    steps : int
        Early stopping is the regularisation: each step resolves more, and more of the noise.
    """
    matrix = response.matrix
    found = (1 - FLOOR) * start + FLOOR * response.distribution
    if matrix.ndim == 2:
        for _ in range(steps):
            found = found * ((observed / (found @ matrix)) @ matrix.T)
            found = found / found.sum(axis=-1, keepdims=True)
    else:
        for _ in range(steps):
            expected = (found[..., None, :] @ matrix)[..., 0, :]
            found = found * (matrix @ (observed / expected)[..., None])[..., 0]
            found = found / found.sum(axis=-1, keepdims=True)
    return np.asarray(found)


def unfold_effect(
    responses: Sequence[Response],
    arms: Sequence[Arms],
    difference: Array | float,
    mass: float = 1.0,
    *,
    contrast: bool = False,
) -> Unfolded:
    """Effect on the truth behind an effect on predictions.

    Parameters
    ----------
    responses, arms : sequence
        One for each population that the trial's units are from.
    difference : float or ndarray
        Effect on predictions, by any estimator that is linear in them.
    mass : float
        Sum of the estimator's positive weights: 1 for a difference in means, more where the arms are diluted, as by
        an instrument that moves some units only.
    contrast : bool
        Whether the estimate is a contrast of effects, such as how an effect moves with a covariate, and may be zero
        where predictions differ: then it is the unfolded difference in truth, plus what predictions differ by beyond
        the unfolded ones over the mean slope of the curve. No common gain makes that: `shift` is zero.
    """
    difference = np.asarray(difference, dtype=np.float64)
    control = tuple(
        unfold(item, arm.control, item.distribution, CONTROL_STEPS)
        for item, arm in zip(responses, arms, strict=True)
    )
    shift = np.zeros(()) if contrast else working_shift(responses, arms, control, difference, mass)
    treated = tuple(
        unfold_treated(item, arm.treated, untreated, shift, mass)
        for item, arm, untreated in zip(responses, arms, control, strict=True)
    )
    moved_truth: Array = np.zeros(())
    moved_prediction: Array = np.zeros(())
    for item, arm, untreated, found in zip(responses, arms, control, treated, strict=True):
        gained = _column(arm.weight_treated) * found - _column(arm.weight_control) * untreated
        moved_truth = moved_truth + (gained * item.truth.x).sum(axis=-1)
        moved_prediction = moved_prediction + (gained * item.curve).sum(axis=-1)
    if contrast:
        rest = (difference - mass * moved_prediction) / mean_slope(responses, arms, control)
        effect = np.asarray(mass * moved_truth + rest)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.asarray(difference / effect)
        told = np.ones(effect.shape, dtype=bool)
        return Unfolded(
            effect, np.zeros_like(effect), slope, told, moved_truth, moved_prediction, control, treated
        )
    scale = max(item.scale for item in responses)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = moved_prediction / moved_truth
        told = np.asarray((np.abs(moved_truth) >= SMALL * scale) & (slope > 0))
        slope = np.where(told, slope, difference / shift)
        effect = np.where(told, difference / slope, shift)
    return Unfolded(effect, shift, slope, told, moved_truth, moved_prediction, control, treated)


def unfold_treated(response: Response, observed: Array, control: Array, shift: Array, mass: float) -> Array:
    """Distribution of truth of the treated, from a start half way between the controls' moved one and their own."""
    share = min(1.0, 1.0 / mass)
    alike = share * moved(control, shift, response.truth) + (1 - share) * control
    alone = unfold(response, observed, response.distribution, TREATED_STEPS)
    return unfold(response, observed, 0.5 * alike + 0.5 * alone, COMMON_STEPS)


def _column(weight: float | Array) -> Array:
    return np.asarray(weight)[..., None]


def working_shift(
    responses: Sequence[Response],
    arms: Sequence[Arms],
    control: Sequence[Array],
    difference: Array,
    mass: float = 1.0,
) -> Array:
    """Gain of every unit that would move the predictions by as much as was seen; arguments as `unfold_effect`."""
    at = common_gains(responses)
    reach = at.size // 2
    total: Array = np.zeros(at.size)
    composition: Array = np.zeros(())
    for item, arm, untreated in zip(responses, arms, control, strict=True):
        total = total + _column(arm.weight_treated) * gains(item, untreated, reach)
        level = (untreated * item.curve).sum(axis=-1)
        composition = composition + (np.asarray(arm.weight_treated) - arm.weight_control) * level
    # What differs because the populations' shares do is no gain of any unit.
    wanted = np.asarray(difference - mass * composition)
    shape = np.broadcast_shapes(total.shape[:-1], wanted.shape)
    # Half-way between the highest value so far and the lowest to come: a curve that dips has an inverse, too.
    rising = (
        np.maximum.accumulate(total, axis=-1) + np.minimum.accumulate(total[..., ::-1], axis=-1)[..., ::-1]
    )
    rising = np.broadcast_to(rising / 2 + 1e-12 * np.arange(at.size), (*shape, at.size)).reshape(-1, at.size)
    wanted = np.broadcast_to(wanted, shape)
    found = [np.interp(value, row, at) for value, row in zip(wanted.ravel(), rising, strict=True)]
    return np.asarray(found).reshape(shape)


def mean_slope(responses: Sequence[Response], arms: Sequence[Arms], control: Sequence[Array]) -> Array:
    """Rise of the controls' mean prediction per unit of a small gain of everybody."""
    total: Array = np.zeros(())
    for item, arm, untreated in zip(responses, arms, control, strict=True):
        rise = gains(item, untreated, 1)
        total = total + np.asarray(arm.weight_treated) * (rise[..., 2] - rise[..., 0]) / (2 * item.truth.step)
    return np.asarray(total)


def common_gains(responses: Sequence[Response]) -> Array:
    """Gains among which the working shift is looked for: whole steps, up to three standard deviations either way."""
    step = responses[0].truth.step
    reach = int(np.ceil(FURTHEST * max(item.scale for item in responses) / step))
    return np.asarray(step * np.arange(-reach, reach + 1), dtype=np.float64)


def gains(response: Response, distribution: Array, reach: int) -> Array:
    """Rise of the mean prediction when all truths rise by -reach ... reach steps, shape (..., 2 reach + 1)."""
    curve, steps = response.curve, np.arange(1, reach + 1)
    low = curve[..., :1] - steps[::-1] * (curve[..., 1:2] - curve[..., :1])
    high = curve[..., -1:] + steps * (curve[..., -1:] - curve[..., -2:-1])
    windows = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([low, curve, high], axis=-1), response.truth.n, axis=-1
    )
    level = (distribution * curve).sum(axis=-1)
    if windows.ndim == 2:
        return np.asarray(distribution @ windows.T - level[..., None])
    return np.asarray((windows @ distribution[..., None])[..., 0] - level[..., None])


def moved(distribution: Array, shift: Array, truth: Nodes) -> Array:
    """Distribution of truth plus a shift; what would leave the nodes stays at the last."""
    distribution, by = np.broadcast_arrays(distribution, shift[..., None] / truth.step)
    whole = np.floor(by)
    part = by - whole
    place = np.arange(truth.n) + whole.astype(np.intp)
    row = np.arange(distribution[..., 0].size).reshape(*distribution.shape[:-1], 1) * truth.n
    total = np.zeros(distribution.size)
    for offset, share in ((0, 1 - part), (1, part)):
        index = row + np.clip(place + offset, 0, truth.n - 1)
        total += np.bincount(index.ravel(), (distribution * share).ravel(), minlength=distribution.size)
    return total.reshape(distribution.shape)
