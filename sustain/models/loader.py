"""Batches from packed tiles: uint16 until the device, shuffled by seed, turned and flipped on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sustain.data.tiles import TileStore

__all__ = ["TileBatches", "dihedral"]


class TileBatches:
    """Tiles and standardised labels of some rows of a store, once over for each iteration.

    Batches are of equal size, give or take one tile, so none is too small for batch statistics and no tile is dropped.

    Parameters
    ----------
    store : TileStore
    rows : ndarray of int, shape (n,)
        Positions in the store's index.
    labels : ndarray of float, shape (n,)
        Standardised label of each row.
    batch_size : int
        Largest batch.
    seed : int, optional
        Seed of the order, which differs from epoch to epoch; without it, rows come in their own order.

    Yields
    ------
    tiles : Tensor
        uint16 ``(b, C, H, W)``.
    labels : Tensor
        float32 ``(b,)``.
    """

    def __init__(
        self,
        store: TileStore,
        rows: NDArray[np.int64],
        labels: NDArray[np.float64],
        batch_size: int,
        seed: int | None = None,
    ) -> None:
        self.store = store
        self.rows = rows
        self.labels = labels.astype(np.float32)
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = np.arange(len(self.rows))
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self._epoch]).permutation(order)
            self._epoch += 1
        for batch in np.array_split(order, len(self)):
            yield torch.from_numpy(self.store.read(self.rows[batch])), torch.from_numpy(self.labels[batch])


def dihedral(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and flip each image by a random element of the square's symmetries: seen from above, no side is up.

    Parameters
    ----------
    images : Tensor, shape (n, C, H, H)
    generator : torch.Generator
        On the CPU, whatever device the images are on, so that a seed means the same everywhere.
    """
    elements = torch.randint(8, (len(images),), generator=generator).to(images.device)
    turned = torch.empty_like(images)
    for element in range(8):
        chosen = elements == element
        part = torch.rot90(images[chosen], element % 4, dims=(2, 3))
        turned[chosen] = part.flip(3) if element >= 4 else part
    return turned
