"""A linear model beside the network: ridge regression on the moments of the bands, stacked with it.

With few labels a network spends them on learning what means, spreads and covariances already say: bands go up and down
together, and much lies in small differences between them. A ridge regression says that for next to nothing, and errs
elsewhere; the two are averaged by the weight that suits the validation split.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

__all__ = ["MomentRegression", "band_moments", "n_moments"]

_PENALTIES = np.logspace(-2, 6, 17)


def n_moments(n_bands: int) -> int:
    """Return how many numbers `band_moments` gives for so many bands."""
    return 3 * n_bands + n_bands * (n_bands - 1) // 2


def band_moments(bands: Tensor) -> Tensor:
    """Mean, standard deviation and signed cube root of the third central moment of each band; covariance of each pair.

    Parameters
    ----------
    bands : Tensor, shape (n, C, H, W)
        Standardised, missing values 0.

    Returns
    -------
    Tensor, shape (n, 3 * C + C * (C - 1) / 2)
    """
    pixels = bands.flatten(2)
    mean = pixels.mean(dim=2, keepdim=True)
    centred = pixels - mean
    spread = centred.square().mean(dim=2).sqrt()
    third = centred.pow(3).mean(dim=2)
    first, second = torch.triu_indices(bands.shape[1], bands.shape[1], offset=1, device=bands.device)
    together = (centred @ centred.mT / pixels.shape[2])[:, first, second]
    return torch.cat([mean[..., 0], spread, third.sign() * third.abs().pow(1 / 3), together], dim=1)


class MomentRegression(nn.Module):
    """``share * network + (1 - share) * (weight . moments + bias)``; buffers, kept with the weights and never trained.

    Parameters
    ----------
    n_bands : int
    """

    weight: Tensor
    bias: Tensor
    share: Tensor

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.register_buffer("weight", torch.zeros(n_moments(n_bands)))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("share", torch.ones(()))

    def line(self, channels: Tensor) -> Tensor:
        """Predict from normalised channels by the moments alone; shape ``(n,)``."""
        return band_moments(channels[:, : self.n_bands].float()) @ self.weight + self.bias

    def forward(self, channels: Tensor, network: Tensor) -> Tensor:
        """Stack with the network's means, both ``(n,)``."""
        return self.share * network + (1 - self.share) * self.line(channels)

    def fit(self, moments: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Fit by ridge regression on standardised moments, the penalty chosen by leave-one-out.

        Parameters
        ----------
        moments : ndarray, shape (n, n_moments(C))
        labels : ndarray, shape (n,)
            Standardised.
        """
        centre, scale = moments.mean(axis=0), moments.std(axis=0)
        scale[scale == 0] = 1.0  # a band that never varies says nothing
        ridge = RidgeCV(_PENALTIES).fit((moments - centre) / scale, labels)
        weight = ridge.coef_ / scale
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.tensor(ridge.intercept_ - centre @ weight))

    def weigh(self, network: Tensor, line: Tensor, labels: Tensor) -> None:
        """Choose `share` in [0, 1] by least squares on sites that neither was fitted on (Wolpert 1992, stacking)."""
        apart = network - line
        share = (apart * (labels - line)).sum() / apart.square().sum().clamp(min=1e-12)
        self.share.copy_(share.clamp(0, 1))
