"""The section on effects: a forest for few trials, a scatter and scores for many contrasts; the rest is folded."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sustain.report import effect_figures
from sustain.report.blocks import Cell, Figure, Fold, Note, Row, Section, Table
from sustain.report.doubts import plain_words
from sustain.report.findings import Published
from sustain.report.methods import method_style, methods_said
from sustain.report.sections.distribution import distribution_figure, distribution_table, headcounts_table
from sustain.report.sections.response import read_back_table
from sustain.report.verdict import FAMILY, few_units, reported_sentence
from sustain.report.words import count, interval, listing, number, percent, plural, signed
from sustain.trials.family import median_gaps
from sustain.trials.results import MethodEstimate, MethodScore, TrialResult, method_scores

__all__ = ["effects_section"]

_EVERY = "Every trial"


def effects_section(
    trials: Sequence[TrialResult], published: Published, *, unit: str, truth_name: str
) -> Section:
    """Build the forest plot and the table of effects; many contrasts of known truth become a scatter instead.

    `published` adds what contrasts read off the map alone give, and which assumption they fulfil.
    """
    known = [t for t in trials if t.truth is not None]
    if len(known) >= FAMILY:
        return _family_section(known, published, unit=unit, truth_name=truth_name)
    intro = (
        "One map, several readings of each trial. Which of them holds does not follow from the numbers, but from how "
        "the treatment can reach the image."
    )
    both = distribution_figure(trials, unit)
    folds = (
        Fold("effects-numbers", "Every estimate in numbers", tables=(_numbers(trials, unit, truth_name),)),
        Fold(
            "effects-distribution",
            "What the treatments do to the distribution of wealth: headcounts, quantiles, gains",
            () if both is None else (both,),
            _present(distribution_table(trials, unit)),
        ),
        Fold(
            "effects-read-back",
            "How effects were read back through the response curve",
            tables=_present(read_back_table(trials, unit)),
        ),
        Fold("effects-remarks", "Remarks on each estimate", notes=_remarks(trials)),
    )
    return Section(
        "effects",
        "Effects of the trials",
        intro,
        (_forest(trials, unit),),
        aside=tuple(Note(t.title, _trial_notes(t, unit, truth_name)) for t in trials),
        folds=tuple(fold for fold in folds if not fold.empty),
    )


def _present(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table is not None)


def _remarks(trials: Sequence[TrialResult]) -> tuple[Note, ...]:
    """Caveats of the estimates, each once; what a card says of itself has its own place on the page."""
    told: dict[str, list[str]] = {}  # by text, the trials that have it
    for trial in trials:
        said: dict[str, list[str]] = {}
        for e in trial.estimates:
            for note in e.notes:
                if note.kind != "card":
                    said.setdefault(plain_words(note.text), []).append(method_style(e.method).label)
        for text, by in said.items():
            whole = text if len(by) == len(trial.estimates) else f"{listing(by)}: {text}"
            told.setdefault(whole, []).append(trial.title)
        if trial.truth_definition:
            told.setdefault(f"Truth: {trial.truth_definition}", []).append(trial.title)
    notes: dict[str, list[str]] = {_EVERY: []}
    for text, titles in told.items():
        every = len(titles) == len(trials) > 1
        notes.setdefault(_EVERY if every else listing(titles), []).append(text)
    return tuple(Note(title, tuple(texts)) for title, texts in notes.items() if texts)


def _forest(trials: Sequence[TrialResult], unit: str) -> Figure:
    rows = [
        (
            t.title,
            t.truth,
            t.reported,
            few_units(t),
            [(e.method, e.estimate, e.conf_low, e.conf_high) for e in t.estimates],
        )
        for t in trials
    ]
    said = []
    for t in trials:
        estimates = listing([f"{method_style(e.method).name} {number(e.estimate)}" for e in t.estimates])
        said.append(f"{t.title}: {estimates}" + (f", truth {number(t.truth)}" if t.truth is not None else ""))
    svg = effect_figures.effects_forest(rows, unit=unit, alt=f"Effects with intervals. {'; '.join(said)}.")
    caption = (
        f"Estimates with {percent(trials[0].headline.level)} intervals that carry the calibration's "
        "uncertainty. Thick and bold: the reported method, to which the trial's own assumption leads. "
        f"{methods_said(e.method for t in trials for e in t.estimates)}"
    )
    if any(t.truth is not None for t in trials):
        caption += " Dashed: the truth, which nothing before this page has seen."
    return Figure.single("effects-forest", "Effects by trial and method", svg, caption)


def _numbers(trials: Sequence[TrialResult], unit: str, truth_name: str) -> Table:
    known = any(t.truth is not None for t in trials)
    columns: tuple[str, ...] = ("Method", "Effect", f"{percent(trials[0].headline.level)} interval")
    note = f"Effects on wealth in {unit}. Bold: reported."
    if known:
        columns += ("Error", "Holds truth")
        note += f" Error: estimate minus {truth_name}."
    groups = tuple(
        (_group_title(t, truth_name), tuple(_effect_row(t, e, known) for e in t.estimates)) for t in trials
    )
    return Table("effects-table", "Effects in numbers", columns, groups, note)


def _family_section(
    trials: Sequence[TrialResult], published: Published, *, unit: str, truth_name: str
) -> Section:
    scores = method_scores(trials)
    points = pd.DataFrame(
        [{"method": e.method, "truth": t.truth, "estimate": e.estimate} for t in trials for e in t.estimates]
    )
    slopes = listing([f"{number(s.ratio)} ({method_style(s.method).name})" for s in scores])
    svg = effect_figures.contrast_scatter(
        points,
        truth_label=f"From the {truth_name}",
        unit=unit,
        alt=f"{len(trials)} contrasts from map and {truth_name}. Slopes through the origin: {slopes}.",
    )
    caption = (
        f"{len(trials)} contrasts, each by every method. On the dotted line map and {truth_name} agree. "
        f"Slopes through the origin: {slopes}; above one, differences come out too large."
    )
    scatter = Figure.single("contrasts", f"Map against {truth_name}", svg, caption)
    places = f"Over {len(trials)} contrasts of survey places, predictions out of sample; "
    folds = [
        Fold(
            "contrasts-why",
            "Why the uncorrected map is reported, and which assumption holds",
            () if published.stability is None else (_stability(published.stability, unit),),
            notes=tuple(Note("Why", (why,)) for why in dict.fromkeys(t.why for t in trials)),
        ),
        Fold("contrasts-all", "Every contrast in numbers", tables=(_every(trials, unit, truth_name),)),
    ]
    read_off = [t for t in published.map_trials if t.truth is not None]
    alone = []
    if read_off:
        within = f"Over the {len(read_off)} contrasts with enough places in the map's own country; "
        alone.append(_scores("map-scores", "Read off the map alone", read_off, within, unit, truth_name))
    folds.append(
        Fold(
            "contrasts-map",
            "The same contrasts read off the map alone, with headcounts",
            tables=(
                *alone,
                *_present(
                    read_back_table(published.map_trials, unit), headcounts_table(published.map_trials, unit)
                ),
            ),
        )
    )
    intro = f"Each of the {len(trials)} contrasts asks: {trials[0].question}"
    if all(t.assumption == "outcome" for t in trials):
        intro += " These are contrasts, not effects: nobody drew by lot which places are treated."
    return Section(
        "effects",
        "Contrasts from the map",
        intro,
        (scatter,),
        (_scores("contrast-scores", "How far off on average", trials, places, unit, truth_name),),
        folds=tuple(fold for fold in folds if not fold.empty),
    )


def _stability(gaps: pd.DataFrame, unit: str) -> Figure:
    median = median_gaps(gaps)
    svg = effect_figures.stability_scatter(
        gaps,
        unit=unit,
        alt=f"{len(gaps)} contrasts. Median gap in wealth at equal predictions {number(median.in_truth)}, in "
        f"predictions at equal wealth {number(median.in_prediction)}.",
    )
    nearer = (
        "upright line: the uncorrected map is right"
        if median.outcome_stable
        else "level line: a correction is right"
    )
    caption = (
        "What is left of each contrast: sideways, the difference in wealth between treated places and "
        f"others of the same prediction (median {number(median.in_truth)}, without sign); upwards, the difference "
        f"in predictions between places of the same wealth (median {number(median.in_prediction)}). The contrasts "
        f"lie along the {nearer}. Bars are 95% intervals."
    )
    return Figure.single("stability", "Which assumption holds", svg, caption)


def _scores(
    id: str, title: str, trials: Sequence[TrialResult], places: str, unit: str, truth_name: str
) -> Table:
    scores = method_scores(trials)
    best = min(scores, key=lambda s: s.mean_abs_error)
    return Table(
        id,
        title,
        ("Method", "Mean absolute error", "Mean error", "Slope", f"Intervals with the {truth_name}"),
        (("", tuple(_score_row(s, s is best) for s in scores)),),
        f"{places}errors in {unit}. Slope: estimate on {truth_name}, through the origin. Bold: the least "
        "error.",
    )


def _every(trials: Sequence[TrialResult], unit: str, truth_name: str) -> Table:
    methods = list(dict.fromkeys(e.method for t in trials for e in t.estimates))
    rows = tuple(
        Row(
            Cell(t.title),
            (number(t.truth), *(_value(t, m) for m in methods), count(t.n_treated), count(t.n_control)),
        )
        for t in trials
    )
    return Table(
        "contrasts-table",
        "Every contrast",
        ("Contrast", truth_name.capitalize(), *(method_style(m).label for m in methods), "Treated", "Rest"),
        (("", rows),),
        f"Differences in mean wealth between treated places and the rest, in {unit}.",
        wide=True,
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


def _effect_row(trial: TrialResult, e: MethodEstimate, known: bool) -> Row:
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
    text = trial.title if trial.truth is None else f"{trial.title} ({truth_name} {number(trial.truth)})"
    return f"{text}, with only {few}" if (few := few_units(trial)) else text


def _trial_notes(trial: TrialResult, unit: str, truth_name: str) -> tuple[str, ...]:
    grave = [plain_words(note.text) for note in trial.headline.notes if note.grave]
    if (few := few_units(trial)) and not any(note.kind == "few_units" for note in trial.headline.notes):
        grave.insert(0, f"Only {few}: the interval is likely too short.")
    return (
        f"{trial.question} {plural(trial.n_treated, 'treated unit')}, {plural(trial.n_control, 'other')}.",
        reported_sentence(trial, unit, truth_name),
        *grave,
        f"Why: {trial.why}",
    )


def _value(trial: TrialResult, method: str) -> str:
    found = trial.by(method)
    return "–" if found is None else number(found.estimate)
