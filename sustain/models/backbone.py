"""Networks that turn a tile into one number, from timm's parts, with any number of input bands."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from sustain.errors import ModelError

__all__ = ["BACKBONES", "TileNetwork", "build_backbone"]


def _resnet_narrow(in_channels: int) -> nn.Module:
    """Four narrow stages of one block, 0.3 M parameters: about 1,000 tiles of 64 x 64 a second on two CPU cores."""
    return ResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm's annotation asks for an instance and means the class
        layers=(1, 1, 1, 1),
        channels=(16, 32, 64, 128),
        stem_type="deep",
        stem_width=8,
        in_chans=in_channels,
        num_classes=1,
    )


def _resnet18(in_channels: int) -> nn.Module:
    return timm.create_model("resnet18", pretrained=False, in_chans=in_channels, num_classes=1)


BACKBONES: dict[str, Callable[[int], nn.Module]] = {"resnet_narrow": _resnet_narrow, "resnet18": _resnet18}
"""Name -> builder, called with the number of input channels; weights are random. Output shape ``(n, 1)``."""


def build_backbone(name: str, in_channels: int) -> nn.Module:
    """Build a network of `BACKBONES`.

    Raises
    ------
    ModelError
        When there is none of that name.
    """
    if name not in BACKBONES:
        raise ModelError(f"backbone is {name!r}; expected one of {', '.join(sorted(BACKBONES))}.")
    return BACKBONES[name](in_channels)


class TileNetwork(nn.Module):
    """From tiles of DN to a standardised prediction: normalisation on the device, then a backbone.

    Each band is centred and scaled with the training split's statistics; missing values become 0, the mean, and one
    channel more says which pixels are whole, so that the network can tell a hole from average ground.

    Parameters
    ----------
    backbone : str
        Name in `BACKBONES`.
    mean, std : Tensor, shape (C,)
        Of each band's DN.
    nodata : int
        DN of a missing value.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, mean: Tensor, std: Tensor, nodata: int) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone, len(mean) + 1)
        self.nodata = nodata
        # Not in the state dict: the statistics live in model.json, the weights file holds what was learned.
        self.register_buffer("mean", mean.to(torch.float32).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", std.to(torch.float32).reshape(-1, 1, 1), persistent=False)

    def normalise(self, tiles: Tensor) -> Tensor:
        """Turn tiles of DN ``(n, C, H, W)`` into float32 channels ``(n, C + 1, H, W)``."""
        numbers = tiles.to(torch.float32)
        valid = numbers != self.nodata
        bands = torch.where(valid, (numbers - self.mean) / self.std, 0.0)
        whole = valid.all(dim=1, keepdim=True).to(torch.float32)
        return torch.cat([bands, whole], dim=1).contiguous(memory_format=torch.channels_last)

    def forward(self, channels: Tensor) -> Tensor:
        """Predict from normalised channels; shape ``(n,)``, in standard deviations of the training labels."""
        output: Tensor = self.backbone(channels)
        return output[:, 0]
