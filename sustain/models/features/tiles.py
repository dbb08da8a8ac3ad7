"""Numbers that stand for a packed tile in a simple model: mean night lights, statistics and histograms of its bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.data.tiles.packed import TileStore
from sustain.models.features.summaries import MAX_SIDE, histograms, statistics
from sustain.models.inputs import LIGHTS, BandStatistics

__all__ = ["TileFeatures", "mean_nightlights", "tile_features"]

_CHUNK = 256


@dataclass(frozen=True)
class TileFeatures:
    """Features of every tile of a store; a band without a valid pixel counts as average ground."""

    statistics: NDArray[np.float32]
    """``(n, C * 7)``: `sustain.models.features.summaries.statistics`, in standard deviations of a band's pixels."""
    histograms: NDArray[np.float32]
    """``(n, C * 16)``: `sustain.models.features.summaries.histograms`, over +-3 standard deviations."""


def mean_nightlights(store: TileStore) -> NDArray[np.float64]:
    """Mean of each tile's valid NIGHTLIGHTS pixels, in the band's unit; NaN where it has none; shape ``(n,)``."""
    means = np.full(len(store), np.nan)
    for start in range(0, len(store), _CHUNK):
        tiles = store.read(np.arange(start, min(start + _CHUNK, len(store))))
        lights = store.format.decode(tiles, LIGHTS)
        valid = np.isfinite(lights)
        n = valid.sum(axis=(1, 2))
        total = np.where(valid, lights, 0).sum(axis=(1, 2), dtype=np.float64)
        means[start : start + len(n)] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return means


def tile_features(store: TileStore, bands: BandStatistics) -> TileFeatures:
    """Compute the features of every tile, from at most 64 x 64 evenly spaced pixels of each.

    Parameters
    ----------
    store : TileStore
    bands : BandStatistics
        Of the training split, by which values are standardised.
    """
    scale, offset = np.array(store.scale), np.array(store.offset)
    mean = ((np.array(bands.mean) - offset) / scale)[:, None]
    std = (np.array(bands.std) / scale)[:, None]
    step = -(-store.tile_px // MAX_SIDE)
    found = []
    for start in range(0, len(store), _CHUNK):
        tiles = store.read(np.arange(start, min(start + _CHUNK, len(store))))[:, :, ::step, ::step]
        numbers = tiles.reshape(*tiles.shape[:2], -1)
        values = (numbers.astype(np.float32) - mean) / std
        values[numbers == store.nodata] = np.nan
        values[np.isnan(values).all(axis=2)] = 0
        found.append((statistics(values), histograms(values)))
    return TileFeatures(*(np.concatenate(parts).astype(np.float32) for parts in zip(*found, strict=True)))
