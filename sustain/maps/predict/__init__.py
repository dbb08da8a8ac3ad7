"""Predictions wall to wall, block by block."""
