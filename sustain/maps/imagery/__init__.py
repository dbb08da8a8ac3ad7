"""Imagery on one lattice: scenes, mosaics, STAC items, bands and their numbers."""
