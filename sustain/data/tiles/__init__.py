"""Packed tiles with labels and a split; your own come by way of `sustain.data.tiles.local`, which needs rasterio."""

from sustain.data.tiles.packed import INDEX_COLUMNS, TileFormat, TileStore
from sustain.data.tiles.splits import assign_splits, spatial_block

__all__ = ["INDEX_COLUMNS", "TileFormat", "TileStore", "assign_splits", "spatial_block"]
