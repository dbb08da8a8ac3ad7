"""Few-shot classification by the nearest prototype, after Snell, Swersky and Zemel (2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.baselines.baseline import Prediction
from sustain.baselines.networks import series_encoder
from sustain.baselines.training import device_for, fit, seeded
from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.sustainbench.ood_landcover import Episode, LandCoverRegions
from sustain.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NearestMean", "PrototypicalCNN"]

_STEPS = 8
"""Steps of the year that an encoded series keeps apart: when things grow tells classes from each other."""


class NearestMean:
    """The class whose examples' mean series is nearest: what an encoder that learned nothing would do."""

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
        found = []
        for episode in _regions(test).episodes():
            means = [
                episode.support[episode.support_label == k].mean(axis=0) for k in range(len(episode.classes))
            ]
            distance = ((episode.query[:, None] - np.stack(means)) ** 2).sum(axis=(2, 3))
            found.append(distance.argmin(axis=1))
        return Prediction(np.concatenate(found))


@dataclass(frozen=True)
class PrototypicalCNN:
    """A temporal CNN whose output places each series, trained on the training regions' episodes.

    Parameters
    ----------
    epochs : int
        Passes over those episodes.
    width : int
    learning_rate : float
    """

    epochs: int = 10
    width: int = 64
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
        import torch
        from torch import nn

        def logits(support: Tensor, sides: Tensor, query: Tensor) -> Tensor:
            """Negative squared distance of each query to the mean of each class's examples."""
            prototypes = torch.stack([support[sides == k].mean(dim=0) for k in range(int(sides.max()) + 1)])
            return -(torch.cdist(query, prototypes) ** 2)

        def loss(placed: Tensor, batch: dict[str, Tensor]) -> Tensor:
            n = len(batch["support_label"])
            return nn.functional.cross_entropy(
                logits(placed[:n], batch["support_label"], placed[n:]), batch["label"]
            )

        with seeded(seed):
            network = nn.Sequential(
                series_encoder(len(train.bands), self.width), nn.AdaptiveAvgPool1d(_STEPS), nn.Flatten()
            )
            fit(
                network,
                [_sample(episode) for episode in _regions(train).episodes()],
                loss,
                epochs=self.epochs if epochs is None else epochs,
                batch_size=1,
                learning_rate=self.learning_rate,
                seed=seed,
                prepare=lambda batch: {name: values[0] for name, values in batch.items()},
                title="train on episodes",
            )
        device = device_for()
        found = []
        for episode in _regions(test).episodes():
            with torch.inference_mode():
                placed = network(torch.as_tensor(_sample(episode)["image"], device=device))
                n = len(episode.support)
                sides = torch.as_tensor(episode.support_label, device=device)
                found.append(logits(placed[:n], sides, placed[n:]).argmax(dim=1).cpu().numpy())
        return Prediction(np.concatenate(found))


def _sample(episode: Episode) -> dict[str, NDArray[Any]]:
    return {
        "image": np.concatenate([episode.support, episode.query]),
        "support_label": episode.support_label,
        "label": episode.query_label,
    }


def _regions(dataset: TaskDataset) -> LandCoverRegions:
    if not isinstance(dataset, LandCoverRegions):
        raise DataError(f"episodes are drawn from regions of land cover, not from {type(dataset).__name__}.")
    return dataset
