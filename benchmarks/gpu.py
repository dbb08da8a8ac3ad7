"""Training ResNet-18 in bfloat16 from packed shards on a GPU, against tensors that already lie on it.

Any CUDA machine will do; result in ``results/gpu.json``. The target is at least 80% of the on-device rate. Also
measured: prediction, and what torch.compile and the channels-last layout give. ``--smoke`` goes through the same code
on a CPU, with a tiny batch or two, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from loader import BANDS, SIDE, N, write_store
from machine import RESULTS, describe

from sustain.errors import HardwareError
from sustain.models.hardware import torch_device
from sustain.models.inputs import TileInputs
from sustain.models.loader import Batch, BatchOrder, TileBatches, augment, tile_loader
from sustain.models.network import TileNetwork

TARGET = 0.8
MEASURES = 5  # that read shards: three trainings, one prediction, and one to spare


def network(device: torch.device, channels_last: bool, compiled: bool) -> TileNetwork:
    """Build an untrained ResNet-18 on a device."""
    inputs = TileInputs(tuple("ABCDEFGH"), np.full(BANDS, 30000.0), np.full(BANDS, 17000.0), 0)
    net = TileNetwork("resnet18", inputs).to(device)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    if compiled:
        net.compile()
    return net


def steps(
    net: TileNetwork, batches: Iterator[Batch], n: int, warm_up: int, train: bool, channels_last: bool
) -> float:
    """Tiles a second over `n` batches, after some to warm up."""
    device = next(net.parameters()).device
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    net.train(train)
    tiles, start = 0, 0.0
    for number in range(n + warm_up):
        if number == warm_up:
            wait(device)
            tiles, start = 0, time.perf_counter()
        batch = next(batches)
        pixels = batch.tiles.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        # Most CPUs are very slow at bfloat16.
        mixed = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        with torch.set_grad_enabled(train), mixed:
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
    wait(device)
    return tiles / (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    """Until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--smoke", action="store_true", help="one tiny batch on the CPU; nothing is written")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.batch_size, arguments.batches, arguments.workers = 2, 1, min(arguments.workers, 1)
    try:
        device = torch.device("cpu" if arguments.smoke else torch_device("gpu"))
    except HardwareError as error:
        sys.exit(f"error: {error} This benchmark is of a GPU; benchmarks/loader.py needs none.")
    # Longer than what workers have read ahead (two batches each), which would come for nothing.
    warm_up = 1 if arguments.smoke else 10 + 2 * arguments.workers
    machine = describe()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        store = write_store(Path(temporary), 16 if arguments.smoke else N)
        # One long epoch of equal batches: workers idle at the end of one, and torch.compile would compile an odd batch.
        rows = np.resize(
            np.arange(len(store)), arguments.batch_size * MEASURES * (arguments.batches + warm_up)
        )
        order = BatchOrder(len(rows), arguments.batch_size, seed=0)
        tiles = TileBatches(store, rows, np.zeros(len(rows)), np.zeros((len(rows), 3)))
        from_shards = iter(tile_loader(tiles, order, arguments.workers, pin_memory=device.type == "cuda"))
        on_device = repeat(Batch(*(part.to(device) for part in next(from_shards))))
        for name, channels_last, compiled in (
            ("", True, False),
            (" contiguous", False, False),
            (" compiled", True, True),
        ):
            if compiled and arguments.smoke:
                continue  # a minute of a C++ compiler, for nothing
            net = network(device, channels_last, compiled)
            for source, batches in (("shards", from_shards), ("device", on_device)):
                found[f"train from {source}{name}"] = steps(
                    net, batches, arguments.batches, warm_up, True, channels_last
                )
        net = network(device, True, False)
        found["predict from shards"] = steps(net, from_shards, arguments.batches, warm_up, False, True)
    share = found["train from shards"] / found["train from device"]
    result = {
        "machine": machine,
        "gpu": None if arguments.smoke else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "settings": vars(arguments)
        | {"backbone": "resnet18", "tile": [BANDS, SIDE, SIDE], "precision": "bfloat16"},
        "tiles_per_second": found,
        "share_of_on_device": share,
        "target": TARGET,
    }
    if not arguments.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "gpu.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
