"""Training ResNet-18 in bfloat16 from packed shards on a GPU, against tensors that already lie on it.

Any CUDA machine will do, for five minutes; result in ``results/gpu.json``, which grows with every measure, so that what
fails late costs nothing that was measured before. The target is at least 80% of the on-device rate. Also measured: the
package's own trainer with its validation and checkpoints (whole epochs beyond the first), prediction, and what the
channels-last layout and torch.compile give. ``--smoke`` goes through the same code on a CPU, with a tiny batch or two,
and writes nothing.
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
from machine import RESULTS, cores, describe

from sustain.config import TrainParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import HardwareError
from sustain.files import write_json
from sustain.models.hardware import torch_device
from sustain.models.inputs import TileInputs
from sustain.models.network import TileNetwork
from sustain.models.training.fit import fit_network, reproducible
from sustain.models.training.loader import Batch, BatchOrder, TileBatches, augment, tile_loader

TARGET = 0.8
JITTER = 0.05
MEASURES = 5  # that read shards: three trainings, one prediction, and one to spare
EPOCHS = (1, 3)  # of the package's trainer; the difference leaves out its start


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
                channels = augment(channels, BANDS, JITTER, generator)
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


def fit_rate(store: TileStore, folder: Path, arguments: argparse.Namespace) -> float:
    """Tiles a second of the package's own trainer, from shards: of the epochs after the first."""
    params = TrainParams(
        backbone="resnet18",
        batch_size=arguments.batch_size,
        jitter=JITTER,
        patience=max(EPOCHS),
        accelerator="cpu" if arguments.smoke else "gpu",
        precision="float32" if arguments.smoke else "bfloat16",
        workers=arguments.workers,
    )
    # Random labels: there is nothing to learn, and the loss stays finite.
    training = some_tiles(store, arguments.batch_size * arguments.batches, labels_seed=0)
    validation = some_tiles(store, arguments.batch_size, labels_seed=1)
    seconds = []
    for epochs in EPOCHS:
        place = folder / f"{epochs}-epochs"
        place.mkdir()
        net = network(torch.device("cpu"), False, False)  # Lightning moves it
        start = time.perf_counter()
        with reproducible(0, params.threads):
            fit_network(net, training, validation, params.model_copy(update={"epochs": epochs}), 0, place)
        seconds.append(time.perf_counter() - start)
    return (EPOCHS[1] - EPOCHS[0]) * len(training) / (seconds[1] - seconds[0])


def some_tiles(store: TileStore, n: int, labels_seed: int) -> TileBatches:
    """Tiles of a store over and over, with random labels."""
    labels = np.random.default_rng(labels_seed).normal(size=n)
    return TileBatches(store, np.resize(np.arange(len(store)), n), labels, np.zeros((n, 3)))


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8, help="at most the cores that may be used")
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny batch or two on the CPU; nothing is written"
    )
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.batch_size, arguments.batches, arguments.workers = 2, 1, min(arguments.workers, 1)
    arguments.workers = min(arguments.workers, cores())
    try:
        device = torch.device("cpu" if arguments.smoke else torch_device("gpu"))
    except HardwareError as error:
        sys.exit(f"error: {error} This benchmark is of a GPU; benchmarks/loader.py needs none.")
    # Longer than what workers have read ahead (two batches each), which would come for nothing.
    warm_up = 1 if arguments.smoke else 10 + 2 * arguments.workers
    result: dict[str, object] = {
        "machine": describe(),
        "gpu": None if arguments.smoke else torch.cuda.get_device_name(),
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "settings": vars(arguments)
        | {"backbone": "resnet18", "tile": [BANDS, SIDE, SIDE], "precision": "bfloat16"},
        "target": TARGET,
    }
    found: dict[str, float] = {}

    def note(name: str, rate: float) -> None:
        found[name] = rate
        print(f"{name:40s} {rate:10.0f} tiles/s", file=sys.stderr)
        result["tiles_per_second"] = found
        if "train from device" in found:
            result["share_of_on_device"] = found["train from shards"] / found["train from device"]
        if not arguments.smoke:
            write_json(RESULTS / "gpu.json", result)

    with tempfile.TemporaryDirectory() as temporary:
        store = write_store(Path(temporary), 16 if arguments.smoke else N)
        # One long epoch of equal batches: workers idle at the end of one, and torch.compile would compile an odd batch.
        n = arguments.batch_size * MEASURES * (arguments.batches + warm_up)
        order = BatchOrder(n, arguments.batch_size, seed=0)
        pinned = device.type == "cuda"
        from_shards = iter(tile_loader(some_tiles(store, n, 0), order, arguments.workers, pinned))
        on_device = repeat(Batch(*(part.to(device) for part in next(from_shards))))
        sources = (("shards", from_shards), ("device", on_device))

        def training(name: str, channels_last: bool, compiled: bool) -> None:
            for source, batches in sources:
                net = network(device, channels_last, compiled)
                rate = steps(net, batches, arguments.batches, warm_up, True, channels_last)
                note(f"train from {source}{name}", rate)

        training("", True, False)
        net = network(device, True, False)
        note("predict from shards", steps(net, from_shards, arguments.batches, warm_up, False, True))
        training(" contiguous", False, False)
        note("train from shards by the package's trainer", fit_rate(store, Path(temporary), arguments))
        if not arguments.smoke:  # a minute of a C++ compiler, for nothing
            training(" compiled", True, True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
