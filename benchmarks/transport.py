"""Trials in a country that the card has not seen: what intervals cover with and without ``transport="groups"``.

    python benchmarks/transport.py [--draws 40] [--seed 0] [--models resnet_18_nl ...] [--out benchmarks/results]

Every country of the table is left out in turn. The other 22 calibrate, with countries as groups. Each draw takes half
of the left-out country's clusters and makes a donor trial of 800 units in it (see `benchmarks/donors.py`): a
treated unit takes truth and prediction of the cluster whose truth is 0.5 index points higher. The effect to be covered
is the mean change of truth over that half; the interval is clustered by donor.

- share: mean estimate over mean effect.
- coverage, alone: of the 95% interval without `transport`; groups: with it.
- width: mean half width of the interval over the effect.
- predicted_mean, predicted_sd: what the card says of the share between its own groups.

What a recovered share is (gains of half a standard deviation, a spline of four knots, DerSimonian and Laird's variance
about the pooled correction) was chosen on resnet_18_ms and ridge_ms_hist, which are not among the models reported by
default. Rows "all" are means over countries. Countries of one model share calibration rows, and models share
countries, so that a mean over 23 countries is known to about 0.03 at best.
Needs the table yeh_dhs_incountry.parquet of published predictions beside the repository (../shared/data).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from donors import TABLE, Pool
from machine import RESULTS, describe
from tqdm import tqdm

from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card
from sustain.errors import SustainWarning
from sustain.files import write_text

MODELS = (
    "resnet_18_msnl_concat",
    "resnet_18_nl",
    "resnet_18_ms_transfer",
    "ridge_msnl_hist",
    "gbt_nl_mean_scalar",
    "knn_nl_mean_scalar",
)
METHODS = ("linear", "tweedie")
TAU = 0.5
ABOUT: dict[str, Any] = {"target": {"name": "wealth", "unit": "index"}, "predictor": "yeh2020"}


def trials(
    survey: pd.DataFrame, country: str, card: CalibrationCard, draws: int, seed: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Both intervals of every method in every draw of one country."""
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(survey["country"] == country)
    for _ in range(draws):
        half = np.zeros(len(survey), dtype=bool)
        half[rng.permutation(inside)[: inside.size // 2]] = True
        pool = Pool.of(survey, half)
        treated, control = pool.donors(TAU)
        effect = float(pool.truth[treated].mean() - pool.truth[control].mean())
        trial = pool.trial(treated, control, rng)
        for method in METHODS:
            row: dict[str, Any] = {"country": country, "method": method, "effect": effect}
            for name, transport in (("alone", None), ("groups", "groups")):
                found = estimate_effect(
                    trial,
                    "wealth ~ treated",
                    calibration=card,
                    method=method,
                    assumption="measurement",
                    vcov={"CRV1": "donor"},
                    transport=transport,
                )
                low, high = found.conf_int()
                row |= {f"coverage_{name}": low <= effect <= high, f"width_{name}": (high - low) / 2 / effect}
            yield row | {"estimate": found.estimate}


def of_model(table: pd.DataFrame, model: str, draws: int, seed: int) -> pd.DataFrame:
    """One row a country and method."""
    survey = table[["y_true", "country", f"p_{model}"]].dropna().reset_index(drop=True)
    survey = survey.rename(columns={f"p_{model}": "y_pred"})
    rows = []
    for number, country in enumerate(tqdm(sorted(survey["country"].unique()), desc=model, unit="country")):
        others = survey[survey["country"] != country]
        card = build_card(
            others["y_pred"], others["y_true"], groups=others["country"], n_boot=50, seed=seed, **ABOUT
        )
        found = pd.DataFrame(trials(survey, country, card, draws, (seed, number)))
        for method, part in found.groupby("method", sort=False):
            spread = card.recovered_by(str(method))
            rows.append(
                {"model": model, "country": country, "method": method}
                | {"n": int((survey["country"] == country).sum()), "draws": len(part)}
                | {"share": part["estimate"].mean() / part["effect"].mean()}
                | part.filter(regex="coverage|width").mean().to_dict()
                | {"predicted_mean": spread.mean, "predicted_sd": spread.sd}
            )
    return pd.DataFrame(rows)


def summarise(cells: pd.DataFrame) -> pd.DataFrame:
    """Means over countries by model and method, and over models, before the countries."""
    parts = []
    for keys in (["method"], ["model", "method"]):
        grouped = cells.groupby(keys, sort=False)
        means = grouped.mean(numeric_only=True).drop(columns=["n", "draws"]).reset_index()
        counts = grouped[["n", "draws"]].sum().reset_index(drop=True)
        parts.append(pd.concat([means, counts], axis=1).assign(country="all"))
    parts[0] = parts[0].assign(model="all")
    return pd.concat([*parts, cells])[cells.columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--draws", type=int, default=40, help="Trials a country.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the results.")
    arguments = parser.parse_args()
    machine, start = describe(), time.perf_counter()
    table = pd.read_parquet(TABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)  # weak models are part of what is looked at
        cells = pd.concat(
            [of_model(table, model, arguments.draws, arguments.seed) for model in arguments.models]
        )
    found = summarise(cells)
    seconds = time.perf_counter() - start
    text = f"# {machine}; {seconds:.0f} s\n" + found.round(4).to_csv(index=False)
    write_text(arguments.out / "transport.csv", text)
    print(found[found["country"] == "all"].round(3).to_string())


if __name__ == "__main__":
    main()
