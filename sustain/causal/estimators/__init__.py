"""Designs as estimators that are linear in the outcome."""

from sustain.causal.estimators.absorb import Absorbed
from sustain.causal.estimators.doubly_robust import doubly_robust
from sustain.causal.estimators.instrument import two_stage_least_squares
from sustain.causal.estimators.learners import LearnedEstimator, learned_doubly_robust
from sustain.causal.estimators.least_squares import (
    Adjustment,
    LeastSquares,
    LinearEstimator,
    difference_in_means,
    least_squares,
    two_way_fixed_effects,
)
from sustain.causal.estimators.propensity import inverse_propensity

__all__ = [
    "Absorbed",
    "Adjustment",
    "LearnedEstimator",
    "LeastSquares",
    "LinearEstimator",
    "difference_in_means",
    "doubly_robust",
    "inverse_propensity",
    "learned_doubly_robust",
    "least_squares",
    "two_stage_least_squares",
    "two_way_fixed_effects",
]
