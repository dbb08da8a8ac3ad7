"""A residual network of valid convolutions: no cell of its features looks beyond its own pixels.

Without padding, and with a receptive field inside the tile, the mean over a tile's feature cells is the same whether
the tile stands alone or in a scene. A fully convolutional pass over a scene then *is* the tile predictor, which it is
not for an ordinary padded ResNet (whose receptive field, 435 pixels, exceeds the tile and meets its padding).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ValidResNet"]


class _Block(nn.Module):
    """Valid 3 x 3 or 1 x 1 convolution, then 1 x 1; the short cut is cropped to match."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.crop = kernel // 2
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride > 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        inner = x[:, :, self.crop : x.shape[2] - self.crop, self.crop : x.shape[3] - self.crop]
        return functional.relu(y + self.short(inner))


class ValidResNet(nn.Module):
    """Stem and five residual blocks without padding, mean over cells, linear head.

    Parameters
    ----------
    in_channels, outputs : int
    widths : tuple of int
        Channels at strides 2, 4 and 8.

    Attributes
    ----------
    stride : int
        Distance of neighbouring cells, in pixels: 8.
    receptive_field : int
        Side of the square of pixels that a cell sees: 44. A tile must be at least as large.
    """

    # (kernel, stride) of each layer; a layer widens the field by (kernel - 1) times the stride so far.
    _STEM = (4, 2)
    _BLOCKS = ((3, 1), (3, 2), (3, 1), (3, 2), (3, 1))

    def __init__(self, in_channels: int, outputs: int, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        first, second, third = widths
        channels = (first, first, second, second, third, third)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, first, *self._STEM, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.trunk = nn.Sequential(
            *(_Block(channels[k], channels[k + 1], *self._BLOCKS[k]) for k in range(len(self._BLOCKS)))
        )
        self.head = nn.Linear(third, outputs)
        self.stride, self.receptive_field = 1, 1
        for kernel, stride in (self._STEM, *self._BLOCKS):
            self.receptive_field += (kernel - 1) * self.stride
            self.stride *= stride

    def forward(self, x: Tensor) -> Tensor:
        """Predict tiles ``(n, C, H, W)``; shape ``(n, outputs)``."""
        features: Tensor = self.trunk(self.stem(x)).mean(dim=(2, 3))
        output: Tensor = self.head(features)
        return output

    def cells(self, x: Tensor) -> Tensor:
        """Head's value of every cell, ``(n, outputs, h, w)``; the mean over a tile's cells is `forward` of the tile.

        The head is linear, so the mean may be taken after it. The cells of a tile whose corner lies at a multiple of
        `stride` are ``(tile - receptive_field) // stride + 1`` a side.
        """
        return functional.conv2d(self.trunk(self.stem(x)), self.head.weight[:, :, None, None], self.head.bias)
