"""What a card warns of itself, in its own words, and why the page shows what it shows all the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sustain.debias import CalibrationCard
from sustain.debias.card.text import weak_points
from sustain.report.methods import method_style
from sustain.report.words import MINUS
from sustain.trials.results import TrialResult

__all__ = ["Doubt", "card_doubts", "plain_words"]


class Doubt(NamedTuple):
    """One warning of a card.

    Attributes
    ----------
    subject : str
        What it is about, as the card calls it.
    short : str
        The point of it, for a list.
    said : str
        The card's words.
    here : str
        What is done about it here, or why it is not heeded.
    """

    subject: str
    short: str
    said: str
    here: str


# A verdict with these words is a warning; the others report that nothing was found, or only measure.
_WARNINGS = (
    ("linearity", "is curved", "one slope does not serve all levels of wealth"),
    ("strata", "calibrate within strata", "kinds of places (strata) have slopes of their own"),
    ("level and scale", "recalibrate", "predictions are off in level or scale"),
    ("residuals", "", "predictions scatter otherwise than Tweedie's correction supposes"),
    ("in sample", "held-out rows only", "the model may have trained on the calibration sample"),
)
# Names of this package's functions in the words of cards, for readers who know none of them.
_PLAIN = (
    (
        "TweedieCalibration(heteroskedastic=False) and the published estimator assume that it does not",
        "Tweedie's correction with one variance, as published, assumes that it does not",
    ),
    ("E[prediction | truth]", "the mean prediction at a given truth"),
)


def card_doubts(
    card: CalibrationCard, trials: Sequence[TrialResult] = (), map_method: str = ""
) -> tuple[Doubt, ...]:
    """Collect a card's warnings, what is weak about it first.

    Parameters
    ----------
    card : CalibrationCard
    trials : sequence of TrialResult
        Those shown; the methods they report decide what is said of a warning.
    map_method : str
        The correction of the map's cells; empty where there is no map.
    """
    said = {str(subject): str(text) for subject, text in (card.diagnostics.get("verdicts") or {}).items()}
    weak = weak_points(card)
    reported = {trial.reported for trial in trials}
    doubts = [
        Doubt(
            subject,
            f"weak ({subject})",
            plain_words(text),
            "Nothing on this page makes up for it: read every corrected number as a first guess.",
        )
        for subject, text in weak.items()
    ]
    doubts += [
        Doubt(subject, short, plain_words(said[subject]), _here(subject, reported, map_method, card))
        for subject, words, short in _WARNINGS
        if subject in said and subject not in weak and words in said[subject]
    ]
    return tuple(doubts)


def plain_words(text: str) -> str:
    """Return a card's words as a sentence, without names of functions."""
    for ours, plain in _PLAIN:
        text = text.replace(ours, plain)
    text = re.sub(r"(?<![\w.])-(?=[\d.])|(?<=\de)-(?=\d)", MINUS, text)
    return text[:1].upper() + text[1:]


def _here(subject: str, reported: set[str], map_method: str, card: CalibrationCard) -> str:
    if subject == "linearity":
        heeded = ""
        if "response" in reported:
            heeded = "The reported effects follow the curve, so this is heeded."
        if "linear" in reported:
            because = "the card holds no curve" if card.response is None else "the parameters ask for it"
            heeded = f"Effects are divided by one slope all the same, because {because}."
        straight = (
            "The map's cells are corrected by one line all the same: the parameters ask for it, because a line keeps "
            "the order of places."
            if map_method == "linear"
            else ""
        )
        return (
            " ".join(filter(None, (heeded, straight))) or "Linear corrections are shown for comparison only."
        )
    if subject == "strata":
        return (
            "All strata are corrected alike all the same, because trials and maps are described without strata. For a "
            "trial within one stratum use that stratum's own slope."
        )
    if subject == "level and scale":
        naive = "none" in reported
        return (
            "The uncorrected map is reported all the same where a trial's assumption asks for it, without this "
            "rescaling; corrections set level and scale themselves."
            if naive
            else "Corrections set level and scale themselves; only the uncorrected map is off."
        )
    if subject == "residuals":
        shown = [method_style(method).name for method in sorted(reported - {"none", "tweedie"})]
        if "tweedie" in reported:
            return "Tweedie's correction is reported all the same, because the parameters ask for it."
        by = f" What is reported ({', '.join(shown)}) does not rest on it." if shown else ""
        return f"Tweedie's correction is shown for comparison only.{by}"
    return "Nothing on this page makes up for it: intervals of corrected effects are likely too short."
