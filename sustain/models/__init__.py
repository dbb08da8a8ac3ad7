"""The wealth predictor: a network from tiles to predictions, and a folder that holds it.

It is trained by `sustain.models.training`, which needs Lightning; `TilePredictor` needs torch alone.
"""

from sustain.models.predictor import ModelDescription, TilePredictor

__all__ = ["ModelDescription", "TilePredictor"]
