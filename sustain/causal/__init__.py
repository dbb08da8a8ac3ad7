"""Causal effects on outcomes that were read off a map, with the map's error in the interval."""

from sustain.causal.effect import estimate_effect
from sustain.causal.power import effective_sample_size, minimum_detectable_effect
from sustain.causal.ppi import PPIResult, ppi_effect, ppi_mean, ppi_ols
from sustain.causal.result import EffectResult, Estimate, Note
from sustain.causal.sensitivity import Sensitivity
from sustain.causal.stability import StabilityTest, stability_test

__all__ = [
    "EffectResult",
    "Estimate",
    "Note",
    "PPIResult",
    "Sensitivity",
    "StabilityTest",
    "effective_sample_size",
    "estimate_effect",
    "minimum_detectable_effect",
    "ppi_effect",
    "ppi_mean",
    "ppi_ols",
    "stability_test",
]
