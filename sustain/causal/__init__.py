"""Causal effects on outcomes that were read off a map, with the map's error in the interval."""

from sustain.causal.effect import estimate_effect
from sustain.causal.result import EffectResult, Estimate, Note

__all__ = ["EffectResult", "Estimate", "Note", "estimate_effect"]
