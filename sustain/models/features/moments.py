"""Moments of a tile's bands: bands go up and down together, and much lies in small differences between them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["band_moments", "n_moments"]


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
