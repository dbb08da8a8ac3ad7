"""Training on packed tiles: reproducible, resumable, on one device or several."""

from sustain.models.training.model import train
from sustain.models.training.tensorboard import TENSORBOARD_VARIABLE

__all__ = ["TENSORBOARD_VARIABLE", "train"]
