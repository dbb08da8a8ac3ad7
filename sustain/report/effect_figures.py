"""The figures of effects: a forest for few trials, a scatter for many contrasts, the response curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.lines import Line2D

from sustain.debias.response.figure import draw_response
from sustain.debias.response.model import ResponseModel
from sustain.report.methods import MUTED, method_style
from sustain.report.style import INK, PAPER, canvas, method_handle, padded, to_svg

__all__ = ["contrast_scatter", "distribution_curves", "effects_forest", "response_curve", "stability_scatter"]

Interval = tuple[str, float, float, float]

# Letters of a title in one line, alone and with the truth beside it.
_ALONE, _BESIDE = 50, 36


def effects_forest(
    trials: Sequence[tuple[str, float | None, str, str, Sequence[Interval]]], *, unit: str, alt: str
) -> Markup:
    """Draw every trial's estimates with intervals on one axis, the truth marked where it is known.

    Parameters
    ----------
    trials : sequence of (title, truth, reported, few, estimates)
        `reported` is the method that the trial's assumption leads to; `few` names an arm of few units, as
        ``3 treated units``, or is empty; an estimate is (method, estimate, low, high).
    unit : str
        Unit of wealth.
    alt : str
        Text alternative.
    """
    titles = [wrap(title, _ALONE if truth is None else _BESIDE) for title, truth, _, _, _ in trials]
    rows = sum(len(e) + len(lines) + bool(few) for lines, (*_, few, e) in zip(titles, trials, strict=True))
    with canvas(70 + 24 * rows) as (figure, axes):
        beside = axes.get_yaxis_transform()
        y = 0.0
        labels: list[tuple[float, str, bool]] = []
        for lines, (_, truth, reported, few, estimates) in zip(titles, trials, strict=True):
            for line in lines:
                axes.text(-0.15, y, line, transform=beside, weight="bold", va="center")
                y -= 0.8
            y += 0.8
            if truth is not None:
                axes.text(1, y, f"truth {truth:.2f}", transform=beside, ha="right", va="center", fontsize=10)
            if few:
                y -= 0.8
                axes.text(-0.15, y, f"only {few}", transform=beside, va="center", fontsize=10)
            top = y - 0.5
            for method, estimate, low, high in estimates:
                y -= 1
                style, kept = method_style(method), method == reported
                axes.plot(
                    [low, high],
                    [y, y],
                    color=style.colour,
                    linewidth=3.2 if kept else 1.4,
                    zorder=3,
                )
                axes.plot(
                    estimate,
                    y,
                    marker=style.marker,
                    color=style.colour,
                    markersize=9 if kept else 6.5,
                    markeredgecolor=PAPER,
                    markeredgewidth=0.8,
                    zorder=4,
                )
                labels.append((y, style.label, kept))
            axes.plot([0, 0], [top, y - 0.5], color=MUTED, linewidth=1)
            if truth is not None:
                axes.plot([truth, truth], [top, y - 0.5], color=INK, linewidth=1.6, dashes=(2, 1), zorder=2)
            y -= 1.15
        axes.set_yticks([place for place, _, _ in labels], [label for _, label, _ in labels])
        for text, (_, _, kept) in zip(axes.get_yticklabels(), labels, strict=True):
            text.set_fontweight("bold" if kept else "normal")
        axes.set_ylim(y + 0.5, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"Effect on wealth, {unit}")
        return to_svg(figure, "forest", alt)


def contrast_scatter(
    table: pd.DataFrame, *, truth_label: str, unit: str, name: str = "contrasts", alt: str
) -> Markup:
    """Draw map contrasts against survey contrasts, one marker a trial and method, with the line of equality.

    Parameters
    ----------
    table : DataFrame
        Columns method, truth, estimate.
    truth_label : str
        What the horizontal axis holds.
    unit : str
        Unit of wealth.
    name : str
        Prefix of identifiers.
    alt : str
        Text alternative.
    """
    limits = padded(np.concatenate([table["truth"].to_numpy(float), table["estimate"].to_numpy(float)]))
    with canvas(350) as (figure, axes):
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.plot(limits, limits, color=MUTED, linewidth=1, dashes=(1, 2))
        methods = list(dict.fromkeys(table["method"]))
        # The naive estimates lie nearest to the line, so they are drawn last.
        for method in reversed(methods):
            rows, style = table[table["method"] == method], method_style(method)
            axes.plot(
                rows["truth"],
                rows["estimate"],
                linestyle="none",
                marker=style.marker,
                color=style.colour,
                markersize=6,
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
            )
        handles = [method_handle(method, line=False) for method in methods]
        handles.append(Line2D([], [], color=MUTED, linewidth=1, dashes=(1, 1.5), label="equal"))
        axes.legend(handles=handles, loc="lower right", borderaxespad=0.2)
        axes.set(xlabel=f"{truth_label}, {unit}", ylabel=f"From the map, {unit}")
        return to_svg(figure, name, alt)


def distribution_curves(
    curves: Mapping[str, Sequence[float]], lines: Sequence[float], *, unit: str, name: str, alt: str
) -> Markup:
    """Draw the share of places below each truth, of treated and controls, with pointwise bands.

    Parameters
    ----------
    curves : mapping
        Of `sustain.trials.distribution.TrialDistribution`.
    lines : sequence of float
        Poverty lines.
    unit : str
        Unit of wealth.
    name : str
        Prefix of identifiers.
    alt : str
        Text alternative.
    """
    colour = method_style("response").colour
    with canvas(290) as (figure, axes):
        for line in lines:
            axes.axvline(line, color=INK, linewidth=1, dashes=(1, 2))
        for arm, ink, dashes in (("control", MUTED, (4, 1.5)), ("treated", colour, (None, None))):
            low, high = (curves[f"{arm}.{end}"] for end in ("low", "high"))
            axes.fill_between(curves["truth"], low, high, color=ink, alpha=0.2, linewidth=0)
            axes.plot(curves["truth"], curves[arm], color=ink, dashes=dashes, label=arm)
        axes.set(ylim=(0, 1), xlabel=f"Wealth, {unit}", ylabel="Share of places below")
        axes.legend(loc="lower right", borderaxespad=0.2)
        return to_svg(figure, name, alt)


def response_curve(model: ResponseModel, *, unit: str, alt: str) -> Markup:
    """Draw mean prediction by truth with its band, the scatter about it, and the distribution of truth.

    Parameters
    ----------
    model : ResponseModel
        Of a card.
    unit : str
        Unit of wealth.
    alt : str
        Text alternative.
    """
    with canvas(320) as (figure, axes):
        draw_response(model, axes)
        axes.set(xlabel=f"Wealth, {unit}", ylabel=f"Predicted wealth, {unit}")
        axes.legend(loc="upper left", borderaxespad=0.2)
        return to_svg(figure, "response", alt)


def stability_scatter(table: pd.DataFrame, *, unit: str, alt: str) -> Markup:
    """Draw, for every contrast, the gap that each assumption says is zero.

    Parameters
    ----------
    table : DataFrame
        From `sustain.trials.contrasts.stability_gaps`.
    unit : str
        Unit of wealth.
    alt : str
        Text alternative.
    """
    x, y = table["truth_gap"].to_numpy(float), table["prediction_gap"].to_numpy(float)
    limits = padded(np.concatenate([x, y, [0.0]]), 0.12)
    with canvas(380) as (figure, axes):
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.axvline(0, color=INK, linewidth=1.2)
        axes.axhline(0, color=INK, linewidth=1.2, dashes=(4, 1.5))
        axes.errorbar(
            x,
            y,
            1.96 * table["prediction_gap_std_error"].to_numpy(float),
            1.96 * table["truth_gap_std_error"].to_numpy(float),
            linestyle="none",
            marker="o",
            color=MUTED,
            markerfacecolor=INK,
            markeredgecolor=PAPER,
            markersize=6,
            elinewidth=0.6,
        )
        lines = [
            Line2D([], [], color=INK, linewidth=1.2, label="outcome stability: do not correct"),
            Line2D([], [], color=INK, linewidth=1.2, dashes=(4, 1.5), label="measurement stability: correct"),
        ]
        axes.legend(handles=lines, loc="lower right", borderaxespad=0.2)
        axes.set(
            xlabel=f"Difference in wealth at equal predictions, {unit}",
            ylabel=f"Difference in predictions at equal wealth, {unit}",
        )
        return to_svg(figure, "stability", alt)
