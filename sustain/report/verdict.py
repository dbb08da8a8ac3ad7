"""The plain-language verdict: every sentence is built from the numbers, and changes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sustain.report.findings import Accuracy
from sustain.report.methods import method_style
from sustain.report.words import interval, listing, number, percent, plural
from sustain.trials.results import MethodEstimate, TrialResult, method_scores

__all__ = [
    "FAMILY",
    "Verdict",
    "accuracy_sentence",
    "shrinkage_sentence",
    "trial_sentences",
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
) -> Verdict:
    """Say what was found.

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
    """
    points = []
    if accuracy:
        points.append(("The predictions", accuracy_sentence(accuracy, held_out)))
    points.append(("Their shrinkage", shrinkage_sentence(slope, slope_interval)))
    if len(trials) < FAMILY:
        points += [(trial.title, trial_sentences(trial, unit, truth_name)) for trial in trials]
    elif any(trial.truth is not None for trial in trials):
        points.append(("Why", trials[0].why))
    points.append(("What decides", _assumption_sentence(trials)))
    return Verdict(lead=_lead(trials, truth_name), points=tuple(points))


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


def trial_sentences(trial: TrialResult, unit: str, truth_name: str = "truth") -> str:
    """Say what each method makes of one trial, and how that compares with the truth."""
    chosen = trial.headline
    because = (
        "reported because the image shows this contrast by itself"
        if trial.assumption == "outcome"
        else "reported because the effect reaches the image only through wealth"
    )
    parts = []
    if trial.truth is not None:
        parts.append(f"The {truth_name} is {number(trial.truth)} {unit}.")
    parts.append(
        f"{_name(chosen, start=True)}, {because}, gives {_with_interval(chosen)}{_against(trial, chosen)}."
    )
    rest = [e for e in trial.estimates if e is not chosen]
    if trial.truth is None:
        parts += [f"{_name(e, start=True)} would give {_with_interval(e)}." for e in rest]
        return " ".join(parts)
    for e in rest:
        parts.append(
            f"{_name(e, start=True)} gives {number(e.estimate)}, "
            f"{_distance(e, trial.truth)}{_coverage(trial, e)}."
        )
    return " ".join(parts)


def _lead(trials: Sequence[TrialResult], truth_name: str) -> str:
    known = [t for t in trials if t.truth is not None]
    if not known:
        return _lead_without_truth(trials)
    if len(known) >= FAMILY:
        return _lead_of_family(known, truth_name)
    n = len(known)
    hits = sum(t.headline.covers(float(t.truth or 0)) for t in known)
    if hits == n:
        where = f"all {n} trials" if n > 1 else "the one trial"
        text = f"In {where} the reported interval contains the true effect."
    else:
        missed = _quoted([t.title for t in known if not t.headline.covers(float(t.truth or 0))])
        text = f"The reported interval contains the true effect in {hits} of {n} trials; it misses it in: {missed}."
    scores = {s.method: s for s in method_scores(known)}
    if "none" in scores and len(scores) > 1:
        naive = scores.pop("none")
        others = listing([f"{_none(s.n - s.covered)} ({_label(s.method)})" for s in scores.values()])
        text += (
            f" Using the map as it is everywhere would have missed {_none(naive.n - naive.covered)} of "
            f"{n}; correcting everywhere, {others}."
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
    errors = listing([f"{number(s.mean_abs_error, 3)} ({_label(s.method)})" for s in others])
    over = [s for s in others if s.method != "none" and s.ratio > 1 + _CLOSE]
    text = (
        f"Over {len(trials)} contrasts, {_phrase(best.method)} comes closest to the {truth_name}: mean "
        f"absolute error {number(best.mean_abs_error, 3)}, against {errors}."
    )
    if best.method == "none" and over:
        text += (
            " These contrasts need no correction: the image shows by itself which places differ, and the "
            "corrections overshoot by "
            f"{listing([f'{percent(s.ratio - 1)} ({_label(s.method)})' for s in over])}."
        )
    elif best.method != "none":
        text += " Here the map as it is would mislead: the correction is needed."
    return text


def _assumption_sentence(trials: Sequence[TrialResult]) -> str:
    measured = [t.title for t in trials if t.assumption == "measurement"]
    shown = [t.title for t in trials if t.assumption == "outcome"]
    text = (
        "Correct when the treatment can reach the image only through wealth (measurement stability); do "
        "not when the image shows the contrast by itself (outcome stability). The map alone cannot tell "
        "the two apart: the design of the trial must."
    )
    if measured and shown and len(trials) < FAMILY:
        text += f" Here the first is claimed for: {_quoted(measured)}; the second for: {_quoted(shown)}."
    elif shown and not measured:
        text += " All contrasts on this page are of the second kind."
    elif measured:
        text += " All trials on this page are of the first kind."
    return text


def _name(e: MethodEstimate, start: bool = False) -> str:
    text = _phrase(e.method)
    return text[0].upper() + text[1:] if start else text


def _phrase(method: str) -> str:
    kind = "method" if method == "response" else "correction"
    return "the map as it is" if method == "none" else f"the {_label(method)} {kind}"


def _label(method: str) -> str:
    return method_style(method).name


def _with_interval(e: MethodEstimate) -> str:
    return f"{number(e.estimate)} ({percent(e.level)} interval {interval(e.conf_low, e.conf_high)})"


def _against(trial: TrialResult, e: MethodEstimate) -> str:
    if trial.truth is None:
        return ""
    return (
        f", {_distance(e, trial.truth)}; the interval {'contains' if e.covers(trial.truth) else 'misses'} it"
    )


def _coverage(trial: TrialResult, e: MethodEstimate) -> str:
    contains = trial.truth is not None and e.covers(trial.truth)
    return "; its interval still contains the truth" if contains else "; its interval misses the truth"


def _distance(e: MethodEstimate, truth: float) -> str:
    gap = e.error(truth)
    if truth == 0:
        return f"{number(abs(gap))} away from it"
    share = gap / abs(truth)
    if abs(share) < _CLOSE:
        return "close to it"
    if np.sign(e.estimate) != np.sign(truth):
        return "of the wrong sign"
    beyond = abs(e.estimate) > abs(truth)
    return f"{percent(abs(share))} {'too large' if beyond else 'too small'}"


def _none(value: int) -> str:
    return "none" if value == 0 else str(value)


def _quoted(titles: Sequence[str]) -> str:
    return listing([f"“{title}”" for title in titles])
