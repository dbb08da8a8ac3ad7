"""How much what a correction recovers of an effect differs between countries, for trials in a country of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sustain.causal.trial.reader import read
from sustain.errors import CardError, EffectError
from sustain.spelling import Placeholder, argument
from sustain.stats.random_effects import random_effects

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["Elsewhere", "Transport", "error_share", "spread_elsewhere"]

Transport = Literal["groups", "strata"] | float


class Elsewhere(NamedTuple):
    """How far what a correction recovers of an effect, in a place that the card has not seen, may be from all of it.

    Attributes
    ----------
    sd : float
        Root mean squared error that the place adds to an effect, as a share of the estimate; see `error_share`.
    df : float
        Degrees of freedom of its square: places less one; infinite where it was given as a number.
    text : str
        The sentence that says so.
    """

    sd: float
    df: float
    text: str


def spread_elsewhere(
    card: CalibrationCard,
    transport: Transport,
    method: str = "linear",
    strata: Sequence[str] = (),
    slope: float | None = None,
) -> Elsewhere:
    """Find how far a correction may be off in a place that the card has not seen, and how well that is known.

    Parameters
    ----------
    card : CalibrationCard
    transport : {"groups", "strata"} or float
        See `sustain.causal.estimate_effect`.
    method : str
        A correction of the card, or ``"level"``.
    strata : sequence of str
        The card's strata whose own corrections are applied; of several, the one that differs most counts.
    slope : float, optional
        What a linear correction divides by; by default the card's pooled slope.

    Raises
    ------
    CardError
        When the card does not hold what is asked for.
    EffectError
        When `transport` is none of these.
    """
    slope = card.slope if slope is None else slope
    if transport == "groups":
        return _between_groups(card, method, strata)
    if transport == "strata":
        return _between_strata(card, method, slope)
    if str(transport) == "leave_one_out":
        raise EffectError(
            "transport: 'leave_one_out' is no longer offered: how far leaving one group out moves the pooled slope "
            "says little of how far a new place is from it. Pass 'groups', the spread between groups."
        )
    expected = "'groups', 'strata' or the standard deviation of the slope between places, 0 or more"
    sd = read.number("transport", transport, expected, least=0)
    text = (
        f"A standard deviation of {sd:.3g} of the slope between places, as given, is carried in the interval."
    )
    return Elsewhere(error_share(1.0, sd / abs(slope)), math.inf, text)


def error_share(mean: float, sd: float) -> float:
    """Root mean squared error of an effect, as a share of the estimate, where the recovered share s varies by place.

    An estimate e of an effect e / s is off by ``e (1/s - 1)``. For a lognormal s of this mean and standard deviation,
    with ``c = 1 + sd^2 / mean^2``, the mean square of 1/s - 1 is ``c^3 / mean^2 - 2 c / mean + 1``: about
    ``sd^2 + (mean - 1)^2`` where places differ little, and more where they differ much, because in a place that
    recovers a third of an effect the estimate is small too.
    """
    if not mean > 0:
        return math.inf
    spread = 1 + (sd / mean) ** 2
    return math.sqrt(max(0.0, spread**3 / mean**2 - 2 * spread / mean + 1))


def _between_groups(card: CalibrationCard, method: str, strata: Sequence[str]) -> Elsewhere:
    # A level's slope has no spread of its own between groups: that of the pooled line stands for it.
    name = "linear" if method == "level" else method
    spreads = [card.recovered_by(name, stratum) for stratum in strata or (None,)]
    known = [spread for spread in spreads if spread is not None]
    if len(known) < len(spreads):
        raise CardError(
            f"{argument('transport', 'groups')} needs a card that knows what {name!r} recovers in each of its groups: "
            f"one built with {argument('groups', Placeholder('column'))} (countries), five of them or more with "
            "20 places each, by this release or a later one. Build the "
            "card again, or pass the standard deviation of the slope as a number instead."
        )
    widest = max(known, key=lambda spread: error_share(spread.mean, spread.sd))
    text = (
        f"What {name!r} recovers of an effect differs between the card's {widest.n_groups} groups by a standard "
        f"deviation of {widest.sd:.0%} of the effect, beyond sampling error (Q {widest.q:.1f}, I2 {widest.i2:.0%}), "
        f"about a mean of {widest.mean:.0%}; the interval carries it, as for a trial in a place that is none of them."
    )
    return Elsewhere(error_share(widest.mean, widest.sd), widest.n_groups - 1.0, text)


def _between_strata(card: CalibrationCard, method: str, slope: float) -> Elsewhere:
    if method not in ("linear", "level"):
        raise CardError(
            f"{argument('transport', 'strata')} compares slopes, which say little of what {method!r} recovers. Build "
            f"the card with {argument('groups', Placeholder('column'))} (countries) and pass 'groups'."
        )
    lines = [item.prediction_on_truth for item in card.strata]
    if len(lines) < 3:
        raise CardError(
            f"{argument('transport', 'strata')} needs slopes of three or more strata (countries), and the card has "
            f"{len(lines)}. Build the card with {argument('strata', Placeholder('column'))}, or give the standard "
            "deviation of the slope as a number."
        )
    found = random_effects(
        np.array([line.slope for line in lines]), np.array([line.cov[1][1] for line in lines])
    )
    text = (
        f"The slope differs between the card's {found.n} strata by a standard deviation of {found.sd:.3g} beyond "
        f"sampling error (Q {found.q:.1f}, I2 {found.i2:.0%}); the interval carries it, as for a trial in a place "
        "that is none of them."
    )
    return Elsewhere(error_share(1.0, found.sd / abs(slope)), found.n - 1.0, text)
