"""Losses of the regression, on labels in standard deviations.

Each shrinks predictions towards the mean where images say little, which is what the calibration measures afterwards;
the Ratledge loss shrinks less, at a price in variance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sustain.config import TrainParams

__all__ = [
    "LOSSES",
    "Head",
    "Loss",
    "beta_gaussian",
    "gaussian",
    "make_loss",
    "outputs_of",
    "quintile_edges",
    "ratledge",
]

Head = Literal["mean", "mean_variance"]
Loss = Callable[[Tensor, Tensor], Tensor]
"""Of the network's output ``(n, 1)`` or ``(n, 2)`` and the labels ``(n,)``; the mean over the batch."""

LOSSES: dict[str, Head] = {
    "mse": "mean",
    "huber": "mean",
    "ratledge": "mean",
    "gaussian": "mean_variance",
    "beta_gaussian": "mean_variance",
}
"""Name -> what the network's head gives: a mean, or a mean and a log variance."""

_LOG_VARIANCE = (-10.0, 10.0)


def outputs_of(loss: str) -> int:
    """Return how many numbers a network gives for one tile under a loss."""
    return 2 if LOSSES[loss] == "mean_variance" else 1


def make_loss(params: TrainParams, training_labels: Tensor) -> Loss:
    """Return the loss that parameters name.

    Parameters
    ----------
    params : TrainParams
        Its `loss` and `bias_weight`.
    training_labels : Tensor, shape (n,)
        Standardised; the Ratledge loss takes its quintiles from them.
    """
    if params.loss == "ratledge":
        return _Ratledge(quintile_edges(training_labels), params.bias_weight)
    return {"mse": _mse, "huber": _huber, "gaussian": gaussian, "beta_gaussian": beta_gaussian}[params.loss]


def _mse(output: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(output[:, 0], labels)


def _huber(output: Tensor, labels: Tensor) -> Tensor:
    # Delta 1: linear beyond one standard deviation, for labels with outliers.
    return functional.huber_loss(output[:, 0], labels)


def quintile_edges(labels: Tensor) -> Tensor:
    """Return the four inner edges of the quintiles of labels."""
    return torch.quantile(labels.float(), torch.tensor([0.2, 0.4, 0.6, 0.8], device=labels.device))


@dataclass(frozen=True)
class _Ratledge:
    edges: Tensor
    bias_weight: float

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        return ratledge(output, labels, self.edges.to(labels.device), self.bias_weight)


def ratledge(output: Tensor, labels: Tensor, edges: Tensor, bias_weight: float) -> Tensor:
    """Mean squared error plus `bias_weight` times the largest squared bias among quintiles of the label.

    Ratledge et al. (2022), "Using machine learning to assess the livelihood impact of electricity access". The bias of
    a quintile is estimated within the batch, so large batches suit it.

    Parameters
    ----------
    output : Tensor, shape (n, 1)
    labels : Tensor, shape (n,)
    edges : Tensor, shape (4,)
        Inner edges of the quintiles of the training labels.
    bias_weight : float
        Lambda of the paper.
    """
    error = output[:, 0] - labels
    member = functional.one_hot(torch.bucketize(labels, edges), 5).to(error.dtype)
    bias = (error[:, None] * member).sum(dim=0) / member.sum(dim=0).clamp(min=1)
    return (error**2).mean() + bias_weight * (bias**2).max()


def gaussian(output: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of a normal with the mean and the log variance that the network gives, less a constant.

    The log variance is held within +-10, beyond which a float32 likelihood is noise.
    """
    return _gaussian_terms(output, labels).mean()


def beta_gaussian(output: Tensor, labels: Tensor) -> Tensor:
    """Beta-NLL of Seitzer et al. (2022, ICLR) at beta 0.5.

    Each site's likelihood is weighted by its standard deviation (held fixed), so that sites given up as noisy still
    teach the mean.
    """
    weight = output[:, 1].detach().clamp(*_LOG_VARIANCE).mul(0.5).exp()
    return (weight * _gaussian_terms(output, labels)).mean()


def _gaussian_terms(output: Tensor, labels: Tensor) -> Tensor:
    log_variance = output[:, 1].clamp(*_LOG_VARIANCE)
    return 0.5 * (log_variance + (output[:, 0] - labels) ** 2 * (-log_variance).exp())
