"""A card for readers: what is weak about it first, then what it is for, then what its diagnosis said."""

from __future__ import annotations

from html import escape
from textwrap import shorten, wrap

from sustain.debias.card.content import CardContent
from sustain.debias.sample import WEAK_R2

__all__ = ["card_html", "card_line", "card_text", "weak_points"]

_WIDTH, _MOST = 98, 14  # letters of a line, and lines

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


def card_text(card: CardContent, details: bool = False) -> str:
    """Text of a card: a line a verdict, cut where it is longer, unless `details` are asked for."""
    weak, rest = _verdicts(card)
    whole = [*(f"WEAK, {subject}: {text}" for subject, text in weak.items()), card_line(card)]
    lines = [line for text in whole for line in _wrapped(text)]
    told = [f"- {subject}: {text}" for subject, text in rest.items()]
    whole_told = [line for text in told for line in _wrapped(text)]
    if details or len(lines) + len(whole_told) <= _MOST:
        return "\n".join([*lines, *whole_told])
    cut = [shorten(text, _WIDTH, placeholder=" ...") for text in told]
    return "\n".join([*lines, *cut, *(["(in full: card.summary(details=True))"] if cut != told else [])])


def card_html(card: CardContent) -> str:
    """Table of a card's figures, and its verdicts with what is weak first."""
    weak, rest = _verdicts(card)
    low, high = card.prediction_on_truth.interval()
    groups = "" if card.sample.n_groups is None else f" in {card.sample.n_groups} groups"
    rows = {
        "target": f"{card.target.name} ({card.target.unit})",
        "predictor": card.predictor.id,
        "calibration sample": f"{card.sample.n} places{groups}",
        "r2": f"{card.r2:.3f}",
        "slope of prediction on truth": f"{card.prediction_on_truth.slope:.3f} [{low:.3f}, {high:.3f}]",
        "corrections": ", ".join(card.effect_methods[1:]),
    }
    table = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
    said = [f"<b>WEAK, {escape(name)}</b>: {escape(text)}" for name, text in weak.items()]
    said += [f"<b>{escape(name)}</b>: {escape(text)}" for name, text in rest.items()]
    return f"<table><tbody>{table}</tbody></table><ul>{''.join(f'<li>{text}</li>' for text in said)}</ul>"


def _verdicts(card: CardContent) -> tuple[dict[str, str], dict[str, str]]:
    """Tell what is weak from all else that the card's diagnosis says."""
    weak = weak_points(card)
    said = (card.diagnostics.get("verdicts") or {}).items()
    return weak, {str(name): str(text) for name, text in said if name not in weak}


def _wrapped(text: str) -> list[str]:
    return wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
