"""The one training loop of all networks here: AdamW, the rate up and down once, a batch a step.

There is no early stopping: the rate ends at zero and the last weights count, so a task without a validation part needs
none. On a CPU the same data, seed and versions give the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Samples", "device_for", "fit", "predict", "seeded"]

_WEIGHT_DECAY = 1e-2
_WARM_UP = 0.2


class Samples(Protocol):
    """What PyTorch's DataLoader asks of a dataset; a sample is a dict of arrays or tensors, with ``image``."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> dict[str, Any]: ...


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch for a block, and put its state back afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def device_for() -> Any:
    """Return the GPU where there is one, else the CPU."""
    from sustain.models.hardware import torch_device

    return torch_device("auto")


def fit(
    network: nn.Module,
    samples: Samples,
    loss: Callable[[Tensor, dict[str, Tensor]], Tensor],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
    title: str = "train",
) -> nn.Module:
    """Train a network in place.

    Parameters
    ----------
    network : Module
        Called with ``batch["image"]``.
    samples : Samples
    loss : callable
        Of the network's output and the batch.
    epochs, batch_size : int
        A last batch of a single sample is left out, because batch normalisation needs two.
    learning_rate : float
        The highest.
    seed : int
        Of the order of samples.
    prepare : callable
        Applied to each batch on the device, such as an augmentation.
    title : str
        Of the progress bar.

    Returns
    -------
    Module
        The network, in evaluation mode.
    """
    import torch
    from torch.utils.data import DataLoader

    device = device_for()
    order = torch.Generator().manual_seed(seed)
    n = len(samples)
    loader: DataLoader[Any] = DataLoader(
        samples,  # type: ignore[arg-type]  # torch asks for its own class, and needs no more than `Samples` has
        batch_size=min(batch_size, n),
        shuffle=True,
        drop_last=n % batch_size == 1 < n,
        generator=order,
    )
    network = network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=_WEIGHT_DECAY)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
    with tqdm(total=epochs * n, desc=title, unit="sample", disable=None) as bar:
        for _ in range(epochs):
            for batch in loader:
                n_samples = len(batch["image"])
                batch = prepare({k: v.to(device) for k, v in batch.items() if isinstance(v, torch.Tensor)})
                value = loss(network(batch["image"]), batch)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                bar.update(n_samples)
    return network.eval()


def _rate(done: float) -> float:
    """Share of the highest rate, when a share of the steps is done: up along a line, down along a cosine."""
    if done < _WARM_UP:
        return (done + 0.01) / (_WARM_UP + 0.01)
    return 0.5 + 0.5 * math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))


def predict(
    network: Callable[[Tensor], Tensor], samples: Samples, batch_size: int
) -> Iterator[NDArray[np.float32]]:
    """Yield a network's outputs batch by batch, in the order of the samples."""
    import torch
    from torch.utils.data import DataLoader

    device = device_for()
    loader: DataLoader[Any] = DataLoader(samples, batch_size=batch_size)  # type: ignore[arg-type]
    for batch in tqdm(loader, desc="predict", unit="batch", disable=None):
        with torch.inference_mode():
            output = network(batch["image"].to(device)).float().cpu().numpy()
        yield output
