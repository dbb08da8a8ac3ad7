"""What is done about the map's errors: which of a card's corrections, on which assumption, and what widens it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.card import load_card, require_raw, require_same_product
from sustain.causal.correction.change import Change, require_slope_of_change
from sustain.causal.correction.correct import (
    Divisor,
    correct,
    corrected_outcome,
    divisor_of,
    slopes_by_stratum,
    support_share,
    widened,
)
from sustain.causal.correction.elsewhere import Transport, spread_elsewhere
from sustain.causal.correction.overlap import Overlap
from sustain.causal.correction.response import ResponseEffect, UnfoldedTrial, response_notes
from sustain.causal.estimate import Estimate, Note
from sustain.causal.estimators.least_squares import LinearEstimator
from sustain.causal.fit import FittedDesign
from sustain.causal.trial.reader import read
from sustain.causal.trial.units import Units
from sustain.errors import EffectError
from sustain.spelling import Placeholder, argument

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["Assumption", "Corrected", "CorrectionChoice"]

LEAST_POPULATIONS = 5
"""Populations of a card from which the spread between their curves stands for that of places elsewhere."""

Assumption = Literal["measurement", "outcome", "bracket"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Corrected:
    """A corrected effect, or none where nothing was corrected.

    Attributes
    ----------
    estimate : Estimate or None
    share_outside : float
        Share of the estimator's weight on predictions outside the card's support; NaN without a correction.
    notes : tuple of Note
        What the trial's units and the spread between places did to the interval.
    response : ResponseEffect or None
        What unfolding says beside the effect.
    outcome : ndarray, shape (n,), or None
        Outcome whose influence function is that of the corrected effect, where a division does not give it.
    """

    estimate: Estimate | None = None
    share_outside: float = math.nan
    notes: tuple[Note, ...] = ()
    response: ResponseEffect | None = None
    outcome: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class CorrectionChoice:
    """A correction that was asked for, checked against itself.

    Attributes
    ----------
    card : CalibrationCard or None
    method : str
        ``"none"``, ``"level"``, or a method of the card.
    assumption : {"measurement", "outcome", "bracket"} or None
    card_level : str or None
        Level of the card whose slope divides.
    strata : tuple of str
        Columns of strata that are corrected apart, from coarse to fine.
    transport : str, float or None
        See `sustain.causal.estimate_effect`.
    overlap : Overlap or None
    by_default : bool
        Whether nobody named the method.
    change : Change or None
        The panel whose changes the effect compares; then nothing is corrected.
    """

    card: CalibrationCard | None = None
    method: str = "none"
    assumption: Assumption | None = None
    card_level: str | None = None
    strata: tuple[str, ...] = ()
    transport: Transport | None = None
    overlap: Overlap | None = None
    by_default: bool = False
    change: Change | None = None

    def __post_init__(self) -> None:
        """Raise `EffectError` where what was asked for contradicts itself."""
        if self.assumption is not None and self.assumption not in get_args(Assumption):
            raise EffectError(
                f"assumption: got {self.assumption!r}, expected 'measurement' (correct), 'outcome' (do not), "
                "'bracket' (both) or None."
            )
        if self.card_level is not None and self.method != "level":
            raise EffectError(
                f"card_level: {self.card_level!r} with {argument('method', self.method)}; only "
                f"{argument('method', 'level')} has levels."
            )
        if self.strata and self.method == "level":
            raise EffectError(
                f"strata: {list(self.strata)} with {argument('method', 'level')}, which takes one level's slope for "
                "all units. Leave strata out (a card with strata has the level 'within stratum'), or choose another "
                "method."
            )
        if self.method != "none" and self.card is None and self.assumption != "outcome":
            raise EffectError(
                f"{argument('method', self.method)} needs {argument('calibration', Placeholder('card'))}: a "
                "CalibrationCard or the path of one, made from labelled places."
            )
        if self.method == "none" and self.assumption in ("measurement", "bracket"):
            raise EffectError(
                f"{argument('assumption', self.assumption)} asks for a correction, but "
                + (
                    f"no card was given. Pass {argument('calibration', Placeholder('card'))}."
                    if self.card is None
                    else "method is 'none'. Choose 'response', 'linear', 'tweedie' or 'level'."
                )
            )

    @classmethod
    def read(
        cls,
        calibration: CalibrationCard | str | Path | None = None,
        method: str | None = None,
        *,
        card_level: str | None = None,
        overlap: Mapping[str, Any] | None = None,
        strata: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Read the arguments as `estimate_effect` documents them."""
        card = load_card(calibration)
        by_default = method is None
        if method is None:
            method = _default_method(card, card_level, overlap is not None)
        shared = None if overlap is None else Overlap.parse(overlap)
        return cls(
            card=card,
            method=method,
            card_level=card_level,
            strata=read.names("strata", strata),
            overlap=shared,
            by_default=by_default,
            **options,
        )

    def of_change(self, change: Change) -> Self:
        """Leave a change over time uncorrected; raises `EffectError` where a correction was asked for."""
        asked: dict[str, Any] = {"assumption": None if self.assumption == "outcome" else self.assumption}
        if self.assumption is None:
            asked["method"] = None if self.by_default or self.method == "none" else self.method
            asked |= {
                name: getattr(self, name) or None for name in ("card_level", "strata", "transport", "overlap")
            }
        require_slope_of_change(change, asked)
        return replace(
            self, method="none", change=change, card_level=None, strata=(), transport=None, overlap=None
        )

    @property
    def used(self) -> CalibrationCard | None:
        """The card where it corrects; None where there is none, or method or assumption let the predictions stand."""
        return None if self.method == "none" or self.assumption == "outcome" else self.card

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that it needs."""
        return (*self.strata, *([self.overlap.id] if self.overlap else []))

    @property
    def label(self) -> str:
        """Method and level, in words."""
        return self.method if self.card_level is None else f"{self.method}: {self.card_level}"

    def require_for(self, data: pd.DataFrame, outcome: str) -> None:
        """Raise unless the card is for these data, and their outcome is not corrected already."""
        if self.card is not None:
            require_same_product(data.attrs, self.card)
        if self.used is not None:
            require_raw(data.columns, outcome)

    @cached_property
    def divisor(self) -> Divisor | None:
        """What one division corrects by; None where a curve or strata correct each unit's prediction."""
        return (
            None if self.used is None or self.strata else divisor_of(self.used, self.method, self.card_level)
        )

    def outcomes(self, units: Units, estimator: LinearEstimator, product: bool = False) -> Floats:
        """Give the outcomes to estimate effects on: the raw predictions and, for curves and strata, the corrected."""
        card = self.used
        if card is None or self.divisor is not None:
            return units.outcome[None]
        if self.method == "response":
            return self._unfolded(card, estimator, units, product).outcomes()
        return np.stack([units.outcome, corrected_outcome(card, self.method, units, self.strata)])

    def applied(self, fitted: FittedDesign) -> Corrected:
        """Correct a fitted design's effect.

        Raises
        ------
        CardError
            When the card does not hold the method, or was not built from the rows of `overlap`.
        """
        card = self.used
        if card is None:
            return Corrected()
        if self.method == "response":
            return self._read_back(card, fitted)
        notes = []
        end = correct(card, self.method, fitted, self.divisor, self.strata, self.card_level)
        if self.overlap is not None:
            end, note = self.overlap.applied(card, fitted, end)
            notes.append(note)
        if self.transport == "groups" and self._level_varies(card):
            notes.append(
                Note("transport", "The slope of this level carries how it varies between groups already.")
            )
        elif self.transport is not None:
            strata = slopes_by_stratum(card, fitted.units, self.strata) if self.strata else ()
            slope = None if self.divisor is None else self.divisor.value
            elsewhere = spread_elsewhere(card, self.transport, self.method, tuple(strata), slope)
            end = widened(end, elsewhere.sd, elsewhere.df)
            notes.append(Note("transport", elsewhere.text))
        share = support_share(card, fitted.estimator, fitted.units, self.strata)
        return Corrected(end, share, tuple(notes))

    def _level_varies(self, card: CalibrationCard) -> bool:
        """Whether the slope that divides is a level's that has a spread between groups or contrasts of its own."""
        return self.card_level is not None and card.level(self.card_level).n_spread is not None

    def _read_back(self, card: CalibrationCard, fitted: FittedDesign) -> Corrected:
        if self.overlap is not None:
            raise EffectError(
                "overlap: for the pooled linear correction only, not for 'response': a card's curve does not say which "
                f"row moved it. Leave the shared units out of the trial, or use {argument('method', 'linear')}."
            )
        trial = self._unfolded(card, fitted.estimator, fitted.units, fitted.product is not None)
        end, beside, outcome = trial.corrected(fitted)
        notes = response_notes(beside)
        if trial.elsewhere:
            text = (
                f"The interval carries how the response curves of the card's {len(trial.model.populations)} "
                "populations differ in level, slope and shape, as for a trial in a population that is none of them."
            )
            notes = (*notes, Note("transport", text))
        elif self.transport is not None:
            elsewhere = spread_elsewhere(card, self.transport, "response")
            end = widened(end, elsewhere.sd, elsewhere.df)
            notes = (*notes, Note("transport", elsewhere.text))
        share = support_share(card, fitted.estimator, fitted.units)
        return Corrected(end, share, notes, beside, outcome)

    def _unfolded(
        self, card: CalibrationCard, estimator: LinearEstimator, units: Units, product: bool
    ) -> UnfoldedTrial:
        between = card.response_model.between
        # Few populations tell little of how places differ: then what the card says of its groups is carried.
        known = between is not None and between.n >= LEAST_POPULATIONS
        elsewhere = self.transport == "groups" and not self.strata and known
        return UnfoldedTrial.of(card, estimator, units, self.strata, product=product, elsewhere=elsewhere)


def _default_method(card: CalibrationCard | None, card_level: str | None, overlaps: bool) -> str:
    if card is None:
        return "none"
    if card_level is not None:
        return "level"
    return "linear" if card.response is None or overlaps else "response"
