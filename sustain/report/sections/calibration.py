"""The sections on errors and corrections: what the calibration sample shows, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sustain.debias import CalibrationCard
from sustain.debias.card.schema import SpatialErrors
from sustain.debias.judge.agreement import bias_by_tenth
from sustain.debias.judge.evaluation import evaluate_card
from sustain.debias.sample import MIN_PAIRS
from sustain.report import figures
from sustain.report.blocks import Cell, Figure, Fold, Note, Row, Section, Table
from sustain.report.doubts import Doubt, plain_words
from sustain.report.findings import Accuracy, Survey
from sustain.report.methods import method_style
from sustain.report.rasters import MapView
from sustain.report.sections.response import response_figure, slopes_table
from sustain.report.words import count, interval, listing, number, percent, plural, signed

__all__ = ["correction_section", "errors_section"]

# Fewer sites than this in a drawn cell of a confidential survey could be somebody's.
_CONFIDENTIAL = 5
# Fewer sites than this make no tenths worth drawing.
_TENTHS = 50
# More models than this are compared in a section of their own.
_MANY = 6


def errors_section(
    survey: Survey | None,
    card: CalibrationCard,
    diagnosis: Mapping[str, Any] | None,
    doubts: Sequence[Doubt],
    *,
    unit: str,
    confidential: bool,
) -> Section:
    """Build prediction against truth and what the card warns of; fold the rest of what is known of the errors."""
    figures, more = [], []
    tables = [_slopes(card)]
    if survey is not None:
        least = _CONFIDENTIAL if confidential else 1
        if len(survey.calibration) > 1:
            figures.append(_prediction_truth(survey.calibration, card, unit, least))
        held_out = len(survey.test) >= _TENTHS
        sites = survey.test if held_out else survey.calibration
        if len(sites) >= _TENTHS:
            who = "that the calibration never saw" if held_out else "of the calibration"
            more.append(_deciles(sites, card, unit, who))
        if survey.accuracy:
            tables.append(_accuracy(survey.accuracy, unit))
    near = () if card.spatial_errors is None else (_neighbours(card.spatial_errors),)
    said = (diagnosis or card.diagnostics).get("verdicts") or {}
    names = sorted(said, key=lambda name: (name != "shrinkage", name))
    folds = (
        Fold("errors-tenths", "Who is misjudged, and how far errors reach", (*more, *near)),
        Fold("errors-tables", "Slopes within kinds of places, and other models", tables=tuple(tables)),
        Fold(
            "errors-diagnosis",
            "The whole diagnosis, as the card has it",
            notes=tuple(Note(name.capitalize(), (plain_words(str(said[name])),)) for name in names),
        ),
    )
    intro = (
        "A model that is trained to keep its errors small predicts towards the middle: the poor come out too rich and "
        "the rich too poor. The calibration sample measures by how much."
    )
    warned = tuple(Note(f"The card warns: {d.subject}", (d.said, d.here)) for d in doubts)
    return Section(
        "errors",
        "How the predictions err",
        intro,
        tuple(figures),
        aside=warned,
        folds=tuple(fold for fold in folds if not fold.empty),
    )


def correction_section(
    curves: pd.DataFrame, card: CalibrationCard, view: MapView | None, test: pd.DataFrame | None, *, unit: str
) -> Section:
    """Build the calibration curves over the support, and a table of the corrections at sites that no stage used."""
    curves = curves[curves["method"] != "none"]
    low, high = card.support
    names = listing([method_style(str(m)).label for m in dict.fromkeys(curves["method"])])
    width = curves["hi"] - curves["lo"]
    widest = width[curves["x"].between(low, high)].groupby(curves["method"], sort=False).max()
    svg = figures.calibration_curves(
        curves,
        (low, high),
        map_values=None if view is None else view.raw.ravel(),
        unit=unit,
        alt=f"Corrected wealth against prediction for {names}, with bands, from {interval(low, high)}.",
    )
    caption = (
        f"Each curve takes a prediction x to corrected wealth h(x). Open ground: {interval(low, high)} "
        f"{unit}, where the calibration sample lies; shaded: extrapolation. Bands are the calibration's "
        f"own uncertainty, within the support at most {_by_method(widest)} wide."
    )
    for method, rows in curves[curves["x"].between(low, high)].groupby("method", sort=False):
        flat = float(np.mean(np.diff(rows["h"]) < 0.05 * np.diff(rows["x"])))
        if flat > 0.02:
            caption += (
                f" {method_style(str(method)).label} is flat over {percent(flat)} of that range: there it "
                "no longer tells places apart."
            )
    if view is not None:
        caption += " The hill along the bottom is the map's predictions."
    intro = (
        "A correction is steeper than the dotted line of no correction wherever predictions are shrunken. "
        "It is meant for differences between groups, not for guessing a single place."
    )
    blocks = [Figure.single("calibration", "How cells are corrected", svg, caption)]
    tables = () if test is None or len(test) < MIN_PAIRS else (_check(test, card, unit),)
    if card.response is not None:
        blocks.insert(0, response_figure(card, unit))
        tables = (*tables, slopes_table(card, unit))
    fold = Fold(
        "correction-tables", "How corrections do at other sites, and slopes to divide by", tables=tables
    )
    return Section("correction", "The correction", intro, tuple(blocks), folds=() if fold.empty else (fold,))


def _prediction_truth(sites: pd.DataFrame, card: CalibrationCard, unit: str, least: int) -> Figure:
    forward, backward = card.prediction_on_truth, card.truth_on_prediction
    svg = figures.prediction_against_truth(
        sites["y_true"],
        sites["y_pred"],
        slope=forward.slope,
        intercept=forward.intercept,
        reverse_slope=backward.slope,
        reverse_intercept=backward.intercept,
        unit=unit,
        min_count=least,
        alt=f"{len(sites)} calibration sites by survey wealth and prediction. Prediction rises by "
        f"{forward.slope:.2f} a unit of truth, truth by {backward.slope:.2f} a unit of prediction.",
    )
    low, high = backward.interval()
    honest = (
        "its interval contains one: no sign that the map is off in scale"
        if low <= 1 <= high
        else f"95% interval {interval(low, high)}; a slope of one would mean a map that is right in scale"
    )
    caption = (
        f"{plural(len(sites), 'calibration site')}, predicted out of sample. The two regression lines "
        "answer different questions. Solid: among places of a given wealth, the mean prediction moves by "
        f"{number(forward.slope)} a unit; this is the shrinkage that trial effects suffer. Dashed: among "
        f"places with a given prediction, mean wealth moves by {number(backward.slope)} a unit ({honest})."
    )
    if card.target_noise_var > 0:
        caption += " The solid line allows for the sampling error of the survey and is steeper for it."
    if least > 1:
        caption += f" Cells with fewer than {least} sites are left out, because the survey is confidential."
    return Figure.single("prediction-truth", "Prediction against truth", svg, caption)


def _deciles(sites: pd.DataFrame, card: CalibrationCard, unit: str, who: str) -> Figure:
    pred = sites["y_pred"].to_numpy(float)
    estimates = {method: card.transform(pred, method=method, check_support=False) for method in card.methods}
    table = bias_by_tenth(sites["y_true"], estimates)
    raw = table.loc[table["method"] == "none", "bias"].to_numpy()
    low, high = signed(float(raw[0])), signed(float(raw[-1]))
    worst = table["bias"].abs().groupby(table["method"], sort=False).max()
    svg = figures.decile_bias(
        table,
        unit=unit,
        alt=f"Mean error by tenth of survey wealth. Naive: {low} for the poorest tenth, {high} for the richest.",
    )
    caption = (
        f"Mean error by tenth of survey wealth, at {plural(len(sites), 'site')} {who}; bars are 95% "
        f"intervals. The map as it is errs by {low} in the poorest tenth and {high} in the richest. "
        f"Largest mean error of a tenth: {_by_method(worst)}. Part of what remains is the survey's own "
        "error: a tenth chosen by a noisy survey holds sites that were surveyed too low or too high by "
        "chance."
    )
    return Figure.single("deciles", "Who is misjudged", svg, caption)


def _neighbours(errors: SpatialErrors) -> Figure:
    noise = errors.prediction_given_truth
    distance = np.array(noise.distance_km)
    near, far = (float(v) for v in np.geomspace(distance[0], distance[-1], 4)[:2])
    alike = [f"{number(float(noise(km)))} at {km:.2g} km" for km in (near, far)]
    svg = figures.error_correlograms(
        errors, alt=f"Correlation of the errors of two places by their distance: {alike[0]}, {alike[1]}."
    )
    caption = (
        "Pairs of calibration sites, by distance, and the curves that the card keeps. The error of a prediction "
        f"correlates with that of another place by {alike[0]} and {alike[1]}. What neighbours share does not average "
        "out over a district: the intervals of means of areas allow for it."
    )
    if (whole := errors.truth_given_prediction.countries) is not None:
        caption += (
            f" The errors are those about the mean of their country; the mean errors of {whole.n} countries differ by "
            f"{number(whole.sd)} (standard deviation, truth given prediction), which these intervals hold as well."
        )
    return Figure.single("neighbours", "How far errors are alike", svg, caption)


def _by_method(values: pd.Series[float]) -> str:
    return listing(
        [f"{number(value)} ({method_style(str(method)).name})" for method, value in values.items()]
    )


def _check(test: pd.DataFrame, card: CalibrationCard, unit: str) -> Table:
    scores = evaluate_card(card, test["y_pred"], test["y_true"])
    rows = tuple(
        Row(
            Cell(method_style(method).label, method),
            (number(score["slope"]), number(score["rmse"]), signed(score["bias"])),
        )
        for method, score in scores.items()
    )
    return Table(
        "check",
        "The corrections at sites that the calibration never saw",
        ("Method", "Slope", "RMSE", "Mean error"),
        (("", rows),),
        f"{count(len(test))} test sites, in {unit}. A correction should bring the slope to one, so that "
        f"differences between groups come out in full; {_reached(scores)}. The price is a larger error at "
        "single places.",
    )


def _reached(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Say which corrections bring the slope at least halfway to one."""
    gap = abs(scores["none"]["slope"] - 1)
    near = {
        method: abs(score["slope"] - 1) <= gap / 2 for method, score in scores.items() if method != "none"
    }
    parts = []
    for kept, verb in ((True, "does"), (False, "does not")):
        names = [
            f"{method_style(m).name} ({number(scores[m]['slope'])})"
            for m, good in near.items()
            if good is kept
        ]
        if names:
            parts.append(f"{listing(names)} {verb if len(names) == 1 else verb.replace('does', 'do')}")
    return ", ".join(parts)


def _accuracy(accuracy: Sequence[Accuracy], unit: str) -> Table:
    """Build the table of models at held-out sites: of many, the map's, the best other and night lights."""
    if len(accuracy) > _MANY:
        first, *others = accuracy
        kept = {id(max(others, key=lambda a: a.r2)), *(id(a) for a in others if a.lights)}
        accuracy = [first, *(a for a in others if id(a) in kept)]
    rows = tuple(
        Row(Cell(a.label), (number(a.r2), number(a.rmse), number(a.slope), count(a.n)), strong=i == 0)
        for i, a in enumerate(accuracy)
    )
    return Table(
        "accuracy",
        "Accuracy at held-out sites",
        ("Model", "R²", "RMSE", "Slope", "Sites"),
        (("", rows),),
        f"R² is one minus squared error over variance; RMSE in {unit}; slope of prediction on survey wealth.",
    )


def _slopes(card: CalibrationCard) -> Table:
    lines = [("All calibration sites", card.sample.n, card.prediction_on_truth, card.truth_on_prediction)]
    lines += [(f"Within {s.name}", s.n, s.prediction_on_truth, s.truth_on_prediction) for s in card.strata]
    rows = [
        Row(
            Cell(name),
            (number(down.slope), interval(*down.interval()), number(up.slope), count(n)),
            strong=i == 0,
        )
        for i, (name, n, down, up) in enumerate(lines)
    ]
    for level in card.levels:
        bounds = interval(*level.interval())
        rows.append(
            Row(Cell(level.name.capitalize()), (number(level.slope), bounds, "–", count(level.n_units)))
        )
    within = [s.prediction_on_truth.slope for s in card.strata]
    note = "The linear correction on this page uses the first row."
    if within and max(within) < card.slope:
        note += (
            " Within one kind of site the shrinkage is stronger, by up to "
            f"{percent(1 - min(within) / card.slope)}: a trial that takes place within one kind needs that "
            "kind's slope."
        )
    return Table(
        "slopes",
        "The slope depends on where wealth differs",
        ("Sites", "Prediction on truth", "95% interval", "Truth on prediction", "Number"),
        (("", tuple(rows)),),
        note,
    )
