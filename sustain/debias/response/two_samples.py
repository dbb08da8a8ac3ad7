"""The effect between two samples of predictions, read back, and drawn to a gain that all units have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.influence import Influence, influence
from sustain.debias.response.unfolding import Arms, Response, unfold_effect

__all__ = ["TwoSamples", "compare_samples", "weight_of_alike"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TwoSamples:
    """An effect between two samples of predictions.

    Attributes
    ----------
    effect : float
        The unfolded effect, drawn to that of a common gain as far as the samples do not tell them apart.
    unfolded, alike : float
        The effect by the two unfolded distributions, and the gain of every unit that would explain the difference.
    weight_alike : float
        Weight of the latter.
    std_error : float
        By the sampling error of the two samples alone; units are taken as independent.
    """

    effect: float
    unfolded: float
    alike: float
    weight_alike: float
    std_error: float


def weight_of_alike(unfolded: float, alike: float, variance: float) -> float:
    """Weight of the common gain beside the unfolded effect: ``min(1, V(e - s) / (e - s)^2)``.

    Positive-part shrinkage (James and Stein 1961): what sampling error explains of the distance is taken off.
    """
    square = (unfolded - alike) ** 2
    return 1.0 if square <= variance else variance / square


def compare_samples(response: Response, treated: Array, control: Array) -> TwoSamples:
    """Effect between treated and controls, from their predictions, shapes (n1,) and (n0,)."""
    ones = np.ones(treated.size), np.ones(control.size)
    arms = [Arms(response.shares(control, ones[1]), response.shares(treated, ones[0]))]
    difference = float(treated.mean() - control.mean())
    found = unfold_effect([response], arms, difference)
    effect, alike = influence([response], arms, found, difference)

    def variance(share: float) -> float:
        at = np.array([1.0 - share, share])
        return _variance(response, treated, control, (effect, alike), at)

    unfolded, common = float(found.effect), float(found.shift)
    gap = _variance(response, treated, control, (effect, alike), np.array([1.0, -1.0]))
    weight = weight_of_alike(unfolded, common, gap)
    total = variance(weight) + weight * (1 - weight) * (unfolded - common) ** 2
    return TwoSamples(
        unfolded + weight * (common - unfolded), unfolded, common, weight, float(np.sqrt(total))
    )


def _variance(
    response: Response,
    treated: Array,
    control: Array,
    derivatives: tuple[Influence, Influence],
    at: Array,
) -> float:
    total = 0.0
    for sample, sign in ((treated, 1.0), (control, -1.0)):
        cells = response.cells(sample)
        psi = np.zeros(sample.size)
        for share, item in zip(at, derivatives, strict=True):
            by_cell = (item.treated if sign > 0 else item.control)[0]
            psi += share * (sign * item.difference * sample + by_cell[cells])
        total += float(psi.var(ddof=1)) / sample.size
    return total
