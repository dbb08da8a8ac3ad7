"""Contrasts between places, and the slope of prediction on truth that each kind of them has."""

from sustain.debias.contrasts.families import ContrastFamily, DonorTrials
from sustain.debias.contrasts.slopes import LevelSlope

__all__ = ["ContrastFamily", "DonorTrials", "LevelSlope"]
