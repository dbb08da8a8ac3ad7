"""The look of every figure: method colours and markers, one text size, and SVG that follows the reader's scheme.

Figures are drawn with stand-in colours for ink, muted ink, rules and paper. `to_svg` swaps these for the page's CSS
variables, so one drawing is legible in a light and in a dark scheme, and drops everything that would differ between
two runs (dates, random identifiers).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from sustain.report.methods import MUTED, method_style

__all__ = [
    "INK",
    "MUTED",
    "PAPER",
    "RULE",
    "WIDTH",
    "canvas",
    "method_handle",
    "padded",
    "to_svg",
]

INK = "#0a0b0c"
RULE = "#c1c2c3"
PAPER = "#fdfcfb"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}

# A phone shows a figure about 330 CSS pixels wide: at this width 11 points stay readable there.
WIDTH = 380.0

_RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "butt",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "sustain",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 10,
}


@contextmanager
def canvas(height: float, pad: float = 2) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure `WIDTH` points wide and `height` high with one axes, under the house's settings."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")
        figure.get_layout_engine().set(w_pad=pad / 72, h_pad=pad / 72)  # type: ignore[union-attr, call-arg]
        yield figure, figure.add_subplot()


def to_svg(figure: Figure, name: str, alt: str) -> Markup:
    """Return `figure` as an ``<svg>`` element to be put inline into HTML.

    Parameters
    ----------
    figure : Figure
        Drawn within `canvas`.
    name : str
        Prefix of every identifier inside, so that figures on one page do not meet.
    alt : str
        What a reader who does not see the figure should know.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]+)"', text)
    if view is None:  # pragma: no cover - matplotlib always writes one
        raise ValueError(f"figure {name!r}: matplotlib wrote no viewBox")
    text = re.sub(
        r"<svg.*?>",
        f'<svg viewBox="{view.group(1)}" role="img" aria-label="{escape(alt)}">',
        text,
        count=1,
        flags=re.DOTALL,
    )
    # Its style element would reach beyond this figure once inline; the page says the same for every figure.
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    text = text.replace("xlink:href", "href").replace("base64,\n", "base64,")
    text = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    # The family comes from the page; matplotlib's is wider than any likely one, so nothing collides.
    text = re.sub(r" ?font-family: [^;\"]+;?", "", text)
    text = re.sub(r"(\d\.\d{3})\d+", r"\1", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return Markup(re.sub(r"\n\s*", "\n", text).strip())  # noqa: S704 - built here, alt is escaped


def padded(values: NDArray[np.float64], share: float = 0.04) -> tuple[float, float]:
    """Return the range of the values, somewhat widened."""
    low, high = float(np.min(values)), float(np.max(values))
    pad = share * (high - low or 1.0)
    return low - pad, high + pad


def method_handle(method: str, line: bool = True) -> Line2D:
    """Return a method's entry in a legend."""
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
