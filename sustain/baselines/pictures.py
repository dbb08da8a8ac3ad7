"""Networks on pictures: a U-Net for masks, with weak labels too, and a small ResNet for classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sustain.baselines.baseline import Prediction
from sustain.baselines.training import fit, predict, seeded
from sustain.data.sustainbench.dataset import TaskDataset

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["PictureCNN", "UNet"]

_STRIDE = 32
"""A U-Net of five levels takes sides that are multiples of this."""


@dataclass(frozen=True)
class UNet:
    """U-Net on a ResNet-18 with random weights, from segmentation-models-pytorch.

    Parameters
    ----------
    loss : {"pixels", "outlines", "images"}
        ``pixels``: cross-entropy of the labelled pixels, one or all of them. ``outlines``: that and a Dice loss, for
        thin classes. ``images``: cross-entropy of the mean class-1 probability with a label an image.
    epochs, batch_size : int
    """

    loss: str = "pixels"
    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 1e-3

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """See `sustain.baselines.baseline.Baseline.fit_predict`; the datasets must be normalised."""
        import segmentation_models_pytorch as smp
        import torch
        from torch import nn

        ignore = train.ignore_index if train.ignore_index is not None else -1
        dice = smp.losses.DiceLoss("multiclass", classes=[1], from_logits=True)

        def loss(output: Tensor, batch: dict[str, Tensor]) -> Tensor:
            if self.loss == "images":
                share = output.softmax(dim=1)[:, 1].mean(dim=(1, 2)).clamp(1e-6, 1 - 1e-6)
                return nn.functional.binary_cross_entropy(share, batch["label"].float())
            output = output[..., : batch["mask"].shape[1], : batch["mask"].shape[2]]
            # Not reduction="mean": a batch without one labelled pixel would divide by zero.
            each = nn.functional.cross_entropy(output, batch["mask"], ignore_index=ignore, reduction="sum")
            value = each / (batch["mask"] != ignore).sum().clamp(min=1)
            return value + dice(output, batch["mask"]) if self.loss == "outlines" else value

        turn = _turned(torch.Generator().manual_seed(seed))

        def prepare(batch: dict[str, Tensor]) -> dict[str, Tensor]:
            batch = turn(batch)
            return batch | {"image": _padded(batch["image"])}

        with seeded(seed):
            network = smp.Unet(
                "resnet18", encoder_weights=None, in_channels=len(train.bands), classes=len(train.classes)
            )
            fit(
                network,
                train,
                loss,
                epochs=self.epochs if epochs is None else epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=seed,
                prepare=prepare,
                title="train U-Net",
            )

        def whole(images: Tensor) -> Tensor:
            output: Tensor = network(_padded(images))
            return output[..., : images.shape[2], : images.shape[3]]

        batches = predict(whole, test, self.batch_size)
        return Prediction(mask for batch in batches for mask in batch.argmax(axis=1))


@dataclass(frozen=True)
class PictureCNN:
    """A network of `sustain.models.backbones.by_name`, for classes.

    Parameters
    ----------
    backbone : str
    epochs, batch_size : int
    """

    backbone: str = "resnet_narrow"
    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 2e-3

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """See `sustain.baselines.baseline.Baseline.fit_predict`; the datasets must be normalised."""
        import torch
        from scipy.special import softmax
        from torch import nn

        from sustain.models.backbones.by_name import build_backbone

        with seeded(seed):
            network = fit(
                build_backbone(self.backbone, len(train.bands), len(train.classes)),
                train,
                lambda output, batch: nn.functional.cross_entropy(output, batch["label"]),
                epochs=self.epochs if epochs is None else epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=seed,
                prepare=_turned(torch.Generator().manual_seed(seed)),
                title=f"train {self.backbone}",
            )
        output = np.concatenate(list(predict(network, test, 256)))
        scores = softmax(output.astype(np.float64), axis=1)[:, 1] if len(train.classes) == 2 else None
        return Prediction(output.argmax(axis=1), scores)


def _turned(generator: torch.Generator) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Turn and flip the pictures of a batch, all alike, and their masks with them."""
    import torch

    def turn(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        quarters, flip = torch.randint(0, 4, (2,), generator=generator).tolist()
        both = {
            name: torch.rot90(batch[name], quarters, (-2, -1)) for name in ("image", "mask") if name in batch
        }
        return batch | {name: values.flip(-1) if flip % 2 else values for name, values in both.items()}

    return turn


def _padded(images: Tensor) -> Tensor:
    """Mirror pictures beyond their lower and right edges, to sides that the network takes."""
    from torch.nn import functional

    below, right = (-side % _STRIDE for side in images.shape[-2:])
    return functional.pad(images, (0, right, 0, below), mode="reflect") if below or right else images
