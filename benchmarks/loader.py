"""How fast packed shards come to the training loop: tiles of 8 x 224 x 224 a second a core, before any device.

Counts processor time, not the clock's, so that a busy machine says the same; shards are in the page cache, as they are
from the second epoch on. The copy of as many bytes from memory to memory stands beside it as the bound.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe

from sustain.data.tiles.packed import TileStore
from sustain.data.tiles.shards import TileFormat, write_shard
from sustain.models.training.loader import BatchOrder, TileBatches, tile_loader

N, BANDS, SIDE, BATCH, ROUNDS = 1024, 8, 224, 64, 5
TARGET = 3000


def write_store(folder: Path, n: int = N) -> TileStore:
    """Write random tiles in four shards."""
    rng = np.random.default_rng(0)
    tiles = (rng.integers(1, 60000, (BANDS, SIDE, SIDE), dtype=np.uint16) for _ in range(n))
    for shard in range(4):
        write_shard(folder, shard, tiles, n // 4)
    places = [(shard, row) for shard in range(4) for row in range(n // 4)]
    index = pd.DataFrame(places, columns=["shard", "row"]).assign(label=0.0, split="train")
    form = TileFormat(
        bands=tuple("ABCDEFGH"), scale=(1.0,) * BANDS, offset=(0.0,) * BANDS, pixel_m=30.0, tile_px=SIDE
    )
    return TileStore(folder, index, form.model_dump() | {"label": {"name": "none", "unit": "1"}})


def rate(epoch: Callable[[int], int]) -> float:
    """Tiles a second of processor time, the median of some epochs after one to warm up."""
    epoch(0)
    found = []
    for number in range(1, ROUNDS + 1):
        start = time.process_time()
        tiles = epoch(number)
        found.append(tiles / (time.process_time() - start))
    return float(np.median(found))


def main() -> None:
    """Measure, print and write ``results/loader.txt``."""
    machine = describe()
    with tempfile.TemporaryDirectory() as temporary:
        store = write_store(Path(temporary))
        order = BatchOrder(N, BATCH, seed=0)
        loader = tile_loader(TileBatches(store, np.arange(N), np.zeros(N), np.zeros((N, 3))), order)

        def load(number: int) -> int:
            order.set_epoch(number)
            return sum(len(batch.tiles) for batch in loader)

        memory = np.zeros((BATCH, BANDS, SIDE, SIDE), dtype=np.uint16)

        def copy(_: int) -> int:
            return sum(len(memory.copy()) for _ in range(N // BATCH))

        rates = {"loader, random order": rate(load), "copy from memory to memory": rate(copy)}
    lines = [
        f"Tiles of {BANDS} x {SIDE} x {SIDE} uint16 a second a core, {N} tiles in 4 shards, batches of {BATCH}",
        machine,
        *(f"{name:30s} {value:8.0f} tiles/s" for name, value in rates.items()),
        f"{'target':30s} {TARGET:8.0f} tiles/s",
    ]
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "loader.txt").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
