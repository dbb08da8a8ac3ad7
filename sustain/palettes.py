"""Colours of maps: one palette for wealth, one for its error, one for differences, one for kinds of cells.

The page, the viewer and the published folder draw with these, in this direction, so that a colour means the same
wherever a map is shown. All are legible with any colour vision: lightness rises or falls steadily along a palette.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "CHANGE",
    "ERROR",
    "SUPPORT_KINDS",
    "WEALTH",
    "Kind",
    "Palette",
    "Scale",
    "number_text",
    "scale_of",
]

_TAIL = 1.0  # per cent of the values beyond either end of a scale, at most
_STRETCH = 0.5  # of the range of the others, that these may add to the scale


@dataclass(frozen=True)
class Palette:
    """Colours along a scale, straight in sRGB between evenly spaced stops.

    Attributes
    ----------
    name : str
        What the colours are of.
    stops : tuple of str
        ``#rrggbb``, from the low end of the scale to the high one.
    """

    name: str
    stops: tuple[str, ...]

    def rgb(self, n: int = 256) -> npt.NDArray[np.uint8]:
        """`n` colours, evenly spaced from end to end: array (n, 3) of red, green and blue."""
        stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in self.stops], float)
        places = np.linspace(0, len(stops) - 1, n)
        channels = [np.interp(places, np.arange(len(stops)), channel) for channel in stops.T]
        colours: npt.NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
        return colours

    def colours(self, n: int) -> list[str]:
        """`n` colours as ``#rrggbb``, evenly spaced from end to end."""
        return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in self.rgb(n)]


@dataclass(frozen=True)
class Kind:
    """A kind of cell: its colour, and a few words for a legend."""

    colour: str
    words: str


@dataclass(frozen=True)
class Scale:
    """Ends of a colour scale, and whether values go on beyond them.

    Attributes
    ----------
    low, high : float
        Values of the first and of the last colour; `low` is below `high`.
    cut_low, cut_high : bool
        Whether some values lie beyond that end. They have its colour, and `labels` says so.
    """

    low: float
    high: float
    cut_low: bool = False
    cut_high: bool = False

    def labels(self, digits: int = 3) -> tuple[str, str]:
        """Texts for the two ends of a legend, such as ``≤ -1.2`` and ``3.4``."""
        low, high = (number_text(value, digits) for value in (self.low, self.high))
        return ("≤ " * self.cut_low + low, "≥ " * self.cut_high + high)


def number_text(value: float, digits: int = 3) -> str:
    """Write a number of a legend, with a minus sign that is one."""
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")


# matplotlib's viridis, at eleven places: poor is dark, rich is bright.
WEALTH = Palette(
    "wealth",
    (
        *("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c"),
        *("#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725"),
    ),
)
# ColorBrewer's OrRd without its palest colour, which paper swallows: a small error is pale, a large one dark.
ERROR = Palette(
    "error", ("#fee8c8", "#fdd49e", "#fdbb84", "#fc8d59", "#ef6548", "#d7301f", "#b30000", "#7f0000")
)
# ColorBrewer's PuOr, turned: purple is less, orange is more. Its middle belongs at zero.
CHANGE = Palette(
    "change",
    (
        *("#2d004b", "#542788", "#8073ac", "#b2abd2", "#d8daeb", "#f7f7f7"),
        *("#fee0b6", "#fdb863", "#e08214", "#b35806", "#7f3b08"),
    ),
)
# By the numbers of the band `support`: kinds, not amounts.
SUPPORT_KINDS = {
    0: Kind("#cddae3", "within the calibration's range"),
    1: Kind("#882e72", "beyond it: extrapolated"),
    2: Kind("#787878", "no imagery"),
}


def scale_of(*values: npt.ArrayLike, from_zero: bool = False) -> Scale | None:
    """Find the ends of a colour scale for values that are to be shown on one scale.

    A scale ends where the values end. Only where one per cent of them or fewer lie so far out that the rest would be
    squeezed into few colours, it ends before them, and says so.

    Parameters
    ----------
    *values : array_like
        Numbers of any shape; those that are not finite are left out.
    from_zero : bool
        Whether the scale starts at zero, as that of a standard error: one that hardly varies must look so.

    Returns
    -------
    Scale or None
        None where there is no finite value. Values that are all alike stand in the middle of a scale of width one.
    """
    flat = np.concatenate([np.ravel(np.asarray(part, dtype=np.float64)) for part in values])
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return None
    low, high = float(flat.min()), float(flat.max())
    inner = [float(value) for value in np.percentile(flat, [_TAIL, 100 - _TAIL])]
    reach = _STRETCH * (inner[1] - inner[0])
    cut_low, cut_high = (reach > 0 and beyond > reach for beyond in (inner[0] - low, high - inner[1]))
    low, high = (inner[0] if cut_low else low), (inner[1] if cut_high else high)
    if from_zero:
        low, cut_low = min(low, 0.0), cut_low and inner[0] < 0
    if not high > low:
        low, high = (low - 0.5, high + 0.5) if not from_zero else (low, low + 1.0)
    return Scale(low, high, cut_low, cut_high)
