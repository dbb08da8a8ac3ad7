"""The aid trials on real data: every correction, both assumptions, with intervals, against the survey.

    python benchmarks/aid_trials.py [--shared ../shared] [--model resnet_18_ms]

A trial is a funder and a sector: survey places within 0.1 degree of a project that started three to eight years before
are compared with the other places of the same surveys (28 trials have 30 places in each arm). Predictions of Yeh et al.
2020 are out of sample, corrections are fitted on the authors' other spatial folds; the response, which corrects no
place, reads effects through the curve of all places. Intervals: clusters of second-level districts, and the
calibration's part. The truth is the same contrast in survey wealth of the same places. Beside it is what "One Map, Many
Trials" found in its 29 trials: other labels, imagery and definition of treatment, so that slopes compare and errors do
not. Writes aid_trials_MODEL.csv (a row a trial and method) and .txt into benchmarks/results.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from tqdm import tqdm

from sustain.causal import EffectResult, estimate_effect
from sustain.data.aid import aid_trials, read_projects
from sustain.debias import (
    CalibrationCard,
    ContrastFamily,
    LevelCalibration,
    LinearCalibration,
    TweedieCalibration,
    build_card,
)
from sustain.debias.judge.cross_fit import cross_fit
from sustain.errors import SupportWarning
from sustain.files import write_text

FAMILY = "aid project - rest"
ASSUMPTION = {"none": "outcome", "level": "matched to the contrast"}
# Slope of estimated on survey effects over the paper's 29 trials, recomputed from its printed table.
PUBLISHED_SLOPE = {"none": 0.958, "linear": 1.217, "tweedie": 1.136}


def corrected(
    x: np.ndarray, y: np.ndarray, folds: pd.Series, family: ContrastFamily
) -> dict[str, np.ndarray]:
    """Predictions by every method, each place corrected by the other folds."""
    found = {"none": x}
    for method in (LinearCalibration(), TweedieCalibration()):
        found[method.method] = cross_fit(method, x, y, folds)
    found["level"] = np.empty_like(x)
    for fold in np.unique(folds):
        inside = (folds == fold).to_numpy()
        rest = np.flatnonzero(~inside)
        level = LevelCalibration().fit(x[rest], y[rest], families=[family.take(rest)])
        found["level"][inside] = level.transform(x[inside], FAMILY)
    return found


def one_trial(places: pd.DataFrame, card: CalibrationCard, method: str) -> dict[str, float]:
    """Estimate, interval and truth of one trial by one method."""
    arguments = {"treatment": "treated", "vcov": {"CRV1": "adm2"}}
    truth = estimate_effect(places, outcome="y_true", **arguments)
    if method == "response":
        return read_back(places, card, truth, arguments)
    effect = estimate_effect(places, outcome=method, **arguments)
    error = estimate_effect(
        places.assign(error=places[method] - places["y_true"]), outcome="error", **arguments
    )
    sized = effect
    if method != "none":
        # The card, of all places, gives the calibration's part of the variance.
        level = {"card_level": FAMILY} if method == "level" else {}
        sized = estimate_effect(
            places,
            outcome="none",
            calibration=card,
            method=method,
            assumption="measurement",
            **level,
            **arguments,
        )
    half = (sized.conf_int()[1] - sized.conf_int()[0]) / 2
    return {
        "n_treated": effect.n_treated,
        "n_control": effect.n_control,
        "estimate": effect.estimate,
        "std_error": sized.std_error,
        "conf_low": effect.estimate - half,
        "conf_high": effect.estimate + half,
        "share_var_calibration": sized.share_calibration,
        "truth": truth.estimate,
        "truth_std_error": truth.std_error,
        "error": error.estimate,
        "error_std_error": error.std_error,
    }


def read_back(
    places: pd.DataFrame, card: CalibrationCard, truth: EffectResult, arguments: dict[str, Any]
) -> dict[str, float]:
    """The same through the response curve of all places, of which the trial's are a small part."""
    effect = estimate_effect(
        places, outcome="none", calibration=card, method="response", assumption="measurement", **arguments
    )
    low, high = effect.conf_int()
    return {
        "n_treated": effect.n_treated,
        "n_control": effect.n_control,
        "estimate": effect.estimate,
        "std_error": effect.std_error,
        "conf_low": low,
        "conf_high": high,
        "share_var_calibration": effect.share_calibration,
        "truth": truth.estimate,
        "truth_std_error": truth.std_error,
        "error": effect.estimate - truth.estimate,
        "error_std_error": np.nan,
    }


def score(rows: pd.DataFrame, sd: float) -> pd.DataFrame:
    """One row a method: errors in sd of the truth, slope, and how often the interval holds the survey's contrast."""
    found = []
    for method, part in rows.groupby("method", sort=False):
        holds = part["truth"].between(part["conf_low"], part["conf_high"])
        found.append(
            {
                "method": method,
                "assumption": ASSUMPTION.get(method, "measurement"),
                "trials": len(part),
                "mae_sd": part["error"].abs().mean() / sd,
                "mean_error_sd": part["error"].mean() / sd,
                "slope": np.polyfit(part["truth"], part["estimate"], 1)[0],
                "slope_published": PUBLISHED_SLOPE.get(method, np.nan),
                "interval_holds_survey": holds.mean(),
                "half_width_sd": ((part["conf_high"] - part["conf_low"]) / 2).mean() / sd,
            }
        )
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--model", default="resnet_18_ms")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    source = arguments.shared / "data" / "yeh_dhs_incountry.parquet"
    projects = arguments.shared / "mirror" / "one_map_many_trials" / "interventions.csv"
    if not (source.exists() and projects.exists()):
        raise SystemExit(f"{arguments.shared}: the real tables are not there; this benchmark needs them.")
    table = pd.read_parquet(source)
    table["survey"] = table["country"] + table["year"].astype(str)
    x, y = table[f"p_{arguments.model}"].to_numpy(dtype=float), table["y_true"].to_numpy(dtype=float)
    trials = aid_trials(table, read_projects(projects))
    family = ContrastFamily.of(FAMILY, trials)
    estimates = corrected(x, y, table["fold"], family)
    card = build_card(
        *(x, y),
        target={"name": "asset_index", "unit": "index points"},
        predictor=arguments.model,
        methods=("linear", "tweedie", "response"),
        groups=table["country"],
        families=[family],
        n_boot=100,
    )
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SupportWarning)  # said once a trial it would bury the bar
        for trial in tqdm(trials, unit="trial", disable=None):
            places = table.iloc[trial.rows].assign(treated=trial.treated)
            places = places.assign(**{name: values[trial.rows] for name, values in estimates.items()})
            places = places[["treated", "adm2", "y_true", *estimates]]
            for method in ("none", "response", *[name for name in estimates if name != "none"]):
                rows.append({"trial": trial.name, "method": method} | one_trial(places, card, method))
    found = pd.DataFrame(rows)
    scores = score(found, float(y.std()))
    head = f"{arguments.model}: {len(trials)} trials; {describe()}"
    name = f"aid_trials_{arguments.model}"
    write_text(arguments.out / f"{name}.csv", f"# {head}\n" + found.round(5).to_csv(index=False))
    text = f"{head}\n\n{scores.round(3).to_string(index=False)}\n"
    write_text(arguments.out / f"{name}.txt", text)
    print(text)


if __name__ == "__main__":
    main()
