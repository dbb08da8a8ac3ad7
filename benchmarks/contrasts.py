"""Families of contrasts with known truth: does `compare` recommend what turns out best on places it never saw?

    python benchmarks/contrasts.py [--shared ../shared]

Real predictions of Yeh et al. 2020 and the survey wealth of the same places. Every fold in turn is held out: on the
other folds `compare` recommends a method for the family, all methods are calibrated there, and the contrasts inside the
held-out fold are estimated by each. Target: the mean absolute error of the recommended method within 5% of the least of
all methods, in every family. Writes contrasts.csv and contrasts.txt into benchmarks/results.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from tqdm import tqdm

from sustain.data.aid import aid_trials, read_projects
from sustain.debias import (
    BridgeCalibration,
    ContrastFamily,
    LevelCalibration,
    LinearCalibration,
    TweedieCalibration,
    compare,
)
from sustain.errors import CalibrationError, WeakCalibrationWarning
from sustain.files import write_text

METHODS = {"linear": LinearCalibration, "tweedie": TweedieCalibration, "bridge": BridgeCalibration}
TABLES = {
    "yeh_dhs_incountry": ("resnet_18_ms", "resnet_18_msnl_concat", "ridge_ms_hist"),
    "yeh_lsms_ooc": ("ms", "msnl_concat", "nl"),
}
MIN_ARM = 10
TARGET = 1.05


def families(table: pd.DataFrame, projects: pd.DataFrame) -> list[ContrastFamily]:
    """The families that a table allows; regions are first-level units where they are known, else 1-degree cells."""
    survey = table["survey"]
    region = table["adm2"].str.rsplit(".", n=1).str[0] if "adm2" in table else table["cell1"]
    found = [
        ContrastFamily.one_against_rest("region - rest of survey", region, survey),
        ContrastFamily.one_against_rest("country - rest", table["country"]),
        ContrastFamily.of("aid project - rest", aid_trials(table, projects)),
    ]
    if "urban" in table:
        found.insert(0, ContrastFamily.treated("urban - rural in survey", table["urban"], survey))
    return found


def spatial_folds(cells: pd.Series, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Whole cells, dealt out at random."""
    names, code = np.unique(cells.astype(str), return_inverse=True)
    return np.random.default_rng(seed).permutation(names.size)[code] % n_folds


def held_out(x: np.ndarray, y: np.ndarray, folds: np.ndarray, family: ContrastFamily) -> pd.DataFrame:
    """Contrasts of each held-out fold: truth, every method, and which method was recommended without that fold."""
    rows = []
    for fold in np.unique(folds):
        inside = folds == fold
        rest = np.flatnonzero(~inside)
        contrasts = family.on(inside, MIN_ARM)
        if not len(contrasts):
            continue
        choice = compare(x[rest], y[rest], design=family.take(rest), folds=folds[rest], min_arm=MIN_ARM)
        estimates = {"none": x}
        for name, method in METHODS.items():
            estimates[name] = method().fit(x[rest], y[rest]).transform(x, check_support=False)
        level = LevelCalibration().fit(x[rest], y[rest], families=[family.take(rest)])
        try:
            estimates["level"] = level.transform(x, family.name)
        except CalibrationError:
            estimates["level"] = np.full(x.size, np.nan)
        found = pd.DataFrame({name: contrasts.differences(values) for name, values in estimates.items()})
        found["truth"] = contrasts.differences(y)
        rows.append(found.assign(fold=fold, recommended=choice.recommended))
    return pd.concat(rows, ignore_index=True)


def score(found: pd.DataFrame, sd: float) -> dict[str, float | str]:
    """Mean absolute errors in sd of the truth, and the recommended method's against the least."""
    methods = ["none", *METHODS, "level"]
    errors = found[methods].sub(found["truth"], axis=0).abs() / sd
    mae = errors.mean(skipna=False)
    picked = errors.to_numpy()[np.arange(len(found)), [methods.index(m) for m in found["recommended"]]]
    return {
        "contrasts": len(found),
        **{str(name): float(value) for name, value in mae.items()},
        "recommended": picked.mean(),
        "recommended is": " ".join(dict.fromkeys(found["recommended"])),
        "best": str(mae.idxmin()),
        "ratio": picked.mean() / mae.min(),
    }


def main() -> None:
    """Run all families and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    shared = parser.parse_args().shared
    projects = read_projects(shared / "mirror" / "one_map_many_trials" / "interventions.csv")
    machine, rows = describe(), []
    jobs = [(table, model) for table, models in TABLES.items() for model in models]
    for name, model in tqdm(jobs, desc="contrasts", unit="model", disable=None):
        table = pd.read_parquet(shared / "data" / f"{name}.parquet")
        table["survey"] = table["country"] + " " + table["year"].astype(str)
        # The folds of the second table are whole countries, inside which no country can be compared with another.
        folds = table["fold"].to_numpy() if name == "yeh_dhs_incountry" else spatial_folds(table["cell1"])
        x, y = table[f"p_{model}"].to_numpy(), table["y_true"].to_numpy()
        for family in families(table, projects):
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", WeakCalibrationWarning
                )  # said once a fit, it would bury the bar
                found = held_out(x, y, folds, family)
            rows.append({"table": name, "model": model, "family": family.name, **score(found, y.std())})
    results = pd.DataFrame(rows)
    reached = int((results["ratio"] <= TARGET).sum())
    text = [
        "Contrasts with known truth: mean absolute error in sd of the truth, held-out folds.",
        f"Machine: {machine}",
        "",
        results.to_string(index=False, float_format=lambda value: f"{value:.3f}"),
        "",
        f"Recommended within {TARGET - 1:.0%} of the best method: {reached} of {len(results)} "
        f"(worst ratio {results['ratio'].max():.3f}).",
    ]
    write_text(RESULTS / "contrasts.csv", results.round(5).to_csv(index=False, lineterminator="\n"))
    write_text(RESULTS / "contrasts.txt", "\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
