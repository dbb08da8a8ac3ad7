"""Tests of the two assumptions on trials where one of them holds by construction: size, power, noise of labels.

    python benchmarks/assumption_tests.py [--draws 100] [--models resnet_18_ms,...] [--out results]

A trial is made of real places (donors). Units are drawn from a population, half of them treated by lot; a control takes
the truth and the prediction of a place whose truth is about its own, a treated unit those of a place whose truth is 0.5
index points higher (one of the seven nearest by rank). Given the truth, arms have the same predictions: measurement
stability holds. With the roles of truth and prediction exchanged outcome stability holds. Places serve several units,
so the tests are clustered by place. Populations: all places, rural, urban, and every country.

- size_half: how often the assumption that holds is refuted at the 5% level, in trials from a random half of the
  population's places. The same places come back in every draw, so that their luck is in the figure.
- size_dealt: the same in trials from all places, after what predictions (or truths) differ from their running mean over
  40 neighbours was dealt anew among neighbours, in every draw: the curve and the errors' spread are the population's,
  and draws are independent. The standard error of one figure of 5% from D draws is 0.218 / sqrt(D).
- line: size_half of a test with a straight line for the curve, otherwise the same.
- shift_0.1, shift_0.2, shift_0.3: power in the first fifth of the draws of size_dealt, when the response of treated
  units is shifted by that many of its standard deviations; slope_0.7: when their slope is 0.7 times the others', turned
  about the mean; other: how often the assumption that does not hold is refuted.

Labels of all units (800, or what the population has) or of a random 300 or 100. Normal noise is added to 300 labels of
trials as those of size_dealt, in a tenth as many draws, for reliabilities of 0.9 and 0.8 in the population:
noise_ignored and noise_known are sizes of the test of measurement stability without and with `target_noise_var`,
noise_shift_0.3 is its power. Only in eight populations, as each takes fifty fits.

The rules (number of knots, place of the outermost, fits of the jackknife) were chosen on resnet_18_ms and
ridge_nl_hist; rows of other models report. Needs the table yeh_dhs_incountry.parquet of published predictions beside
the repository (../shared/data).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.debias.diagnosis.curves import Regression, same_curve
from sustain.debias.diagnosis.noisy_truth import same_curve_of_truth
from sustain.errors import EffectError
from sustain.files import write_text

TABLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "yeh_dhs_incountry.parquet"
CHOSEN_ON = ("resnet_18_ms", "ridge_nl_hist")
REPORTED = ("resnet_18_msnl_concat", "resnet_18_nl", "ridge_msnl_hist", "knn_nl_mean_scalar_v2")
TAU = 0.5
UNITS = 800
LABELS = (100, 300, UNITS)
NEIGHBOURS = 40
NOISY_POPULATIONS = 8  # the first
RELIABILITIES = (0.9, 0.8)

Array = NDArray[np.float64]


def populations(survey: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """All, rural, urban, and every country."""
    urban = survey["urban"].to_numpy() == 1
    found = {"all": np.ones(len(survey), dtype=bool), "rural": ~urban, "urban": urban}
    for country in survey["country"].value_counts().index:
        found[country] = (survey["country"] == country).to_numpy()
    return found


def trial(given: Array, response: Array, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """One trial through `given`, which ascends: columns given, response, t, place."""
    low, high = np.quantile(given, [0.02, 0.98])
    able = np.flatnonzero((given >= low) & (given + TAU <= high))
    units = rng.choice(able, min(n, able.size), replace=False)
    treated = rng.permutation(units.size) < units.size // 2
    place = np.searchsorted(given, given[units] + TAU * treated) + rng.integers(-3, 4, units.size)
    place = np.clip(place, 0, given.size - 1)
    return pd.DataFrame(
        {"given": given[place], "response": response[place], "t": treated * 1.0, "place": place}
    )


def dealt(response: Array, rng: np.random.Generator) -> Array:
    """Differences from a running mean, dealt anew among neighbours; the response is in the order of what is given."""
    width = min(NEIGHBOURS, response.size // 8)
    padded = np.pad(response, width // 2, mode="edge")
    mean = np.convolve(padded, np.ones(width) / width, "valid")[: response.size]
    near = np.argsort(np.arange(response.size) + rng.uniform(-width, width, response.size))
    return np.asarray(mean + (response - mean)[near])


def refuted(response: Array, data: pd.DataFrame, *, line: bool = False, noise: float = 0.0) -> bool:
    """Whether the test refutes that the curve of `response` over what is given is one for both arms."""
    given, treated = data["given"].to_numpy(), data["t"].to_numpy()
    nothing, names = np.empty((len(data), 0)), ("given", "t")
    place = np.unique(data["place"], return_inverse=True)[1]
    if line:
        straight = ((given - given.mean()) / given.std())[:, None]
        regression = Regression(response, treated, straight, given - given.mean(), nothing, names)
        return regression.joint(place).p_value < 0.05
    if noise:
        found = same_curve_of_truth(response, given, treated, nothing, names, place, noise)
    else:
        found = same_curve(response, given, treated, nothing, names, place)
    return found.p_value < 0.05


def one_draw(
    given: Array, response: Array, n: int, rng: np.random.Generator, *, with_power: bool
) -> dict[str, float]:
    """Rejections in one draw."""
    half = np.sort(rng.permutation(given.size)[: given.size // 2])
    data = trial(given[half], response[half], n, rng)
    values = data["response"].to_numpy()
    found: dict[str, float] = {
        "line": refuted(values, data, line=True),
        "size_half": refuted(values, data),
        "units": len(data),
    }
    data = trial(given, dealt(response, rng), n, rng)
    values, treated = data["response"].to_numpy(), data["t"].to_numpy()
    found["size_dealt"] = refuted(values, data)
    if with_power:
        slope = np.cov(given, response)[0, 1] / given.var(ddof=1)
        about = data["given"].to_numpy() - data["given"].mean()
        for k in (0.1, 0.2, 0.3):
            found[f"shift_{k}"] = refuted(values + k * response.std() * treated, data)
        found["slope_0.7"] = refuted(values - 0.3 * slope * treated * about, data)
        found["other"] = refuted(data["given"].to_numpy(), data.assign(given=values))
    return found


def one_noisy_draw(
    truth: Array, predicted: Array, reliability: float, rng: np.random.Generator
) -> dict[str, float]:
    """Rejections of measurement stability with 300 noisy labels; NaN where the noise is refused."""
    noise = float(truth.var() * (1 - reliability) / reliability)
    data = trial(truth, dealt(predicted, rng), 300, rng)
    data["given"] += rng.normal(scale=noise**0.5, size=len(data))
    values = data["response"].to_numpy()
    found: dict[str, float] = {"noise_ignored": refuted(values, data)}
    try:
        found["noise_known"] = refuted(values, data, noise=noise)
        moved = values + 0.3 * predicted.std() * data["t"].to_numpy()
        found["noise_shift_0.3"] = refuted(moved, data, noise=noise)
    except EffectError:
        found["noise_known"] = np.nan
    return found


def measure(survey: pd.DataFrame, model: str, draws: int, seed: int) -> pd.DataFrame:
    """All cells of one model."""
    rows = []
    for place, (name, inside) in enumerate(tqdm(populations(survey).items(), desc=model, disable=None)):
        y, p = (survey.loc[inside, column].to_numpy() for column in ("y_true", f"p_{model}"))
        for through in (True, False):
            given, response = (y, p) if through else (p, y)
            order = np.argsort(given, kind="stable")
            given, response = given[order], response[order]
            cell = {"model": model, "population": name, "holds": "measurement" if through else "outcome"}
            for n in LABELS:
                rng = np.random.default_rng([seed, through, n, int(inside.sum())])
                found = [
                    one_draw(given, response, n, rng, with_power=5 * draw < draws) for draw in range(draws)
                ]
                rows.append(
                    cell | {"labels": n, "draws": draws} | dict(pd.DataFrame(found).astype(float).mean())
                )
            for reliability in RELIABILITIES if through and place < NOISY_POPULATIONS else ():
                rng = np.random.default_rng([seed, int(100 * reliability), int(inside.sum())])
                noisy = [
                    one_noisy_draw(given, response, reliability, rng) for _ in range(max(1, draws // 10))
                ]
                means = pd.DataFrame(noisy).astype(float).mean()
                rows.append(
                    cell | {"labels": 300, "draws": len(noisy), "reliability": reliability} | dict(means)
                )
    return pd.DataFrame(rows)


def report(table: pd.DataFrame) -> str:
    """Means and greatest of the sizes, means of the powers."""
    lines = []
    exact = table[table["reliability"].isna()]
    sizes, powers = (
        ["line", "size_half", "size_dealt"],
        ["shift_0.1", "shift_0.2", "shift_0.3", "slope_0.7", "other"],
    )
    for title, chosen in (("rules chosen on these", True), ("not looked at", False)):
        part = exact[exact["model"].isin(CHOSEN_ON) == chosen]
        if part.empty:
            continue
        keys = part.groupby(["holds", "labels"], sort=False)
        summary = pd.concat([keys[sizes].mean(), keys[sizes].max().add_suffix("_max")], axis=1)
        lines += [f"{title}: {', '.join(part['model'].unique())}", summary.round(3).to_string()]
        lines += [keys[powers].mean().round(3).to_string()]
        by_population = part.groupby("population", sort=False)[sizes].mean()
        lines += ["size by population, over models, numbers of labels and both assumptions"]
        lines += [by_population.round(3).to_string(), ""]
    noisy = table[table["reliability"].notna()]
    columns = ["noise_ignored", "noise_known", "noise_shift_0.3"]
    keys = noisy.groupby("reliability", sort=False)[columns]
    summary = pd.concat([keys.mean(), keys.max().add_suffix("_max")], axis=1)
    return "\n".join([*lines, "noisy labels, 300, all models", summary.round(3).to_string()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join((*CHOSEN_ON, *REPORTED)))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not TABLE.exists():
        raise SystemExit("../shared/data/yeh_dhs_incountry.parquet is not there: this benchmark needs it.")
    models = arguments.models.split(",")
    survey = pd.read_parquet(
        TABLE, columns=["y_true", "urban", "country", *(f"p_{model}" for model in models)]
    )
    head = f"{arguments.draws} draws a cell, trials of at most {UNITS} units; {describe()}"
    measured: list[pd.DataFrame] = []
    for model in models:  # written after each, for it takes minutes
        measured.append(measure(survey, model, arguments.draws, arguments.seed))
        table = pd.concat(measured)
        text = f"{head}\n\n{report(table)}\n"
        write_text(arguments.out / "assumption_tests.csv", f"# {head}\n" + table.round(4).to_csv(index=False))
        write_text(arguments.out / "assumption_tests.txt", text)
    print(text)


if __name__ == "__main__":
    main()
