"""Real tiles, few of them: 166 DHS clusters of Angola (2011), held out by whole 1-degree blocks.

Every model is fitted on four folds of blocks and judged on the fifth, with the predictions of all folds pooled. The
tiles are looked for beside the project and never copied into it. Result in ``results/angola.csv``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from sklearn.metrics import r2_score

from sustain.config import LocalParams, TilesParams, TrainParams
from sustain.data.local import copy_local, pack_local_tiles
from sustain.data.splits import assign_splits
from sustain.data.tiles import TileStore
from sustain.models.baselines import forest, ridge
from sustain.models.features import tile_features
from sustain.models.inputs import band_statistics
from sustain.models.predictor import TilePredictor
from sustain.models.train import train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "angola_landsat"
FOLDS = 5


def main() -> None:
    """Cross-validate, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"error: {DATA.name}: the tiles are not beside the project; nothing to measure.")
    machine = describe()
    params = TrainParams(
        backbone="resnet_narrow", loss="huber", epochs=arguments.epochs, batch_size=16, learning_rate=1e-3,
        average=0.95, jitter=0.1, members=arguments.members, views=8, patience=arguments.epochs, threads=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_local(LocalParams(tiles=str(DATA / "tiles"), table=str(DATA / "labels.csv")), folder / "raw")
        tiles = TilesParams(label="wealth", label_unit="index points", columns={"id": "tile"})
        pack_local_tiles(folder / "raw", folder / "tiles", tiles, arguments.seed)
        store = TileStore.open(folder / "tiles")
        scores = cross_validate(store, params, arguments.seed, folder)
    table = pd.DataFrame(scores, columns=["model", "r2", "pearson_r2", "r2_worst_fold", "r2_best_fold"])
    table["n"] = len(store)
    table["how"] = f"{FOLDS} folds of whole 1-degree blocks"
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "angola.csv", "w", encoding="utf-8") as stream:
        stream.write(f"# {machine}\n# CNN: {arguments.epochs} epochs, {arguments.members} members, 8 views\n")
        table.to_csv(stream, index=False, float_format="%.3f", lineterminator="\n")
    print(table.to_string(index=False))


def cross_validate(
    store: TileStore, params: TrainParams, seed: int, folder: Path
) -> list[tuple[object, ...]]:
    """Pooled and foldwise scores of every model."""
    index = store.index
    truth, blocks = index["label"].to_numpy(), index["block"].to_numpy()
    fold = assign_splits(blocks, {str(k): 1 / FOLDS for k in range(FOLDS)}, seed).astype(int)  # type: ignore[misc]
    predicted: dict[str, np.ndarray] = {
        name: np.full(len(store), np.nan)
        for name in (
            "forest_statistics",
            "ridge_statistics",
            "ridge_histograms",
            "cnn",
            "mean of cnn and forest",
        )
    }
    for k in range(FOLDS):
        learn, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        features = tile_features(store, band_statistics(store, learn))
        for name, model, x in (
            ("forest_statistics", forest(), features.statistics),
            ("ridge_statistics", ridge(), features.statistics),
            ("ridge_histograms", ridge(), features.histograms),
        ):
            predicted[name][held] = model.fit(x[learn], truth[learn]).predict(x[held])
        parts = assign_splits(blocks[learn], {"train": 0.85, "val": 0.15}, seed + k)
        split = np.full(len(store), "test", dtype=object)
        split[learn] = parts
        index.assign(split=split).to_parquet(store.folder / "index.parquet", index=False)
        train(store.folder, folder / f"model-{k}", params, seed + k)
        predicted["cnn"][held] = TilePredictor.load(folder / f"model-{k}").predict(store.read(held))
    predicted["mean of cnn and forest"] = (predicted["cnn"] + predicted["forest_statistics"]) / 2
    scores: list[tuple[object, ...]] = []
    for name, values in predicted.items():
        folds = [r2_score(truth[fold == k], values[fold == k]) for k in range(FOLDS)]
        pearson = np.corrcoef(truth, values)[0, 1] ** 2
        scores.append((name, r2_score(truth, values), pearson, min(folds), max(folds)))
    return scores


if __name__ == "__main__":
    main()
