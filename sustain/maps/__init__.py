"""Wealth maps: from imagery to raw predictions, corrected rasters, tables at places, and a published folder."""
