"""Small networks: a temporal CNN as an estimator of scikit-learn's kind, and the encoder of few-shot episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sustain.baselines.training import fit, predict, seeded

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["TemporalCNN", "series_encoder"]


def series_encoder(channels: int, width: int = 64, dropout: float = 0.2) -> nn.Module:
    """Three convolutions over time with the width of Pelletier et al. (2019), ``(n, C, T)`` to ``(n, width, T)``."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs in (channels, width, width):
        layers += [
            nn.Conv1d(inputs, width, kernel_size=5, padding=2),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
        ]
    return nn.Sequential(*layers)


class TemporalCNN:
    """Convolutions over time and one dense layer, after Pelletier, Webb and Petitjean (2019).

    Parameters
    ----------
    seed : int
    classes : bool
        Whether to predict classes (balanced cross-entropy) or a number (squared error).
    epochs, batch_size, width : int
    learning_rate : float
    """

    def __init__(
        self,
        seed: int,
        *,
        classes: bool,
        epochs: int = 20,
        batch_size: int = 128,
        width: int = 64,
        learning_rate: float = 3e-3,
    ) -> None:
        self.seed = seed
        self.classes = classes
        self.epochs = epochs
        self.batch_size = batch_size
        self.width = width
        self.learning_rate = learning_rate

    def fit(self, x: NDArray[np.float32], y: NDArray[Any]) -> Self:
        """Learn from series ``(n, C, T)`` without missing values and a class or number each."""
        import torch
        from torch import nn

        self._mean = x.mean(axis=(0, 2), keepdims=True)
        self._std = np.maximum(x.std(axis=(0, 2), keepdims=True), 1e-6)
        if self.classes:
            self.classes_, targets = np.unique(y, return_inverse=True)
            counts = np.bincount(targets)
            weight = torch.as_tensor(len(y) / (len(counts) * counts), dtype=torch.float32)
        else:
            self._centre, self._scale = float(np.mean(y)), float(np.std(y)) or 1.0
            targets = ((y - self._centre) / self._scale).astype(np.float32)

        def loss(output: Tensor, batch: dict[str, Tensor]) -> Tensor:
            if self.classes:
                return nn.functional.cross_entropy(output, batch["label"], weight.to(output.device))
            return nn.functional.mse_loss(output[:, 0], batch["label"])

        with seeded(self.seed):
            network = nn.Sequential(
                series_encoder(x.shape[1], self.width),
                nn.AdaptiveAvgPool1d(min(12, x.shape[2])),
                nn.Flatten(),
                nn.Linear(self.width * min(12, x.shape[2]), len(self.classes_) if self.classes else 1),
            )
            self._network = fit(
                network,
                _Series(self._scaled(x), targets),
                loss,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                seed=self.seed,
                title="train temporal CNN",
            )
        return self

    def predict(self, x: NDArray[np.float32]) -> NDArray[Any]:
        """Predict a class or number each; shape ``(n,)``."""
        output = self._output(x)
        if self.classes:
            return np.asarray(self.classes_[output.argmax(axis=1)])
        return np.asarray(output[:, 0] * self._scale + self._centre, dtype=np.float64)

    def predict_proba(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict the probability of each class; shape ``(n, K)``."""
        from scipy.special import softmax

        return np.asarray(softmax(self._output(x).astype(np.float64), axis=1))

    def _output(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        batches = predict(self._network, _Series(self._scaled(x)), batch_size=1024)
        return np.concatenate(list(batches))

    def _scaled(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = ((x - self._mean) / self._std).astype(np.float32)
        return scaled


class _Series:
    """Series as samples of PyTorch."""

    def __init__(self, x: NDArray[np.float32], y: NDArray[Any] | None = None) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"image": self.x[i]} | ({} if self.y is None else {"label": self.y[i]})
