"""Models of whatever kind, by one call: a network, which needs torch, or a simple model, which does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from sustain.config import TrainParams
from sustain.files import read_json
from sustain.models.description import MODEL_FILE
from sustain.models.simple import SIMPLE_MODELS
from sustain.models.tabular import SimplePredictor, train_simple

if TYPE_CHECKING:
    from sustain.models.predictor import TilePredictor

__all__ = ["AnyPredictor", "load_model", "train_model"]

AnyPredictor: TypeAlias = Union["TilePredictor", SimplePredictor]


def load_model(folder: str | Path, accelerator: str = "auto") -> AnyPredictor:
    """Load the folder of a trained model.

    Parameters
    ----------
    folder : str or Path
    accelerator : {"auto", "cpu", "gpu"}
        Where a network computes; a simple model has no use for a GPU.

    Raises
    ------
    ModelError
        When a file is missing, damaged, or not the other's.
    HardwareError
        When a GPU is asked for and absent.
    """
    page = Path(folder) / MODEL_FILE
    about = read_json(page) if page.is_file() else {}
    if isinstance(about, dict) and about.get("backbone") in SIMPLE_MODELS:
        return SimplePredictor.load(folder)
    from sustain.models.hardware import torch_device
    from sustain.models.predictor import TilePredictor

    return TilePredictor.load(folder, torch_device(accelerator).type)


def train_model(
    tiles: str | Path,
    out: str | Path,
    params: TrainParams,
    seed: int,
    tensorboard: str | Path | None = None,
) -> None:
    """Train the model that ``params.backbone`` names: a network or one of `sustain.models.simple.SIMPLE_MODELS`.

    Arguments and errors are those of `sustain.models.training.train` and `sustain.models.tabular.train_simple`.
    """
    if params.backbone in SIMPLE_MODELS:
        train_simple(tiles, out, params, seed)
        return
    from sustain.models.training import train

    train(tiles, out, params, seed, tensorboard)
