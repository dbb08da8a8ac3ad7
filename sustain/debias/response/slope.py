"""The slope of prediction on truth for an effect of a given size, by which a team with the map alone can divide."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sustain.debias.response.model import Population, ResponseModel
from sustain.debias.sample import read
from sustain.stats.covariance import critical_value
from sustain.stats.natural_spline import NaturalSpline

__all__ = ["ResponseSlope", "slope_for"]

STEP = 1e-3
"""Of the derivative that an effect of zero stands for, in standard deviations of the truth."""


class ResponseSlope(NamedTuple):
    """A slope of prediction on truth, with what is known of it.

    Attributes
    ----------
    value, std_error : float
    df : float
        Degrees of freedom of the standard error.
    extrapolated : float
        Share of the moved population beyond the truths that shaped the curve.
    """

    value: float
    std_error: float
    df: float
    extrapolated: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval, by Student's t."""
        half = critical_value(level, self.df) * self.std_error
        return self.value - half, self.value + half


def slope_for(model: ResponseModel, population: Population, effect: float) -> ResponseSlope:
    """Mean of ``(g(y + effect) - g(y)) / effect`` over the population's distribution of truth.

    Right where every unit gains alike; an effect of zero stands for the mean derivative.

    Parameters
    ----------
    model : ResponseModel
    population : Population
        One of the model's.
    effect : float
        In units of the truth.

    Raises
    ------
    CalibrationError
        When the effect is not a finite number.
    """
    effect = read.number("effect", effect, "a finite number, in the unit of the truth")
    step = STEP * model.scale
    by = effect if abs(effect) >= step else math.copysign(step, effect)
    spline = NaturalSpline.on(model.knots)
    truth, share = model.truth.x, model.response(population).distribution
    moved = spline((truth + by - model.centre) / model.scale)
    rise = share @ (moved - model.basis) / by
    low, high = model.ends
    outside = float(share @ ((truth + by < low) | (truth + by > high)))
    return ResponseSlope(
        float(rise @ population.values),
        float(np.sqrt(rise @ population.cov @ rise)),
        population.df,
        outside,
    )
