"""Means and standard deviations of channels, in float64, for whichever samples are asked.

The moments of each *sample* are kept, not those of a split: statistics of any training set (another label, another
scheme, another fold) are then a merge of rows, exact, without reading an image again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.errors import DataError

__all__ = ["ChannelStatistics", "merge_moments", "sample_moments"]


class ChannelStatistics(NamedTuple):
    """Per-channel count, mean and population standard deviation, each float64 ``(C,)``.

    The standard deviation is NaN for a channel without any value, and so is its mean.
    """

    n: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def sample_moments(values: NDArray[Any], channel_axis: int = 0) -> NDArray[np.float64]:
    """Return count, mean and sum of squared deviations of each channel; NaN values count as missing.

    Parameters
    ----------
    values : ndarray
    channel_axis : int

    Returns
    -------
    ndarray of float64, shape (C, 3)
    """
    flat = np.moveaxis(values, channel_axis, 0)
    flat = flat.reshape(len(flat), -1).astype(np.float64)
    present = np.isfinite(flat)
    n = present.sum(axis=1)
    total = np.where(present, flat, 0).sum(axis=1)
    mean = np.divide(total, n, out=np.zeros(len(flat)), where=n > 0)
    squares = (np.where(present, flat - mean[:, None], 0) ** 2).sum(axis=1)
    return np.stack([n, mean, squares], axis=1)


def merge_moments(moments: NDArray[np.float64]) -> ChannelStatistics:
    """Merge samples' moments ``(N, C, 3)`` into statistics of all their values (Chan, Golub and LeVeque 1983).

    Raises
    ------
    DataError
        When there is no sample.
    """
    if not len(moments):
        raise DataError("no sample in the training split, so there is nothing to take statistics of.")
    n, mean, squares = np.moveaxis(moments, 2, 0)
    total = n.sum(axis=0)
    with np.errstate(invalid="ignore"):
        grand = (n * mean).sum(axis=0) / total
        between = (n * (mean - grand) ** 2).sum(axis=0)
        return ChannelStatistics(total, grand, np.sqrt((squares.sum(axis=0) + between) / total))
