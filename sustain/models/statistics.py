"""Mean and spread of the bands of training tiles, by which every model standardises what it sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError

__all__ = ["LIGHTS", "BandStatistics", "band_statistics", "dn_statistics"]

LIGHTS = "NIGHTLIGHTS"
"""Name of the band of night lights."""

_CHUNK = 256


class BandStatistics(BaseModel):
    """Mean and standard deviation of each band, in physical units, over the training rows' valid pixels."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]


def band_statistics(store: TileStore, rows: NDArray[np.int64]) -> BandStatistics:
    """Mean and standard deviation of each band over the valid pixels of some rows, in physical units.

    Sums are exact (integers), so the order of tiles does not matter. A band that never varies gets the standard
    deviation of one DN, and so reaches the network as 0.

    Raises
    ------
    DataError
        When a band has no valid pixel.
    """
    mean, std, n = dn_statistics(store, rows)
    if (empty := n == 0).any():
        names = ", ".join(np.array(store.bands)[empty])
        raise DataError(f"{store.folder}: no valid pixel of {names} in the training split.")
    scale, offset = np.array(store.scale), np.array(store.offset)
    return BandStatistics(mean=tuple((scale * mean + offset).tolist()), std=tuple((scale * std).tolist()))


def dn_statistics(
    store: TileStore, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean and standard deviation of each band's DN over the valid pixels of some rows, and how many these are."""
    n_bands = len(store.bands)
    n, total, squares = (np.zeros(n_bands, dtype=np.int64) for _ in range(3))
    for start in range(0, len(rows), _CHUNK):
        # Missing values are 0 and add nothing.
        numbers = store.read(rows[start : start + _CHUNK]).astype(np.int64)
        n += (numbers != store.nodata).sum(axis=(0, 2, 3))
        total += numbers.sum(axis=(0, 2, 3))
        squares += (numbers**2).sum(axis=(0, 2, 3))
    mean = total / np.maximum(n, 1)
    variance = np.maximum(squares / np.maximum(n, 1) - mean**2, 0)
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0), n
