"""How much the slope of prediction on truth differs between countries, for trials in a country of their own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sustain.causal.trial.reader import read
from sustain.errors import CardError
from sustain.stats.random_effects import random_effects

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["Elsewhere", "Transport", "transport_sd"]

Transport = Literal["groups", "strata", "leave_one_out"] | float


class Elsewhere(NamedTuple):
    """How far the slope of a place that the card has not seen may be from the card's.

    Attributes
    ----------
    sd : float
        Standard deviation of the slope between places.
    df : float
        Degrees of freedom of its square: places less one; infinite where it was given as a number.
    text : str
        The sentence that says so.
    """

    sd: float
    df: float
    text: str


def transport_sd(card: CalibrationCard, transport: Transport) -> Elsewhere:
    """Find the standard deviation of the slope to fold into an interval, and how well it is known.

    Parameters
    ----------
    card : CalibrationCard
    transport : {"groups", "strata", "leave_one_out"} or float
        See `sustain.causal.estimate_effect`.
    """
    if transport == "groups":
        spread = card.slope_spread
        if spread is None:
            raise CardError(
                "transport='groups' needs a card built with groups= (countries), five of them or more with 20 places "
                "each. Pass the standard deviation of the slope as a number instead."
            )
        text = (
            f"The slope differs between the card's {spread.n_groups} groups by a standard deviation of {spread.sd:.3g} "
            f"beyond sampling error (Q {spread.q:.1f}, I2 {spread.i2:.0%}); the interval carries it, as for a trial "
            "in a place that is none of them."
        )
        return Elsewhere(spread.sd, spread.n_groups - 1.0, text)
    if transport == "strata":
        lines = [item.prediction_on_truth for item in card.strata]
        if len(lines) < 3:
            raise CardError(
                f"transport='strata' needs slopes of three or more strata (countries), and the card has {len(lines)}. "
                "Build the card with strata=, or give the standard deviation of the slope as a number."
            )
        found = random_effects(
            np.array([line.slope for line in lines]), np.array([line.cov[1][1] for line in lines])
        )
        text = (
            f"The slope differs between the card's {found.n} strata by a standard deviation of {found.sd:.3g} beyond "
            f"sampling error (Q {found.q:.1f}, I2 {found.i2:.0%}); the interval carries it, as for a trial in a place "
            "that is none of them."
        )
        return Elsewhere(found.sd, found.n - 1.0, text)
    if transport == "leave_one_out":
        ends: list[float] = card.diagnostics.get("slope_without_a_group") or []
        if len(ends) != 2:
            raise CardError(
                "transport='leave_one_out' needs a card built with groups=, which holds how far leaving one of them "
                "out moves the slope. Pass the standard deviation of the slope as a number instead."
            )
        sd = max(abs(float(end) - card.slope) for end in ends)
        text = (
            f"Leaving one group of the calibration sample out moves the slope to between {ends[0]:.3g} and "
            f"{ends[1]:.3g}; the larger move is carried in the interval as one more standard error."
        )
        return Elsewhere(sd, max(1.0, (card.sample.n_groups or math.inf) - 1.0), text)
    expected = (
        "'groups', 'strata', 'leave_one_out' or the standard deviation of the slope between places, 0 or more"
    )
    sd = read.number("transport", transport, expected, least=0)
    text = (
        f"A standard deviation of {sd:.3g} of the slope between places, as given, is carried in the interval."
    )
    return Elsewhere(sd, math.inf, text)
