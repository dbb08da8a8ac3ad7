"""Train a network on packed tiles, reproducibly, and write the model folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from sustain.config import TrainParams
from sustain.data.tiles import TileStore
from sustain.errors import DataError
from sustain.files import atomic_directory, sha256_of, write_json
from sustain.models.backbone import TileNetwork
from sustain.models.loader import TileBatches, dihedral
from sustain.models.losses import LOSSES
from sustain.models.predictor import (
    MODEL_FILE,
    WEIGHTS_FILE,
    BandStatistics,
    LabelStatistics,
    ModelDescription,
    Target,
)

__all__ = ["band_statistics", "train"]

_CHUNK = 256


def train(tiles: str | Path, out: str | Path, params: TrainParams, seed: int) -> None:
    """Train on the split ``train``, stop and choose the epoch by the split ``val``.

    The weights kept are those of the epoch with the least validation loss. On a CPU, the same tiles, parameters, seed
    and versions give the same weights, to the bit.

    Parameters
    ----------
    tiles : str or Path
        Folder of packed tiles (`sustain.data.tiles`).
    out : str or Path
        Folder to write: ``weights.safetensors``, ``model.json``, ``curves.csv`` (one row an epoch; losses in squared
        standard deviations of the label). It appears whole, when training has ended, or not at all.
    params : TrainParams
        Network and schedule.
    seed : int
        Seed of the initial weights, the order of tiles and their augmentation.

    Raises
    ------
    DataError
        When a split is empty, labels do not vary, or a band has no valid pixel in the training split.
    ModelError
        When the backbone is unknown.
    """
    store = TileStore.open(tiles)
    rows = store.rows("train")
    labels = store.index["label"].to_numpy()
    label = LabelStatistics.model_construct(mean=float(labels[rows].mean()), std=float(labels[rows].std()))
    if not label.std > 0:
        raise DataError(f"{tiles}: the {len(rows)} training labels do not vary; there is nothing to learn.")
    description = ModelDescription(
        **store.format.model_dump(),
        backbone=params.backbone,
        statistics=band_statistics(store, rows),
        label=label,
        target=Target(name=store.label_name, unit=store.label_unit),
        weights_sha256="0" * 64,
        params=params.model_dump(),
        seed=seed,
        versions={name: version(name) for name in ("sustain", "torch", "timm", "lightning")},
    )

    def batches(split: str, order_seed: int | None) -> TileBatches:
        chosen = store.rows(split)
        return TileBatches(
            store, chosen, (labels[chosen] - label.mean) / label.std, params.batch_size, order_seed
        )

    training, validation = batches("train", seed), batches("val", None)
    with _reproducible(seed, params.threads):
        regression = _Regression(description.build(), params, len(training), seed)
        history = _fit(regression, training, validation, params)
    with atomic_directory(out) as folder:
        # Not save_file, which makes the file readable by its owner alone.
        (folder / WEIGHTS_FILE).write_bytes(save(regression.network.state_dict()))
        sha256 = sha256_of(folder / WEIGHTS_FILE)
        write_json(
            folder / MODEL_FILE, description.model_copy(update={"weights_sha256": sha256}).model_dump()
        )
        history.to_csv(folder / "curves.csv", index=False, float_format="%.6g", lineterminator="\n")


def band_statistics(store: TileStore, rows: NDArray[np.int64]) -> BandStatistics:
    """Mean and standard deviation of each band over the valid pixels of some rows, in physical units.

    Sums are exact (integers), so the order of tiles does not matter. A band that never varies gets the standard
    deviation of one DN, and so reaches the network as 0.

    Raises
    ------
    DataError
        When a band has no valid pixel.
    """
    n_bands = len(store.bands)
    n, total, squares = (np.zeros(n_bands, dtype=np.int64) for _ in range(3))
    for start in range(0, len(rows), _CHUNK):
        numbers = store.read(rows[start : start + _CHUNK]).astype(
            np.int64
        )  # missing values are 0 and add nothing
        n += (numbers != store.nodata).sum(axis=(0, 2, 3))
        total += numbers.sum(axis=(0, 2, 3))
        squares += (numbers**2).sum(axis=(0, 2, 3))
    if (empty := n == 0).any():
        names = ", ".join(np.array(store.bands)[empty])
        raise DataError(f"{store.folder}: no valid pixel of {names} in the training split.")
    mean = total / n
    variance = np.maximum(squares / n - mean**2, 0)
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    scale, offset = np.array(store.scale), np.array(store.offset)
    return BandStatistics(mean=tuple((scale * mean + offset).tolist()), std=tuple((scale * std).tolist()))


class _Regression(pl.LightningModule):
    def __init__(self, network: TileNetwork, params: TrainParams, steps_per_epoch: int, seed: int) -> None:
        super().__init__()
        self.network = network
        self.loss = LOSSES[params.loss]
        self.params = params
        self.total_steps = params.epochs * steps_per_epoch
        self.generator = torch.Generator().manual_seed(seed)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        tiles, labels = batch
        images = dihedral(self.network.normalise(tiles), self.generator)
        loss = self.loss(self.network(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        tiles, labels = batch
        loss = self.loss(self.network(self.network.normalise(tiles)), labels)
        self.log("val_loss", loss, on_epoch=True, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.params.learning_rate, weight_decay=self.params.weight_decay
        )
        # Up over the first tenth, then down to nothing along a cosine, a step a batch.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.params.learning_rate, total_steps=self.total_steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _KeepBest(pl.Callback):
    """Copy the weights whenever the validation loss falls, put the best back at the end, and keep the history.

    A copy, because a state dict's tensors are the live ones: keeping the dict itself would keep the last epoch.
    """

    def __init__(self) -> None:
        self.best = float("inf")
        self.weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        metrics = {name: float(trainer.callback_metrics[name]) for name in ("train_loss", "val_loss")}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.history.append({"epoch": trainer.current_epoch + 1, **metrics, "learning_rate": rate})
        if metrics["val_loss"] < self.best:
            self.best = metrics["val_loss"]
            self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.weights:
            module.load_state_dict(self.weights)


class _Progress(pl.Callback):
    def __init__(self, n_tiles: int) -> None:
        self.bar = tqdm(total=n_tiles, desc="train", unit="tile", disable=None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        self.bar.update(len(batch[1]))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.set_postfix(
            epoch=trainer.current_epoch + 1, val_loss=f"{trainer.callback_metrics['val_loss']:.3f}"
        )


def _fit(
    regression: _Regression, training: TileBatches, validation: TileBatches, params: TrainParams
) -> pd.DataFrame:
    keep = _KeepBest()
    progress = _Progress(params.epochs * len(training.rows))
    with progress.bar:
        trainer = pl.Trainer(
            max_epochs=params.epochs,
            accelerator="auto",
            devices=1,
            # Every operation used here is deterministic on a CPU; on a GPU those that are not are named in a warning.
            deterministic="warn",
            callbacks=[keep, EarlyStopping("val_loss", patience=params.patience), progress],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        with warnings.catch_warnings():
            # Lightning's own use of a name that torch is about to retire; nothing that a user could mend.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            trainer.fit(regression, training, validation)
    if not keep.weights:
        raise DataError(
            "training diverged: the validation loss was never finite. Lower learning_rate, or look for wild values in "
            "the tiles."
        )
    regression.cpu()
    return pd.DataFrame(keep.history)


@contextmanager
def _reproducible(seed: int, threads: int) -> Iterator[None]:
    """Fix what weights depend on (seed, threads: sums depend on their number), and put all back afterwards."""
    before: tuple[int, bool, bool] = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(
        logging.WARNING
    )  # what devices there are, and that the last epoch was reached, need no lines
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        log.setLevel(level)
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
