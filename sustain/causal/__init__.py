"""Causal effects on outcomes that were read off a map, with the map's error in the interval."""

from sustain.causal.distribution import estimate_distribution
from sustain.causal.distributions.result import DistributionResult
from sustain.causal.effect import estimate_effect
from sustain.causal.estimate import Estimate, Note
from sustain.causal.labels.arms import arm_lines, effect_with_arm_lines, effect_with_slope_ratio
from sustain.causal.labels.assumptions import AssumptionTests, assumption_tests
from sustain.causal.labels.coefficients import least_squares
from sustain.causal.labels.cross_ppi import cross_ppi_effect, cross_predict
from sustain.causal.labels.hausman import CombinedEffect, StabilityTest, combined_effect
from sustain.causal.labels.ppi import ppi_effect, ppi_mean
from sustain.causal.labels.ppi_regression import ppi_ols
from sustain.causal.labels.predict_debias import DebiasedEstimates, predict_then_debias
from sustain.causal.labels.result import PPIResult
from sustain.causal.planning.power import Power, effective_sample_size, minimum_detectable_effect, power
from sustain.causal.planning.transport import TransportReport, classifier_auc, transport_checks
from sustain.causal.result.result import EffectResult
from sustain.causal.result.sensitivity import Sensitivity
from sustain.causal.result.table import EffectTable, table
from sustain.debias.diagnosis.curves import CurveTest

__all__ = [
    "AssumptionTests",
    "CombinedEffect",
    "CurveTest",
    "DebiasedEstimates",
    "DistributionResult",
    "EffectResult",
    "EffectTable",
    "Estimate",
    "Note",
    "PPIResult",
    "Power",
    "Sensitivity",
    "StabilityTest",
    "TransportReport",
    "arm_lines",
    "assumption_tests",
    "classifier_auc",
    "combined_effect",
    "cross_ppi_effect",
    "cross_predict",
    "effect_with_arm_lines",
    "effect_with_slope_ratio",
    "effective_sample_size",
    "estimate_distribution",
    "estimate_effect",
    "least_squares",
    "minimum_detectable_effect",
    "power",
    "ppi_effect",
    "ppi_mean",
    "ppi_ols",
    "predict_then_debias",
    "table",
    "transport_checks",
]
