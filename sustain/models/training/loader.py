"""Batches from packed tiles: uint16 until the device, in an order that seed and epoch alone decide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sustain.data.tiles.packed import TileStore

__all__ = ["Batch", "BatchOrder", "TileBatches", "augment", "crop", "dihedral", "tile_loader"]


class Batch(NamedTuple):
    """Some tiles and what goes with them."""

    tiles: Tensor
    """uint16 ``(b, C, H, W)``."""
    labels: Tensor
    """float32 ``(b,)``, standardised."""
    sites: Tensor
    """float32 ``(b, 3)``: `sustain.models.sites.SITE_COLUMNS`."""
    positions: Tensor
    """int64 ``(b,)``: place of each tile among the rows."""


class TileBatches(Dataset[Batch]):
    """Tiles of some rows of a store, a whole batch at a time.

    Parameters
    ----------
    store : TileStore
    rows : ndarray of int, shape (n,)
        Positions in the store's index.
    labels : ndarray of float, shape (n,)
        Standardised label of each row.
    sites : ndarray of float32, shape (n, 3)
        `sustain.models.sites.SITE_COLUMNS` of each row.
    """

    def __init__(
        self,
        store: TileStore,
        rows: NDArray[np.int64],
        labels: NDArray[np.float64],
        sites: NDArray[np.float32],
    ) -> None:
        self.store = store
        self.rows = rows
        self.labels = labels.astype(np.float32)
        self.sites = sites.astype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: NDArray[np.int64]) -> Batch:
        return Batch(
            torch.from_numpy(self.store.read(self.rows[positions])),
            torch.from_numpy(self.labels[positions]),
            torch.from_numpy(self.sites[positions]),
            torch.from_numpy(positions),
        )


class BatchOrder(Sampler[NDArray[np.int64]]):
    """Which tiles make up which batch of an epoch, on one of several devices.

    Batches are of equal size, give or take one tile, so none is too small for batch statistics and no tile is dropped.
    On several devices each takes its turn; a few tiles come twice, so that all have equally many.

    Parameters
    ----------
    n : int
        Number of tiles.
    batch_size : int
        Largest batch of one device.
    seed : int, optional
        Seed of the order, which differs from epoch to epoch; without it, tiles come in their own order.
    rank, world : int
        Number of this device, and how many there are.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int | None = None, rank: int = 0, world: int = 1
    ) -> None:
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls this at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.n / self.world) / self.batch_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        order = np.arange(self.n)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        share = np.resize(order, math.ceil(self.n / self.world) * self.world)[self.rank :: self.world]
        return iter(np.array_split(share, len(self)))


def tile_loader(
    batches: TileBatches, order: BatchOrder, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Return a loader of whole batches; workers map the shards themselves, and live from epoch to epoch."""
    return DataLoader(
        batches,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
    )


def dihedral(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and flip each image by a random element of the square's symmetries: seen from above, no side is up.

    Parameters
    ----------
    images : Tensor, shape (n, C, H, H)
    generator : torch.Generator
        On the CPU, whatever device the images are on, so that a seed means the same everywhere.
    """
    elements = torch.randint(8, (len(images),), generator=generator)
    turned = torch.empty_like(images)
    for element in range(8):
        chosen = (elements == element).nonzero()[:, 0].to(images.device)
        part = torch.rot90(images[chosen], element % 4, dims=(2, 3))
        turned[chosen] = part.flip(3) if element >= 4 else part
    return turned


def augment(channels: Tensor, n_bands: int, jitter: float, generator: torch.Generator) -> Tensor:
    """Turn and flip tiles, and give each band a little gain and shift of its own.

    Parameters
    ----------
    channels : Tensor, shape (n, C, H, H)
        Standardised; the first `n_bands` of them are bands, in which 0 may be a missing value and stays 0.
    n_bands : int
    jitter : float
        Standard deviation of gain and shift.
    generator : torch.Generator
        On the CPU.
    """
    if jitter > 0:
        draws = torch.randn(2, len(channels), n_bands, 1, 1, generator=generator).to(channels.device) * jitter
        bands = channels[:, :n_bands]
        jittered = torch.where(bands != 0, bands * (1 + draws[0]) + draws[1], 0.0)
        channels = torch.cat([jittered, channels[:, n_bands:]], dim=1)
    return dihedral(channels, generator)


def crop(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Cut a square window out of each image, each at a random place of its own.

    Wealth changes little over a tile, so a part of it tells nearly as much of its label; and where tiles are few, their
    parts are many, and cost less.

    Parameters
    ----------
    images : Tensor, shape (n, C, H, H)
    side : int
        At most H.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor, shape (n, C, side, side)
    """
    corners = torch.randint(images.shape[2] - side + 1, (len(images), 2), generator=generator).tolist()
    windows = [
        image[:, row : row + side, column : column + side]
        for image, (row, column) in zip(images, corners, strict=True)
    ]
    return torch.stack(windows)
