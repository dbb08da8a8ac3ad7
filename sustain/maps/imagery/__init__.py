"""Imagery on one lattice: scenes, mosaics, STAC items, bands and their numbers."""

from sustain.maps.imagery.bands import Imagery
from sustain.maps.imagery.mosaic import Mosaic
from sustain.maps.imagery.open import open_imagery
from sustain.maps.imagery.scene import Scene
from sustain.maps.imagery.stac_scene import StacImagery

__all__ = ["Imagery", "Mosaic", "Scene", "StacImagery", "open_imagery"]
