"""Maps of the page: one colour scale for the map before and after, one for its standard error, three flags.

Colours, and where scales end, are those of `sustain.palettes`, as in the viewer and the published folder. An end beyond
which values go on is an arrow.
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
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sustain.maps.geotiff import OUTSIDE_SUPPORT, SUPPORTED
from sustain.palettes import CHANGE, ERROR, SUPPORT_KINDS, WEALTH, Palette, Scale, scale_of
from sustain.report.rasters import MapView
from sustain.report.style import INK, MUTED, RULE, WIDTH, canvas, to_svg

__all__ = [
    "DISTRIBUTED",
    "change_legend",
    "change_panel",
    "error_legend",
    "error_panel",
    "maps_picture",
    "shared_scale",
    "support_legend",
    "support_panel",
    "wealth_legend",
    "wealth_panel",
]

FloatArray = NDArray[np.float64]

# From this many cells on, a map has a distribution to be drawn.
DISTRIBUTED = 30
# Room for the scale bar, as a share of the map's width.
STRIP = 0.07

_SHOWN = (SUPPORTED, OUTSIDE_SUPPORT)
# matplotlib's words for a bar that goes on below, above.
_EXTEND = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
# Width of the arrow at the end of a colour bar, as a share of the bar's.
_ARROW = 0.035


def shared_scale(view: MapView, later: MapView | None = None) -> Scale:
    """Return the scale that the raw, the corrected and the later map share."""
    shown = (view.raw, view.wealth, *(() if later is None else (later.wealth,)))
    return scale_of(*shown) or Scale(0.0, 1.0)


def wealth_panel(values: FloatArray, view: MapView, scale: Scale, *, name: str, alt: str) -> Markup:
    """Draw one map of wealth on a scale that the caller fixes."""
    return _panel(values, view, scale, WEALTH, name, alt)


def wealth_legend(view: MapView, scale: Scale, *, unit: str, alt: str) -> Markup:
    """Draw the scale that both maps share; above it the distribution of each, where there are cells enough for one."""
    if view.n_cells < DISTRIBUTED:
        return _bar(scale, WEALTH, f"Wealth, {unit}", "legend", alt)
    with canvas(124) as (figure, axes):
        bins = int(min(2 * np.sqrt(view.n_cells), 60))
        edges = np.linspace(scale.low, scale.high, bins + 1)
        for values, label, colour, dashes in (
            (view.raw, "before", MUTED, (None, None)),
            (view.wealth, "after", INK, (3, 1.2)),
        ):
            shown = values[np.isfinite(values)]
            counts, _ = np.histogram(shown, bins=edges)
            middles = (edges[1:] + edges[:-1]) / 2
            line = axes.plot(middles, counts / max(1, shown.size), color=colour, linewidth=1.5, label=label)[
                0
            ]
            if dashes[0] is not None:
                line.set_dashes(dashes)
        top = axes.get_ylim()[1]
        _ramp(axes, scale, WEALTH, -0.24 * top, -0.03 * top)
        axes.set_ylim(-0.24 * top, top)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel(f"Wealth, {unit}")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
        return to_svg(figure, "legend", alt)


def error_panel(view: MapView, *, name: str = "error", alt: str) -> Markup:
    """Draw the standard error of the corrected map."""
    return _panel(view.error, view, _error_scale(view), ERROR, name, alt)


def error_legend(view: MapView, *, unit: str, alt: str) -> Markup:
    """Draw the scale of the standard error, from zero: equal errors look equal."""
    return _bar(_error_scale(view), ERROR, f"Standard error, {unit}", "error-legend", alt)


def change_panel(change: FloatArray, view: MapView, *, name: str = "change", alt: str) -> Markup:
    """Draw a difference between two maps: orange above zero, purple below."""
    return _panel(change, view, _change_scale(change), CHANGE, name, alt)


def change_legend(change: FloatArray, *, unit: str, alt: str) -> Markup:
    """Draw the scale of a difference, symmetric about zero."""
    return _bar(_change_scale(change), CHANGE, f"Change, {unit}", "change-legend", alt)


def support_panel(view: MapView, *, name: str = "support", alt: str) -> Markup:
    """Draw where the correction is backed by calibration sites; cells without imagery stay blank, as on other maps."""
    colours = Palette("support", tuple(SUPPORT_KINDS[flag].colour for flag in _SHOWN))
    shown = np.where(np.isin(view.support, _SHOWN), view.support, np.nan)
    return _panel(shown, view, Scale(_SHOWN[0], _SHOWN[-1]), colours, name, alt)


def support_legend(view: MapView) -> tuple[tuple[str, str], ...]:
    """Return (colour, words) of the kinds of cells that occur on the map."""
    present = {int(flag) for flag in np.unique(view.support[np.isfinite(view.support)])}
    return tuple(
        (kind.colour if flag in _SHOWN else "none", kind.words)
        for flag, kind in SUPPORT_KINDS.items()
        if flag in present
    )


def _change_scale(change: FloatArray) -> Scale:
    found = scale_of(np.abs(change), from_zero=True) or Scale(0.0, 1.0)
    return Scale(-found.high, found.high, found.cut_high, found.cut_high)


def _error_scale(view: MapView) -> Scale:
    return scale_of(view.error, from_zero=True) or Scale(0.0, 1.0)


def _bar(scale: Scale, palette: Palette, label: str, name: str, alt: str) -> Markup:
    """Draw a colour scale on its own."""
    with canvas(48) as (figure, axes):
        _ramp(axes, scale, palette, 0, 1)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel(label)
        return to_svg(figure, name, alt)


def _ramp(axes: Axes, scale: Scale, palette: Palette, bottom: float, top: float) -> None:
    """Draw a palette from end to end of a scale, and fit the axes to it."""
    room = _ARROW * (scale.high - scale.low)
    middle = (bottom + top) / 2
    axes.imshow(
        np.linspace(scale.low, scale.high, 256)[None, :],
        norm=_norm(scale),
        cmap=_colours(palette),
        aspect="auto",
        interpolation="none",
        extent=(scale.low, scale.high, bottom, top),
    )
    ends = (
        (scale.cut_low, scale.low, -room, palette.stops[0]),
        (scale.cut_high, scale.high, room, palette.stops[-1]),
    )
    for cut, end, out, colour in ends:
        if cut:
            axes.fill([end, end, end + out], [bottom, top, middle], color=colour, linewidth=0)
    axes.set_xlim(scale.low - room * scale.cut_low, scale.high + room * scale.cut_high)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _norm(scale: Scale) -> Normalize:
    return Normalize(scale.low, scale.high)


def _colours(palette: Palette) -> ListedColormap:
    return ListedColormap(palette.colours(256))


def maps_picture(view: MapView, scale: Scale, *, unit: str, method: str) -> bytes:
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
            image = _image(axes, values, view, scale, WEALTH, ink="black")
            axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        bar = figure.colorbar(
            image,
            ax=list(panels),
            orientation="horizontal",
            extend=_EXTEND[scale.cut_low, scale.cut_high],
            shrink=0.6,
            aspect=40,
            pad=0.02,
        )
        bar.set_label(f"Wealth, {unit} (the same scale in both)")
        bar.outline.set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(values: FloatArray, view: MapView, scale: Scale, palette: Palette, name: str, alt: str) -> Markup:
    rows, columns = values.shape
    with canvas(WIDTH * (rows / columns + STRIP), pad=0) as (figure, axes):
        _image(axes, values, view, scale, palette)
        return to_svg(figure, name, alt)


def _image(
    axes: Axes, values: FloatArray, view: MapView, scale: Scale, palette: Palette, ink: str = INK
) -> AxesImage:
    """Draw a raster at its own resolution, with a scale bar in a strip beneath."""
    rows, columns = values.shape
    axes.set_axis_off()
    image = axes.imshow(
        np.ma.masked_invalid(values),
        norm=_norm(scale),
        cmap=_colours(palette),
        interpolation="none",
        extent=(0, columns, rows, 0),
    )
    # A frame shows how far the map goes where few cells are filled.
    axes.plot([0, columns, columns, 0, 0], [0, 0, rows, rows, 0], color=RULE, linewidth=0.8, clip_on=False)
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
