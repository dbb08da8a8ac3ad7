"""A trained model as a folder, and as a function from tiles to predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_weights

from sustain.data.shards import TileFormat
from sustain.errors import ModelError
from sustain.files import read_json, sha256_of
from sustain.models.backbone import TileNetwork

__all__ = ["MODEL_FILE", "WEIGHTS_FILE", "BandStatistics", "ModelDescription", "Target", "TilePredictor"]

WEIGHTS_FILE = "weights.safetensors"
MODEL_FILE = "model.json"


class Target(BaseModel):
    """What is predicted."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str


class BandStatistics(BaseModel):
    """Mean and standard deviation of each band, in physical units, over the training split's valid pixels."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]


class LabelStatistics(BaseModel):
    """Mean and standard deviation of the training split's labels."""

    model_config = ConfigDict(frozen=True)

    mean: float
    std: float = Field(gt=0)


class ModelDescription(TileFormat):
    """The content of ``model.json``: everything that predictions depend on, beside the weights."""

    backbone: str
    statistics: BandStatistics
    label: LabelStatistics
    target: Target
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    params: dict[str, Any]
    seed: int
    versions: dict[str, str]

    @model_validator(mode="after")
    def _a_statistic_each(self) -> ModelDescription:
        if not len(self.statistics.mean) == len(self.statistics.std) == len(self.bands):
            raise ValueError("statistics must have one mean and one std a band")
        if min(self.statistics.std) <= 0:
            raise ValueError("statistics.std must be positive")
        return self

    def build(self) -> TileNetwork:
        """Build the network that the description names, with random weights."""
        scale, offset = np.array(self.scale), np.array(self.offset)
        mean = (np.array(self.statistics.mean) - offset) / scale
        std = np.array(self.statistics.std) / scale
        return TileNetwork(self.backbone, torch.from_numpy(mean), torch.from_numpy(std), self.nodata)


class TilePredictor:
    """Predict the target of tiles with a trained model.

    Attributes
    ----------
    description : ModelDescription
        Bands, scale, offset, nodata, tile and pixel size, statistics; the main ones are attributes of the predictor.

    Examples
    --------
    >>> predictor = TilePredictor.load("models/synthetic")                   # doctest: +SKIP
    >>> predictor.predict(store.read(store.rows("test")))                    # doctest: +SKIP
    array([-0.41, 0.92, ...], dtype=float32)
    """

    def __init__(
        self, network: TileNetwork, description: ModelDescription, device: str | None = None
    ) -> None:
        self.description = description
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._network = network.to(self.device).to(memory_format=torch.channels_last).eval()

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> TilePredictor:
        """Load a folder that `sustain.models.train` wrote; no pickled code is ever run.

        Parameters
        ----------
        folder : str or Path
            Folder of ``model.json`` and ``weights.safetensors``.
        device : str, optional
            A torch device; by default the GPU where there is one.

        Raises
        ------
        ModelError
            When a file is missing, the weights are not those that ``model.json`` describes (by sha256), or they do
            not fit the architecture.
        """
        folder = Path(folder)
        for name in (MODEL_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise ModelError(
                    f"{folder / name}: no such file. Run the train stage, or point to a trained model."
                )
        try:
            description = ModelDescription.model_validate(read_json(folder / MODEL_FILE))
        except ValidationError as error:
            raise ModelError(f"{folder / MODEL_FILE}: wrong or missing entries: {error}") from error
        weights = folder / WEIGHTS_FILE
        if (found := sha256_of(weights)) != description.weights_sha256:
            raise ModelError(
                f"{weights}: sha256 is {found[:12]}..., but {MODEL_FILE} has {description.weights_sha256[:12]}...: "
                "the weights are truncated, altered or another model's. Restore both files, or train again."
            )
        network = description.build()
        try:
            network.load_state_dict(load_weights(weights.read_bytes()))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(
                f"{weights}: does not fit the backbone {description.backbone!r}: {error}"
            ) from error
        return cls(network, description, device)

    @property
    def id(self) -> str:
        """Backbone and the first twelve digits of the weights' sha256."""
        return f"{self.description.backbone}-{self.description.weights_sha256[:12]}"

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in channel order."""
        return self.description.bands

    @property
    def scale(self) -> tuple[float, ...]:
        """``value = scale * DN + offset``, a number a band."""
        return self.description.scale

    @property
    def offset(self) -> tuple[float, ...]:
        """``value = scale * DN + offset``, a number a band."""
        return self.description.offset

    @property
    def nodata(self) -> int:
        """DN of a missing value."""
        return self.description.nodata

    @property
    def tile_px(self) -> int:
        """Side of a tile, in pixels."""
        return self.description.tile_px

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, in metres."""
        return self.description.pixel_m

    @property
    def target(self) -> Target:
        """Name and unit of what is predicted."""
        return self.description.target

    def require_format(self, other: TileFormat, what: str) -> None:
        """Raise `ModelError` unless `what` has the bands, encoding and sizes that the model was trained on."""
        wrong = [
            f"{name} is {getattr(other, name)}, the model has {getattr(self.description, name)}"
            for name in TileFormat.model_fields
            if getattr(other, name) != getattr(self.description, name)
        ]
        if wrong:
            raise ModelError(f"{what} does not fit the model {self.id}: {'; '.join(wrong)}.")

    def predict(self, tiles: NDArray[np.uint16], batch_size: int = 256) -> NDArray[np.float32]:
        """Predict tiles.

        Parameters
        ----------
        tiles : ndarray of uint16, shape (n, C, H, W)
            DN, north-up, bands in the order of `bands`; `nodata` is missing.
        batch_size : int
            Tiles on the device at once.

        Returns
        -------
        ndarray of float32, shape (n,)
            In the unit of `target`; NaN for a tile without one valid value.

        Raises
        ------
        ModelError
            When type or shape are not those of the model.
        """
        tiles = np.asarray(tiles)
        if tiles.dtype != np.uint16 or tiles.ndim != 4 or tiles.shape[1:] != self.description.shape:
            raise ModelError(
                f"tiles are {tiles.dtype} {tiles.shape}; the model {self.id} takes uint16 DN of shape "
                f"(n, {', '.join(map(str, self.description.shape))})."
            )
        predicted = np.empty(len(tiles), dtype=np.float32)
        label = self.description.label
        with torch.inference_mode():
            for start in range(0, len(tiles), batch_size):
                batch = np.require(tiles[start : start + batch_size], requirements=["C", "W"])
                on_device = torch.from_numpy(batch).to(self.device)
                output = self._network(self._network.normalise(on_device)).double().cpu().numpy()
                empty = (batch == self.nodata).all(axis=(1, 2, 3))
                predicted[start : start + batch_size] = np.where(
                    empty, np.nan, output * label.std + label.mean
                )
        return predicted
