"""Losses of the regression, on labels in standard deviations.

Each shrinks predictions towards the mean where images say little, which is what the calibration measures afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

__all__ = ["LOSSES"]

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,
    "huber": functional.huber_loss,  # delta 1: linear beyond one standard deviation, for labels with outliers
}
"""Name -> function of prediction and label, both of shape ``(n,)``; the mean over the batch."""
