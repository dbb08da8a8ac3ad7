"""Training on packed tiles: reproducible, resumable, on one device or several."""

from sustain.models.training.model import train

__all__ = ["train"]
