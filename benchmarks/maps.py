"""Wall-to-wall mapping: reading and cutting beside reading tile by tile, dense mode, memory, workers, publishing.

    python benchmarks/maps.py [--cells 60] [--only read,dense,memory,workers,publish]

Ratios are taken within one run. The model is an untrained ResNet of the size that `make repro` trains: the forward pass
costs the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from machine import RESULTS, describe, peak_memory_gb
from rasterio.windows import Window

from sustain.config import MapParams, PublishParams
from sustain.debias import build_card
from sustain.files import write_text
from sustain.maps.correct import correct_raster
from sustain.maps.grid import Grid
from sustain.maps.imagery import Scene
from sustain.maps.predict.dense import dense_predictions
from sustain.maps.predict.exact import BlockWork, cut_tiles
from sustain.maps.predict.predict import block_store, predict_map
from sustain.maps.publish import publish_map

BANDS = ("BLUE", "GREEN", "RED", "SWIR1", "SWIR2", "TEMP1", "NIR", "NIGHTLIGHTS")
TILE_PX = 224
ABOUT = PublishParams(title="A map", licence="CC0-1.0", start=date(2016, 1, 1), end=date(2016, 12, 31))
Row = dict[str, Any]


class Model:
    """Mean of a tile's centre: costs nothing, so that what remains is reading, cutting and stacking."""

    bands, nodata, pixel_m, tile_px, id = BANDS, 0, 30.0, TILE_PX, "centre-000000000000"
    scale, offset = (1.0,) * len(BANDS), (0.0,) * len(BANDS)
    target = {"name": "wealth", "unit": "index"}  # noqa: RUF012

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        """Predict without looking at more than a pixel."""
        return tiles[:, 0, TILE_PX // 2, TILE_PX // 2].astype(np.float32)


class Network(Model):
    """A real network's forward pass."""

    def __init__(self) -> None:
        import timm
        import torch

        torch.manual_seed(0)
        self._net = timm.create_model("resnet18", in_chans=len(BANDS), num_classes=1).eval()
        self.seconds = 0.0

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        """Predict by an untrained ResNet-18."""
        import torch

        start = time.perf_counter()
        with torch.inference_mode():
            out = self._net(torch.from_numpy(tiles.astype(np.float32) / 1e4))[:, 0].numpy()
        self.seconds += time.perf_counter() - start
        return out


def write_scene(path: Path, side: int) -> None:
    """Write a compressed COG-like scene: smooth fields with noise."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": len(BANDS),
        "height": side,
        "width": side,
        "nodata": 0,
    }
    profile |= {
        "crs": "EPSG:3857",
        "transform": Affine(30, 0, 0, 0, -30, 0),
        "compress": "deflate",
        "predictor": 2,
    }
    with rasterio.open(
        path, "w", **profile, tiled=True, blockxsize=512, blockysize=512, bigtiff="IF_SAFER"
    ) as scene:
        scene.descriptions = BANDS
        for _, window in scene.block_windows(1):
            noise = rng.integers(8000, 9000, (len(BANDS), window.height, window.width), dtype=np.uint16)
            scene.write(noise, window=window)


def write_sparse(path: Path, side: int) -> None:
    """Write a mosaic of `side` x `side` pixels with imagery along its diagonal only."""
    small = path.with_name("piece.tif")
    write_scene(small, 2000)
    bands = []
    for i, name in enumerate(BANDS, start=1):
        sources = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{small.name}</SourceFilename><SourceBand>{i}</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="2000" ySize="2000"/>'
            f'<DstRect xOff="{x}" yOff="{y}" xSize="2000" ySize="2000"/></SimpleSource>'
            for x, y in ((at, at) for at in range(0, side, 2000))
        )
        bands.append(
            f'<VRTRasterBand dataType="UInt16" band="{i}"><Description>{name}</Description>'
            f"<NoDataValue>0</NoDataValue>{sources}</VRTRasterBand>"
        )
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:3857</SRS>'
        f"<GeoTransform>0, 30, 0, 0, 0, -30</GeoTransform>{''.join(bands)}</VRTDataset>"
    )


def row(what: str, value: float, unit: str, target: str = "") -> Row:
    return {"what": what, "value": float(f"{value:.4g}"), "unit": unit, "target": target}


def read(folder: Path, cells: int) -> list[Row]:
    """Read and cut blocks at 0.96 km spacing, beside one windowed read a tile; then with a real forward pass."""
    side = (cells - 1) * 32 + TILE_PX
    write_scene(folder / "scene.tif", side)
    params = MapParams(spacing_px=32, block_cells=16, batch_size=64)
    with Scene(folder / "scene.tif", Model()) as scene:
        grid = Grid(scene.geobox, TILE_PX, 32)
        start = time.perf_counter()
        views = [
            cut_tiles(scene.read(block.window), TILE_PX, 32) for block in grid.blocks(params.block_cells)
        ]
        blockwise = time.perf_counter() - start
        for view in views:
            for line in view:
                np.ascontiguousarray(line)
        copied = time.perf_counter() - start
    cached = read_tiles(folder / "scene.tif", grid, 256 << 20, 1)
    decoding = read_tiles(folder / "scene.tif", grid, 0, 16)
    network = Network()
    few = MapParams(spacing_px=32, block_cells=16, batch_size=64)
    start = time.perf_counter()
    with Scene(folder / "scene.tif", network) as scene:
        work = BlockWork(network, grid, few)
        block = next(grid.blocks(16))
        work.predict(block, scene.read(block.window))
    whole = time.perf_counter() - start
    n = grid.rows * grid.cols
    return [
        row(f"{n} tiles: read by blocks, cut as views", n / blockwise, "tiles/s"),
        row(f"{n} tiles: read by blocks, cut, and each tile copied out", n / copied, "tiles/s"),
        row(f"{n} tiles: one windowed read each, decoded again each time", n / decoding, "tiles/s"),
        row(f"{n} tiles: one windowed read each, whole scene in GDAL's cache", n / cached, "tiles/s"),
        row("blocks as views against windowed reads that decode, time", blockwise / decoding, "x", "<= 0.05"),
        row("blocks with copies against windowed reads that decode, time", copied / decoding, "x", "<= 0.05"),
        row("blocks as views against windowed reads from the cache, time", blockwise / cached, "x"),
        row("blocks with copies against windowed reads from the cache, time", copied / cached, "x"),
        row(
            "forward pass of ResNet-18, share of wall time of a block", network.seconds / whole, "", ">= 0.9"
        ),
    ]


def read_tiles(path: Path, grid: Grid, cache_bytes: int, every: int) -> float:
    """Seconds that one windowed read a tile would take for all tiles, from every so-manieth of them."""
    tiles = list(np.ndindex(*grid.shape))[::every]
    # Without a cache every read decodes its blocks, as on a scene much larger than memory.
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes), rasterio.open(path) as source:
        start = time.perf_counter()
        for r, c in tiles:
            source.read(window=Window(c * 32, r * 32, TILE_PX, TILE_PX))
        return (time.perf_counter() - start) / len(tiles) * grid.rows * grid.cols


def dense(folder: Path) -> list[Row]:
    """Predict a block of 32 x 32 cells at 0.96 km in one pass, beside tiles one by one, by the valid ResNet."""
    from sustain.models.predictor import ModelDescription, TilePredictor

    description = ModelDescription.model_validate(
        {
            "bands": BANDS,
            "scale": (1.0,) * len(BANDS),
            "offset": (0.0,) * len(BANDS),
            "nodata": 0,
            "pixel_m": 30,
            "tile_px": TILE_PX,
            "backbone": "resnet_valid",
            "statistics": {"mean": (8500.0,) * len(BANDS), "std": (300.0,) * len(BANDS)},
            "label": {"mean": 0.0, "std": 1.0},
            "target": {"name": "wealth", "unit": "index"},
            "weights_sha256": "0" * 64,
            "params": {},
            "seed": 0,
            "versions": {},
        }
    )
    predictor = TilePredictor(description.build(), description, device="cpu")
    cells, sampled = 32, 8
    side = (cells - 1) * 32 + TILE_PX
    write_scene(folder / "dense.tif", side)
    with Scene(folder / "dense.tif", predictor) as scene:
        pixels = scene.read(next(Grid(scene.geobox, TILE_PX, 32).blocks(cells)).window)
    tiles = cut_tiles(pixels, TILE_PX, 32)[:: cells // sampled, :: cells // sampled]
    stacked = np.ascontiguousarray(tiles).reshape(-1, *tiles.shape[2:])
    predictor.predict(stacked[:1])  # warm
    start = time.perf_counter()
    exact = predictor.predict(stacked, batch_size=16).reshape(sampled, sampled)
    per_cell = (time.perf_counter() - start) / exact.size
    start = time.perf_counter()
    found = dense_predictions(predictor, pixels, TILE_PX, 32)[0]  # the mean
    seconds = time.perf_counter() - start
    apart = np.abs(found[:: cells // sampled, :: cells // sampled] - exact).max()
    n = cells**2
    return [
        row("resnet_valid, exact, cells at 0.96 km", 1 / per_cell, "cells/s"),
        row("resnet_valid, dense, cells at 0.96 km, block of 32 x 32", n / seconds, "cells/s"),
        row("dense against exact, without the 256 checked cells", per_cell * n / seconds, "x", ">= 20"),
        row(
            "dense against exact, a map of a million cells with its check",
            per_cell / (seconds / n + 256 * per_cell / 1e6),
            "x",
            ">= 20",
        ),
        row(f"largest difference in {exact.size} cells", float(apart), "index", "<= 0.001"),
    ]


def publish(folder: Path) -> list[Row]:
    """From finished blocks of a country of 1,000 x 1,000 cells to its published folder."""
    side = 999 * 32 + TILE_PX
    scene = folder / "country.vrt"
    write_sparse(scene, side)
    params, model = MapParams(spacing_px=32, block_cells=50), Model()
    truth = np.random.default_rng(0).normal(size=2000)
    card = build_card(
        truth / 2 + np.random.default_rng(1).normal(size=truth.size) / 4,
        truth,
        target=model.target,
        predictor=model.id,
        methods=["linear"],
        n_boot=20,
        years=[2016],
        licence="CC-BY-4.0",
    ).save(folder / "card.json")
    with Scene(scene, model) as source:
        grid = Grid(source.geobox, TILE_PX, 32)
        store = block_store(folder / "blocks", model, source, grid, params)
    rng = np.random.default_rng(2)
    for block in grid.blocks(params.block_cells):
        values = rng.normal(scale=0.5, size=(2, *block.cells.shape)).astype(np.float32)
        store.save(block, values)
    start = time.perf_counter()
    predict_map(scene, model, folder / "wealth.tif", params=params, work=folder / "blocks")
    mapped = time.perf_counter()
    correct_raster(folder / "wealth.tif", folder / "corrected.tif", card)
    corrected = time.perf_counter()
    publish_map(folder / "corrected.tif", card, folder / "out", ABOUT)
    end = time.perf_counter()
    return [
        row("1,000 x 1,000 cells: finished blocks to the raw map", mapped - start, "s"),
        row("1,000 x 1,000 cells: correction", corrected - mapped, "s"),
        row("1,000 x 1,000 cells: published folder", end - corrected, "s"),
        row("1,000 x 1,000 cells: all from finished blocks", end - start, "s", "< 60"),
    ]


def memory(folder: Path) -> list[Row]:
    """Map a mosaic of 40,000 x 40,000 pixels in a process of its own, and read its peak memory."""
    write_sparse(folder / "mosaic.vrt", 40_000)
    done = subprocess.run(
        [sys.executable, __file__, "--step", str(folder)], capture_output=True, text=True, check=True
    )
    seconds, gigabytes = json.loads(done.stdout)
    return [
        row("mosaic 40,000 x 40,000 x 8: map at 7.7 km without a network", seconds, "s"),
        row("mosaic 40,000 x 40,000 x 8: peak memory", gigabytes, "GB", "< 3"),
    ]


def step(folder: Path) -> None:
    params = MapParams(spacing_px=256, block_cells=8, batch_size=64)
    start = time.perf_counter()
    predict_map(folder / "mosaic.vrt", Model(), folder / "map.tif", params=params)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, peak_memory_gb()]))


def workers(folder: Path, cells: int) -> list[Row]:
    """The same map with one local worker process and with two, each with one thread for the network."""
    import distributed

    side = (cells // 2 - 1) * 32 + TILE_PX
    write_scene(folder / "small.tif", side)
    times = {}
    for n in (1, 2):
        with (
            distributed.LocalCluster(
                n_workers=n, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
            ) as c,
            distributed.Client(c) as client,
        ):
            client.run(_one_thread)
            params = MapParams(spacing_px=32, block_cells=6, batch_size=36)
            start = time.perf_counter()
            predict_map(folder / "small.tif", Network(), folder / f"{n}.tif", params=params, client=client)
            times[n] = time.perf_counter() - start
    return [row("two local Dask workers against one", times[1] / times[2], "x", ">= 1.7")]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=60, help="Cells along a side of the scene that is read.")
    parser.add_argument("--only", default="read,dense,memory,workers,publish")
    parser.add_argument("--step", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step(arguments.step)
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".partial-") as name:
        folder = Path(name)
        parts = {
            "read": lambda: read(folder, arguments.cells),
            "dense": lambda: dense(folder),
            "publish": lambda: publish(folder),
            "memory": lambda: memory(folder),
            "workers": lambda: workers(folder, arguments.cells),
        }
        for part in arguments.only.split(","):
            rows += [{"part": part, **line, "machine": describe()} for line in parts[part]()]
            keep(rows)
    print(pd.DataFrame(rows).drop(columns="machine").to_string(index=False))


def keep(rows: list[Row]) -> None:
    """Write the rows of the parts that ran; those of other parts stay as an earlier run left them."""
    path = RESULTS / "maps.csv"
    table = pd.DataFrame(rows)
    if path.exists():
        older = pd.read_csv(path, keep_default_na=False)
        table = pd.concat([older[~older["part"].isin(table["part"])], table])
    write_text(path, table.sort_values("part", kind="stable").to_csv(index=False))


if __name__ == "__main__":
    main()
