"""The section on the map: before and after on one scale, its standard error and support, the second period."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sustain.palettes import Scale
from sustain.report import map_figures
from sustain.report.blocks import Figure, Fold, Panel, Section
from sustain.report.methods import method_style
from sustain.report.rasters import MapView
from sustain.report.words import interval, number, percent, plural, signed

__all__ = ["map_section"]

FloatArray = NDArray[np.float64]


def map_section(view: MapView, endline: MapView | None, *, unit: str) -> Section:
    """Build the map before and after correction on one scale, how sure it is, and the map of a second period."""
    scale = map_figures.shared_scale(view, endline)
    folds = [
        Fold("map-errors", "How sure the map is, and where the correction holds", (_uncertainty(view, unit),))
    ]
    if endline is not None:
        folds.append(
            Fold(
                "map-change",
                "The second period, and the change",
                (_second_period(view, endline, scale, unit),),
            )
        )
    shown = " shown" if view.shape != view.raw.shape else ""
    width = f"{view.native_m / 1000:.1f} km" if view.native_m >= 1000 else f"{view.native_m:.0f} m"
    intro = (
        f"{plural(view.n_cells, 'cell')}{shown} with a prediction, {width} wide each. {view.note}The corrected map is "
        "for comparing places and periods under the assumption stated with each trial; for a single place "
        "the raw prediction remains the better guess."
    )
    return Section("maps", "The map", intro, (_before_after(view, scale, unit),), folds=tuple(folds))


def _before_after(view: MapView, scale: Scale, unit: str) -> Figure:
    before, after = float(np.nanstd(view.raw)), float(np.nanstd(view.wealth))
    spread = ""  # of a single place, or of places that are all alike, there is none
    if before > 0:
        spread = (
            f" Corrected values spread {percent(abs(after / before - 1))} {'wider' if after >= before else 'narrower'} "
            f"(standard deviation {number(after)} instead of {number(before)} {unit})."
        )
    curves = " The curves over the scale show how many cells hold each value."
    curves = curves if view.n_cells >= map_figures.DISTRIBUTED else ""
    ranks = " Under a linear correction no place changes rank." if view.method == "linear" else ""
    return Figure(
        id="map",
        title="Before and after correction",
        panels=(
            _wealth("before", "Before: predictions as they are", view.raw, view, scale, unit),
            _wealth(
                "after",
                f"After: {method_style(view.method).name} correction",
                view.wealth,
                view,
                scale,
                unit,
            ),
        ),
        legend=map_figures.wealth_legend(
            view,
            scale,
            unit=unit,
            alt="Colour scale shared by both maps, with the distribution of the values of each above it.",
        ),
        caption=(
            f"All maps of wealth here share one scale; {_ends(scale)}.{spread}{ranks}{curves} North is up."
        ),
    )


def _uncertainty(view: MapView, unit: str) -> Figure:
    error, spread = float(np.nanmedian(view.error)), float(np.nanstd(view.wealth))
    low, high = (float(value) for value in np.nanpercentile(view.error, [1, 99]))
    outside = _share(view.share_outside)
    even = "; nearly the same everywhere, because a linear correction stretches all errors alike"
    return Figure(
        id="uncertainty",
        title="How sure, and where it holds",
        panels=(
            Panel(
                map_figures.error_panel(
                    view, alt=f"Map of the standard error: median {number(error)} {unit}."
                ),
                "Standard error of one cell",
                legend=map_figures.error_legend(view, unit=unit, alt="Colour scale of the standard error."),
            ),
            Panel(
                map_figures.support_panel(
                    view, alt=f"Map of support. {outside} of the predictions lie outside."
                ),
                "Support of the calibration",
                swatches=map_figures.support_legend(view),
            ),
        ),
        caption=(
            f"One cell's corrected wealth is uncertain by about {number(error)} {unit} (median standard "
            f"error{even if high - low < 0.05 * high else ''}), against a standard deviation of "
            f"{number(spread)} over the map: read regions, not single cells. {outside} of the predictions "
            "lie outside the range on which the correction was learned; there it extrapolates."
        ),
    )


def _ends(scale: Scale) -> str:
    if not (scale.cut_low or scale.cut_high):
        return "it ends where the values end"
    return "an arrow means that a few values lie beyond that end"


def _share(share: float) -> str:
    if share == 0:
        return "None"
    return "Less than 0.1%" if share < 0.0005 else percent(share, 1)


def _second_period(view: MapView, endline: MapView, scale: Scale, unit: str) -> Figure:
    later = _wealth(
        "endline-after", "Later: corrected, on the scale above", endline.wealth, endline, scale, unit
    )
    if endline.wealth.shape != view.wealth.shape:
        return Figure("endline", "The second period", (later,), "On the scale of the first period's maps.")
    change = endline.wealth - view.wealth
    mean, spread = signed(float(np.nanmean(change))), number(float(np.nanstd(change)))
    return Figure(
        id="endline",
        title="The second period",
        panels=(
            later,
            Panel(
                map_figures.change_panel(change, view, alt=f"Map of the change: mean {mean} {unit}."),
                "Change of corrected wealth",
                legend=map_figures.change_legend(
                    change, unit=unit, alt="Colour scale of the change, about zero."
                ),
            ),
        ),
        caption=(
            f"Between the two periods corrected wealth changes by {mean} {unit} on average, with a "
            f"standard deviation of {spread} between cells. Each map errs in its own way, so most of a "
            "single cell's change is chance; gains in whole patches are not, and the effects of treatments "
            "that began in between are among them."
        ),
    )


def _wealth(name: str, title: str, values: FloatArray, view: MapView, scale: Scale, unit: str) -> Panel:
    low, middle, high = (float(value) for value in np.nanpercentile(values, [5, 50, 95]))
    alt = f"{title}. Map with median {number(middle)} and central 90% from {interval(low, high)} {unit}."
    return Panel(map_figures.wealth_panel(values, view, scale, name=name, alt=alt), title)
