"""Wealth maps: from imagery to raw predictions, corrected rasters, tables at places, and a published folder."""

from sustain.maps.correct import correct_raster

__all__ = ["correct_raster"]
