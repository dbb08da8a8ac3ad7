"""The effect between two samples of predictions, read back, and drawn to a gain that all units have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.influence import Influence, influence
from sustain.debias.response.model import Population, ResponseModel
from sustain.debias.response.unfolding import Arms, Response, unfold_effect

__all__ = ["TwoSamples", "both_ways", "compare_samples", "covariance_along", "weight_of_alike"]

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
        Of the two samples, whose units are taken as independent, and of the curve.
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


def compare_samples(
    model: ResponseModel, population: Population, treated: Array, control: Array
) -> TwoSamples:
    """Effect between treated and controls of one population, from their predictions, shapes (n1,) and (n0,)."""
    response = model.response(population)
    ones = np.ones(treated.size), np.ones(control.size)
    arms = [Arms(response.shares(control, ones[1]), response.shares(treated, ones[0]))]
    difference = float(treated.mean() - control.mean())
    found = unfold_effect([response], arms, difference)
    derivatives = influence([response], arms, found, difference)
    moved = unfold_effect([model.response(population, both_ways(model.knots.size))], arms, difference)
    calibration = covariance_along(np.column_stack([moved.effect, moved.shift]))

    def variance(at: Array) -> float:
        return _variance(response, treated, control, derivatives, at) + float(at @ calibration @ at)

    unfolded, alike = float(found.effect), float(found.shift)
    weight = weight_of_alike(unfolded, alike, variance(np.array([1.0, -1.0])))
    total = variance(np.array([1.0 - weight, weight])) + weight * (1 - weight) * (unfolded - alike) ** 2
    return TwoSamples(unfolded + weight * (alike - unfolded), unfolded, alike, weight, float(np.sqrt(total)))


def both_ways(k: int) -> Array:
    """Scores that move a curve of k values along each column of its covariance's factor, there and back."""
    return np.concatenate([np.eye(k), -np.eye(k)])


def covariance_along(effects: Array) -> Array:
    """Covariance of estimates, shape (m, m), from those by curves moved `both_ways`, shape (2 k, m).

    ``sum_j d_j d_j'`` with ``d_j = (tau(g + l_j) - tau(g - l_j)) / 2`` over the columns l_j of the Cholesky factor of
    the curve's covariance: the delta method with central differences of one standard deviation.
    """
    there, back = np.split(effects, 2)
    return np.asarray((there - back).T @ (there - back) / 4)


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
