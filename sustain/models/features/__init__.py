"""Numbers that stand for a tile, which linear models and forests read."""

from sustain.models.features.convolutions import RandomConvolutions
from sustain.models.features.moments import band_moments
from sustain.models.features.summaries import histograms, statistics
from sustain.models.features.tiles import TileFeatures, mean_nightlights, tile_features

__all__ = [
    "RandomConvolutions",
    "TileFeatures",
    "band_moments",
    "histograms",
    "mean_nightlights",
    "statistics",
    "tile_features",
]
