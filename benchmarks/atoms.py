"""What corrections make of effects where many rows have one exact truth or prediction.

    python benchmarks/atoms.py [--draws 40] [--seed 0] [--models ...] [--out benchmarks/results]

Real predictions and truths, of which some are moved to one value: the poorest 16% of truths to the highest among them
(those who own nothing of what is asked for), the richest 16% to the lowest among them (a scale that ends), and the
same of predictions. Each draw halves the places: one half calibrates, trials are made in the other. There a treated
unit takes truth and prediction of one of the 21 places whose truth is nearest to its own plus 0.5 index points, or to
the highest truth where that is less; among equal truths any one. A control keeps its own.

- found_truth, found_prediction: share of draws in which the calibration sample shows an atom.
- naive, linear, tweedie: share of the mean change of truth that the mean over all units recovers; mc_se over draws.

Nothing was chosen on these results. Needs the table yeh_dhs_incountry.parquet of published predictions beside the
repository (../shared/data).
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from donors import TABLE
from machine import RESULTS, describe
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.errors import SustainWarning
from sustain.files import write_text
from sustain.stats.atoms import atoms

MODELS = ("resnet_18_ms", "resnet_18_msnl_concat", "resnet_18_nl", "ridge_msnl_hist")
TAU, SHARE, NEAR = 0.5, 0.16, 10

Array = NDArray[np.float64]


def moved(values: Array, kind: str) -> Array:
    """Values with their lowest or highest `SHARE` at one value."""
    if kind == "floor":
        return np.maximum(values, np.quantile(values, SHARE))
    return np.minimum(values, np.quantile(values, 1 - SHARE))


def cases(truth: Array, predicted: Array) -> dict[str, tuple[Array, Array]]:
    return {
        "none": (truth, predicted),
        **{f"truth, {kind}": (moved(truth, kind), predicted) for kind in ("floor", "cap")},
        **{f"prediction, {kind}": (truth, moved(predicted, kind)) for kind in ("floor", "cap")},
        "both, floor": (moved(truth, "floor"), moved(predicted, "floor")),
    }


def donors(truth: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """For every unit one of the places whose truth is nearest to the unit's plus `TAU`."""
    order = np.argsort(truth, kind="stable")
    ascending = truth[order]
    wanted = np.minimum(truth + TAU, ascending[-1])
    first, last = np.searchsorted(ascending, wanted, "left"), np.searchsorted(ascending, wanted, "right")
    place = rng.integers(first, np.maximum(last, first + 1)) + rng.integers(-NEAR, NEAR + 1, truth.size)
    return np.asarray(order[np.clip(place, 0, truth.size - 1)])


def one_draw(truth: Array, predicted: Array, rng: np.random.Generator) -> dict[str, float]:
    """Shares recovered in one halving of the places."""
    half = rng.permutation(truth.size) < truth.size // 2
    donor = donors(truth[~half], rng)
    effect = float((truth[~half][donor] - truth[~half]).mean())
    found = {
        "found_truth": float(bool(atoms(truth[half]))),
        "found_prediction": float(bool(atoms(predicted[half]))),
        "naive": float((predicted[~half][donor] - predicted[~half]).mean()) / effect,
    }
    for kind in (LinearCalibration, TweedieCalibration):
        values = kind().fit(predicted[half], truth[half]).transform(predicted[~half], check_support=False)
        found[kind.method] = float((values[donor] - values).mean()) / effect
    return found


def run(table: pd.DataFrame, models: list[str], draws: int, seed: int) -> pd.DataFrame:
    rows = []
    for model in tqdm(models, unit="model"):
        known = table[["y_true", f"p_{model}"]].dropna().to_numpy()
        for case, (truth, predicted) in cases(*known.T).items():
            rng = np.random.default_rng(seed)  # the same halves in every case
            found = pd.DataFrame([one_draw(truth, predicted, rng) for _ in range(draws)])
            mean, error = found.mean(), found.std() / np.sqrt(draws)
            rows.append(
                {"model": model, "atom": case, "draws": draws}
                | mean.to_dict()
                | {f"{name}_mc_se": error[name] for name in ("naive", "linear", "tweedie")}
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the results.")
    arguments = parser.parse_args()
    machine, start = describe(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)  # of atoms: they are what is looked at
        found = run(pd.read_parquet(TABLE), arguments.models, arguments.draws, arguments.seed)
    seconds = time.perf_counter() - start
    write_text(
        arguments.out / "atoms.csv", f"# {machine}; {seconds:.0f} s\n" + found.round(4).to_csv(index=False)
    )
    print(found.round(3).to_string())


if __name__ == "__main__":
    main()
