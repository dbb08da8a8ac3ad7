"""A trained model as a folder, and as a function from tiles to predictions."""

from __future__ import annotations

import hashlib
import warnings
from copy import copy
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from torch import Tensor

from sustain.errors import HardwareWarning, ModelError
from sustain.models.description import Described, Description, read_description
from sustain.models.hardware import require_devices
from sustain.models.inputs import ExtraInputs, TileInputs
from sustain.models.losses import Head
from sustain.models.network import TileNetwork, combine
from sustain.models.sites import site_columns

__all__ = ["WEIGHTS_FILE", "ModelDescription", "TilePredictor"]

WEIGHTS_FILE = "weights.safetensors"


class ModelDescription(Description):
    """The content of a network's ``model.json``."""

    members: int = Field(1, gt=0, description="Networks whose mean is the prediction.")
    views: Literal[1, 2, 4, 8] = Field(
        1, description="Turned and mirrored copies of a tile whose mean is the prediction."
    )
    stack: bool = Field(
        False, description="Whether it is stacked with ridge regressions on moments and random convolutions."
    )
    head: Head = "mean"
    extras: ExtraInputs = ExtraInputs()

    def build(self, members: int | None = None) -> TileNetwork:
        """Build the network that the description names, with random weights; all its members, or so many.

        Raises
        ------
        ModelError
            When the backbone is unknown, or sees more than a tile.
        """
        scale, offset = np.array(self.scale), np.array(self.offset)
        mean = (np.array(self.statistics.mean) - offset) / scale
        std = np.array(self.statistics.std) / scale
        inputs = TileInputs(self.bands, mean, std, self.nodata, self.extras)
        outputs = 2 if self.head == "mean_variance" else 1
        network = TileNetwork(self.backbone, inputs, outputs, members or self.members, self.views, self.stack)
        network.require_tile(self.tile_px)
        return network


class TilePredictor(Described):
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

    description: ModelDescription

    def __init__(
        self, network: TileNetwork, description: ModelDescription, device: str | None = None
    ) -> None:
        self.description = description
        self.format = description
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda":
            require_devices("gpu", 1)
        self._network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self._year: float | None = None

    @classmethod
    def load(cls, folder: str | Path, device: str | None = None) -> TilePredictor:
        """Load a folder that `sustain.models.training.model` wrote; no pickled code is ever run.

        Parameters
        ----------
        folder : str or Path
            Folder of ``model.json`` and ``weights.safetensors``.
        device : str, optional
            A torch device; by default the GPU where there is one.

        Raises
        ------
        HardwareError
            When `device` is a GPU and there is none.
        ModelError
            When a file is missing, the weights are not those that ``model.json`` describes (by sha256), or they do
            not fit the architecture.
        """
        weights = Path(folder) / WEIGHTS_FILE
        description = read_description(folder, ModelDescription, WEIGHTS_FILE)
        network = description.build()
        try:
            network.load_state_dict(load_weights(weights.read_bytes()))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(
                f"{weights}: does not fit the backbone {description.backbone!r}: {error}"
            ) from error
        return cls(network, description, device)

    @property
    def fingerprint(self) -> str:
        """sha256 of all that predictions depend on: `description`, which names the weights, and the year if bound."""
        text = f"{self.description.model_dump_json()} {self._year}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def has_sd(self) -> bool:
        """Whether the model gives a predictive standard deviation."""
        return self.description.head == "mean_variance"

    @property
    def receptive_field(self) -> int | None:
        """Side of what one feature cell sees, in pixels; None where only whole tiles can be predicted."""
        return self._network.receptive_field

    @property
    def stride(self) -> int | None:
        """Distance of feature cells, in pixels; None where only whole tiles can be predicted."""
        return self._network.stride

    def for_year(self, year: float) -> Self:
        """Return this predictor for imagery of one year, for models that look at the year or the lights' sensor."""
        bound = copy(self)
        bound._year = float(year)
        return bound

    def predict(
        self, tiles: NDArray[np.uint16], batch_size: int = 256, sites: pd.DataFrame | None = None
    ) -> NDArray[np.float32]:
        """Predict tiles.

        Parameters
        ----------
        tiles : ndarray of uint16, shape (n, C, H, W)
            DN, north-up, bands in the order of `bands`; `nodata` is missing.
        batch_size : int
            Tiles on the device at once; halved, with a `HardwareWarning`, when its memory does not suffice.
        sites : DataFrame of n rows, optional
            Columns ``year``, ``lat``, ``lon``, for models that were trained to look at them.

        Returns
        -------
        ndarray of float32, shape (n,)
            In the unit of `target`; NaN for a tile without one valid value.

        Raises
        ------
        ModelError
            When type or shape are not those of the model, or it looks at columns that `sites` lacks.
        """
        return self._predict(tiles, batch_size, sites)[0]

    def predict_with_sd(
        self, tiles: NDArray[np.uint16], batch_size: int = 256, sites: pd.DataFrame | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Predict tiles, and the standard deviation of the truth around each prediction; see `predict`.

        Raises
        ------
        ModelError
            As `predict`, and when the model was trained without a variance.
        """
        if not self.has_sd:
            raise ModelError(
                f"{self.id} gives a mean alone. Train with loss gaussian or beta_gaussian for a standard deviation."
            )
        predicted, sd = self._predict(tiles, batch_size, sites)
        return predicted, sd

    def predict_cells(self, pixels: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Put every feature cell of a window of imagery through the network, at once.

        Of the means over a tile's cells `combine_cells` makes what `predict` gives for the tile, to float error; so the
        map of a scene is made of box means of these fields. Cell (i, j) sees the square of `receptive_field` pixels
        whose corner is at row ``i * stride``, column ``j * stride``.

        Parameters
        ----------
        pixels : ndarray of uint16, shape (C, H, W)
            DN; H and W at least `receptive_field`.

        Returns
        -------
        ndarray of float64, shape (fields, (H - receptive_field) // stride + 1, (W - receptive_field) // stride + 1)
            A field for each output of each member of the network.

        Raises
        ------
        ModelError
            When the backbone pads, so that no field of cells equals the tiles' predictions.
        """
        with torch.inference_mode():
            # Copied: torch takes neither strided views of a scene nor read-only memory.
            tiles = torch.from_numpy(np.array(pixels[None])).to(self.device)
            cells = self._network.cells(self._channels(tiles, self._sites(None, 1)))
            return np.asarray(cells[:, 0].flatten(0, 1).double().cpu().numpy())

    def combine_cells(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn means of the fields of `predict_cells` over the cells of tiles into predictions of the tiles.

        Parameters
        ----------
        means : ndarray of float64, shape (fields, ...)

        Returns
        -------
        ndarray of float64, shape (1 or 2, ...)
            Prediction in the unit of `target` and, from a model that `has_sd`, the standard deviation of the truth
            around it.
        """
        outputs = 1 + self.has_sd
        by_member = torch.from_numpy(means.reshape(-1, outputs, means[0].size)).transpose(1, 2)
        return self._in_units(combine(by_member).numpy()).reshape(outputs, *means.shape[1:])

    def _in_units(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictions, and standard deviations where there are any, of the network's outputs (n, outputs)."""
        label = self.description.label
        bands = [outputs[:, 0] * label.std + label.mean]
        if self.has_sd:
            bands.append(np.exp(outputs[:, 1] / 2) * label.std)
        return np.stack(bands)

    def _sites(self, sites: pd.DataFrame | None, n: int) -> Tensor | None:
        needs = self.description.extras.needs
        if not needs:
            return None
        if self._year is not None and (sites is None or "year" not in sites):
            sites = pd.DataFrame({"year": np.full(n, self._year)} | ({} if sites is None else dict(sites)))
        return torch.from_numpy(site_columns(sites, needs, n, self.id))

    def _channels(self, tiles: Tensor, sites: Tensor | None) -> Tensor:
        channels = self._network.normalise(tiles, None if sites is None else sites.to(self.device))
        return channels.contiguous(memory_format=torch.channels_last)

    def _predict(
        self, tiles: NDArray[np.uint16], batch_size: int, sites: pd.DataFrame | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        tiles = self.checked(tiles)
        columns = self._sites(sites, len(tiles))
        try:
            return self._predict_batches(tiles, batch_size, columns)
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            warnings.warn(
                f"{self.device}: {batch_size} tiles at once are too many for its memory; going on with "
                f"{batch_size // 2}.",
                HardwareWarning,
                stacklevel=3,
            )
            return self._predict_batches(tiles, batch_size // 2, columns)

    def _predict_batches(
        self, tiles: NDArray[np.uint16], batch_size: int, sites: Tensor | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        mean, sd = np.empty(len(tiles), dtype=np.float32), np.full(len(tiles), np.nan, dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(tiles), batch_size):
                part = slice(start, start + batch_size)
                batch = np.require(tiles[part], requirements=["C", "W"])
                on_device = torch.from_numpy(batch).to(self.device)
                output = self._network.predict(
                    self._channels(on_device, None if sites is None else sites[part])
                )
                bands = self._in_units(output.double().cpu().numpy())
                empty = (batch == self.nodata).all(axis=(1, 2, 3))
                mean[part] = np.where(empty, np.nan, bands[0])
                if self.has_sd:
                    sd[part] = np.where(empty, np.nan, bands[1])
        return mean, sd
