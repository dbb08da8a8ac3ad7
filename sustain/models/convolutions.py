"""Random convolutions: what a tile's texture is made of, without a label (Rolf et al. 2021, MOSAIKS).

Filters are drawn at random in the space of whitened patches, where small differences between bands that go up and down
together count as much as brightness. A feature is the mean over a tile of what a filter's response, or its negative,
exceeds a threshold by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SMALLEST_TILE", "RandomConvolutions"]

# Side of the squares that are averaged first, in pixels, and how many filters look at what is left.
_SCALES = {2: 128, 4: 64}
_PATCH = 3
_THRESHOLD = 0.5  # standard deviations of a whitened patch
_FLOOR = 0.01  # of the mean variance of a patch's directions; those below it are noise, and are not blown up
_AT_ONCE = 32  # tiles, because responses take much more room than a tile

SMALLEST_TILE = max(_SCALES) * _PATCH
"""Side of the smallest tile that has a patch at every scale, in pixels."""


class RandomConvolutions(nn.Module):
    """Features of a tile's bands; buffers, drawn once.

    Parameters
    ----------
    n_bands : int

    Attributes
    ----------
    n_features : int
    """

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.n_features = 2 * sum(_SCALES.values())
        for scale, n_filters in _SCALES.items():
            self.register_buffer(f"filters_{scale}", torch.zeros(n_filters, n_bands, _PATCH, _PATCH))
            self.register_buffer(f"shift_{scale}", torch.zeros(n_filters))

    def draw(self, bands: Callable[[], Iterator[Tensor]], seed: int) -> None:
        """Draw the filters.

        Parameters
        ----------
        bands : callable
            Gives the training tiles' bands, ``(n, C, H, W)`` at a time, standardised, missing values 0.
        seed : int
        """
        generator = torch.Generator().manual_seed(seed)
        for scale, n_filters in _SCALES.items():
            mean, whiten = _whitening(_patches(part, scale) for part in bands())
            directions = torch.randn(n_filters, len(mean), generator=generator, dtype=torch.float64)
            filters = directions / directions.norm(dim=1, keepdim=True) @ whiten
            stored = self.get_buffer(f"filters_{scale}")
            stored.copy_(filters.reshape(stored.shape))
            self.get_buffer(f"shift_{scale}").copy_(-filters @ mean)

    def forward(self, bands: Tensor) -> Tensor:
        """Compute the features of bands ``(n, C, H, W)``; shape ``(n, n_features)``."""
        return torch.cat([self._features(part) for part in torch.split(bands, _AT_ONCE)])

    def _features(self, bands: Tensor) -> Tensor:
        found = []
        for scale in _SCALES:
            response = functional.conv2d(
                functional.avg_pool2d(bands, scale),
                self.get_buffer(f"filters_{scale}"),
                self.get_buffer(f"shift_{scale}"),
            )
            found += [(side - _THRESHOLD).relu().mean(dim=(2, 3)) for side in (response, -response)]
        return torch.cat(found, dim=1)


def _patches(bands: Tensor, scale: int) -> Tensor:
    """Patches side by side, float64 ``(n, C * 9)``."""
    pooled = functional.avg_pool2d(bands, scale)
    return functional.unfold(pooled, _PATCH, stride=_PATCH).transpose(1, 2).flatten(0, 1).double()


def _whitening(parts: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean of patches, and the symmetric (ZCA) matrix that makes their covariance the identity, but for noise."""
    n, total, squares = 0, torch.zeros(()), torch.zeros(())
    for part in parts:
        n, total, squares = n + len(part), total + part.sum(dim=0), squares + part.T @ part
    mean = total / n
    spread, axes = torch.linalg.eigh(squares / n - mean[:, None] * mean)
    floor = (_FLOOR * spread.mean()).clamp(min=1e-12)
    return mean, axes @ torch.diag((spread.clamp(min=0) + floor).rsqrt()) @ axes.T
