"""Pretrained weights, by name or from a file, fitted to the bands at hand."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from sustain.errors import ModelError

__all__ = ["load_pretrained", "widen"]

_RGB = ("RED", "GREEN", "BLUE")
_SENSOR_BANDS = {
    # Landsat 4-7 (TM, ETM+), Landsat 8-9 (OLI/TIRS) and Sentinel-2, as torchgeo names them.
    "TM": {"B1": "BLUE", "B2": "GREEN", "B3": "RED", "B4": "NIR", "B5": "SWIR1", "B6": "TEMP1", "B7": "SWIR2"},
    "OLI": {"B2": "BLUE", "B3": "GREEN", "B4": "RED", "B5": "NIR", "B6": "SWIR1", "B7": "SWIR2", "B10": "TEMP1"},
    "SENTINEL2": {"B2": "BLUE", "B3": "GREEN", "B4": "RED", "B8": "NIR", "B11": "SWIR1", "B12": "SWIR2"},
}  # fmt: skip


def load_pretrained(
    backbone: nn.Module, name: str, weights: str, bands: Sequence[str], n_channels: int
) -> None:
    """Start a backbone from pretrained weights, in place; the head keeps its random weights.

    Parameters
    ----------
    backbone : Module
        A network of `sustain.models.backbones.by_name`.
    name : str
        Its name there.
    weights : str
        ``imagenet`` (timm's), the name of torchgeo weights such as ``LANDSAT_ETM_SR_MOCO``, or the path of a state
        dict (``.safetensors``, or a ``.pth`` of tensors alone). A file's bands are taken to be ours if there are as
        many, and red, green, blue if there are three.
    bands : sequence of str
        Names of the leading input channels. The first layer is widened to them; see `widen`.
    n_channels : int
        Number of input channels; those after the bands (mask, year, place) start with weights 0.

    Raises
    ------
    ModelError
        When weights are unknown, cannot be downloaded, or do not fit.
    """
    known: tuple[str, ...] | None
    if Path(weights).suffix in (".safetensors", ".pth", ".pt"):
        state, known = _from_file(Path(weights)), None
    elif weights == "imagenet":
        state, known = _imagenet(name), _RGB
    else:
        state, known = _torchgeo(name, weights)
    state = {key.removeprefix("backbones.0."): value for key, value in state.items()}  # our own model's too
    own = backbone.state_dict()
    first = next(key for key, value in own.items() if value.ndim == 4)
    head = [
        key
        for key in own
        if key.startswith(("fc.", "head.fc.")) or (key.startswith("head.") and own[key].ndim < 3)
    ]
    head = [key for key in head if key not in state or state[key].shape != own[key].shape]
    if first in state and (known or state[first].shape[1] != own[first].shape[1]):
        filters = state[first]
        if known is None or len(known) != filters.shape[1]:
            known = {3: _RGB, len(bands): tuple(bands)}.get(filters.shape[1])
        if known is None:
            raise ModelError(
                f"weights {weights}: made for {filters.shape[1]} bands without names, but there are {len(bands)}: "
                f"{', '.join(bands)}."
            )
        state[first] = widen(filters, known, bands, n_channels)
    wrong = [
        key for key in own if key not in head and (key not in state or state[key].shape != own[key].shape)
    ]
    if wrong:
        raise ModelError(
            f"weights {weights}: do not fit the backbone {name!r}: {len(wrong)} of {len(own)} tensors are missing or "
            f"of another shape, such as {wrong[0]}. Use weights of that backbone."
        )
    backbone.load_state_dict({key: own[key] if key in head else state[key] for key in own})


def widen(filters: Tensor, known: Sequence[str], bands: Sequence[str], n_channels: int) -> Tensor:
    """Fit a first layer's filters to other bands.

    A band that the filters know keeps its own filter, another gets their mean; all are then scaled by the ratio of the
    numbers of bands, so that the layer's output keeps its size. Channels after the bands get 0.

    Parameters
    ----------
    filters : Tensor, shape (out, k, h, w)
    known : sequence of str, length k
        Names of the bands that the filters were made for.
    bands : sequence of str
        Names of the leading channels wanted.
    n_channels : int
        Number of channels wanted.

    Returns
    -------
    Tensor, shape (out, n_channels, h, w)
    """
    wide = filters.new_zeros(filters.shape[0], n_channels, *filters.shape[2:])
    mean = filters.mean(dim=1)
    for k, band in enumerate(bands):
        wide[:, k] = filters[:, list(known).index(band)] if band in known else mean
    return wide * (len(known) / len(bands))


def _from_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: Any = load_safetensors(path.read_bytes())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"weights {path}: no such file. Mend train.weights, or set it to null to start at random."
        ) from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"weights {path}: not a state dict of tensors alone ({error}).") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"weights {path}: expected a mapping of names to tensors.")
    return dict(state)


def _imagenet(name: str) -> dict[str, Tensor]:
    if not timm.is_model(name):
        raise ModelError(f"weights imagenet: there are none for the backbone {name!r}. Use another, or null.")
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:
        raise _not_downloaded("imagenet", f"timm/{name}", error) from error


def _torchgeo(name: str, weights: str) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    from torchgeo import models  # takes seconds to import, and only this needs it

    kinds: dict[str, Any] = {"resnet18": models.ResNet18_Weights, "resnet50": models.ResNet50_Weights}
    members = {member.name: member for member in kinds.get(name, ())}
    if weights not in members:
        raise ModelError(
            f"weights is {weights!r}; for the backbone {name!r} expected null, a path ending in .safetensors or .pth"
            + (", imagenet" if timm.is_model(name) else "")
            + (f", or one of {', '.join(members)}." if members else ".")
        )
    chosen = members[weights]
    try:
        state = chosen.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise _not_downloaded(weights, str(chosen.url), error) from error
    sensor = next((key for key in ("OLI", "SENTINEL2") if key in weights), "TM")
    names = [
        str(band).removeprefix("SR_").removesuffix("_VCID_1").removeprefix("B0")
        for band in chosen.meta.get("bands", ())
    ]
    names = [band if band.startswith("B") else f"B{band}" for band in names]
    return dict(state), tuple(_SENSOR_BANDS[sensor].get(band, band) for band in names) or None


def _not_downloaded(weights: str, where: str, error: Exception) -> ModelError:
    return ModelError(
        f"weights {weights}: could not be downloaded from {where} ({error}). Download them where there is a network "
        "and give their path as train.weights, or set it to null to start at random."
    )
