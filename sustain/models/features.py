"""Numbers that stand for a tile in a simple model: its mean night lights, statistics and histograms of its bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.data.tiles.packed import TileStore
from sustain.models.inputs import LIGHTS, BandStatistics

__all__ = ["QUANTILES", "TileFeatures", "mean_nightlights", "tile_features"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_BINS = 16
_BIN_SPAN = 3.0
_MAX_SIDE = 64
_CHUNK = 256


@dataclass(frozen=True)
class TileFeatures:
    """Features of every tile of a store; a band without a valid pixel counts as average ground."""

    statistics: NDArray[np.float32]
    """``(n, C * 7)``: mean, standard deviation and `QUANTILES` of each band, in standard deviations of its pixels."""
    histograms: NDArray[np.float32]
    """``(n, C * 16)``: share of each band's pixels in 16 bins over +-3 standard deviations; the outer ones are open."""


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
    step = -(-store.tile_px // _MAX_SIDE)
    statistics, histograms = [], []
    for start in range(0, len(store), _CHUNK):
        tiles = store.read(np.arange(start, min(start + _CHUNK, len(store))))[:, :, ::step, ::step]
        numbers = tiles.reshape(*tiles.shape[:2], -1)
        values = (numbers.astype(np.float32) - mean) / std
        values[numbers == store.nodata] = np.nan
        values[np.isnan(values).all(axis=2)] = 0
        parts = [np.nanmean(values, axis=2), np.nanstd(values, axis=2), *_quantiles(values)]
        statistics.append(np.concatenate(parts, axis=1))
        histograms.append(_histograms(values))
    return TileFeatures(
        np.concatenate(statistics).astype(np.float32), np.concatenate(histograms).astype(np.float32)
    )


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


def _histograms(values: NDArray[np.floating]) -> NDArray[np.floating]:
    n, n_bands = values.shape[:2]
    valid = np.isfinite(values)
    bins = np.clip((np.nan_to_num(values) + _BIN_SPAN) * (_BINS / (2 * _BIN_SPAN)), 0, _BINS - 1).astype(int)
    cell = np.arange(n * n_bands).reshape(n, n_bands, 1) * _BINS + bins
    counts = np.bincount(cell[valid], minlength=n * n_bands * _BINS).reshape(n, n_bands, _BINS)
    shares: NDArray[np.floating] = counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)
    return shares.reshape(n, n_bands * _BINS)
