"""The response curve on the page: the curve, the slopes that follow from it, and trials read back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sustain.debias import CalibrationCard
from sustain.debias.response.model import ResponseModel
from sustain.debias.response.slope import slope_for
from sustain.report import effect_figures
from sustain.report.blocks import Cell, Figure, Row, Table
from sustain.report.words import count, interval, listing, number, percent
from sustain.trials.results import TrialResult

__all__ = ["read_back_table", "response_figure", "slopes_table"]

_SHARES = (-0.5, 0.25, 0.5, 1.0)
"""Effects whose slopes are shown, in standard deviations of the calibration sample's truth."""


def response_figure(card: CalibrationCard, unit: str) -> Figure:
    """Build the curve with its band, the middle of the predictions about it, and the distribution of truth."""
    model = card.response_model
    low, high = model.ends
    bottom, middle, top = _steepness(model)
    svg = effect_figures.response_curve(
        model,
        unit=unit,
        alt=f"Mean prediction by wealth, from {interval(low, high)}: its slope is {number(bottom)} among the poor, "
        f"{number(middle)} in the middle and {number(top)} among the rich.",
    )
    caption = (
        "Mean prediction among places of a given wealth, with its 95% band; about it the middle 80% of predictions, "
        "below the calibration sample's distribution of wealth. The slope of the curve, by which an effect shrinks, is "
        f"{number(bottom)} at the poorest twentieth, {number(middle)} at the median and {number(top)} at the richest "
        "twentieth. Effects are read back through the curve where the trial's own places lie on it."
    )
    return Figure.single("response", "The response curve", svg, caption)


def slopes_table(card: CalibrationCard, unit: str) -> Table:
    """Build the slopes by which whoever has the map alone can divide an effect, by its size and population."""
    model = card.response_model
    effects = [_rounded(share * model.scale) for share in _SHARES]
    rows = []
    for name, population in (("All calibration sites", model.pooled), *model.populations.items()):
        found = [slope_for(model, population, effect) for effect in effects]
        rows.append(
            Row(
                Cell(name if population is model.pooled else f"Within {name}"),
                (*(f"{number(s.value)} ({interval(*s.interval())})" for s in found), count(population.n)),
                strong=population is model.pooled,
            )
        )
    return Table(
        "slopes-for-effects",
        "The slope for an effect of a given size",
        ("Sites", *(number(effect) for effect in effects), "Number"),
        (("", tuple(rows)),),
        f"Slope of prediction on truth, with its 95% interval, for an effect of so many {unit} on every site of a "
        "population. A trial's own slope, which its predictions unfold to, is the better divisor.",
        wide=True,
    )


def read_back_table(trials: Sequence[TrialResult], unit: str, id: str = "read-back") -> Table | None:
    """Build the table of what was found beside the effects that were read back; None where none was."""
    rows, differing = [], []
    for trial in trials:
        e = trial.by("response")
        if e is None or e.read_back is None:
            continue
        back = e.read_back
        if back.differs:
            differing.append(f"“{trial.title}”")
        rows.append(
            Row(
                Cell(trial.title),
                (
                    number(e.estimate),
                    f"{number(back.alike)} ({interval(back.alike_low, back.alike_high)})",
                    number(back.slope),
                    percent(back.extrapolated),
                ),
                strong=trial.reported == "response",
            )
        )
    if not rows:
        return None
    caption = (
        f"Effects in {unit}, read back through the response curve. Own slope: the effect on predictions over that on "
        "wealth, at the wealth that the trial's predictions unfold to. Extrapolated: share of the treated beyond the "
        "wealth that shaped the curve."
    )
    if differing:
        caption += f" Effects differ between units, as far as their trial can tell, in {listing(differing)}."
    return Table(
        id,
        "Read back through the response curve",
        ("Trial", "Effect", "If everyone gains alike", "Own slope", "Extrapolated"),
        (("", tuple(rows)),),
        caption,
        wide=True,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.1g}")


def _steepness(model: ResponseModel) -> tuple[float, float, float]:
    """Slope of the curve at the 5%, 50% and 95% quantiles of truth."""
    population = model.pooled
    at = np.interp([0.05, 0.5, 0.95], population.shares, population.quantiles)
    slope = np.gradient(model.basis @ population.values, model.truth.x)
    low, middle, high = np.interp(at, model.truth.x, slope)
    return float(low), float(middle), float(high)
