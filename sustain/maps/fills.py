"""Numbers that stand for no value although nobody declared them: -9999 and its kin."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sustain.errors import RasterError

__all__ = ["USUAL_FILLS", "refuse_undeclared_fill"]

USUAL_FILLS = (
    *(-999.0, -9999.0, -99999.0, -999999.0, -32768.0, -2147483648.0),
    *(-3.4028234663852886e38, 3.4028234663852886e38, -1.7976931348623157e308, 1.7976931348623157e308),
    *(-3.4e38, 3.4e38, 1e20, -1e20, 9.969209968386869e36),
)
"""Numbers by which programs mark what is missing, and which no index, rate or count of people is."""

_FAR = 1.0  # ranges of the other numbers
_SURE = 9999.0  # of this size and more a fill is one even where nothing else was read
_LEAST, _MOST = -999.0, 1e20


def refuse_undeclared_fill(
    name: str, index: int, nodata: float | None, stored: npt.NDArray[Any], missing: npt.NDArray[np.bool_]
) -> None:
    """Raise where a band without a nodata number holds one of `USUAL_FILLS`, far from all its other numbers.

    Parameters
    ----------
    name : str
        The raster.
    index : int
        The band, from 1.
    nodata : float or None
        What the band declares; with a number of its own it is believed.
    stored : ndarray
        Numbers as they are stored, before scale and offset: a scaled -9999 looks like a value.
    missing : ndarray of bool
        Which of them are known to be none.

    Raises
    ------
    RasterError
        The message names the number and how to declare it.
    """
    numbers = stored[~missing]
    if nodata is not None or not numbers.size or (numbers.min() > _LEAST and numbers.max() < _MOST):
        return
    fills = np.isin(numbers.astype(np.float64), _as_stored(stored.dtype))
    if not fills.any():
        return
    others = numbers[~fills].astype(np.float64)
    for fill in np.unique(numbers[fills].astype(np.float64)):
        if others.size:
            low, high = others.min(), others.max()
            away = min(abs(fill - low), abs(fill - high)) if not low <= fill <= high else 0.0
            if away <= _FAR * (high - low):
                continue
            beside = f", far from all other numbers there ({low:g} to {high:g})"
        elif abs(fill) < _SURE:
            continue
        else:
            beside = ""
        n = int((numbers == fill).sum())
        raise RasterError(
            f"{name}: band {index} holds {fill:g} in {n} cells{beside}, and declares no nodata number. If it stands "
            f"for no value, declare it (gdal_edit.py -a_nodata {fill:g} {name}); if it is a value, declare another."
        )


def _as_stored(kind: np.dtype[Any]) -> npt.NDArray[np.float64]:
    """Give the fills as a band of this type holds them."""
    usual = np.array(USUAL_FILLS)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return np.concatenate([usual, usual.astype(kind).astype(np.float64)])
    return usual
