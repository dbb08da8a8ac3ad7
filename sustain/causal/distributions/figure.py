"""The two distributions of a trial as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["draw_distributions"]

COLOURS = {"control": "#0072B2", "treated": "#D55E00"}  # Okabe and Ito's blue and vermilion


def draw_distributions(
    table: pd.DataFrame, lines: Sequence[float], unit: str, level: float, ax: Axes | None = None
) -> Axes:
    """Draw the share below each truth in both arms, with pointwise bands.

    Parameters
    ----------
    table : DataFrame
        Of `DistributionResult.distributions`.
    lines : sequence of float
        Poverty lines, drawn upright.
    """
    from matplotlib import pyplot

    axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")[1] if ax is None else ax
    for arm, colour in COLOURS.items():
        axes.fill_between(
            table["truth"], table[f"{arm}.low"], table[f"{arm}.high"], color=colour, alpha=0.2, linewidth=0
        )
        axes.plot(table["truth"], table[arm], color=colour, label=arm)
    for line in lines:
        axes.axvline(line, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"truth ({unit})" if unit else "truth")
    axes.set_ylabel(f"share of units below\n(bands: {100 * level:.4g}%, pointwise)")
    axes.legend(frameon=False)
    return axes
