"""Tweedie's correction: calibrated predictions, their score, and the noise between the two."""

from sustain.debias.tweedie.calibration import TweedieCalibration

__all__ = ["TweedieCalibration"]
