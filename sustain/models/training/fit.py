"""One training run: Lightning's trainer, the best weights kept, and a checkpoint an epoch to resume from."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from sustain.config import TrainParams
from sustain.errors import DataError, DataWarning
from sustain.models.hardware import require_devices
from sustain.models.losses import make_loss
from sustain.models.network import TileNetwork
from sustain.models.training.loader import Batch, BatchOrder, TileBatches, tile_loader
from sustain.models.training.regression import Regression
from sustain.models.training.tensorboard import TensorBoardCurves

__all__ = ["CHECKPOINT", "Fitted", "fit_network", "rank", "reproducible"]

CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class Fitted:
    """What a training run gives."""

    weights: dict[str, Tensor]
    """State dict of the best epoch's network, on the CPU."""
    history: pd.DataFrame
    """One row an epoch: epoch, train_loss, val_loss, learning_rate."""


def fit_network(
    network: TileNetwork,
    training: TileBatches,
    validation: TileBatches,
    params: TrainParams,
    seed: int,
    place: Path,
    what: str = "train",
    tensorboard: Path | None = None,
) -> Fitted:
    """Train a network, or go on where `place` has a checkpoint.

    Parameters
    ----------
    network : TileNetwork
        With the weights to start from; changed in place.
    training, validation : TileBatches
    params : TrainParams
    seed : int
        Seed of the order of tiles and of their augmentation.
    place : Path
        Folder of the checkpoint; the caller sees to it that it belongs to exactly this training.
    what : str
        Title of the progress bar.
    tensorboard : Path, optional
        Folder for an event file of this run.

    Raises
    ------
    ConfigError
        When TensorBoard's logs are asked for and no package writes them.
    DataError
        When the loss was never finite.
    HardwareError
        When a GPU was asked for and is not there.
    """
    accelerator = require_devices(params.accelerator, params.devices)
    pinned = accelerator == "gpu"

    def loader(batches: TileBatches, order_seed: int | None) -> Any:
        order = BatchOrder(len(batches), params.batch_size, order_seed, rank(), params.devices)
        # Lightning sets the epoch as well, but after a restart only when the first batches are already chosen.
        order.set_epoch(first_epoch)
        return tile_loader(batches, order, params.workers, pinned)

    batches = len(BatchOrder(len(training), params.batch_size, world=params.devices))
    steps = params.epochs * -(-batches // params.accumulate)
    loss = make_loss(params, torch.from_numpy(training.labels))
    if params.compile:
        network.compile()
    regression = Regression(network, loss, params, steps, seed, len(validation))
    checkpoint, first_epoch = _checkpoint(place / CHECKPOINT, regression.state_dict())
    keep = _KeepBest(regression, params.patience)
    progress = _Progress(what, params.epochs, len(training))
    curves = [] if tensorboard is None else [TensorBoardCurves(tensorboard)]
    trainer = pl.Trainer(
        max_epochs=params.epochs,
        accelerator=accelerator,
        devices=params.devices,
        strategy="ddp" if params.devices > 1 else "auto",
        use_distributed_sampler=False,
        precision="bf16-mixed" if params.precision == "bfloat16" else "32-true",
        accumulate_grad_batches=params.accumulate,
        # Every operation used here is deterministic on a CPU. On a GPU some are not, the others would be slow, and
        # convolutions are fastest when the device may try which algorithm suits the batch.
        deterministic=accelerator == "cpu",
        benchmark=pinned,
        callbacks=[keep, progress, *curves, _Save(place / CHECKPOINT)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with progress.bar, warnings.catch_warnings():
        # Lightning's own use of names that torch is about to retire, and its advice on the number of workers.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*does not have many workers", category=UserWarning)
        data = _Loaders(lambda: loader(training, seed), lambda: loader(validation, None))
        trainer.fit(regression, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if not keep.weights:
        raise DataError(
            "training diverged: the validation loss was never finite. Lower learning_rate, or look for wild values in "
            "the tiles."
        )
    return Fitted(keep.weights, pd.DataFrame(keep.history))


def rank() -> int:
    """Return the number of this process among those of a training on several devices."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class _Loaders(pl.LightningDataModule):
    """Loaders made when the trainer knows which device this process has."""

    def __init__(self, training: Any, validation: Any) -> None:
        super().__init__()
        self._training, self._validation = training, validation

    def train_dataloader(self) -> Any:
        return self._training()

    def val_dataloader(self) -> Any:
        return self._validation()


def _checkpoint(path: Path, weights: Mapping[str, Tensor]) -> tuple[str | None, int]:
    """Return the path of a checkpoint that can be read, and the epoch that comes next, from 0.

    One that is damaged, or holds other weights than those that are trained, is removed, with a warning.
    """
    if not path.exists():
        return None, 0
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        finished = int(content["epoch"])
        if _shapes(content["state_dict"]) != _shapes(weights):
            raise KeyError("its weights are another architecture's")
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        warnings.warn(
            f"{path}: damaged ({error}); training starts from the beginning.", DataWarning, stacklevel=3
        )
        path.unlink()
        return None, 0
    return str(path), finished + 1


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


class _KeepBest(pl.Callback):
    """Copy the weights whenever the validation loss falls, keep the history, and stop when nothing gets better.

    A copy, because a state dict's tensors are the live ones: keeping the dict itself would keep the last epoch.
    """

    def __init__(self, regression: Regression, patience: int) -> None:
        self.regression = regression
        self.patience = patience
        self.best = float("inf")
        self.since = 0
        self.weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        metrics = {name: float(trainer.callback_metrics[name]) for name in ("train_loss", "val_loss")}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.history.append({"epoch": trainer.current_epoch + 1, **metrics, "learning_rate": rate})
        self.since += 1
        if metrics["val_loss"] < self.best:
            self.best, self.since = metrics["val_loss"], 0
            self.weights = {
                name: value.detach().cpu().clone()
                for name, value in self.regression.kept.state_dict().items()
            }
        self._stop(trainer)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop(trainer)  # a run that was killed after its last epoch has nothing left to do

    def _stop(self, trainer: pl.Trainer) -> None:
        if self.since >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since": self.since, "weights": self.weights, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.since = state["best"], state["since"]
        self.weights, self.history = state["weights"], state["history"]


class _Save(pl.Callback):
    """Write a checkpoint at the end of each epoch: weights, optimizer, schedule, loops and the other callbacks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        partial = self.path.with_name(f".partial-{self.path.name}")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)


class _Progress(pl.Callback):
    def __init__(self, what: str, epochs: int, n_tiles: int) -> None:
        self.n_tiles = n_tiles
        self.bar = tqdm(total=epochs * n_tiles, desc=what, unit="tile", disable=True if rank() > 0 else None)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.update(trainer.current_epoch * self.n_tiles)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, _: int
    ) -> None:
        self.bar.update(len(batch.labels) * trainer.world_size)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.set_postfix(
            epoch=trainer.current_epoch + 1, val_loss=f"{trainer.callback_metrics['val_loss']:.3f}"
        )


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Fix what weights depend on (seed, threads: sums depend on their number), and put all back afterwards."""
    before: tuple[int, bool, bool] = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    # What devices there are, and that the last epoch was reached, need no lines.
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.WARNING)
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
