"""The plain-language verdict, in five points: every sentence is built from the numbers, and changes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sustain.causal.result.notes import FEW_UNITS
from sustain.report.doubts import Doubt
from sustain.report.findings import Accuracy
from sustain.report.methods import method_style
from sustain.report.words import interval, listing, number, percent, plural
from sustain.trials.family import StabilityGaps
from sustain.trials.results import MethodEstimate, TrialResult, method_scores

__all__ = [
    "FAMILY",
    "Verdict",
    "accuracy_sentence",
    "effects_sentence",
    "few_units",
    "reported_sentence",
    "shrinkage_sentence",
    "verdict",
]

# From this many contrasts of one kind on, they are judged together instead of one by one.
FAMILY = 8
# Below this relative difference an estimate is called close; it is a choice of words only.
_CLOSE = 0.05


@dataclass(frozen=True)
class Verdict:
    """What the page says first: one lead, then one point a matter (heading, sentences)."""

    lead: str
    points: tuple[tuple[str, str], ...]


def verdict(
    trials: Sequence[TrialResult],
    accuracy: Sequence[Accuracy],
    slope: float,
    slope_interval: tuple[float, float],
    *,
    unit: str,
    truth_name: str = "truth",
    held_out: str = "in places that training never saw",
    gaps: StabilityGaps | None = None,
    doubts: Sequence[Doubt] = (),
) -> Verdict:
    """Say what was found, in five points at most.

    Parameters
    ----------
    trials : sequence of TrialResult
    accuracy : sequence of Accuracy
        Models at held-out sites, the map's model first; may be empty.
    slope, slope_interval : float, tuple of float
        Slope of prediction on truth with its 95% interval.
    unit : str
        Unit of wealth.
    truth_name : str
        What the estimates are held against ("truth", or a survey).
    held_out : str
        In what sense the sites behind `accuracy` are held out.
    gaps : StabilityGaps, optional
        How far a family of contrasts is from each assumption.
    doubts : sequence of Doubt
        What the card warns of.
    """
    points = []
    if trials and len(trials) < FAMILY:
        points.append(("The effects", effects_sentence(trials, unit, truth_name)))
    elif gaps is not None:
        points.append(("Why", _gaps_sentence(gaps, unit)))
    points.append(("What decides", _assumption_sentence(trials)))
    said = [accuracy_sentence(accuracy, held_out)] if accuracy else []
    points.append(("The map", " ".join([*said, shrinkage_sentence(slope, slope_interval)])))
    if doubts:
        points.append(("Its card warns", _doubts_sentence(doubts)))
    return Verdict(lead=_lead(trials, truth_name), points=tuple(points))


def effects_sentence(trials: Sequence[TrialResult], unit: str, truth_name: str) -> str:
    """Give every trial's reported effect with its interval, the truth where it is known, and an arm that is small."""
    parts = []
    for trial in trials:
        e = trial.headline
        text = f"{trial.title}: {number(e.estimate)} ({interval(e.conf_low, e.conf_high)}"
        text += ")" if trial.truth is None else f"; {truth_name} {number(trial.truth)})"
        parts.append(text + (f", with only {few}" if (few := few_units(trial)) else ""))
    return f"In {unit}, with {percent(trials[0].headline.level)} intervals. {'; '.join(parts)}."


def few_units(trial: TrialResult) -> str:
    """Name the smaller arm, such as ``3 treated units``, where it is too small for an interval to be relied on."""
    fewest, name = min((trial.n_treated, "treated"), (trial.n_control, "control"))
    return plural(fewest, f"{name} unit") if fewest < FEW_UNITS else ""


def accuracy_sentence(accuracy: Sequence[Accuracy], held_out: str) -> str:
    """Compare the map's model with the others at held-out sites."""
    first, *others = accuracy
    text = (
        f"At {plural(first.n, 'survey site')} {held_out}, the map's model explains {percent(first.r2)} of "
        "the differences in wealth"
    )
    lights = next((a for a in others if a.lights), None)
    if lights is not None and lights.r2 >= first.r2:
        return f"{text}, no more than night lights alone ({percent(lights.r2)}): the images add nothing here."
    if lights is not None:
        text += f"; night lights alone explain {percent(max(lights.r2, 0.0))}"
    best = max(others, key=lambda a: a.r2, default=first)
    if best.r2 >= first.r2 and best is not first:
        text += f". Another model does no worse ({best.label}: {percent(best.r2)})"
    return f"{text}."


def shrinkage_sentence(slope: float, bounds: tuple[float, float]) -> str:
    """Say what becomes of a difference in wealth of one unit."""
    low, high = bounds
    seen = (
        f"A difference of one unit in wealth appears on the map as {number(slope)} units (95% interval "
        f"{interval(low, high)})"
    )
    if high < 1:
        return (
            f"{seen}: the map understates differences by {percent(1 - slope)}, and the linear correction "
            f"multiplies them by {number(1 / slope)}."
        )
    if low > 1:
        return f"{seen}: the map overstates differences by {percent(slope - 1)}."
    return f"{seen}: no shrinkage can be told from chance."


def reported_sentence(trial: TrialResult, unit: str, truth_name: str = "truth") -> str:
    """Say which method a trial reports and why, what it gives, and how that compares with the truth."""
    chosen = trial.headline
    because = (
        "the image shows this contrast by itself (outcome stability)"
        if trial.assumption == "outcome"
        else "the effect reaches the image only through wealth (measurement stability)"
    )
    text = (
        f"Reported: {_phrase(chosen.method)}, because {because}. It gives {number(chosen.estimate)} {unit} "
        f"({percent(chosen.level)} interval {interval(chosen.conf_low, chosen.conf_high)})"
    )
    if trial.truth is None:
        return f"{text}."
    holds = "contains" if chosen.covers(trial.truth) else "misses"
    return f"{text}: {_distance(chosen, trial.truth, truth_name)}, which the interval {holds}."


def _lead(trials: Sequence[TrialResult], truth_name: str) -> str:
    known = [t for t in trials if t.truth is not None]
    if not known:
        return _lead_without_truth(trials)
    if len(known) >= FAMILY:
        return _lead_of_family(known, truth_name)
    n = len(known)
    hits = sum(t.headline.covers(float(t.truth or 0)) for t in known)
    if hits == n:
        where = {1: "the one trial", 2: "both trials"}.get(n, f"all {n} trials")
        text = f"In {where} the reported interval contains the true effect."
    else:
        missed = _quoted([t.title for t in known if not t.headline.covers(float(t.truth or 0))])
        text = f"The reported interval contains the true effect in {hits} of {n} trials; it misses it in: {missed}."
    scores = {s.method: s for s in method_scores(known)}
    if "none" in scores and len(scores) > 1:
        naive = scores.pop("none")
        missed_by = {s.n - s.covered for s in scores.values()}
        others = listing([f"{_none(s.n - s.covered)} ({_label(s.method)})" for s in scores.values()])
        if len(missed_by) == 1 and len(scores) > 1:
            others = f"{_none(*missed_by)} would have, whichever the method"
        text += (
            f" Had all been left uncorrected, {_none(naive.n - naive.covered)} of {n} would have missed it; had all "
            f"been corrected, {others}."
        )
    return text


def _lead_without_truth(trials: Sequence[TrialResult]) -> str:
    if not trials:
        return "There is no trial yet: below is what the map and its card have for the first one."
    gaps = [
        max(abs(e.estimate - t.naive.estimate) for e in t.corrected)
        for t in trials
        if t.naive is not None and t.corrected
    ]
    if not gaps:
        return "No truth is known for these trials, and no two methods can be compared."
    return (
        f"No truth is known here. Naive and corrected effects differ by up to {number(max(gaps))}; which "
        "of them holds is decided by the assumption that each trial names, not by the data."
    )


def _lead_of_family(trials: Sequence[TrialResult], truth_name: str) -> str:
    scores = sorted(method_scores(trials), key=lambda s: s.mean_abs_error)
    best, others = scores[0], scores[1:]
    text = (
        f"Over {len(trials)} contrasts, {_phrase(best.method)} comes closest to the {truth_name}: its mean absolute "
        f"error is {number(best.mean_abs_error, 3)}"
    )
    if others:
        text += f", that of the others {_range([number(s.mean_abs_error, 3) for s in others])}"
    over = [s for s in others if s.method != "none" and s.ratio > 1 + _CLOSE]
    if best.method == "none" and over:
        return (
            f"{text}. These contrasts need no correction: the image shows by itself which places differ, and "
            f"corrections overshoot by {_range([percent(s.ratio - 1) for s in sorted(over, key=lambda s: s.ratio)])}."
        )
    if best.method != "none":
        return f"{text}. Here the map as it is would mislead: the correction is needed."
    return f"{text}."


def _range(texts: Sequence[str]) -> str:
    """Name the ends of a sorted list of numbers."""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def _gaps_sentence(gaps: StabilityGaps, unit: str) -> str:
    stable = (
        "So the uncorrected map is right about them, and a correction overshoots."
        if gaps.outcome_stable
        else "So the uncorrected map is off, and a correction is due."
    )
    return (
        f"Compared at equal predictions, treated places and others differ in survey wealth by {number(gaps.in_truth)} "
        f"{unit} (median, without sign); at equal wealth their predictions differ by {number(gaps.in_prediction)}, "
        f"which a correction makes {number(gaps.corrected)}. {stable}"
    )


def _assumption_sentence(trials: Sequence[TrialResult]) -> str:
    measured = [t.title for t in trials if t.assumption == "measurement"]
    shown = [t.title for t in trials if t.assumption == "outcome"]
    text = (
        "Correct where a treatment can reach the image only through wealth; leave the map as it is where the image "
        "shows the contrast by itself. The map cannot tell which holds: the design of the trial must."
    )
    if measured and shown and len(trials) < FAMILY:
        text += f" Corrected here: {_quoted(measured)}; left as it is: {_quoted(shown)}."
    elif shown and not measured:
        text += " All contrasts on this page are of the second kind."
    elif measured:
        text += " All trials on this page are of the first kind."
    return text


def _doubts_sentence(doubts: Sequence[Doubt]) -> str:
    text = listing([doubt.short for doubt in doubts])
    return f"{text[:1].upper()}{text[1:]}. “How the predictions err” says what is done about each, or why nothing is."


def _phrase(method: str) -> str:
    kind = "method" if method == "response" else "correction"
    return "the map as it is" if method == "none" else f"the {_label(method)} {kind}"


def _label(method: str) -> str:
    return method_style(method).name


def _distance(e: MethodEstimate, truth: float, name: str) -> str:
    gap, known = e.error(truth), f"the {name}, {number(truth)}"
    if truth == 0:
        return f"{number(abs(gap))} away from {known}"
    share = gap / abs(truth)
    if abs(share) < _CLOSE:
        return f"close to {known}"
    if np.sign(e.estimate) != np.sign(truth):
        return f"of the wrong sign against {known}"
    beyond = abs(e.estimate) > abs(truth)
    return f"{percent(abs(share))} {'too large' if beyond else 'too small'} against {known}"


def _none(value: int) -> str:
    return "none" if value == 0 else str(value)


def _quoted(titles: Sequence[str]) -> str:
    return listing([f"“{title}”" for title in titles])
