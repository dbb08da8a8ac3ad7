"""Real tiles, few of them: 166 DHS clusters of Angola (2011), held out by whole 1-degree blocks.

Every model is fitted on four folds of blocks and judged on the fifth, with the predictions of all folds pooled. With so
few blocks, one of them 27 sites large, much depends on how they are dealt into folds: simple models are judged on many
dealings, the CNN on the first of them. The forest on random folds stands beside, for what neighbours are worth.
The tiles are looked for beside the project and never copied into it. Result in ``results/angola.csv``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray
from sklearn.metrics import r2_score

from sustain.baselines.features import random_convolutions
from sustain.config import LocalParams, TilesParams, TrainParams
from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.tiles.local import copy_local, pack_local_tiles
from sustain.data.tiles.packed import TileStore
from sustain.data.tiles.splits import assign_splits
from sustain.models.features.tiles import tile_features
from sustain.models.inputs import band_statistics
from sustain.models.predictor import TilePredictor
from sustain.models.simple import forest, ridge
from sustain.models.training import train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "angola_landsat"
FOLDS = 5
BLOCKS, SITES = "5 folds of whole 1-degree blocks", "5 random folds of sites"
Predictions = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Pictures:
    """Tiles of some rows in the form that random convolutions read: standardised, missing values NaN."""

    store: TileStore
    rows: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names, in channel order."""
        return self.store.bands

    def __len__(self) -> int:
        return len(self.rows)

    def arrays(self, i: int) -> dict[str, NDArray[np.float32]]:
        """One tile."""
        numbers = self.store.read(self.rows[[i]])[0]
        values = (numbers - self.mean[:, None, None]) / self.std[:, None, None]
        return {"image": np.where(numbers == self.store.nodata, np.nan, values).astype(np.float32)}


def main() -> None:
    """Cross-validate, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dealings", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"error: {DATA.name}: the tiles are not beside the project; nothing to measure.")
    machine = describe()
    params = TrainParams(
        backbone="resnet_narrow", epochs=arguments.epochs, batch_size=16, learning_rate=1e-3, weight_decay=0.1,
        average=0.97, crop_px=64, members=arguments.members, views=4, stack=True, patience=arguments.epochs,
        threads=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_local(LocalParams(tiles=str(DATA / "tiles"), table=str(DATA / "labels.csv")), folder / "raw")
        tiles = TilesParams(label="wealth", label_unit="index points", columns={"id": "tile"})
        pack_local_tiles(folder / "raw", folder / "tiles", tiles, arguments.seed)
        store = TileStore.open(folder / "tiles")
        blocks, rows = store.index["block"].to_numpy(), []
        for number in range(arguments.seed, arguments.seed + arguments.dealings):
            rows += judge(store, simple_models(store, deal(blocks, number)), BLOCKS)
        sites = deal(np.arange(len(store)), arguments.seed)
        rows += judge(store, {"forest_statistics": forest_alone(store, sites)}, SITES)
        folds = deal(blocks, arguments.seed)
        rows += judge(store, cnn(store, folds, params, arguments.seed, folder), BLOCKS)
    table = pd.DataFrame(rows)
    scores = table.groupby(["folds", "model"], sort=False)["r2"]
    summary = scores.agg(first="first", mean="mean", least="min", most="max", dealings="size").reset_index()
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "angola.csv", "w", encoding="utf-8") as stream:
        stream.write(
            f"# {machine}\n"
            f"# R2 of pooled predictions at {len(store)} sites, at the first dealing into folds and over all dealings\n"
            f"# CNN: {arguments.epochs} epochs, {arguments.members} members, 4 views\n"
        )
        summary.to_csv(stream, index=False, float_format="%.3f", lineterminator="\n")
    print(summary.to_string(index=False))


def deal(groups: NDArray[np.generic], seed: int) -> NDArray[np.int64]:
    """Fold of each site, whole groups together."""
    return assign_splits(groups, {str(k): 1 / FOLDS for k in range(FOLDS)}, seed).astype(np.int64)


def judge(store: TileStore, predicted: Predictions, how: str) -> list[dict[str, object]]:
    """R2 of each model's pooled predictions."""
    truth = store.index["label"].to_numpy()
    return [
        {"folds": how, "model": name, "r2": r2_score(truth, values)} for name, values in predicted.items()
    ]


def simple_models(store: TileStore, fold: NDArray[np.int64]) -> Predictions:
    """Predict every site by models that were fitted on the other folds."""
    truth = store.index["label"].to_numpy()
    scale, offset = np.array(store.scale), np.array(store.offset)
    names = ("forest_statistics", "ridge_statistics", "ridge_histograms", "ridge_convolutions")
    predicted = {name: np.full(len(store), np.nan) for name in names}
    for k in range(FOLDS):
        learn, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        bands = band_statistics(store, learn)
        features = tile_features(store, bands)
        mean, std = (np.array(bands.mean) - offset) / scale, np.array(bands.std) / scale
        sites, everywhere = (Pictures(store, rows, mean, std) for rows in (learn, np.arange(len(store))))
        convolved = random_convolutions(cast(TaskDataset, sites), cast(TaskDataset, everywhere), k)
        for name, model, x in zip(
            names,
            (forest(), ridge(), ridge(), ridge()),
            (features.statistics, features.statistics, features.histograms, convolved),
            strict=True,
        ):
            predicted[name][held] = model.fit(x[learn], truth[learn]).predict(x[held])
    both = (predicted["forest_statistics"] + predicted["ridge_convolutions"]) / 2
    return {**predicted, "mean of forest and convolutions": both}


def forest_alone(store: TileStore, fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Predict every site by the forest, fitted on the other folds."""
    truth, predicted = store.index["label"].to_numpy(), np.full(len(store), np.nan)
    for k in range(FOLDS):
        learn, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        x = tile_features(store, band_statistics(store, learn)).statistics
        predicted[held] = forest().fit(x[learn], truth[learn]).predict(x[held])
    return predicted


def cnn(
    store: TileStore, fold: NDArray[np.int64], params: TrainParams, seed: int, folder: Path
) -> Predictions:
    """Predict every site by a CNN that was trained on the other folds; a part of those chose its epoch."""
    blocks = store.index["block"].to_numpy()
    stacked, alone = np.full(len(store), np.nan), np.full(len(store), np.nan)
    for k in range(FOLDS):
        learn, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        split = np.full(len(store), "test", dtype=object)
        split[learn] = assign_splits(blocks[learn], {"train": 0.85, "val": 0.15}, seed + k)
        store.index.assign(split=split).to_parquet(store.folder / "index.parquet", index=False)
        train(store.folder, folder / f"model-{k}", params, seed + k)
        predictor = TilePredictor.load(folder / f"model-{k}")
        stacked[held] = predictor.predict(store.read(held))
        predictor._network.stack = None
        alone[held] = predictor.predict(store.read(held))
    return {"cnn": alone, "cnn, stacked with regressions": stacked}


if __name__ == "__main__":
    main()
