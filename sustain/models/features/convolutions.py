"""Random convolutions: what a tile's texture is made of, without a label (Rolf et al. 2021, MOSAIKS).

Filters are drawn at random in the space of whitened patches, where small differences between bands that go up and down
together count as much as brightness. A feature is the mean over a tile of what a filter's response, or its negative,
exceeds a threshold by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PATCH", "SMALLEST_TILE", "RandomConvolutions", "whitening"]

# Side of the squares that are averaged first, in pixels, and how many filters look at what is left.
_SCALES = {2: 128, 4: 64}
_THRESHOLD = 0.5  # standard deviations of a whitened patch
_FLOOR = 0.01  # of the mean variance of a patch's directions; those below it are noise, and are not blown up
_AT_ONCE = 32  # tiles, because responses take much more room than a tile

PATCH = 3
"""Side of a patch, in pixels."""
SMALLEST_TILE = max(_SCALES) * PATCH
"""Side of the smallest tile that has a patch at every scale, in pixels."""


class RandomConvolutions(nn.Module):
    """Features of a tile's bands; buffers, drawn once.

    Parameters
    ----------
    n_bands : int
    scales : mapping of int to int, optional
        Side of the squares that are averaged first, in pixels -> number of filters that look at what is left.
    threshold : float
        What a response has to exceed to count.

    Attributes
    ----------
    n_features : int
    """

    def __init__(
        self, n_bands: int, scales: Mapping[int, int] | None = None, threshold: float = _THRESHOLD
    ) -> None:
        super().__init__()
        self.scales = dict(_SCALES if scales is None else scales)
        self.threshold = threshold
        self.n_features = 2 * sum(self.scales.values())
        for scale, n_filters in self.scales.items():
            self.register_buffer(f"filters_{scale}", torch.zeros(n_filters, n_bands, PATCH, PATCH))
            self.register_buffer(f"shift_{scale}", torch.zeros(n_filters))

    def draw(self, bands: Callable[[], Iterator[Tensor]], seed: int) -> None:
        """Draw the filters: random directions in the space of whitened patches.

        Parameters
        ----------
        bands : callable
            Gives the training tiles' bands, ``(n, C, H, W)`` at a time, standardised, missing values 0.
        seed : int
        """
        generator = torch.Generator().manual_seed(seed)
        for scale, n_filters in self.scales.items():
            mean, whiten = whitening(
                (_patches(part, scale) for part in bands()), lambda spread: _FLOOR * spread.mean()
            )
            directions = torch.randn(n_filters, len(mean), generator=generator, dtype=torch.float64)
            self.look_along(scale, directions / directions.norm(dim=1, keepdim=True), mean, whiten)

    def look_along(self, scale: int, directions: Tensor, mean: Tensor, whiten: Tensor) -> None:
        """Make one scale's filters of directions ``(n_filters, C * 9)`` in the space of `whitening`."""
        filters = directions @ whiten
        stored = self.get_buffer(f"filters_{scale}")
        stored.copy_(filters.reshape(stored.shape))
        self.get_buffer(f"shift_{scale}").copy_(-filters @ mean)

    def forward(self, bands: Tensor) -> Tensor:
        """Compute the features of bands ``(n, C, H, W)``; shape ``(n, n_features)``."""
        return torch.cat([self._features(part) for part in torch.split(bands, _AT_ONCE)])

    def _features(self, bands: Tensor) -> Tensor:
        found = []
        for scale in self.scales:
            response = functional.conv2d(
                functional.avg_pool2d(bands, scale),
                self.get_buffer(f"filters_{scale}"),
                self.get_buffer(f"shift_{scale}"),
            )
            found.append((response - self.threshold).relu_().mean(dim=(2, 3)))
            # In place: responses are many times as large as the tiles, and copies of them took a third of the time.
            found.append(response.neg_().sub_(self.threshold).relu_().mean(dim=(2, 3)))
        return torch.cat(found, dim=1)


def _patches(bands: Tensor, scale: int) -> Tensor:
    """Patches side by side, float64 ``(n, C * 9)``."""
    pooled = functional.avg_pool2d(bands, scale)
    return functional.unfold(pooled, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1).double()


def whitening(parts: Iterable[Tensor], floor: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean of patches, and the symmetric (ZCA) matrix that makes their covariance the identity, but for noise.

    Parameters
    ----------
    parts : iterable of Tensor of float64, shape (n, C * 9)
    floor : callable
        Of the variances along the covariance's axes: what is added to each, so that those of noise are not blown up.
    """
    n, total, squares = 0, torch.zeros(()), torch.zeros(())
    for part in parts:
        n, total, squares = n + len(part), total + part.sum(dim=0), squares + part.T @ part
    mean = total / n
    spread, axes = torch.linalg.eigh(squares / n - mean[:, None] * mean)
    return mean, axes @ torch.diag((spread.clamp(min=0) + floor(spread).clamp(min=1e-12)).rsqrt()) @ axes.T
