"""Training ResNet-18 in bfloat16 from packed shards on a GPU, against tensors that already lie on it.

Any CUDA machine will do; result in ``results/gpu.json``. The target is at least 80% of the on-device rate. Also
measured: prediction, and what torch.compile and the channels-last layout give.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from loader import BANDS, SIDE, write_store
from machine import RESULTS, describe

from sustain.errors import HardwareError
from sustain.models.hardware import require_devices
from sustain.models.inputs import TileInputs
from sustain.models.loader import Batch, BatchOrder, TileBatches, augment, tile_loader
from sustain.models.network import TileNetwork

TARGET = 0.8


def network(channels_last: bool, compiled: bool) -> TileNetwork:
    """Build an untrained ResNet-18 on the GPU."""
    inputs = TileInputs(tuple("ABCDEFGH"), np.full(BANDS, 30000.0), np.full(BANDS, 17000.0), 0)
    net = TileNetwork("resnet18", inputs).cuda()
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    if compiled:
        net.compile()
    return net


def steps(net: TileNetwork, batches: Iterator[Batch], n: int, train: bool, channels_last: bool) -> float:
    """Tiles a second over `n` batches, after 10 to warm up."""
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    net.train(train)
    tiles, start = 0, 0.0
    for number in range(n + 10):
        if number == 10:
            torch.cuda.synchronize()
            tiles, start = 0, time.perf_counter()
        batch = next(batches)
        pixels = batch.tiles.cuda(non_blocking=True)
        labels = batch.labels.cuda(non_blocking=True)
        with torch.set_grad_enabled(train), torch.autocast("cuda", torch.bfloat16):
            channels = net.normalise(pixels)
            if train:
                channels = augment(channels, BANDS, 0.05, generator)
            if channels_last:
                channels = channels.contiguous(memory_format=torch.channels_last)
            loss = torch.nn.functional.mse_loss(net(channels)[:, 0].float(), labels)
        if train:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        tiles += len(labels)
    torch.cuda.synchronize()
    return tiles / (time.perf_counter() - start)


def endless(loader: torch.utils.data.DataLoader[Batch], order: BatchOrder) -> Iterator[Batch]:
    """Epoch after epoch."""
    epoch = 0
    while True:
        order.set_epoch(epoch)
        yield from loader
        epoch += 1


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    arguments = parser.parse_args()
    try:
        require_devices("gpu", 1)
    except HardwareError as error:
        sys.exit(f"error: {error} This benchmark is of a GPU; benchmarks/loader.py needs none.")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        store = write_store(Path(temporary))
        # Many times over, because workers idle at the end of an epoch, and real epochs are long.
        rows = np.tile(np.arange(len(store)), 16)
        order = BatchOrder(len(rows), arguments.batch_size, seed=0)
        tiles = TileBatches(store, rows, np.zeros(len(rows)), np.zeros((len(rows), 3)))
        loader = tile_loader(tiles, order, arguments.workers, pin_memory=True)
        from_shards = endless(loader, order)
        resident = Batch(*(part.cuda() for part in next(from_shards)))
        on_device = iter(lambda: resident, None)
        for name, channels_last, compiled in (
            ("", True, False),
            (" contiguous", False, False),
            (" compiled", True, True),
        ):
            net = network(channels_last, compiled)
            for source, batches in (("shards", from_shards), ("device", on_device)):
                found[f"train from {source}{name}"] = steps(
                    net, batches, arguments.batches, True, channels_last
                )
        net = network(True, False)
        found["predict from shards"] = steps(net, from_shards, arguments.batches, False, True)
    share = found["train from shards"] / found["train from device"]
    result = {
        "machine": describe(),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "settings": vars(arguments)
        | {"backbone": "resnet18", "tile": [BANDS, SIDE, SIDE], "precision": "bfloat16"},
        "tiles_per_second": found,
        "share_of_on_device": share,
        "target": TARGET,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gpu.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
