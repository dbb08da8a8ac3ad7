"""The figures on predictions and corrections, one function each: plain arrays and tables in, an inline ``<svg>`` out.

Figures know nothing about files. Colours and markers of the corrections come from `sustain.report.style`, so a method
looks the same in each of them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from sustain.debias.card.schema import SpatialErrors
from sustain.report.methods import MUTED, method_style
from sustain.report.style import INK, PAPER, RULE, canvas, method_handle, padded, to_svg

__all__ = [
    "calibration_curves",
    "decile_bias",
    "error_correlograms",
    "prediction_against_truth",
    "training_curves",
]

FloatArray = NDArray[np.float64]


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
    limits = padded(both if min_count == 1 else np.percentile(both, [0.5, 99.5]))
    with canvas(350) as (figure, axes):
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        cells = axes.hexbin(
            truth, pred, gridsize=24, extent=(*limits, *limits), mincnt=min_count, linewidths=0.2, zorder=1
        )
        counts = np.asarray(cells.get_array(), float)
        top = float(counts.max()) if counts.size else float(min_count)
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


def decile_bias(
    table: pd.DataFrame, *, unit: str, tenths_of: str = "sites", name: str = "deciles", alt: str
) -> Markup:
    """Draw mean error by tenth of the places, one series a method.

    Parameters
    ----------
    table : DataFrame
        From `sustain.debias.judge.agreement.bias_by_tenth`.
    unit : str
        Unit of wealth.
    tenths_of : str
        What was cut into tenths.
    name : str
        Prefix of identifiers.
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
            xlabel=f"Mean survey wealth of each tenth of the {tenths_of}, {unit}",
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
    with canvas(320) as (figure, axes):
        bounds = shown.loc[shown["x"].between(low, high), ["lo", "hi", "h"]].to_numpy(float)
        finite = bounds[np.isfinite(bounds)]
        axes.set(xlim=view, ylim=padded(np.concatenate([finite, np.array(view)]), 0.08))
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
        handles += [method_handle(method) for method in dict.fromkeys(shown["method"])]
        axes.legend(handles=handles, loc="upper left", borderaxespad=0.2)
        axes.set(xlabel=f"Prediction x, {unit}", ylabel=f"Corrected wealth h(x), {unit}")
        return to_svg(figure, "curves", alt)


def error_correlograms(errors: SpatialErrors, *, alt: str) -> Markup:
    """Draw how far the errors of two places are alike by their distance, of either residual.

    Parameters
    ----------
    errors : SpatialErrors
        From a card.
    alt : str
        Text alternative.
    """
    series = (
        (errors.prediction_given_truth, INK, "o", (None, None), "of the prediction, given wealth"),
        (errors.truth_given_prediction, MUTED, "s", (5, 2), "of wealth, given the prediction"),
    )
    with canvas(290) as (figure, axes):
        axes.axhline(0, color=RULE, linewidth=1)
        for found, colour, marker, dashes, label in series:
            distance = np.array(found.distance_km)
            fine = np.geomspace(distance[0], distance[-1], 200)
            axes.plot(fine, found(fine), color=colour, dashes=dashes)
            axes.plot(
                distance,
                found.correlation,
                linestyle="none",
                marker=marker,
                markersize=6,
                color=colour,
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
            )
            axes.plot([], [], color=colour, dashes=dashes, marker=marker, markeredgecolor=PAPER, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="Distance between two places, km", ylabel="Correlation of their errors")
        axes.legend(loc="upper right", borderaxespad=0.2)
        return to_svg(figure, "correlogram", alt)


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
