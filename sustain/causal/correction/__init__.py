"""A card's correction of an effect, and the calibration's part of its variance."""

from sustain.causal.correction.choice import Assumption, Corrected, CorrectionChoice
from sustain.causal.correction.elsewhere import Transport
from sustain.causal.correction.overlap import Overlap
from sustain.causal.correction.ratio import CorrectedEffect, corrected_effect, corrected_mean

__all__ = [
    "Assumption",
    "Corrected",
    "CorrectedEffect",
    "CorrectionChoice",
    "Overlap",
    "Transport",
    "corrected_effect",
    "corrected_mean",
]
