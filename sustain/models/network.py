"""The whole network: inputs, one backbone or several whose mean counts, and what comes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sustain.errors import ModelError
from sustain.models.backbones.by_name import build_backbone
from sustain.models.features.convolutions import SMALLEST_TILE
from sustain.models.inputs import TileInputs
from sustain.models.stack import Stack

__all__ = ["TileNetwork", "combine"]


class TileNetwork(nn.Module):
    """From tiles of DN to standardised predictions: normalisation on the device, then a backbone, or several.

    Parameters
    ----------
    backbone : str
        Name in `sustain.models.backbones.by_name.BACKBONES`.
    inputs : TileInputs
        What the backbone sees.
    outputs : int
        1 for a mean, 2 for a mean and a log variance.
    members : int
        Backbones, trained apart; their mean is the prediction.
    views : {1, 2, 4, 8}
        How many of a square's symmetries `predict` shows each tile in: as it is, turned by half, by quarters, and
        mirrored too.
    stack : bool
        Whether what `predict` gives is stacked with two regressions (`sustain.models.stack`).
    """

    def __init__(
        self,
        backbone: str,
        inputs: TileInputs,
        outputs: int = 1,
        members: int = 1,
        views: int = 1,
        stack: bool = False,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.views = views
        self.stack = Stack(inputs.n_bands) if stack else None
        self.backbones = nn.ModuleList(
            build_backbone(backbone, inputs.n_channels, outputs) for _ in range(members)
        )

    def normalise(self, tiles: Tensor, sites: Tensor | None = None) -> Tensor:
        """Turn tiles of DN ``(n, C, H, W)`` into channels ``(n, n_channels, H, W)``; see `TileInputs`."""
        channels: Tensor = self.inputs(tiles, sites)
        return channels

    def forward(self, channels: Tensor) -> Tensor:
        """Predict from normalised channels; shape ``(n, outputs)``, in standard deviations of the training labels."""
        return combine(torch.stack([backbone(channels) for backbone in self.backbones]))

    def predict(self, channels: Tensor) -> Tensor:
        """Predict from normalised channels, the mean over members and views; shape ``(n, outputs)``."""
        seen = [channels]
        if self.views > 1:
            turns = (0, 2) if self.views == 2 else (0, 1, 2, 3)
            seen = [torch.rot90(channels, turn, dims=(2, 3)) for turn in turns]
            if self.views == 8:
                seen += [view.flip(3) for view in seen]
        outputs = [
            backbone(view.contiguous(memory_format=torch.channels_last))
            for view in seen
            for backbone in self.backbones
        ]
        return self._stacked(channels, combine(torch.stack(outputs)))

    def _stacked(self, channels: Tensor, output: Tensor) -> Tensor:
        if self.stack is None:
            return output
        return torch.cat([self.stack(channels, output[:, 0])[:, None], output[:, 1:]], dim=1)

    @property
    def receptive_field(self) -> int | None:
        """Side of what one feature cell sees, in pixels; None where cells of a scene are not those of a tile."""
        return None if self.views > 1 or self.stack is not None else self._field

    @property
    def stride(self) -> int | None:
        """Distance of feature cells, in pixels; None where there is no `receptive_field`."""
        return getattr(self.backbones[0], "stride", None) if self.receptive_field else None

    def cells(self, channels: Tensor) -> Tensor:
        """Give the outputs of every feature cell, ``(members, n, outputs, h, w)``; see `ValidResNet.cells`.

        `combine` makes a tile's prediction of their means over its cells. Members stay apart until then, because the
        variance of a mixture is not linear in what they put out.

        Raises
        ------
        ModelError
            When cells of a scene are not those of a tile: the backbone pads, tiles are shown in several views, or the
            network is stacked with regressions.
        """
        if self.receptive_field is None:
            raise ModelError(
                "only resnet_valid, with train.views 1 and no stack, gives cells of a scene: other backbones pad "
                "their tiles."
            )
        return torch.stack([backbone.cells(channels) for backbone in self.backbones])  # type: ignore[operator]

    @property
    def _field(self) -> int | None:
        return getattr(self.backbones[0], "receptive_field", None)

    def require_tile(self, tile_px: int) -> None:
        """Raise `ModelError` when a tile, or the part of it that is shown, is less than a cell of the backbone sees."""
        if self._field and self._field > tile_px:
            raise ModelError(
                f"a cell of the backbone sees {self._field} pixels, but a tile has {tile_px}, or that is what "
                "train.crop_px leaves of it: use larger tiles or another backbone."
            )
        if self.stack is not None and tile_px < SMALLEST_TILE:
            raise ModelError(
                f"train.stack looks at patches of {SMALLEST_TILE} pixels, but a tile has {tile_px}: use larger tiles, "
                "or leave it out."
            )


def combine(outputs: Tensor) -> Tensor:
    """Join members' outputs ``(members, n, outputs)`` into ``(n, outputs)``.

    The mean of the means; and for variances that of the mixture, which adds the members' disagreement (Lakshminarayanan
    et al. 2017, section 2.4).
    """
    if len(outputs) == 1:
        return outputs[0]
    mean = outputs[..., 0].mean(dim=0)
    if outputs.shape[-1] == 1:
        return mean[:, None]
    variance = outputs[..., 1].exp().mean(dim=0) + outputs[..., 0].var(dim=0, correction=0)
    return torch.stack([mean, variance.log()], dim=1)
