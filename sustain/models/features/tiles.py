"""Numbers that stand for a packed tile in a simple model: mean night lights, statistics and histograms of its bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.data.tiles.packed import TileStore
from sustain.data.tiles.shards import TileFormat
from sustain.models.features.summaries import MAX_SIDE, histograms, statistics
from sustain.models.statistics import LIGHTS, BandStatistics

__all__ = ["TileFeatures", "features_of", "lights_of", "mean_nightlights", "tile_features"]

_CHUNK = 256


@dataclass(frozen=True)
class TileFeatures:
    """Features of tiles; a band without a valid pixel counts as average ground."""

    statistics: NDArray[np.float32]
    """``(n, C * 7)``: `sustain.models.features.summaries.statistics`, in standard deviations of a band's pixels."""
    histograms: NDArray[np.float32]
    """``(n, C * 16)``: `sustain.models.features.summaries.histograms`, over +-3 standard deviations."""


def mean_nightlights(store: TileStore) -> NDArray[np.float64]:
    """Mean night lights of every tile of a store; see `lights_of`."""
    return np.concatenate([lights_of(tiles, store.format) for tiles in _batches(store)])


def lights_of(tiles: NDArray[np.uint16], form: TileFormat) -> NDArray[np.float64]:
    """Mean of each tile's valid NIGHTLIGHTS pixels, in the band's unit; NaN where it has none; shape ``(n,)``."""
    lights = form.decode(tiles, LIGHTS)
    valid = np.isfinite(lights)
    n = valid.sum(axis=(1, 2))
    total = np.where(valid, lights, 0).sum(axis=(1, 2), dtype=np.float64)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def tile_features(store: TileStore, bands: BandStatistics) -> TileFeatures:
    """Compute the features of every tile of a store; see `features_of`."""
    found = [features_of(tiles, store.format, bands) for tiles in _batches(store)]
    return TileFeatures(
        np.concatenate([part.statistics for part in found]),
        np.concatenate([part.histograms for part in found]),
    )


def features_of(tiles: NDArray[np.uint16], form: TileFormat, bands: BandStatistics) -> TileFeatures:
    """Compute the features of tiles, from at most 64 x 64 evenly spaced pixels of each.

    Parameters
    ----------
    tiles : ndarray of uint16, shape (n, C, H, W)
        DN.
    form : TileFormat
        What they mean.
    bands : BandStatistics
        Of the training split, by which values are standardised.
    """
    scale, offset = np.array(form.scale), np.array(form.offset)
    mean = ((np.array(bands.mean) - offset) / scale)[:, None]
    std = (np.array(bands.std) / scale)[:, None]
    step = -(-form.tile_px // MAX_SIDE)
    numbers = tiles[:, :, ::step, ::step].reshape(*tiles.shape[:2], -1)
    values = (numbers.astype(np.float32) - mean) / std
    values[numbers == form.nodata] = np.nan
    values[np.isnan(values).all(axis=2)] = 0
    return TileFeatures(statistics(values).astype(np.float32), histograms(values).astype(np.float32))


def _batches(store: TileStore) -> Iterator[NDArray[np.uint16]]:
    for start in range(0, len(store), _CHUNK):
        yield store.read(np.arange(start, min(start + _CHUNK, len(store))))
