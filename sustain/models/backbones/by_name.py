"""Networks that turn a tile's channels into a number or two, from timm's parts, with any number of input bands."""

from __future__ import annotations

from collections.abc import Callable

import timm
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from sustain.errors import ModelError
from sustain.models.backbones.valid import ValidResNet

__all__ = ["BACKBONES", "build_backbone"]


def _resnet_narrow(in_channels: int, outputs: int) -> nn.Module:
    """Four narrow stages of one block, 0.3 M parameters: about 1,000 tiles of 64 x 64 a second on two CPU cores."""
    return ResNet(
        BasicBlock,  # type: ignore[arg-type]  # timm's annotation asks for an instance and means the class
        layers=(1, 1, 1, 1),
        channels=(16, 32, 64, 128),
        stem_type="deep",
        stem_width=8,
        in_chans=in_channels,
        num_classes=outputs,
    )


def _of_timm(name: str) -> Callable[[int, int], nn.Module]:
    def build(in_channels: int, outputs: int) -> nn.Module:
        network: nn.Module = timm.create_model(
            name, pretrained=False, in_chans=in_channels, num_classes=outputs
        )
        return network

    return build


BACKBONES: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet_narrow": _resnet_narrow,
    "resnet_valid": ValidResNet,
    "resnet18": _of_timm("resnet18"),
    "resnet50": _of_timm("resnet50"),
    "convnext_tiny": _of_timm("convnext_tiny"),
}
"""Name -> builder, called with the numbers of input channels and outputs; random weights, shape ``(n, outputs)``."""


def build_backbone(name: str, in_channels: int, outputs: int = 1) -> nn.Module:
    """Build a network of `BACKBONES`.

    Raises
    ------
    ModelError
        When there is none of that name.
    """
    if name not in BACKBONES:
        raise ModelError(f"backbone is {name!r}; expected one of {', '.join(sorted(BACKBONES))}.")
    return BACKBONES[name](in_channels, outputs)
