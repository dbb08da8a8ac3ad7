"""The section on effects: a forest and a table for few trials, a scatter and scores for many contrasts."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sustain.report import figures
from sustain.report.blocks import Cell, Figure, Panel, Row, Section, Table
from sustain.report.gather import Estimate, TrialResult
from sustain.report.style import method_style
from sustain.report.verdict import FAMILY, MethodScore, method_scores
from sustain.report.words import count, interval, listing, number, percent, signed

__all__ = ["effects_section"]


def effects_section(trials: Sequence[TrialResult], *, unit: str, truth_name: str) -> Section:
    """Build the forest plot and the table of effects; many contrasts of one kind become a scatter instead."""
    if len(trials) >= FAMILY:
        return _family_section(trials, unit=unit, truth_name=truth_name)
    known = any(t.truth is not None for t in trials)
    level = percent(trials[0].headline.level)
    forest = Figure(
        id="effects-forest",
        title="Effects by trial and method",
        panels=(
            Panel(
                figures.effects_forest(
                    [
                        (
                            t.title,
                            t.truth,
                            t.reported,
                            [(e.method, e.estimate, e.conf_low, e.conf_high) for e in t.estimates],
                        )
                        for t in trials
                    ],
                    unit=unit,
                    alt="; ".join(
                        f"{t.title}: "
                        + listing([f"{method_style(e.method).label} {e.estimate:.2f}" for e in t.estimates])
                        + (f", truth {t.truth:.2f}" if t.truth is not None else "")
                        for t in trials
                    ),
                )
            ),
        ),
        caption=(
            f"Estimates with {level} intervals that carry the calibration's uncertainty. Thick and bold: "
            "the method that the trial's own assumption leads to. "
            + ("The dashed line is the truth, which only this page may look at." if known else "")
        ),
    )
    columns = ("Method", "Effect", f"{level} interval") + (("Error", "Holds truth") if known else ())
    groups = tuple(
        (_group_title(t, truth_name), tuple(_effect_row(t, e, known) for e in t.estimates)) for t in trials
    )
    table = Table(
        "effects-table",
        "Effects in numbers",
        columns,
        groups,
        f"Effects on wealth in {unit}. Bold: reported."
        + (f" Error: estimate minus {truth_name}." if known else ""),
    )
    notes = tuple((t.title, _trial_notes(t)) for t in trials)
    intro = (
        "The same map, the same trials, three readings. Which reading is right does not follow from the "
        "numbers but from how the treatment can reach the image."
    )
    return Section("effects", "Effects of the trials", intro, (forest,), (table,), notes)


def _family_section(trials: Sequence[TrialResult], *, unit: str, truth_name: str) -> Section:
    known = [t for t in trials if t.truth is not None]
    points = pd.DataFrame(
        [{"method": e.method, "truth": t.truth, "estimate": e.estimate} for t in known for e in t.estimates]
    )
    scores = method_scores(known)
    scatter = Figure(
        id="contrasts",
        title=f"Map against {truth_name}",
        panels=(
            Panel(
                figures.contrast_scatter(
                    points,
                    truth_label=f"From the {truth_name}",
                    unit=unit,
                    alt=f"{len(known)} contrasts. "
                    + listing([f"{method_style(s.method).label}: slope {s.ratio:.2f}" for s in scores]),
                )
            ),
        ),
        caption=(
            f"Each of {len(known)} contrasts three times. On the dotted line map and {truth_name} agree. "
            + listing(
                [f"{method_style(s.method).label} follows a line of slope {number(s.ratio)}" for s in scores]
            )
            + "."
        ),
    )
    best = min(scores, key=lambda s: s.mean_abs_error)
    table = Table(
        "contrast-scores",
        "How far off on average",
        ("Method", "Mean absolute error", "Mean error", "Slope", f"Intervals with the {truth_name}"),
        (("", tuple(_score_row(s, s is best) for s in scores)),),
        f"Over {len(known)} contrasts; errors in {unit}. Slope: estimate on {truth_name}, through the "
        "origin. Bold: the least error.",
    )
    methods = list(dict.fromkeys(e.method for t in trials for e in t.estimates))
    detail = Table(
        "contrasts-table",
        "Every contrast",
        ("Contrast", "Treated", "Rest", truth_name.capitalize(), *(method_style(m).label for m in methods)),
        (
            (
                "",
                tuple(
                    Row(
                        Cell(t.title),
                        (
                            count(t.n_treated),
                            count(t.n_control),
                            number(t.truth),
                            *(_value(t, m) for m in methods),
                        ),
                    )
                    for t in trials
                ),
            ),
        ),
        f"Differences in mean wealth between treated places and the rest, in {unit}.",
        wide=True,
    )
    return Section(
        "effects",
        "Contrasts from the map",
        trials[0].why,
        (scatter,),
        (table, detail),
    )


def _score_row(score: MethodScore, strong: bool) -> Row:
    return Row(
        Cell(method_style(score.method).label, score.method),
        (
            number(score.mean_abs_error, 3),
            signed(score.mean_error, 3),
            number(score.ratio),
            f"{score.covered} of {score.n}",
        ),
        strong,
    )


def _effect_row(trial: TrialResult, e: Estimate, known: bool) -> Row:
    against: tuple[str, ...] = ()
    if known:
        against = (
            ("–", "–")
            if trial.truth is None
            else (signed(e.error(trial.truth)), "yes" if e.covers(trial.truth) else "no")
        )
    return Row(
        Cell(method_style(e.method).label, e.method),
        (number(e.estimate), interval(e.conf_low, e.conf_high), *against),
        strong=e.method == trial.reported,
    )


def _group_title(trial: TrialResult, truth_name: str) -> str:
    return trial.title if trial.truth is None else f"{trial.title} ({truth_name} {number(trial.truth)})"


def _trial_notes(trial: TrialResult) -> tuple[str, ...]:
    stability = {
        "measurement": "Measurement stability: correct.",
        "outcome": "Outcome stability: do not correct.",
    }
    texts = [
        trial.question,
        f"{stability.get(trial.assumption, trial.assumption)} {trial.why}",
        f"{count(trial.n_treated)} treated units, {count(trial.n_control)} others.",
    ]
    if trial.truth_definition:
        texts.append(f"Truth: {trial.truth_definition}")
    return tuple(texts)


def _value(trial: TrialResult, method: str) -> str:
    found = trial.by(method)
    return "–" if found is None else number(found.estimate)
