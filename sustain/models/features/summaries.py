"""Statistics and histograms of pixels, band by band: what simple models read of a tile or a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_SIDE", "QUANTILES", "histograms", "statistics"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_SIDE = 64
"""Pixels a side, evenly spaced, that are enough of a tile."""

_BINS = 16
_BIN_SPAN = 3.0


def statistics(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean, standard deviation and `QUANTILES` of each band.

    Parameters
    ----------
    values : ndarray, shape (n, C, P)
        P pixels of C bands; NaN is left out, and each band of each of the n has a value.

    Returns
    -------
    ndarray, shape (n, 7 * C)
        All means, then all standard deviations, then each quantile of all bands.
    """
    parts = [np.nanmean(values, axis=2), np.nanstd(values, axis=2), *_quantiles(values)]
    return np.concatenate(parts, axis=1)


def histograms(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Share of each band's pixels in 16 bins over +-3.

    Parameters
    ----------
    values : ndarray, shape (n, C, P)
        Standardised; what is not finite is left out.

    Returns
    -------
    ndarray, shape (n, C * 16)
        The outer bins are open; a band without a value has none in any.
    """
    n, n_bands = values.shape[:2]
    valid = np.isfinite(values)
    bins = np.clip((np.nan_to_num(values) + _BIN_SPAN) * (_BINS / (2 * _BIN_SPAN)), 0, _BINS - 1).astype(int)
    cell = np.arange(n * n_bands).reshape(n, n_bands, 1) * _BINS + bins
    counts = np.bincount(cell[valid], minlength=n * n_bands * _BINS).reshape(n, n_bands, _BINS)
    shares: NDArray[np.floating] = counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)
    return shares.reshape(n, n_bands * _BINS)


def _quantiles(values: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Quantiles along the last axis, ignoring NaN; by one sort, because numpy's nanquantile goes row by row."""
    ordered = np.sort(values, axis=2)  # NaN last
    last = np.isfinite(values).sum(axis=2) - 1
    found = []
    for q in QUANTILES:
        place = q * last
        below = np.floor(place).astype(int)
        low = np.take_along_axis(ordered, below[..., None], axis=2)[..., 0]
        high = np.take_along_axis(ordered, np.minimum(below + 1, last)[..., None], axis=2)[..., 0]
        found.append(low + (place - below) * (high - low))
    return found
