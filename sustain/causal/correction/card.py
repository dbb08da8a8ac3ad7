"""The calibration card of an estimate: read, and checked against the data and what is asked of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from sustain.errors import CardError, EffectError

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["Assumption", "choose_method", "load_card", "require_raw", "require_same_product"]

Assumption = Literal["measurement", "outcome", "bracket"]


def load_card(calibration: CalibrationCard | str | Path | None) -> CalibrationCard | None:
    """Give the card, read if a path was given."""
    if calibration is None:
        return None
    from sustain.debias import CalibrationCard

    if isinstance(calibration, str | Path):
        return CalibrationCard.load(calibration)
    if isinstance(calibration, CalibrationCard):
        return calibration
    raise EffectError(
        f"calibration: got {type(calibration).__name__}, expected a CalibrationCard or the path of one. "
        "A fitted calibration becomes a card with .to_card()."
    )


def choose_method(
    method: str | None,
    card: CalibrationCard | None,
    assumption: str | None,
    card_level: str | None = None,
    strata: str | None = None,
) -> str:
    """Find the correction that was asked for; raises `EffectError` when arguments contradict each other."""
    if assumption is not None and assumption not in get_args(Assumption):
        raise EffectError(
            f"assumption: got {assumption!r}, expected 'measurement' (correct), 'outcome' (do not), "
            "'bracket' (both) or None."
        )
    if method is None:
        method = "none" if card is None else "linear" if card_level is None else "level"
    if card_level is not None and method != "level":
        raise EffectError(
            f"card_level: {card_level!r} with method={method!r}; only method='level' has levels."
        )
    if strata is not None and method == "level":
        raise EffectError(
            f"strata: {strata!r} with method='level', which takes one level's slope for all units. Leave strata out (a "
            "card with strata has the level 'within stratum'), or choose another method."
        )
    if method != "none" and card is None and assumption != "outcome":
        raise EffectError(
            f"method={method!r} needs calibration=: a CalibrationCard or the path of one, made from "
            "labelled places."
        )
    if method == "none" and assumption in ("measurement", "bracket"):
        raise EffectError(
            f"assumption={assumption!r} asks for a correction, but "
            + (
                "no card was given. Pass calibration=."
                if card is None
                else "method is 'none'. Choose 'linear', 'tweedie', 'bridge' or 'level'."
            )
        )
    return method


def require_raw(columns: Collection[Any], outcome: str) -> None:
    """Raise `EffectError` when the outcome seems to be corrected already: its raw predictions stand beside it."""
    raw = f"{outcome}_raw"
    if raw in columns:
        raise EffectError(
            f"outcome: {outcome!r} stands beside {raw!r}, so it is corrected already, and the card would correct it "
            f"once more. Pass outcome={raw!r}, which the card corrects with its uncertainty, or rename the column."
        )


def require_same_product(attrs: Mapping[Any, Any], card: CalibrationCard) -> None:
    """Raise `CardError` when the data say that they come from another map than the card."""
    card_says = {
        "unit": card.target.unit,
        "target": card.target.name,
        "predictor": card.predictor.id,
        "predictor_sha256": card.predictor.sha256,
    }
    for key, theirs in card_says.items():
        ours = attrs.get(key)
        if ours is not None and theirs and str(ours) != str(theirs):
            raise CardError(
                f"calibration: the card is for {key} {str(theirs)!r}, but data.attrs[{key!r}] is "
                f"{str(ours)!r}. Use the card that was published with this map."
            )
