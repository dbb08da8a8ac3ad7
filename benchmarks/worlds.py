"""Does the CNN beat the baselines on embedded worlds, or was it luck? Several worlds, several training seeds.

Worlds, tiles and training are those of the profile ``synthetic`` in params.yaml, but for the seeds; its own world comes
first. How network and regressions are stacked was chosen on worlds 3 to 6, which are not among these. Result in
``results/worlds.csv``: R2 of the CNN as it is stacked, of its network alone, of each baseline, and the difference of
CNN and baseline, mean and standard deviation over training seeds (baselines do not depend on them).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd
from machine import RESULTS, describe
from sklearn.metrics import r2_score

from sustain.config import Params, PredictParams, SyntheticWorldParams, load_params
from sustain.data.sustainbench.dhs_tiles import pack_dhs_tiles
from sustain.data.synthetic import write_world
from sustain.data.tiles.packed import TileStore
from sustain.files import read_json, write_text
from sustain.models.predictor import TilePredictor
from sustain.models.simple import SIMPLE_MODELS
from sustain.models.survey import predict_survey, predict_tiles
from sustain.models.training import train

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def main() -> None:
    """Train, compare, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--smoke", action="store_true", help="a small world, two epochs; nothing is written")
    arguments = parser.parse_args()
    params = load_params(PARAMS, "synthetic")
    machine = describe()
    rows: list[dict[str, object]] = []
    worlds = [params.seed, *range(1, arguments.worlds)]
    for world in worlds:
        with tempfile.TemporaryDirectory() as temporary:
            rows += compare(Path(temporary), params, world, arguments.seeds, arguments.smoke)
            print(f"world {world}: {arguments.seeds} trainings done", file=sys.stderr)
    found = pd.DataFrame(rows)
    keys = ["world", "split", "n", "baseline"]
    table = found.groupby(keys, sort=False).agg(
        cnn=("cnn", "mean"),
        network_alone=("alone", "mean"),
        baseline_r2=("r2", "mean"),
        difference=("difference", "mean"),
        difference_sd=("difference", "std"),
        cnn_ahead=("difference", lambda values: int((values > 0).sum())),
        seeds=("difference", "size"),
    )
    text = table.to_csv(float_format="%.3f", lineterminator="\n")
    if not arguments.smoke:
        write_text(RESULTS / "worlds.csv", f"# {machine}\n{text}")
    print(text, end="")


def compare(folder: Path, params: Params, world: int, seeds: int, smoke: bool) -> list[dict[str, object]]:
    """R2 of the CNN and of each baseline at calibration and test sites of one world, for each training seed."""
    acquire, tiles, training = params.acquire, params.tiles, params.train
    if not isinstance(acquire, SyntheticWorldParams) or tiles is None or training is None:
        sys.exit(f"error: {PARAMS.name}: the profile synthetic has no world, tiles or training.")
    if smoke:
        acquire = acquire.model_copy(update={"scene_px": 1024, "n_sites": 400})
        tiles = tiles.model_copy(update={"block_km": 3.0})
        training = training.model_copy(update={"epochs": 2})
    write_world(acquire, world, folder / "raw", folder / "truth")
    pack_dhs_tiles(folder / "raw", folder / "tiles", tiles, world)
    rows: list[dict[str, object]] = []
    for seed in range(seeds):
        train(folder / "tiles", folder / "model", training, seed)
        predict_survey(folder / "tiles", folder / "model", folder / "predictions", PredictParams())
        metrics = read_json(folder / "predictions" / "metrics.json")
        alone = network_alone(folder / "tiles", folder / "model")
        for split, scores in metrics.items():
            for name in SIMPLE_MODELS:
                cnn, r2 = scores["cnn"]["r2"], scores[name]["r2"]
                rows.append({
                    "world": world, "split": split, "n": scores["n"], "seed": seed, "baseline": name,
                    "cnn": cnn, "alone": alone[split], "r2": r2, "difference": cnn - r2,
                })  # fmt: skip
    return rows


def network_alone(tiles: Path, model: Path) -> dict[str, float]:
    """R2 of a model at calibration and test sites, without the regressions that it is stacked with."""
    store, predictor = TileStore.open(tiles), TilePredictor.load(model)
    predictor._network.stack = None
    truth, found = store.index["label"].to_numpy(), {}
    for split in ("calibration", "test"):
        rows = store.rows(split)
        found[split] = float(r2_score(truth[rows], predict_tiles(store, predictor, rows, 256)["y_pred"]))
    return found


if __name__ == "__main__":
    main()
