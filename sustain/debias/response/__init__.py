"""Effects through the response curve E[prediction | truth]: curve, kernel, and unfolding."""

from sustain.debias.response.calibration import ResponseCalibration

__all__ = ["ResponseCalibration"]
