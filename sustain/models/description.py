"""What every model says of itself in ``model.json``, and how its folder is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sustain.data.tiles.shards import HasTileFormat, TileFormat
from sustain.errors import ModelError
from sustain.files import read_json, sha256_of
from sustain.models.statistics import BandStatistics

__all__ = ["MODEL_FILE", "Described", "Description", "LabelStatistics", "Target", "read_description"]

MODEL_FILE = "model.json"


class Target(BaseModel):
    """What is predicted."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str


class LabelStatistics(BaseModel):
    """Mean and standard deviation of the training split's labels."""

    model_config = ConfigDict(frozen=True)

    mean: float
    std: float = Field(gt=0)


class Description(TileFormat):
    """The content of ``model.json``: everything that predictions depend on, beside the weights."""

    backbone: str = Field(description="Kind of the model: the network's name, or the simple model's.")
    statistics: BandStatistics
    label: LabelStatistics
    target: Target
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    params: dict[str, Any]
    seed: int
    versions: dict[str, str]

    @model_validator(mode="after")
    def _a_statistic_each(self) -> Description:
        if not len(self.statistics.mean) == len(self.statistics.std) == len(self.bands):
            raise ValueError("statistics must have one mean and one std a band")
        if min(self.statistics.std) <= 0:
            raise ValueError("statistics.std must be positive")
        return self


class Described(HasTileFormat):
    """A model with a description.

    Attributes
    ----------
    description : Description
    """

    description: Description

    @property
    def id(self) -> str:
        """Kind of the model and the first twelve digits of the weights' sha256."""
        return f"{self.description.backbone}-{self.description.weights_sha256[:12]}"

    @property
    def target(self) -> Target:
        """Name and unit of what is predicted."""
        return self.description.target

    def require_format(self, other: TileFormat, what: str) -> None:
        """Raise `ModelError` unless `what` has the bands, encoding and sizes that the model was trained on."""
        if wrong := self.format.differences(other):
            raise ModelError(f"{what} does not fit the model {self.id}: {wrong}.")

    def checked(self, tiles: ArrayLike) -> NDArray[np.uint16]:
        """Return tiles as an array, or raise `ModelError` where type or shape are not the model's."""
        found = np.asarray(tiles)
        if found.dtype != np.uint16 or found.ndim != 4 or found.shape[1:] != self.format.shape:
            raise ModelError(
                f"tiles are {found.dtype} {found.shape}; the model {self.id} takes uint16 DN of shape "
                f"(n, {', '.join(map(str, self.format.shape))})."
            )
        return found


D = TypeVar("D", bound=Description)


def read_description(folder: str | Path, kind: type[D], weights_file: str) -> D:
    """Read ``model.json`` and check that the weights beside it are those that it describes.

    Raises
    ------
    ModelError
        When one of the files is missing or they do not belong together.
    """
    folder = Path(folder)
    for name in (MODEL_FILE, weights_file):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder / name}: no such file. Run the train stage, or point to a trained model."
            )
    try:
        description = kind.model_validate(read_json(folder / MODEL_FILE))
    except ValidationError as error:
        raise ModelError(f"{folder / MODEL_FILE}: wrong or missing entries: {error}") from error
    weights = folder / weights_file
    if (found := sha256_of(weights)) != description.weights_sha256:
        raise ModelError(
            f"{weights}: sha256 is {found[:12]}..., but {MODEL_FILE} has {description.weights_sha256[:12]}...: "
            "the weights are truncated, altered or another model's. Restore both files, or train again."
        )
    return description
