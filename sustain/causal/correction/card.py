"""The calibration card of an estimate: read, and checked against the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sustain.errors import CardError, EffectError
from sustain.spelling import argument

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["load_card", "require_raw", "require_same_product"]


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


def require_raw(columns: Collection[Any], outcome: str) -> None:
    """Raise `EffectError` when the outcome seems to be corrected already: its raw predictions stand beside it."""
    raw = f"{outcome}_raw"
    if raw in columns:
        raise EffectError(
            f"outcome: {outcome!r} stands beside {raw!r}, so it is corrected already, and the card would correct it "
            f"once more. Pass {argument('outcome', raw)}, which the card corrects with its uncertainty, or rename the "
            "column."
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
