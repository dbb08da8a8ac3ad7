"""The wealth predictor: from tiles to predictions, and a folder that holds the model.

Networks (`sustain.models.predictor`) need the extra ``train``; ridge regressions, forests and nearest night lights
(`sustain.models.tabular`) need nothing beside the base install.
"""

from sustain.models.kinds import AnyPredictor, load_model, train_model

__all__ = ["AnyPredictor", "load_model", "train_model"]
