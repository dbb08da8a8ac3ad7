"""Labels in the trial: effects and tests that rest on them."""

from sustain.causal.labels.arms import arm_lines, effect_with_arm_lines, effect_with_slope_ratio
from sustain.causal.labels.assumptions import AssumptionTests, assumption_tests
from sustain.causal.labels.coefficients import least_squares
from sustain.causal.labels.cross_ppi import cross_ppi_effect, cross_predict
from sustain.causal.labels.hausman import CombinedEffect, StabilityTest, combined_effect
from sustain.causal.labels.ppi import ppi_effect, ppi_mean
from sustain.causal.labels.ppi_regression import ppi_ols
from sustain.causal.labels.predict_debias import DebiasedEstimates, predict_then_debias
from sustain.causal.labels.result import PPIResult
from sustain.debias.diagnosis.curves import CurveTest

__all__ = [
    "AssumptionTests",
    "CombinedEffect",
    "CurveTest",
    "DebiasedEstimates",
    "PPIResult",
    "StabilityTest",
    "arm_lines",
    "assumption_tests",
    "combined_effect",
    "cross_ppi_effect",
    "cross_predict",
    "effect_with_arm_lines",
    "effect_with_slope_ratio",
    "least_squares",
    "ppi_effect",
    "ppi_mean",
    "ppi_ols",
    "predict_then_debias",
]
