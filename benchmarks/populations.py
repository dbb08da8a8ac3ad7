"""Effects in one country of a continent: what the rows of others, and some of the country's own, are worth.

    python benchmarks/populations.py [--shared ../shared] [--draws 6] [--trials 2]

Real predictions of Yeh et al. 2020 and the survey wealth of the same places. In every draw all places are halved at
random. One half calibrates; of the other half's places in one country, all of them or the rural ones, donor-matched
trials are made in which every unit gains half an index point: a unit takes the row of one of the seven places whose
truth is nearest to what its own is to be. The response curve that reads the effect back was learned from

- own: all places in the calibrating half of what the trial is made in;
- alone: some of the country's places (`rows` of them; for rural trials the rural among these) and nothing else;
- all: those of all countries as one population;
- country, country x urban: those of all other countries and `rows` of the trial's country, with strata of countries,
  or of countries and town or country;
- elsewhere: those of all other countries (for rural trials their rural ones), strata of countries, and an interval with
  the spread between them.

Columns: mean share of the effect that comes out (`share`); the mean over cells, a model in a country, of its distance
from one (`error`), and the greatest (`worst`); root mean squared error of single trials in index points (`rmse`);
share of nominal 95% intervals that hold the half point (`covered`), in the cell that it is least in, too; mean
half-width (`half`). The trial's part of the variance is clustered by donor.

The shapes that are pooled, what holds a curve back, the prior degrees of freedom and the rows of an own distribution
were chosen on the models resnet_18_ms and ridge_nl_hist in eight countries (`--chosen` shows these, and writes
nothing). Four other models in the fifteen other countries are reported. Writes populations.csv, populations_cells.csv
and populations.txt into benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray

from sustain.debias.response.influence import influence
from sustain.debias.response.model import Population, ResponseModel
from sustain.debias.response.population import fit_model
from sustain.debias.response.unfolding import Arms, unfold_effect
from sustain.debias.sample import MIN_PAIRS, as_sample
from sustain.stats.covariance import critical_value

CHOSEN_MODELS = ("resnet_18_ms", "ridge_nl_hist")
CHOSEN = ("malawi", "tanzania", "ethiopia", "mozambique", "benin", "ghana", "senegal", "togo")
MODELS = ("resnet_18_msnl_concat", "resnet_18_nl", "ridge_msnl_hist", "knn_nl_mean_scalar_v2")
EFFECT, UNITS = 0.5, 800
OWN_ROWS = (30, 100)

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


class Trial(NamedTuple):
    """Places of the units' donors, and the arm of each unit."""

    rows: Rows
    treated: NDArray[np.bool_]


class Way(NamedTuple):
    """How a curve was learned: its name, the country's own rows in it, and the population that is read back by it."""

    name: str
    rows: int
    model: ResponseModel
    population: Population
    elsewhere: bool = False


class Read(NamedTuple):
    """An effect that was read back, with the half-width of its 95% interval."""

    effect: float
    half: float


def make_trial(truth: Array, places: Rows, rng: np.random.Generator) -> Trial:
    """Make a donor-matched trial among some places."""
    pool = places[np.argsort(truth[places])]
    low, high = np.quantile(truth[places], [0.02, 0.98])
    eligible = places[(truth[places] >= low) & (truth[places] + EFFECT <= high)]
    units = rng.choice(eligible, min(UNITS, eligible.size), replace=False)
    treated = rng.random(units.size) < 0.5
    near = np.searchsorted(truth[pool], truth[units] + EFFECT * treated) + rng.integers(-3, 4, units.size)
    return Trial(pool[np.clip(near, 0, pool.size - 1)], treated)


def read_back(way: Way, predicted: Array, trial: Trial) -> Read:
    """Read an effect back as `sustain.causal.estimate_effect` does, for a difference in means."""
    model, arm = way.model, trial.treated
    values = predicted[trial.rows]
    difference = values[arm].mean() - values[~arm].mean()
    response = model.response(way.population, elsewhere=way.elsewhere)
    arms = [Arms(*(response.shares(values[side], np.ones(side.sum())) for side in (~arm, arm)))]
    found = unfold_effect([response], arms, difference)
    cells, donor = response.cells(values), np.unique(trial.rows, return_inverse=True)[1]
    sums = []
    for moves in influence([response], arms, found, difference):
        by_unit = moves.difference * np.where(arm, values, -values)
        by_unit += np.where(arm, moves.treated[0][cells], moves.control[0][cells])
        for side in (arm, ~arm):
            by_unit[side] = (by_unit[side] - by_unit[side].mean()) / side.sum()
        sums.append(np.bincount(donor, weights=by_unit))
    trial_cov = np.stack(sums) @ np.stack(sums).T
    k = model.knots.size
    scores = np.concatenate([np.eye(k), -np.eye(k)])
    moved = unfold_effect([model.response(way.population, scores, elsewhere=way.elsewhere)], arms, difference)
    both = np.stack([moved.effect, moved.shift])
    pairs = (both[:, :k] - both[:, k:]) / 2
    points, gap = np.array([float(found.effect), float(found.shift)]), np.array([1.0, -1.0])
    apart = float(gap @ points)
    alike = min(1.0, float(gap @ trial_cov @ gap) / apart**2) if apart else 1.0
    at = np.array([1 - alike, alike])
    ours = float(at @ trial_cov @ at) + at[0] * at[1] * apart**2
    theirs = float(np.square(at @ pairs).sum())
    between = model.between
    df = min(way.population.df, between.n - 1) if way.elsewhere and between else way.population.df
    df = (ours + theirs) ** 2 / (ours**2 / (arm.size - 2) + theirs**2 / df)
    return Read(float(at @ points), critical_value(0.95, df) * float(np.sqrt(ours + theirs)))


def ways(
    table: pd.DataFrame,
    name: str,
    country: str,
    rural: bool,
    half: NDArray[np.bool_],
    own: Rows,
    everyone: ResponseModel,
) -> Iterator[Way]:
    """Learn the curves by which trials in a country are read back; `own` are its calibrating rows in random order."""
    inside = (table["country"] == country).to_numpy()
    kept = (table["urban"] == 0).to_numpy() if rural else np.ones(len(table), dtype=bool)
    others = np.flatnonzero(half & ~inside)

    def learn(rows: Rows, *strata: str) -> ResponseModel:
        part = table.iloc[rows]
        labels = part[list(strata)] if strata else None
        return fit_model(as_sample(part[f"p_{name}"].to_numpy(), part["y_true"].to_numpy(), strata=labels))

    model = learn(own[kept[own]])
    yield Way("own", own.size, model, model.pooled)
    yield Way("all", own.size, everyone, everyone.pooled)
    for n in OWN_ROWS:
        some = own[:n]
        if np.count_nonzero(kept[some]) >= MIN_PAIRS:
            model = learn(some[kept[some]])
            yield Way("alone", n, model, model.pooled)
        both = np.concatenate([others, some])
        model = learn(both, "country", "urban") if rural else learn(both, "country")
        yield Way("country", n, model, model.population(country))
        if rural:
            yield Way("country x urban", n, model, model.population((country, "0")))
    model = learn(others[kept[others]], "country")
    yield Way("elsewhere", 0, model, model.pooled, elsewhere=True)


def run(
    table: pd.DataFrame, models: tuple[str, ...], countries: list[str], draws: int, trials: int
) -> pd.DataFrame:
    """One row a trial and way to learn the curve."""
    truth, found = table["y_true"].to_numpy(), []
    for name in models:
        predicted = table[f"p_{name}"].to_numpy()
        for draw in range(draws):
            rng = np.random.default_rng([draw, len(name)])
            half = rng.random(len(table)) < 0.5
            part = table[half]
            everyone = fit_model(as_sample(part[f"p_{name}"].to_numpy(), part["y_true"].to_numpy()))
            for country in countries:
                inside = (table["country"] == country).to_numpy()
                own = rng.permutation(np.flatnonzero(half & inside))
                for scope in ("whole", "rural"):
                    places = np.flatnonzero(
                        ~half & inside & ((scope == "whole") | (table["urban"] == 0).to_numpy())
                    )
                    made = [
                        make_trial(truth, places, np.random.default_rng([draw, k])) for k in range(trials)
                    ]
                    for way in ways(table, name, country, scope == "rural", half, own, everyone):
                        for trial in made:
                            read = read_back(way, predicted, trial)
                            rows = way.rows if way.rows in (*OWN_ROWS, 0) else "all"
                            found.append((scope, way.name, rows, name, country, *read))
    return pd.DataFrame(found, columns=["scope", "way", "rows", "model", "country", "effect", "half"])


def summary(found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means over cells, and the cells."""
    off = found["effect"] - EFFECT
    found = found.assign(share=found["effect"] / EFFECT, square=off**2, covered=off.abs() <= found["half"])
    keys = ["scope", "way", "rows"]
    cells = found.groupby([*keys, "model", "country"], sort=False)[
        ["share", "square", "covered", "half"]
    ].mean()
    cells["error"] = (cells["share"] - 1).abs()
    by = cells.groupby(keys, sort=False)
    means = by[["share", "error"]].mean()
    means["worst"] = by["error"].max()
    means["rmse"] = np.sqrt(by["square"].mean())
    means["covered"], means["least_covered"], means["half"] = (
        by["covered"].mean(),
        by["covered"].min(),
        by["half"].median(),
    )
    means["trials"] = found.groupby(keys, sort=False).size()
    return means.reset_index(), cells.reset_index()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument(
        "--chosen", action="store_true", help="cells that constants were chosen on; writes nothing"
    )
    arguments = parser.parse_args()
    machine, start = describe(), time.process_time()
    table = pd.read_parquet(arguments.shared / "data" / "yeh_dhs_incountry.parquet")
    countries = [item for item in sorted(set(table["country"])) if (item in CHOSEN) == arguments.chosen]
    models = CHOSEN_MODELS if arguments.chosen else MODELS
    means, cells = summary(run(table, models, countries, arguments.draws, arguments.trials))
    text = (
        "\n".join(
            [
                f"Effects of {EFFECT} in one country, read back by curves of several countries: {len(models)} models x "
                f"{len(countries)} countries, {arguments.draws} draws of {arguments.trials} trials",
                machine,
                means.round(3).to_string(index=False),
                f"{time.process_time() - start:.0f} s of processor time",
            ]
        )
        + "\n"
    )
    print(text, end="")
    if not arguments.chosen:
        means.round(4).to_csv(RESULTS / "populations.csv", index=False)
        cells.round(4).to_csv(RESULTS / "populations_cells.csv", index=False)
        (RESULTS / "populations.txt").write_text(text)


if __name__ == "__main__":
    main()
