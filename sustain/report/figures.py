"""The figures of the page, one function each: plain arrays and tables in, an inline ``<svg>`` out.

Figures know nothing about files. Colours and markers of the corrections come from `sustain.report.style`, so a method
looks the same in each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from sustain.report.style import INK, MUTED, PAPER, RULE, canvas, method_style, to_svg

__all__ = [
    "calibration_curves",
    "contrast_scatter",
    "decile_bias",
    "effects_forest",
    "prediction_against_truth",
    "training_curves",
]

FloatArray = NDArray[np.float64]
Interval = tuple[str, float, float, float]

# A longer title leaves no room for the truth beside it.
_LONG = 38


def prediction_against_truth(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    slope: float,
    intercept: float,
    reverse_slope: float,
    reverse_intercept: float,
    unit: str,
    min_count: int = 1,
    alt: str,
) -> Markup:
    """Draw held-out predictions against truth as counts in hexagons, with both regression lines.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (n,)
        Survey wealth and prediction at the same sites.
    slope, intercept : float
        Regression of prediction on truth.
    reverse_slope, reverse_intercept : float
        Regression of truth on prediction; drawn in the same axes as truth = intercept + slope * prediction.
    unit : str
        Unit of both axes.
    min_count : int
        Hexagons with fewer sites are not drawn, so that no site of a confidential survey can be read off.
    alt : str
        Text alternative.
    """
    truth, pred = np.asarray(y_true, float), np.asarray(y_pred, float)
    both = np.concatenate([truth, pred])
    # The ends of the axes must not tell the extreme values of a confidential survey.
    limits = _padded(both if min_count == 1 else np.percentile(both, [0.5, 99.5]))
    with canvas(380) as (figure, axes):
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        cells = axes.hexbin(
            truth, pred, gridsize=24, extent=(*limits, *limits), mincnt=min_count, linewidths=0.2, zorder=1
        )
        counts = np.asarray(cells.get_array(), float)
        top = float(counts.max()) if counts.size else 1.0
        cells.set_array(None)
        cells.set_facecolor([_ink(_shade(value, top)) for value in counts])
        cells.set_edgecolor("none")
        ends = np.array(limits)
        axes.plot(ends, ends, color=INK, linewidth=1, dashes=(1, 2))
        halo = [Stroke(linewidth=4, foreground=PAPER), Normal()]
        axes.plot(ends, intercept + slope * ends, color=INK, path_effects=halo)
        axes.plot(reverse_intercept + reverse_slope * ends, ends, color=INK, dashes=(5, 2), path_effects=halo)
        axes.set(xlabel=f"Survey wealth, {unit}", ylabel=f"Predicted wealth, {unit}")
        lines = [
            Line2D([], [], color=INK, label=f"prediction on truth: {slope:.2f}"),
            Line2D([], [], color=INK, dashes=(4, 1.5), label=f"truth on prediction: {reverse_slope:.2f}"),
            Line2D([], [], color=INK, linewidth=1, dashes=(1, 1.5), label="equal"),
        ]
        axes.add_artist(axes.legend(handles=lines, loc="upper left", borderaxespad=0.2))
        shades = sorted({min_count, max(min_count, round(top / 3)), int(top)})
        axes.legend(
            handles=[
                Line2D(
                    [],
                    [],
                    linestyle="none",
                    marker="h",
                    markersize=9,
                    markerfacecolor=_ink(_shade(value, top)),
                    markeredgecolor="none",
                    label=f"{value} site" + ("s" if value > 1 else ""),
                )
                for value in shades
            ],
            loc="lower right",
            borderaxespad=0.2,
            handletextpad=0.2,
        )
        return to_svg(figure, "scatter", alt)


def decile_bias(table: pd.DataFrame, *, unit: str, name: str = "deciles", alt: str) -> Markup:
    """Draw mean error by tenth of the places, one series a method.

    Parameters
    ----------
    table : DataFrame
        From `sustain.debias.agreement.bias_by_tenth`.
    unit : str
        Unit of wealth.
    alt : str
        Text alternative.
    """
    methods = list(dict.fromkeys(table["method"]))
    with canvas(290) as (figure, axes):
        axes.axhline(0, color=INK, linewidth=1)
        spread = float(table["mean_true"].max() - table["mean_true"].min())
        for position, method in enumerate(methods):
            rows, style = table[table["method"] == method], method_style(method)
            axes.errorbar(
                rows["mean_true"] + (position - (len(methods) - 1) / 2) * 0.008 * spread,
                rows["bias"],
                1.96 * rows["std_error"],
                color=style.colour,
                marker=style.marker,
                markersize=6,
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
                linewidth=1.2,
                elinewidth=0.9,
                label=style.label,
            )
        axes.set(
            xlabel=f"Mean survey wealth of each tenth of the sites, {unit}",
            ylabel=f"Prediction minus truth, {unit}",
        )
        axes.legend(loc="best", borderaxespad=0.2)
        return to_svg(figure, name, alt)


def calibration_curves(
    curves: pd.DataFrame,
    support: tuple[float, float],
    *,
    map_values: ArrayLike | None = None,
    unit: str,
    alt: str,
) -> Markup:
    """Draw each correction h(x) with its band over the predictions that it was learned from.

    Parameters
    ----------
    curves : DataFrame
        Columns x, method, h, lo, hi.
    support : tuple of float
        Lowest and highest prediction of the calibration sample; outside, the ground is shaded.
    map_values : array_like, optional
        Predictions of the map, drawn as a histogram along the bottom.
    unit : str
        Unit of wealth.
    alt : str
        Text alternative.
    """
    low, high = support
    span = high - low
    view = (low - 0.1 * span, high + 0.1 * span)
    shown = curves[curves["x"].between(*view)]
    with canvas(380) as (figure, axes):
        bounds = shown.loc[shown["x"].between(low, high), ["lo", "hi", "h"]].to_numpy(float)
        finite = bounds[np.isfinite(bounds)]
        axes.set(xlim=view, ylim=_padded(np.concatenate([finite, np.array(view)]), 0.08))
        for edge in ((view[0], low), (high, view[1])):
            axes.axvspan(*edge, color=RULE, alpha=0.45, linewidth=0, zorder=0)
        if map_values is not None:
            _footprint(axes, np.asarray(map_values, float), view)
        axes.plot(view, view, color=MUTED, linewidth=1, dashes=(1, 2), label="no correction")
        for method in dict.fromkeys(shown["method"]):
            rows, style = shown[shown["method"] == method].sort_values("x"), method_style(method)
            axes.fill_between(rows["x"], rows["lo"], rows["hi"], color=style.colour, alpha=0.2, linewidth=0)
            axes.plot(rows["x"], rows["h"], color=style.colour, linewidth=2, label=style.label)
            marks = rows.iloc[len(rows) // 10 :: max(1, len(rows) // 5)]
            axes.plot(
                marks["x"],
                marks["h"],
                linestyle="none",
                marker=style.marker,
                color=style.colour,
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
            )
        handles = [Line2D([], [], color=MUTED, linewidth=1, dashes=(1, 1.5), label="no correction")]
        handles += [_method_handle(method) for method in dict.fromkeys(shown["method"])]
        axes.legend(handles=handles, loc="upper left", borderaxespad=0.2)
        axes.set(xlabel=f"Prediction x, {unit}", ylabel=f"Corrected wealth h(x), {unit}")
        return to_svg(figure, "curves", alt)


def training_curves(curves: pd.DataFrame, *, alt: str) -> Markup:
    """Draw training and validation loss by epoch and mark the epoch that was kept.

    Parameters
    ----------
    curves : DataFrame
        Columns epoch, train_loss, val_loss.
    alt : str
        Text alternative.
    """
    best = curves.loc[[curves["val_loss"].idxmin()]]
    with canvas(260) as (figure, axes):
        axes.plot(curves["epoch"], curves["train_loss"], color=MUTED, dashes=(4, 1.5), label="training sites")
        axes.plot(curves["epoch"], curves["val_loss"], color=INK, label="validation sites")
        axes.plot(
            best["epoch"],
            best["val_loss"],
            marker="o",
            color=INK,
            markeredgecolor=PAPER,
            linestyle="none",
            markersize=8,
            label=f"kept: epoch {int(best['epoch'].iloc[0])}",
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="Epoch", ylabel="Loss (squared error, standardised)")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right", borderaxespad=0.2)
        return to_svg(figure, "training", alt)


def effects_forest(
    trials: Sequence[tuple[str, float | None, str, Sequence[Interval]]], *, unit: str, alt: str
) -> Markup:
    """Draw every trial's estimates with intervals on one axis, the truth marked where it is known.

    Parameters
    ----------
    trials : sequence of (title, truth, reported, estimates)
        `reported` is the method that the trial's assumption leads to; an estimate is (method, estimate, low, high).
    unit : str
        Unit of wealth.
    alt : str
        Text alternative.
    """
    rows = sum(1 + len(estimates) for _, _, _, estimates in trials)
    with canvas(70 + 24 * rows) as (figure, axes):
        beside = axes.get_yaxis_transform()
        y = 0.0
        labels: list[tuple[float, str, bool]] = []
        for title, truth, reported, estimates in trials:
            axes.text(-0.15, y, title, transform=beside, weight="bold", va="center")
            if truth is not None and len(title) <= _LONG:
                axes.text(1, y, f"truth {truth:.2f}", transform=beside, ha="right", va="center", fontsize=10)
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
    limits = _padded(np.concatenate([table["truth"].to_numpy(float), table["estimate"].to_numpy(float)]))
    with canvas(380) as (figure, axes):
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
        handles = [_method_handle(method, line=False) for method in methods]
        handles.append(Line2D([], [], color=MUTED, linewidth=1, dashes=(1, 1.5), label="equal"))
        axes.legend(handles=handles, loc="upper left", borderaxespad=0.2)
        axes.set(xlabel=f"{truth_label}, {unit}", ylabel=f"From the map, {unit}")
        return to_svg(figure, name, alt)


def _padded(values: FloatArray, share: float = 0.04) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    pad = share * (high - low or 1.0)
    return low - pad, high + pad


def _shade(value: float, top: float) -> float:
    return 0.1 + 0.5 * float(np.sqrt(value / top))


def _ink(alpha: float) -> tuple[str, float]:
    return INK, round(alpha, 3)


def _footprint(axes: Axes, values: FloatArray, view: tuple[float, float]) -> None:
    """Draw a low histogram along the bottom of the axes."""
    counts, edges = np.histogram(values[np.isfinite(values)], bins=48, range=view)
    if counts.max() > 0:
        heights = 0.14 * counts / counts.max()
        axes.stairs(
            heights, edges, transform=axes.get_xaxis_transform(), fill=True, color=MUTED, alpha=0.5, zorder=1
        )


def _method_handle(method: str, line: bool = True) -> Line2D:
    style = method_style(method)
    settings: Mapping[str, object] = {"linestyle": "-" if line else "none"}
    return Line2D(
        [],
        [],
        color=style.colour,
        marker=style.marker,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        label=style.label,
        **settings,  # type: ignore[arg-type]
    )
