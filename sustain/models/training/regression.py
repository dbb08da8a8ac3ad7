"""The network in training: one step, one validation, the optimizer and its schedule."""

from __future__ import annotations

from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sustain.config import TrainParams
from sustain.models.losses import Loss
from sustain.models.network import TileNetwork
from sustain.models.training.loader import Batch, augment, crop

__all__ = ["Regression"]

_WARM_UP = 0.1


class Regression(pl.LightningModule):
    """A `TileNetwork` that learns.

    All that is random in an epoch follows from the seed, the epoch and the device's number, so that a training resumed
    at the start of an epoch goes on exactly as it would have.

    Parameters
    ----------
    network : TileNetwork
    loss : Loss
    params : TrainParams
    steps : int
        Optimizer steps of the whole training.
    seed : int
    n_validation : int
        Number of validation tiles.
    """

    def __init__(
        self, network: TileNetwork, loss: Loss, params: TrainParams, steps: int, seed: int, n_validation: int
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.params = params
        self.steps = steps
        self.seed = seed
        self.n_validation = n_validation
        self.generator = torch.Generator()
        self.averaged: AveragedModel | None = None
        if params.average > 0:
            average = get_ema_multi_avg_fn(params.average)  # type: ignore[no-untyped-call]
            # Buffers too: batch statistics belong to the weights they were gathered under.
            self.averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
            self.averaged.requires_grad_(False)
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def kept(self) -> TileNetwork:
        """The network that is validated and kept: the average of weights, or the network itself."""
        if self.averaged is None:
            return self.network
        return cast(TileNetwork, self.averaged.module)

    def on_train_epoch_start(self) -> None:
        """Seed the epoch."""
        torch.manual_seed(_mix(self.seed, self.current_epoch, self.global_rank, 0))
        self.generator.manual_seed(_mix(self.seed, self.current_epoch, self.global_rank, 1))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Loss of one augmented batch."""
        channels = self.network.normalise(batch.tiles, batch.sites)
        channels = augment(channels, self.network.inputs.n_bands, self.params.jitter, self.generator)
        if self.params.crop_px is not None:
            channels = crop(channels, self.params.crop_px, self.generator)
        loss = self.loss(self.network(self._layout(channels)).float(), batch.labels)
        self.log(
            "train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.labels), sync_dist=True
        )
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the average towards the weights, after each step of the optimizer."""
        if self.averaged is not None and self.trainer.global_step > int(self.averaged.n_averaged):
            self.averaged.update_parameters(self.network)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Predict one batch."""
        output = self.kept(self._layout(self.kept.normalise(batch.tiles, batch.sites)))
        self._validated.append((output.float(), batch.labels, batch.positions))

    def on_validation_epoch_end(self) -> None:
        """Loss over the whole validation split at once: a mean of batches is another number for some losses."""
        output, labels, positions = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        if self.trainer.world_size > 1:
            output, labels, positions = (
                part.flatten(0, 1) for part in self.all_gather((output, labels, positions))
            )
        # By position, because devices may hold a tile twice; sorted, so that sums do not depend on their number.
        whole = output.new_zeros(self.n_validation, output.shape[1]).index_copy_(0, positions, output)
        truth = labels.new_zeros(self.n_validation).index_copy_(0, positions, labels)
        self.log("val_loss", self.loss(whole, truth), rank_zero_only=False)

    def configure_optimizers(self) -> Any:
        """AdamW; the rate goes up over the first tenth, then down to nothing along a cosine, a step a batch."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.params.learning_rate, weight_decay=self.params.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.params.learning_rate, total_steps=self.steps, pct_start=_WARM_UP
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _layout(self, channels: Tensor) -> Tensor:
        memory = torch.channels_last if self.params.channels_last else torch.contiguous_format
        return channels.contiguous(memory_format=memory)


def _mix(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
