"""A published map at a glance: a small picture with its legend."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import rasterio
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.warp import reproject

from sustain.config import PublishParams
from sustain.files import atomic_path
from sustain.maps.geotiff import WEALTH
from sustain.maps.publish.facts import period_text
from sustain.maps.publish.ground import cell_sizes, native_bounds
from sustain.maps.publish.legend import BandLegend
from sustain.palettes import Scale

__all__ = ["THUMBNAIL_FILE", "write_thumbnail"]

THUMBNAIL_FILE = "thumbnail.png"

_SIDE_PX = 900
_INCHES, _DPI = 6.0, 120
_PAPER, _INK, _NOTHING = "#ffffff", "#1b1b1b", "#e9e9e9"
_TITLE_CHARACTERS = 60
_FONT = "DejaVu Sans"
_LOOK: dict[Any, Any] = {
    "font.family": _FONT,
    "font.size": 10,
    "text.color": _INK,
    "text.parse_math": False,
}


def write_thumbnail(
    path: Path,
    raster: rasterio.io.DatasetReader,
    legend: BandLegend,
    period: tuple[date, date],
    params: PublishParams,
) -> None:
    """Draw the band ``wealth``, north up where its rows run otherwise, with title, legend, period and licence.

    Parameters
    ----------
    path : Path
        PNG to write; the same map gives the same bytes.
    raster : rasterio.io.DatasetReader
        The published map, open.
    legend : BandLegend
        Of its band ``wealth``.
    period, params
        As for `sustain.maps.publish.stac.make_item`.
    """
    values, bounds = _north_up(raster)
    size = cell_sizes(raster)[1]
    left, bottom, right, top = bounds
    # Of one unit of the map's system on the ground; they differ where the system is in degrees.
    stretch = (size.height / abs(raster.res[1])) / (size.width / abs(raster.res[0]))
    shape = (top - bottom) * stretch / (right - left)
    height = float(np.clip(shape, 0.25, 2.5)) * (_INCHES - 0.4) + 1.7
    # What users write is no formula, and letters that the font lacks would be boxes: README.md has them.
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(_INCHES, height), dpi=_DPI, layout="constrained", facecolor=_PAPER)
        axes = figure.add_subplot()
        colours = ListedColormap(legend.palette.rgb(256) / 255)
        image = axes.imshow(
            values,
            cmap=colours,
            norm=Normalize(legend.scale.low, legend.scale.high),
            extent=(left, right, bottom, top),
            aspect=stretch,
            interpolation="nearest" if max(raster.shape) <= _SIDE_PX else "antialiased",
        )
        axes.set(xticks=[], yticks=[], facecolor=_NOTHING)
        axes.spines[:].set_visible(False)
        axes.set_title(_short(params.title), fontsize=12, loc="left", fontweight="bold")
        bar = figure.colorbar(image, ax=axes, orientation="horizontal", fraction=0.06, pad=0.02, aspect=40)
        bar.outline.set_visible(False)
        ticks = np.linspace(legend.scale.low, legend.scale.high, 5)
        labels = _tick_texts(legend.scale, ticks.tolist())
        bar.set_ticks(ticks.tolist(), labels=labels)
        what = ", ".join(filter(None, [raster.tags().get("SUSTAIN_TARGET"), legend.unit]))
        bar.set_label(legend.title + (f" ({what})" if what else "") + ". Grey: no value")
        figure.supxlabel(f"{period_text(period)}  ·  {_short(params.licence)}", fontsize=8)
        with atomic_path(path) as partial:
            # Without the version of matplotlib in it.
            figure.savefig(
                partial, format="png", bbox_inches="tight", pad_inches=0.12, metadata={"Software": None}
            )


def _north_up(raster: rasterio.io.DatasetReader) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Means of cells on at most `_SIDE_PX` pixels a side, north up, and their bounds."""
    band = list(raster.descriptions).index(WEALTH) + 1
    share = min(1.0, _SIDE_PX / max(raster.shape))
    shape = tuple(max(1, round(side * share)) for side in raster.shape)
    small = raster.read(band, out_shape=shape, resampling=Resampling.average).astype(np.float64)
    transform = raster.transform @ raster.transform.scale(raster.width / shape[1], raster.height / shape[0])
    bounds = native_bounds(raster)
    if transform.b == transform.d == 0:
        small = small[::-1] if transform.e > 0 else small
        return (small[:, ::-1] if transform.a < 0 else small), bounds
    turned = np.full(shape, np.nan)
    reproject(
        small,
        turned,
        src_transform=transform,
        src_crs=raster.crs,
        src_nodata=np.nan,
        dst_transform=from_bounds(*bounds, shape[1], shape[0]),
        dst_crs=raster.crs,
        dst_nodata=np.nan,
        resampling=Resampling.nearest,
    )
    return turned, bounds


def _tick_texts(scale: Scale, ticks: list[float]) -> list[str]:
    """Numbers with as many decimals as tell them apart, and a sign at an end that values go beyond."""
    decimals = max(0, 1 - math.floor(math.log10((scale.high - scale.low) / (len(ticks) - 1))))
    texts = [f"{tick:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
    return ["≤ " * scale.cut_low + texts[0], *texts[1:-1], "≥ " * scale.cut_high + texts[-1]]


def _short(text: str) -> str:
    """Text as far as there is room; empty where the font lacks a letter of it."""
    text = " ".join(text.split())
    letters = get_font(findfont(_FONT)).get_charmap()
    if any(ord(letter) not in letters for letter in text):
        return ""
    return text if len(text) <= _TITLE_CHARACTERS else text[: _TITLE_CHARACTERS - 1].rstrip() + "…"
