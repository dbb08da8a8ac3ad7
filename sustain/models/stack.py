"""Two linear models beside the network: ridge regressions on moments, and on random convolutions, of the bands.

With few labels a network spends them on learning what means, spreads and covariances already say, and what texture a
tile has. A ridge regression says that for next to nothing. The three err apart, and their plain mean counts: weights
that were fitted on a few hundred sites would be noise (Clemen 1989 on combining forecasts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from sustain.models.features.convolutions import RandomConvolutions
from sustain.models.features.moments import band_moments, n_moments

__all__ = ["LimitedRidge", "Stack"]

_PENALTIES = np.logspace(-2, 6, 17)
_LIMITS = (0.01, 0.99)


class LimitedRidge(nn.Module):
    """Ridge regression on features that are limited to where nearly all training tiles lie.

    A line goes on beyond what it was fitted to, and a tile of a kind that is rare among them (mostly water, say) has
    features many standard deviations away. Limited to the 1% and 99% quantiles of the training tiles' features, it
    counts as the most extreme of what is known, as it does in a forest. Buffers, kept with the weights and never
    trained.

    Parameters
    ----------
    n_features : int
    """

    low: Tensor
    high: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        for name in ("low", "high", "weight"):
            self.register_buffer(name, torch.zeros(n_features))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Predict from features ``(n, n_features)``; shape ``(n,)``."""
        return features.clamp(self.low, self.high) @ self.weight + self.bias

    def fit(self, features: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Fit by least squares on standardised features, the penalty chosen by leave-one-out.

        Parameters
        ----------
        features : ndarray, shape (n, n_features)
        labels : ndarray, shape (n,)
            Standardised.
        """
        low, high = np.quantile(features, _LIMITS, axis=0)
        limited = features.clip(low, high)
        centre, scale = limited.mean(axis=0), limited.std(axis=0)
        scale[scale == 0] = 1.0  # a band that never varies says nothing
        ridge = RidgeCV(_PENALTIES).fit((limited - centre) / scale, labels)
        weight = ridge.coef_ / scale
        for buffer, values in (
            (self.low, low),
            (self.high, high),
            (self.weight, weight),
            (self.bias, ridge.intercept_ - centre @ weight),
        ):
            buffer.copy_(torch.as_tensor(values))


class Stack(nn.Module):
    """The mean of a network's prediction and those of the two regressions.

    Parameters
    ----------
    n_bands : int
    """

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.convolutions = RandomConvolutions(n_bands)
        self.by_moments = LimitedRidge(n_moments(n_bands))
        self.by_convolutions = LimitedRidge(self.convolutions.n_features)

    def forward(self, channels: Tensor, network: Tensor) -> Tensor:
        """Stack with the network's means ``(n,)`` for normalised channels ``(n, n_channels, H, W)``."""
        bands = channels[:, : self.n_bands].float()
        lines = self.by_moments(band_moments(bands)), self.by_convolutions(self.convolutions(bands))
        stacked: Tensor = torch.stack([network, *lines]).mean(dim=0)
        return stacked

    def fit(self, bands: Callable[[], Iterator[Tensor]], labels: NDArray[np.float64], seed: int) -> None:
        """Draw the convolutions, and fit both regressions.

        Parameters
        ----------
        bands : callable
            Gives the training tiles' bands, ``(n, n_bands, H, W)`` at a time, standardised, missing values 0.
        labels : ndarray
            Standardised, one each of all these tiles.
        seed : int
            Of the convolutions.
        """
        self.convolutions.draw(bands, seed)
        told = [(band_moments(part), self.convolutions(part)) for part in bands()]
        for line, parts in zip((self.by_moments, self.by_convolutions), zip(*told, strict=True), strict=True):
            line.fit(torch.cat(parts).double().numpy(), labels)
