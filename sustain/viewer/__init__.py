"""A published map in a browser, on this machine: ``sustain serve``."""

from sustain.viewer.app import make_app
from sustain.viewer.layers import MapLayers

__all__ = ["MapLayers", "make_app"]
