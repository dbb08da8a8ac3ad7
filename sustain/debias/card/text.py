"""A card for readers: what is weak about it first, then what it is for, then what its diagnosis said."""

from __future__ import annotations

from sustain.debias.card.content import CardContent
from sustain.debias.sample import WEAK_R2

__all__ = ["card_line", "card_text", "weak_points"]

_WEAK = ("labels", "few pairs", "weak slope", "atoms in predictions", "atoms in truth")


def weak_points(card: CardContent) -> dict[str, str]:
    """Say what is weak about a card's sample, by subject, its predictor first; of any card, old or new."""
    said = {str(subject): str(text) for subject, text in (card.diagnostics.get("verdicts") or {}).items()}
    weak = {}
    if card.r2 < WEAK_R2:
        text = f"predictions explain {card.r2:.1%} of the variance of the labels: too little to correct with."
        weak["strength"] = said.get("strength", text)
    return weak | {subject: said[subject] for subject in _WEAK if subject in said}


def card_line(card: CardContent) -> str:
    """One line: what is measured, by which predictor, on how many places, how well."""
    groups = "" if card.sample.n_groups is None else f" in {card.sample.n_groups} groups"
    line = card.prediction_on_truth
    low, high = line.interval()
    noisy = ""
    if card.target_noise_var > 0 and card.response is not None:
        variance = card.response.scale**2
        noisy = f", labels' reliability {variance / (variance + card.target_noise_var):.2f}"
    return (
        f"{card.target.name} ({card.target.unit}), predicted by {card.predictor.id!r}: {card.sample.n} places{groups}, "
        f"r2 {card.r2:.3f}{noisy}, slope of prediction on truth {line.slope:.3f} [{low:.3f}, {high:.3f}]; "
        f"{', '.join(card.effect_methods[1:])}"
    )


def card_text(card: CardContent) -> str:
    """Text of a card, a line a point."""
    weak = weak_points(card)
    rest = {name: text for name, text in (card.diagnostics.get("verdicts") or {}).items() if name not in weak}
    return "\n".join(
        [
            *(f"WEAK, {subject}: {text}" for subject, text in weak.items()),
            card_line(card),
            *(f"- {name}: {text}" for name, text in rest.items()),
        ]
    )
