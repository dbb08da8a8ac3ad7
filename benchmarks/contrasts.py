"""Contrasts of places in a country left out: does the interval of a matched slope hold the truth?

    python benchmarks/contrasts.py [--shared ../shared]

Real predictions of Yeh et al. 2020 and the survey wealth of the same places, in 23 countries. Every country in turn is
left out. On the others a card with the slope of a family is built; every contrast of that family inside the country is
then a trial, estimated by `estimate_effect(..., method="level")` with HC1 errors, whose interval should hold the
difference in surveyed wealth. Target: 0.92 or more on average over families and models.

- covered: delta intervals; fieller: Fieller's; mean_only: with the error of the mean slope alone.
- strict: the truth is that of the same places, so that the trial's variance, of places drawn anew, flatters every
  interval; here it is only that of the prediction given the truth.
- width: median half width over the interval that a known slope would have.
- share: of the true contrasts, that comes out (slope through the origin).

For levels (between regions, within a region, within town or country) the trial is a slope in one survey of the country
left out: covered when it lies within the spread, its own error and the mean's.

That a family needs two spreads, of slopes and of contrasts of equal truth, was seen on resnet_18_ms, resnet_18_nl,
resnet_18_msnl_concat, resnet_18_rgb_transfer, ridge_ms_hist, ridge_msnl_hist and gbt_nl_mean_scalar; no model here is
among them. Their contrasts are of the same places. Writes contrasts.csv and contrasts.txt into benchmarks/results.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from tqdm import tqdm

from sustain.causal import estimate_effect
from sustain.data.aid import aid_trials, read_projects
from sustain.debias import ContrastFamily, LevelCalibration
from sustain.errors import SustainWarning
from sustain.files import write_text
from sustain.stats.covariance import critical_value

MODELS = (
    "resnet_18_ms_transfer",
    "ridge_nl_hist",
    "ridge_rgbnl_hist",
    "ridge_rgb_hist",
    "knn_nl_mean_scalar",
)
MIN_ARM = 10
TARGET = 0.92


def families(table: pd.DataFrame, projects: pd.DataFrame) -> list[ContrastFamily]:
    """The families that a table allows; regions are first-level units where they are known, else 1-degree cells."""
    survey = table["survey"]
    region = table["adm2"].str.rsplit(".", n=1).str[0] if "adm2" in table else table["cell1"]
    found = [
        ContrastFamily.one_against_rest("region - rest of survey", region, survey),
        ContrastFamily.of("aid project - rest", aid_trials(table, projects)),
    ]
    if "urban" in table:
        found.insert(0, ContrastFamily.treated("urban - rural in survey", table["urban"], survey))
    return found


def read_table(shared: Path, name: str) -> pd.DataFrame:
    """One of the tables of predictions, with the name of each row's survey."""
    table = pd.read_parquet(shared / "data" / f"{name}.parquet")
    return table.assign(survey=table["country"] + " " + table["year"].astype(str))


def inside_groups(family: ContrastFamily, group: np.ndarray) -> ContrastFamily:
    """The contrasts of a family among the rows of each group alone."""
    parts = [family.on(group == name, MIN_ARM).arms for name in np.unique(group)]
    return ContrastFamily(family.name, tuple(arms for part in parts for arms in part))


def contrasts_left_out(table: pd.DataFrame, model: str, family: ContrastFamily) -> Iterator[dict[str, Any]]:
    """Every contrast of a country left out: truth, estimate and intervals."""
    country = table["country"].to_numpy()
    x, y = table[f"p_{model}"].to_numpy(), table["y_true"].to_numpy()
    inside = inside_groups(family, country)
    for name in np.unique(country):
        held, rest = inside.on(country == name, MIN_ARM), np.flatnonzero(country != name)
        if not len(held):
            continue
        levels = LevelCalibration().fit(x[rest], y[rest], groups=country[rest], families=[inside.take(rest)])
        card = levels.to_card(target={"name": "wealth", "unit": "index"}, predictor=model, n_boot=20)
        found = card.level(family.name)
        for on, off in held.arms:
            rows = np.concatenate([on, off])
            treated = np.arange(rows.size) < on.size
            trial = pd.DataFrame({"wealth": x[rows], "treated": treated * 1})
            result = estimate_effect(
                trial,
                outcome="wealth",
                treatment="treated",
                calibration=card,
                method="level",
                card_level=family.name,
                assumption="measurement",
                vcov="HC1",
            )
            truth, t, b = y[on].mean() - y[off].mean(), result.estimate, found.slope
            known = result.naive.variance_trial / b**2
            residual = x - b * y
            given_truth = sum(residual[arm].var(ddof=1) / arm.size for arm in (on, off)) / b**2
            spread = (found.contrast_sd / b) ** 2 + (t * found.new_std_error / b) ** 2
            mean = math.sqrt(known + (t * found.std_error / b) ** 2)
            (low, high), (left, right) = result.conf_int(), result.conf_int(method="fieller")
            yield {
                "truth": truth,
                "estimate": t,
                "covered": low < truth < high,
                "fieller": left < truth < right,
                "strict": abs(t - truth) < critical_value(0.95, result.df) * math.sqrt(given_truth + spread),
                "mean_only": abs(t - truth) < critical_value(0.95, found.df) * mean,
                "width": (high - low) / 2 / (1.96 * math.sqrt(known)),
                "slope": b,
                "slope_sd": found.slope_sd,
                "contrast_sd": found.contrast_sd,
            }


def levels_left_out(table: pd.DataFrame, model: str) -> Iterator[dict[str, Any]]:
    """The slope by level in every survey of a country left out, and whether the others' interval holds it."""
    region = table["adm2"].str.rsplit(".", n=1).str[0]

    def fitted(rows: np.ndarray) -> LevelCalibration:
        part = table[rows]
        return LevelCalibration().fit(
            part[f"p_{model}"],
            part["y_true"],
            {"survey": part["survey"], "region": region[rows]},
            strata=part["urban"],
        )

    for name in table["country"].unique():
        mean = fitted((table["country"] != name).to_numpy())
        for survey in table["survey"][table["country"] == name].unique():
            for level, own in fitted((table["survey"] == survey).to_numpy()).levels_.items():
                other = mean.levels_[level]
                miss = abs(own.slope - other.slope)
                low, high = other.new_interval()
                df = other.df if other.n_spread is None else other.n_spread - 1
                new, old = (high - low) / 2, critical_value(0.95, other.df) * other.std_error
                own_error = critical_value(0.95, df) * own.std_error
                yield {
                    "family": level,
                    "covered": miss < math.hypot(new, own_error),
                    "mean_only": miss < math.hypot(old, own_error),
                    "slope": other.slope,
                    "slope_sd": other.slope_sd,
                }


def summarise(found: pd.DataFrame) -> pd.Series:
    """One line of the table."""
    shares = (
        {
            "share": found["estimate"] @ found["truth"] / (found["truth"] @ found["truth"]),
            "fieller": found["fieller"].mean(),
            "strict": found["strict"].mean(),
            "width": found["width"].median(),
            "contrast_sd": found["contrast_sd"].mean(),
        }
        if "truth" in found
        else {}
    )
    means = {name: found[name].mean() for name in ("covered", "mean_only", "slope", "slope_sd")}
    return pd.Series({"contrasts": len(found), **means, **shares})


def main() -> None:
    """Run all families and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--models", default=",".join(MODELS))
    arguments = parser.parse_args()
    projects = read_projects(arguments.shared / "mirror" / "one_map_many_trials" / "interventions.csv")
    table, machine, parts = read_table(arguments.shared, "yeh_dhs_incountry"), describe(), []
    columns = ["kind", "family", "model"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)  # said once a fit, it would bury the bar
        for model in tqdm(arguments.models.split(","), desc="contrasts", unit="model", disable=None):
            for family in families(table, projects):
                found = pd.DataFrame(contrasts_left_out(table, model, family))
                parts.append(found.assign(kind="family", family=family.name, model=model))
            parts.append(pd.DataFrame(levels_left_out(table, model)).assign(kind="level", model=model))
    results = pd.concat(
        [part.groupby(columns, sort=False)[part.columns].apply(summarise) for part in parts]
    ).reset_index()
    results = results.sort_values("kind", kind="stable")
    mean = results[results["kind"] == "family"][["covered", "fieller", "strict", "mean_only"]].mean()
    text = [
        "Coverage of 95% intervals in a country left out, by family of contrasts or level, and model.",
        f"Machine: {machine}",
        "",
        results.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="-"),
        "",
        f"Families, mean over families and models: covered {mean['covered']:.3f} (target {TARGET}), "
        f"Fieller {mean['fieller']:.3f}, strict {mean['strict']:.3f}, "
        f"with the error of the mean slope alone {mean['mean_only']:.3f}.",
    ]
    write_text(RESULTS / "contrasts.csv", results.round(5).to_csv(index=False, lineterminator="\n"))
    write_text(RESULTS / "contrasts.txt", "\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
