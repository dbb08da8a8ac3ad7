"""Which sites teach which model: the map's own, and those of cross-fitting, each without a fold of whole blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.data.tiles.packed import TileStore
from sustain.data.tiles.splits import assign_splits

__all__ = ["FOLDS", "Sites", "fold_folder", "fold_sites", "main_rows", "plan_folds", "seed_of"]

FOLDS = "folds"

_VALIDATION_SHARE = 0.15
"""Share of a fold's training sites that choose its epoch."""


@dataclass(frozen=True)
class Sites:
    """Rows of a store that one model learns from, and those that choose its epoch."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def fold_folder(fold: int) -> str:
    """Return the place of one fold's model within the model's folder."""
    return f"{FOLDS}/{fold}"


def plan_folds(store: TileStore, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Deal the blocks of all sites but the test split's into folds.

    Returns
    -------
    ndarray of int, shape (n,)
        Fold of each row of the store, from 0; -1 for test sites.

    Raises
    ------
    DataError
        When there are fewer blocks than folds.
    """
    rows = np.flatnonzero(store.index["split"].to_numpy() != "test")
    names = [str(k) for k in range(n_folds)]
    shares = dict.fromkeys(names, 1 / n_folds)
    folds = np.full(len(store), -1, dtype=np.int64)
    folds[rows] = assign_splits(store.index["block"].to_numpy()[rows], shares, seed).astype(np.int64)
    return folds


def main_rows(store: TileStore, crossfitted: bool) -> NDArray[np.int64]:
    """Return the rows that the map's model learns from: ``train``, with ``calibration`` when folds do its work."""
    rows = store.rows("train")
    return np.sort(np.concatenate([rows, store.rows("calibration")])) if crossfitted else rows


def fold_sites(store: TileStore, folds: NDArray[np.int64], fold: int, seed: int) -> Sites:
    """Return the rows that one fold's model learns from, and those that choose its epoch; never the fold's own."""
    rows = np.flatnonzero((folds >= 0) & (folds != fold))
    parts = {"train": 1 - _VALIDATION_SHARE, "val": _VALIDATION_SHARE}
    chosen = assign_splits(store.index["block"].to_numpy()[rows], parts, seed_of(seed, fold))
    return Sites(rows[chosen == "train"], rows[chosen == "val"])


def seed_of(seed: int, number: int) -> int:
    """Return another seed for each model and member; the first keeps the seed itself."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
