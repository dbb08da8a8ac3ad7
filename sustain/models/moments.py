"""A linear first term of the network: ridge regression on the moments of each band.

With few labels a network spends them on learning what the mean and spread of a band already say. Fitted in closed form
beforehand and then held fixed, the first term says that, and the backbone learns what it misses.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

__all__ = ["MomentRegression", "band_moments"]

_PENALTIES = np.logspace(-2, 6, 17)


def band_moments(bands: Tensor) -> Tensor:
    """Mean, standard deviation and signed cube root of the third central moment of each band.

    Parameters
    ----------
    bands : Tensor, shape (n, C, H, W)
        Standardised, missing values 0.

    Returns
    -------
    Tensor, shape (n, 3 * C)
    """
    pixels = bands.flatten(2)
    mean = pixels.mean(dim=2, keepdim=True)
    centred = pixels - mean
    spread = centred.square().mean(dim=2).sqrt()
    third = centred.pow(3).mean(dim=2)
    return torch.cat([mean[..., 0], spread, third.sign() * third.abs().pow(1 / 3)], dim=1)


class MomentRegression(nn.Module):
    """``weight . moments + bias``; buffers, so that they are kept with the weights and never trained.

    Parameters
    ----------
    n_bands : int
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.register_buffer("weight", torch.zeros(3 * n_bands))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, channels: Tensor) -> Tensor:
        """Predict from normalised channels; shape ``(n,)``."""
        with torch.autocast(channels.device.type, enabled=False):
            return band_moments(channels[:, : self.n_bands].float()) @ self.weight + self.bias

    def fit(self, moments: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Fit by ridge regression on standardised moments, the penalty chosen by leave-one-out.

        Parameters
        ----------
        moments : ndarray, shape (n, 3 * C)
        labels : ndarray, shape (n,)
            Standardised.
        """
        centre, scale = moments.mean(axis=0), moments.std(axis=0)
        scale[scale == 0] = 1.0  # a band that never varies says nothing
        ridge = RidgeCV(_PENALTIES).fit((moments - centre) / scale, labels)
        weight = ridge.coef_ / scale
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.tensor(ridge.intercept_ - centre @ weight))
