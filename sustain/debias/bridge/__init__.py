"""The bridge: a correction by moments of the truth."""

from sustain.debias.bridge.calibration import BridgeCalibration

__all__ = ["BridgeCalibration"]
