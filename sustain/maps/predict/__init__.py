"""Predictions wall to wall, block by block."""

from sustain.maps.predict.exact import Predictor
from sustain.maps.predict.predict import predict_map

__all__ = ["Predictor", "predict_map"]
