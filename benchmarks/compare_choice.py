"""Does `compare` choose what turns out best on fresh places?

    python benchmarks/compare_choice.py [--shared ../shared] [--draws 10]

Real predictions of Yeh et al. 2020 and the survey wealth of the same places. In every draw whole 1-degree cells are
halved at random. On one half, in five folds of cells, `compare` recommends; the same half calibrates every method, and
the contrasts inside the other half are estimated by each. Designs: town - country and region - rest within surveys, aid
project - rest, and donor trials of half an index point among all places, the rural and the urban.

- hit: share of draws in which the method with the least RMSE on the fresh half is among the recommended.
- first best, first 5%: the first of the recommended is that method, or within 5% of its RMSE.
- regret: RMSE of the first over the least, less one; extra: their difference over the root mean square of the true
  contrasts (where all methods are nearly right, a large regret is a small loss); its mean over draws, and the worst.
- size: how many of the five methods are recommended.
- off, off mae: distance from 1 of the share that comes out on the fresh half, of the first of the recommended, and of
  the method that the least mean absolute error alone would choose. off least: of the method with the least distance.
- mae hit, mae extra: of that choice. `donors` are donor trials whose donors are as they are, without smoothing.

The margin of a tenth and the clustering by fold were fixed before, by reasoning; no model here was looked at for
them. Fresh donor trials are smoothed too, as a half's luck of donors is no method's merit.

A second table says what labels with noise would do to donor trials, which `compare` refuses: shares of the linear
correction with and without noise, as against the labels, against labels shrunken by Tweedie's formula, and against the
truths of the donors. Writes compare_choice.csv, compare_noise.csv and compare_choice.txt into benchmarks/results.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from contrasts import families, read_table
from machine import RESULTS, describe
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.aid import read_projects
from sustain.debias import (
    ContrastFamily,
    DonorTrials,
    LevelCalibration,
    LinearCalibration,
    ResponseCalibration,
    TweedieCalibration,
    compare,
)
from sustain.errors import CalibrationError, SustainWarning
from sustain.files import write_text

METHODS = {"linear": LinearCalibration, "tweedie": TweedieCalibration}
MODELS = ("resnet_18_ms_transfer", "ridge_nl_hist", "ridge_rgbnl_hist", "knn_nl_mean_scalar")
NOISE_MODELS = ("resnet_18_ms_transfer", "ridge_nl_hist")
EFFECT = 0.5
MIN_ARM = 10

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Unsmoothed(DonorTrials):
    """Donor trials whose donors are as they are: what `compare` did before it smoothed them."""

    def smooth(self, values: Array, rows: Mask) -> Array:
        return values


@dataclass
class Case:
    """One design among some rows of the table."""

    name: str
    rows: NDArray[np.intp]
    design: Any


def cases(table: pd.DataFrame, projects: pd.DataFrame, seed: int) -> Iterator[Case]:
    """All designs."""
    everyone = np.arange(len(table))
    for family in families(table, projects):
        yield Case(family.name, everyone, family)
    urban, y = table["urban"].to_numpy() == 1, table["y_true"].to_numpy()
    for name, mask in {"all": np.ones(y.size, dtype=bool), "rural": ~urban, "urban": urban}.items():
        rows = np.flatnonzero(mask)
        for label, kind in {"donor trials": DonorTrials, "donors": Unsmoothed}.items():
            yield Case(f"{label}, {name}", rows, kind(y[rows], EFFECT, n_units=800, n_trials=8, seed=seed))


def dealt(cells: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Whole cells, dealt out at random into `n` parts."""
    names, code = np.unique(cells, return_inverse=True)
    return (rng.permutation(names.size)[code] % n).astype(np.intp)


def one_draw(
    x: Array, y: Array, cells: Array, design: Any, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Choose on one half, judge on the other."""
    half = dealt(cells, 2, rng) == 0
    known, fresh = np.flatnonzero(half), ~half
    if isinstance(design, ContrastFamily):
        seen: Any = design.take(known)
    else:
        seen = type(design)(y[known], EFFECT, n_units=800, n_trials=8, seed=design.seed)
    try:
        found = compare(x[known], y[known], design=seen, folds=dealt(cells[known], 5, rng), min_arm=MIN_ARM)
    except CalibrationError:
        return None  # too few contrasts in such a half
    estimates = {"none": x}
    for name, method in METHODS.items():
        try:
            estimates[name] = method().fit(x[known], y[known]).transform(x, check_support=False)
        except CalibrationError:
            estimates[name] = x  # what refuses to correct leaves the predictions as they are
    level = LevelCalibration().fit(x[known], y[known], families=[seen])
    try:
        estimates["level"] = level.transform(x, seen.name, check_support=False)
    except CalibrationError:
        estimates["level"] = x  # a slope that may be zero corrects nothing
    # Fresh donor trials without luck, whichever way the choice was made.
    smooth = DonorTrials.smooth if isinstance(design, DonorTrials) else type(design).smooth
    trials = design.on(fresh, MIN_ARM)
    truth = trials.differences(y)
    rmse, share, mae = {}, {}, {item.method: item.mae for item in found.scores}
    contrasts = {
        name: trials.differences(smooth(design, values, fresh)) for name, values in estimates.items()
    }
    contrasts["response"] = read_back(x, y, known, trials, contrasts["none"])
    for name, contrast in contrasts.items():
        rmse[name] = float(np.sqrt(np.mean((contrast - truth) ** 2)))
        share[name] = float(contrast @ truth / (truth @ truth))
    best, first, nearest = min(rmse, key=rmse.__getitem__), found.first, min(mae, key=mae.__getitem__)
    size = float(np.sqrt(np.mean(truth**2)))
    off = {name: abs(value - 1) for name, value in share.items()}
    return {
        "hit": best in found.recommended,
        "first best": best == first,
        "first 5%": rmse[first] <= 1.05 * rmse[best],
        "regret": rmse[first] / rmse[best] - 1,
        "extra": (rmse[first] - rmse[best]) / size,
        "size": len(found.recommended),
        "off": off[first],
        "off mae": off[nearest],
        "off least": min(off.values()),
        "mae hit": best == nearest,
        "mae extra": (rmse[nearest] - rmse[best]) / size,
        "first": first,
        "best": best,
        **{f"rmse {name}": value / y.std() for name, value in rmse.items()},
    }


def read_back(
    x: Array, y: Array, known: NDArray[np.intp], trials: ContrastFamily, without_luck: Array
) -> Array:
    """Contrasts through the response curve, scaled by what the predicted ones are without the luck of donors."""
    try:
        learned = ResponseCalibration().fit(x[known], y[known])
    except CalibrationError:
        return without_luck
    effects = np.array([learned.effect(x[on], x[off]) for on, off in trials.arms])
    raw = trials.differences(x)
    near_zero = np.abs(raw) <= 0.1 * np.abs(without_luck)
    return np.asarray(np.where(near_zero, effects, effects * without_luck / np.where(near_zero, 1.0, raw)))


def noise_of_labels(table: pd.DataFrame, model: str, draws: int) -> Iterator[dict[str, Any]]:
    """Shares of the linear correction in donor trials on labels of known reliability."""
    urban = table["urban"].to_numpy() == 1
    for name, inside in {"all": np.ones(urban.size, dtype=bool), "rural": ~urban, "urban": urban}.items():
        y, x = table["y_true"].to_numpy()[inside], table[f"p_{model}"].to_numpy()[inside]
        corrected = x / np.polyfit(y, x, 1)[0]
        for reliability in (1.0, 0.8, 0.65):
            variance = y.var() * (1 / reliability - 1)
            for draw in range(draws):
                rng = np.random.default_rng(draw)
                labels = y + np.sqrt(variance) * rng.normal(size=y.size)
                design = DonorTrials(labels, EFFECT, n_units=2000, n_trials=4, seed=draw)
                everyone = np.ones(y.size, dtype=bool)
                trials = design.on(everyone, MIN_ARM)
                effect = trials.differences(design.smooth(corrected, everyone)).mean()
                against = {"labels": labels, "shrunken": labels + variance * score(labels), "truth": y}
                yield {
                    "model": model,
                    "population": name,
                    "reliability": reliability,
                    **{key: effect / trials.differences(v).mean() for key, v in against.items()},
                }


def score(y: Array) -> Array:
    """Derivative of the log density of `y` by a Gaussian kernel with Silverman's bandwidth, on a grid."""
    width = 1.06 * y.std() * y.size**-0.2
    edges = np.linspace(y.min() - 3 * width, y.max() + 3 * width, 501)
    grid, count = (edges[1:] + edges[:-1]) / 2, np.histogram(y, bins=edges)[0]
    apart = (grid[:, None] - grid) / width
    kernel = np.exp(-(apart**2) / 2)
    return np.interp(y, grid, (-apart / width * kernel) @ count / (kernel @ count))


def main() -> None:
    """Run all designs and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    projects = read_projects(arguments.shared / "mirror" / "one_map_many_trials" / "interventions.csv")
    table, machine, rows = read_table(arguments.shared, "yeh_dhs_incountry"), describe(), []
    jobs = [(model, draw) for model in arguments.models.split(",") for draw in range(arguments.draws)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)  # said once a fit, it would bury the bar
        for model, draw in tqdm(jobs, desc="choices", unit="draw", disable=None):
            for case in cases(table, projects, draw):
                part = table.iloc[case.rows]
                columns = part[f"p_{model}"].to_numpy(), part["y_true"].to_numpy(), part["cell1"].to_numpy()
                found = one_draw(*columns, case.design, np.random.default_rng([draw, 1]))
                if found is not None:
                    rows.append({"design": case.name, "model": model, **found})
        noise = pd.DataFrame(
            row for model in NOISE_MODELS for row in noise_of_labels(table, model, arguments.draws)
        )
    draws = pd.DataFrame(rows)
    keys = ["design", "model"]
    results = draws.groupby(keys, sort=False).mean(numeric_only=True)
    results.insert(0, "draws", draws.groupby(keys, sort=False).size())
    results.insert(6, "worst extra", draws.groupby(keys, sort=False)["extra"].max())
    most = draws.groupby(keys, sort=False)[["first", "best"]].agg(
        lambda names: " ".join(f"{name}:{count}" for name, count in names.value_counts().items())
    )
    results = results.join(most).reset_index()
    by_design = results.groupby("design", sort=False).mean(numeric_only=True).drop(columns="draws")
    shares = noise.groupby(["model", "population", "reliability"], sort=False).mean().reset_index()
    shown = {"float_format": lambda value: f"{value:.3f}"}
    text = [
        f"Choices of compare on one half of the cells, judged on the other; {arguments.draws} draws a cell.",
        f"Machine: {machine}",
        "",
        by_design.to_string(**shown),
        "",
        results.to_string(index=False, **shown),
        "",
        f"Donor trials on labels with noise: share of the linear correction, {arguments.draws} draws.",
        shares.to_string(index=False, **shown),
    ]
    write_text(RESULTS / "compare_choice.csv", results.round(5).to_csv(index=False, lineterminator="\n"))
    write_text(RESULTS / "compare_noise.csv", shares.round(5).to_csv(index=False, lineterminator="\n"))
    write_text(RESULTS / "compare_choice.txt", "\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
