"""The networks between a tile's channels and its prediction, and the weights that they may start from."""

from sustain.models.backbones.by_name import BACKBONES, build_backbone
from sustain.models.backbones.valid import ValidResNet
from sustain.models.backbones.weights import load_pretrained

__all__ = ["BACKBONES", "ValidResNet", "build_backbone", "load_pretrained"]
