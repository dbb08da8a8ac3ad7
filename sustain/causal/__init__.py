"""Causal effects on outcomes that were read off a map, with the map's error in the interval."""

from sustain.causal.cross_ppi import cross_ppi_effect, cross_predict
from sustain.causal.effect import estimate_effect
from sustain.causal.estimate import Estimate, Note
from sustain.causal.planning import Power, effective_sample_size, minimum_detectable_effect, power
from sustain.causal.ppi import PPIResult, ppi_effect, ppi_mean, ppi_ols
from sustain.causal.predict_debias import DebiasedEstimates, least_squares, predict_then_debias
from sustain.causal.result import EffectResult
from sustain.causal.sensitivity import Sensitivity
from sustain.causal.stability import CombinedEffect, StabilityTest, combined_effect, stability_test

__all__ = [
    "CombinedEffect",
    "DebiasedEstimates",
    "EffectResult",
    "Estimate",
    "Note",
    "PPIResult",
    "Power",
    "Sensitivity",
    "StabilityTest",
    "combined_effect",
    "cross_ppi_effect",
    "cross_predict",
    "effective_sample_size",
    "estimate_effect",
    "least_squares",
    "minimum_detectable_effect",
    "power",
    "ppi_effect",
    "ppi_mean",
    "ppi_ols",
    "predict_then_debias",
    "stability_test",
]
