"""Maps of the page: one colour scale for the map before and after, one for its standard error, three flags.

Wealth is always viridis and uncertainty always cividis, both readable with any colour vision, so the two kinds of map
cannot be mistaken for one another.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from sustain.report.rasters import MapView
from sustain.report.style import INK, MUTED, WIDTH, canvas, to_svg

__all__ = [
    "FLAGS",
    "change_legend",
    "change_panel",
    "error_legend",
    "error_panel",
    "maps_picture",
    "shared_limits",
    "support_legend",
    "support_panel",
    "wealth_legend",
    "wealth_panel",
]

FloatArray = NDArray[np.float64]

# Room for the scale bar, as a share of the map's width.
STRIP = 0.07

# Flag of the `support` band, its words, its colour.
FLAGS = {
    0: ("inside the support", "#9fb3bf"),
    1: ("outside: the correction extrapolates", "#E69F00"),
    2: ("no imagery", "none"),
}


def shared_limits(view: MapView) -> tuple[float, float]:
    """Return the limits of the colour scale: the central 98% of the raw and corrected values together."""
    both = np.concatenate([view.raw[np.isfinite(view.raw)], view.wealth[np.isfinite(view.wealth)]])
    low, high = np.percentile(both, [1, 99])
    return float(low), float(high if high > low else low + 1)


def wealth_panel(
    values: FloatArray, view: MapView, limits: tuple[float, float], *, name: str, alt: str
) -> Markup:
    """Draw one map of wealth on a scale that the caller fixes."""
    return _panel(values, view, Normalize(*limits), "viridis", name, alt)


def wealth_legend(view: MapView, limits: tuple[float, float], *, unit: str, alt: str) -> Markup:
    """Draw the scale that both maps share, with the distribution of each above it."""
    with canvas(118) as (figure, axes):
        span = limits[1] - limits[0]
        edges = np.linspace(limits[0] - 0.1 * span, limits[1] + 0.1 * span, 61)
        for values, label, colour, dashes in (
            (view.raw, "before", MUTED, (None, None)),
            (view.wealth, "after", INK, (3, 1.2)),
        ):
            counts, _ = np.histogram(values[np.isfinite(values)], bins=edges)
            middles = (edges[1:] + edges[:-1]) / 2
            line = axes.plot(
                middles, counts / np.isfinite(values).sum(), color=colour, linewidth=1.5, label=label
            )[0]
            if dashes[0] is not None:
                line.set_dashes(dashes)
        axes.set_xlim(edges[0], edges[-1])
        top = axes.get_ylim()[1]
        ramp = np.linspace(edges[0], edges[-1], 256)[None, :]
        axes.imshow(
            ramp,
            norm=Normalize(*limits),
            cmap="viridis",
            aspect="auto",
            interpolation="none",
            extent=(edges[0], edges[-1], -0.24 * top, -0.03 * top),
        )
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(-0.24 * top, top)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"Wealth, {unit}")
        axes.legend(loc="upper right", borderaxespad=0)
        return to_svg(figure, "legend", alt)


def error_panel(view: MapView, *, name: str = "error", alt: str) -> Markup:
    """Draw the standard error of the corrected map."""
    return _panel(view.error, view, Normalize(0, _error_top(view)), "cividis_r", name, alt)


def error_legend(view: MapView, *, unit: str, alt: str) -> Markup:
    """Draw the scale of the standard error.

    It runs from zero to somewhat more than the spread of the map (or than the largest errors), so that colour says how
    much of the differences on the map one cell's error could make, and equal errors look equal.
    """
    norm = (0.0, _error_top(view))
    return _bar(norm, "cividis_r", f"Standard error, {unit}", "error-legend", alt)


def change_panel(change: FloatArray, view: MapView, *, name: str = "change", alt: str) -> Markup:
    """Draw a difference between two maps: orange above zero, purple below."""
    return _panel(change, view, Normalize(*_change_limits(change)), "PuOr_r", name, alt)


def change_legend(change: FloatArray, *, unit: str, alt: str) -> Markup:
    """Draw the scale of a difference, symmetric about zero."""
    return _bar(_change_limits(change), "PuOr_r", f"Change, {unit}", "change-legend", alt)


def support_panel(view: MapView, *, name: str = "support", alt: str) -> Markup:
    """Draw where the correction is backed by calibration sites."""
    colours = ListedColormap([colour for _, colour in FLAGS.values()])
    return _panel(view.support, view, Normalize(-0.5, 2.5), colours, name, alt)


def _change_limits(change: FloatArray) -> tuple[float, float]:
    top = float(np.nanpercentile(np.abs(change), 99)) or 1.0
    return -top, top


def _bar(limits: tuple[float, float], cmap: str, label: str, name: str, alt: str) -> Markup:
    """Draw a colour scale on its own."""
    with canvas(48) as (figure, axes):
        axes.imshow(
            np.linspace(*limits, 256)[None, :],
            norm=Normalize(*limits),
            cmap=cmap,
            aspect="auto",
            interpolation="none",
            extent=(*limits, 0, 1),
        )
        axes.set_yticks([])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel(label)
        return to_svg(figure, name, alt)


def _error_top(view: MapView) -> float:
    return 1.25 * max(float(np.nanpercentile(view.error, 99)), float(np.nanstd(view.wealth))) or 1.0


def support_legend(view: MapView) -> tuple[tuple[str, str], ...]:
    """Return (colour, words) of the flags that occur on the map."""
    present = {int(flag) for flag in np.unique(view.support[np.isfinite(view.support)])}
    return tuple((colour, words) for flag, (words, colour) in FLAGS.items() if flag in present)


def maps_picture(view: MapView, limits: tuple[float, float], *, unit: str, method: str) -> bytes:
    """Return the map before and after correction, on one scale, as a PNG on white."""
    rows, columns = view.raw.shape
    settings: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 10}
    with mpl.rc_context(settings):
        figure = Figure(
            figsize=(9.6, 4.3 * rows / columns + 1.2), dpi=120, layout="constrained", facecolor="white"
        )
        panels = figure.subplots(1, 2)
        titles = ("Before: predictions as they are", f"After: {method} correction")
        for axes, values, title in zip(panels, (view.raw, view.wealth), titles, strict=True):
            image = _image(axes, values, view, Normalize(*limits), "viridis", ink="black")
            axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        bar = figure.colorbar(
            image, ax=list(panels), orientation="horizontal", extend="both", shrink=0.6, aspect=40, pad=0.02
        )
        bar.set_label(f"Wealth, {unit} (the same scale in both)")
        bar.outline.set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(
    values: FloatArray, view: MapView, norm: Normalize, cmap: str | ListedColormap, name: str, alt: str
) -> Markup:
    rows, columns = values.shape
    with canvas(WIDTH * (rows / columns + STRIP), pad=0) as (figure, axes):
        _image(axes, values, view, norm, cmap)
        return to_svg(figure, name, alt)


def _image(
    axes: Axes, values: FloatArray, view: MapView, norm: Normalize, cmap: str | ListedColormap, ink: str = INK
) -> AxesImage:
    """Draw a raster at its own resolution, with a scale bar in a strip beneath."""
    rows, columns = values.shape
    axes.set_axis_off()
    image = axes.imshow(
        np.ma.masked_invalid(values),
        norm=norm,
        cmap=cmap,
        interpolation="none",
        extent=(0, columns, rows, 0),
    )
    kilometres = _round_length(0.3 * columns * view.cell_m / 1000)
    length = kilometres * 1000 / view.cell_m
    y = rows + 0.4 * STRIP * columns
    axes.plot([0, length], [y, y], color=ink, linewidth=2, clip_on=False)
    axes.text(length + 0.02 * columns, y, f"{kilometres:g} km", va="center", color=ink)
    axes.set(xlim=(0, columns), ylim=(rows + STRIP * columns, 0))
    return image


def _round_length(kilometres: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is not above `kilometres`."""
    power = 10.0 ** np.floor(np.log10(kilometres))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= kilometres))
