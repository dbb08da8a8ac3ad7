"""Figures of samples. Made without pyplot, so that nothing stays open behind the caller's back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["picture", "pictures", "series", "title_of"]


def title_of(sample: dict[str, Any], classes: Sequence[str] = (), unit: str = "") -> str:
    """Return the sample's id and label, in words."""
    if "label" not in sample:
        return str(sample["id"])
    label = np.asarray(sample["label"]).item()
    return f"{sample['id']}: {classes[int(label)] if classes else f'{label:.3g} {unit}'.strip()}"


def picture(image: ArrayLike, channels: Sequence[int]) -> NDArray[np.float64]:
    """Return three channels of ``(C, H, W)`` as ``(H, W, 3)`` in 0-1, stretched between their 2nd and 98th percentile.

    Missing pixels are white.
    """
    chosen = np.moveaxis(np.asarray(image, dtype=np.float64)[list(channels)], 0, -1)
    present = chosen[np.isfinite(chosen)]
    low, high = np.percentile(present, [2, 98]) if present.size else (0.0, 1.0)
    stretched = np.clip((chosen - low) / (high - low if high > low else 1), 0, 1)
    return np.where(np.isfinite(stretched), stretched, 1)


def pictures(panels: Sequence[tuple[str, NDArray[Any]]], title: str, classes: Sequence[str] = ()) -> Figure:
    """Draw named panels side by side.

    Parameters
    ----------
    panels : sequence of (name, array)
        ``(H, W, 3)`` in colour; ``(H, W)`` as numbers with a colour bar.
    title : str
    classes : sequence of str, optional
        Names of the numbers of the last panel, a mask; NaN is left white.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(panels), 3.8), layout="constrained")
    for k, (axes, (name, values)) in enumerate(
        zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True)
    ):
        if classes and k == len(panels) - 1:
            colours = colormaps["viridis"].resampled(len(classes))
            drawn = axes.imshow(
                values, interpolation="nearest", cmap=colours, vmin=-0.5, vmax=len(classes) - 0.5
            )
            bar = figure.colorbar(drawn, ax=axes, shrink=0.7, ticks=range(len(classes)))
            bar.ax.set_yticklabels(classes, fontsize=8)
        else:
            drawn = axes.imshow(values, interpolation="nearest")
            if values.ndim == 2:
                figure.colorbar(drawn, ax=axes, shrink=0.7)
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure


def series(values: ArrayLike, names: Sequence[str], title: str, x: str, y: str) -> Figure:
    """Draw ``(C, T)`` as one line a channel; missing values leave gaps, single ones a dot."""
    from matplotlib.figure import Figure

    values = np.asarray(values, dtype=np.float64)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    time = np.arange(values.shape[1])
    for channel, name in zip(values, names, strict=True):
        present = np.isfinite(channel)
        axes.plot(time[present], channel[present], marker=".", linewidth=1, label=name)
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
