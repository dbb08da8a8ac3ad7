"""How an unfolded effect moves with each unit of a trial: the derivative that its variance is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.unfolding import (
    CONTROL_STEPS,
    Arms,
    Response,
    Unfolded,
    common_gains,
    gains,
    mean_slope,
    unfold,
    unfold_treated,
)

__all__ = ["Influence", "influence"]

Array = NDArray[np.float64]

STEP = 1e-3
"""Share of an arm that is moved to one cell to see what follows."""


@dataclass(frozen=True)
class Influence:
    """Derivatives of an unfolded effect, but for constants within an arm.

    Attributes
    ----------
    difference : float
        By the effect on predictions.
    control, treated : tuple of ndarray, shape (m,)
        By the share of an arm that is of a population and in a cell of predictions.
    """

    difference: float
    control: tuple[Array, ...]
    treated: tuple[Array, ...]


def influence(
    responses: Sequence[Response],
    arms: Sequence[Arms],
    found: Unfolded,
    difference: float,
    mass: float = 1.0,
    *,
    contrast: bool = False,
) -> tuple[Influence, Influence]:
    """Differentiate an effect and the working shift, by finite differences.

    Unfoldings of one population do not move with the units of another: what they share, the working shift, only sets
    where the treated's unfolding starts.

    Parameters
    ----------
    responses, arms, difference, mass, contrast
        As for `unfold_effect`, without draws.
    found : Unfolded
        Its result.

    Returns
    -------
    effect, shift : Influence
    """
    truth: list[tuple[Array, Array]] = []
    prediction: list[tuple[Array, Array]] = []
    rise, sink = [], []
    at = common_gains(responses)
    reach, step = at.size // 2, responses[0].truth.step
    slope_of_gain = 0.0
    for item, arm, control, treated in zip(responses, arms, found.control, found.treated, strict=True):
        w_treated, w_control = float(arm.weight_treated), float(arm.weight_control)
        each = np.eye(item.edges.size - 1)
        controls = unfold(item, (1 - STEP) * arm.control + STEP * each, item.distribution, CONTROL_STEPS)
        own = unfold_treated(item, (1 - STEP) * arm.treated + STEP * each, control, found.shift, mass)
        drawn = unfold_treated(item, arm.treated, controls, found.shift, mass)
        share = w_treated / w_control if w_control > 0 else 0.0
        for store, values in ((truth, item.truth.x), (prediction, item.curve)):
            by_treated = (own - treated) @ values / STEP + treated @ values
            by_control = (
                share * (drawn - treated) @ values / STEP
                - (controls - control) @ values / STEP
                - control @ values
            )
            store.append((by_control, by_treated))
        gain, level = gains(item, control, reach), control @ item.curve
        gain_at = np.interp(found.shift, at, gain)
        slope_of_gain += w_treated * float(np.interp(found.shift, at, np.gradient(gain, step)))
        others = np.stack([np.interp(found.shift, at, row) for row in gains(item, controls, reach)])
        levels = controls @ item.curve
        rise.append(
            share * (others - gain_at) / STEP + mass * ((share - 1) * (levels - level) / STEP - level)
        )
        sink.append(np.full(len(each), gain_at + mass * level))
    by_shift = Influence(
        1 / slope_of_gain,
        tuple(-value / slope_of_gain for value in rise),
        tuple(-value / slope_of_gain for value in sink),
    )
    if contrast:
        mean = float(mean_slope(responses, arms, found.control))
        by_arm = [
            tuple(mass * (t[arm] - p[arm] / mean) for p, t in zip(prediction, truth, strict=True))
            for arm in (0, 1)
        ]
        return Influence(1 / mean, *by_arm), by_shift
    if not found.told:
        return by_shift, by_shift
    moved, slope = float(found.moved_truth), float(found.slope)

    def on_effect(arm: int) -> tuple[Array, ...]:
        # effect = difference / slope with slope = moved prediction / moved truth
        return tuple(
            -difference / slope**2 * (p[arm] - slope * t[arm]) / moved
            for p, t in zip(prediction, truth, strict=True)
        )

    return Influence(1 / slope, on_effect(0), on_effect(1)), by_shift
