"""Donor-matched trials: effects that reach the image only through wealth, on the errors of real predictions.

    python benchmarks/donor_trials.py [--model resnet_18_msnl_concat] [--draws 200] [--only tweedie,unshrink]

In every draw the survey clusters are halved at random. One half calibrates, in the trial's own population (and, as
"pooled", in all). Trials are made in the other half: half of 800 units drawn from the population are treated; a
treated unit takes the (truth, prediction) of the other cluster of its population whose truth is nearest to its own
plus tau, a control that of the cluster nearest to its own. The effect is the mean change of truth in the population.

- share: of the effect, that the mean estimate recovers. The mean over trials of one draw is taken exactly, as that
  over all units of the population, which leaves only the noise of the halving (`share_mc_se`).
- population_se: what the finite number of clusters leaves open, however many draws. Nearest neighbours use single
  clusters, and the errors of those that lie tau apart do not average out: shares of small effects in one country
  would differ by this much in another sample of clusters.
- smooth_share: the share when every donor's corrected value is replaced by its regression on truth (a spline with
  ten knots) in the trial's half, which takes most of that noise away. A bias of the method is what is left.
- coverage: of the 95% intervals of `estimate_effect` in the simulated trials of 800 units, clustered by donor, with
  the calibration's uncertainty from the card.

The time of `unshrink` is proportional to calibration rows times predictions, so it takes part in the first
`--peer-draws` halvings only; the column `draws` says in how many. With `--only`, rows of all other methods are kept
from the results that are there.

Settings of the bridge were chosen on resnet_18_ms and on the LSMS table, a tie decided by resnet_18_nl and
ridge_ms_hist; the default model here was not used for that.
Needs the table yeh_dhs_incountry.parquet of published predictions beside the repository (../shared/data).
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.causal import estimate_effect
from sustain.debias import (
    BridgeCalibration,
    CalibrationCard,
    LinearCalibration,
    TweedieCalibration,
    build_card,
)
from sustain.stats.natural_spline import NaturalSpline, quantile_knots
from sustain.errors import SustainWarning
from sustain.files import write_text

TABLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "yeh_dhs_incountry.parquet"
TAUS = (0.1, 0.3, 0.5)
UNITS = 800
METHODS = ("none", "linear", "tweedie", "bridge")
CALIBRATIONS = {kind.method: kind for kind in (LinearCalibration, TweedieCalibration, BridgeCalibration)}
PEER = "unshrink"
NOT_SIMULATED = dict.fromkeys(("estimate", "std_error", "calibration", "covered"), np.nan)
ABOUT: dict[str, Any] = {"target": {"name": "wealth", "unit": "index"}, "predictor": "yeh2020"}

Array = NDArray[np.float64]
Places = NDArray[np.intp]
Correct = Callable[[Array], Any]


def populations(survey: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """All, rural, urban, and the five countries with most clusters."""
    urban = survey["urban"].to_numpy() == 1
    found = {"all": np.ones(len(survey), dtype=bool), "rural": ~urban, "urban": urban}
    for country in survey["country"].value_counts().index[:5]:
        found[country] = (survey["country"] == country).to_numpy()
    return found


def nearest_other(truth: Array, units: Places, shift: float) -> Places:
    """Place of the unit whose truth is nearest to ``truth[units] + shift``, never the unit itself; `truth` ascends."""
    wanted = truth[units] + shift
    right = np.searchsorted(truth, wanted)
    # The two nearest others lie among two places on either side.
    candidates = np.clip(right[:, None] + np.arange(-2, 2), 0, truth.size - 1)
    distance = np.abs(truth[candidates] - wanted[:, None])
    distance[candidates == units[:, None]] = np.inf
    return np.asarray(candidates[np.arange(units.size), distance.argmin(axis=1)])


@dataclass
class Pool:
    """The half of a population that trials are made in, in the order of truth.

    Attributes
    ----------
    index : ndarray of int
        Rows of the survey.
    truth, predicted : ndarray
        Of those rows.
    """

    index: Places
    truth: Array
    predicted: Array

    @classmethod
    def of(cls, survey: pd.DataFrame, inside: NDArray[np.bool_]) -> Pool:
        rows = np.flatnonzero(inside)
        rows = rows[np.argsort(survey["y_true"].to_numpy()[rows], kind="stable")]
        part = survey.iloc[rows]
        return cls(rows, part["y_true"].to_numpy(), part["y_pred"].to_numpy())

    def donors(self, tau: float) -> tuple[Places, Places]:
        """Donors of every unit as treated and as control."""
        everyone = np.arange(self.truth.size)
        return nearest_other(self.truth, everyone, tau), nearest_other(self.truth, everyone, 0.0)

    def smooth(self, values: Array) -> Array:
        """Regression of `values` on a spline in the truth."""
        knots = quantile_knots(self.truth, np.ones_like(self.truth), self.truth[0], self.truth[-1], 10)
        basis = np.linalg.qr(NaturalSpline.on(knots)(self.truth))[0]
        return np.asarray(basis @ (basis.T @ values))

    def trial(self, treated_donor: Places, control_donor: Places, rng: np.random.Generator) -> pd.DataFrame:
        """Table of one trial: wealth as predicted, treated, donor."""
        units = rng.integers(0, self.truth.size, UNITS)
        treated = rng.permutation(UNITS) < UNITS // 2
        donor = np.where(treated, treated_donor[units], control_donor[units])
        return pd.DataFrame({"wealth": self.predicted[donor], "treated": treated * 1, "donor": donor})


@dataclass
class Noise:
    """What single clusters weigh in the mean share over all draws, for `population_se`."""

    n: int
    draws: int = 0
    weight: dict[tuple[str, float], Array] = field(default_factory=dict)
    error: dict[tuple[str, str], Array] = field(default_factory=dict)
    seen: dict[tuple[str, str], Array] = field(default_factory=dict)

    def add_weight(self, population: str, tau: float, pool: Pool, treated: Places, control: Places) -> None:
        total = self.weight.setdefault((population, tau), np.zeros(self.n))
        change = np.bincount(treated, minlength=pool.index.size) - np.bincount(
            control, minlength=pool.index.size
        )
        total[pool.index] += change / pool.index.size

    def add_error(self, method: str, population: str, pool: Pool, error: Array) -> None:
        key = method, population
        self.error.setdefault(key, np.zeros(self.n))[pool.index] += error
        self.seen.setdefault(key, np.zeros(self.n))[pool.index] += 1

    def error_of_mean(self, method: str, population: str, tau: float) -> float:
        """Standard error of the mean over draws of the mean estimate, by the clusters' own errors."""
        mean = self.error[method, population] / np.maximum(self.seen[method, population], 1)
        return float(np.linalg.norm(self.weight[population, tau] * mean)) / self.draws


def unshrink_corrections(own: pd.DataFrame) -> dict[str, Correct]:
    """The two corrections of the package `unshrink`, where it is installed."""
    try:
        from unshrink import LccDebiaser, TweedieDebiaser  # type: ignore[import-not-found]
    except ImportError:
        return {}
    x, y = own["y_pred"].to_numpy(), own["y_true"].to_numpy()
    found: dict[str, Correct] = {}
    for name, kind in (("unshrink LCC", LccDebiaser), ("unshrink Tweedie", TweedieDebiaser)):
        found[name] = kind().fit(cal_predictions=x, cal_targets=y).debiased_predictions
    return found


def corrections(
    card: CalibrationCard, pooled: dict[str, Correct], own: pd.DataFrame, chosen: tuple[str, ...]
) -> dict[str, Correct]:
    """The chosen corrections by name: none, in the population, pooled, and those of `unshrink`."""
    found: dict[str, Correct] = {
        method: partial(card.transform, method=method, check_support=False)
        for method in METHODS
        if method in chosen
    }
    return found | pooled | (unshrink_corrections(own) if PEER in chosen else {})


def one_draw(
    survey: pd.DataFrame,
    rng: np.random.Generator,
    n_boot: int,
    seed: int,
    noise: Noise,
    chosen: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    """Figures of the chosen methods in all populations for one halving."""
    kinds = [CALIBRATIONS[method] for method in METHODS[1:] if method in chosen]
    noise.draws += 1
    calibrating = rng.permutation(len(survey)) < len(survey) // 2
    half = survey[calibrating]
    pooled: dict[str, Correct] = {}
    for kind in kinds:
        fitted = kind().fit(half["y_pred"].to_numpy(), half["y_true"].to_numpy())
        pooled[f"{kind.method} pooled"] = partial(fitted.transform, check_support=False)
    for name, inside in populations(survey).items():
        own, pool = survey[calibrating & inside], Pool.of(survey, ~calibrating & inside)
        card = build_card(
            own["y_pred"],
            own["y_true"],
            methods=[kind.method for kind in kinds] or ["linear"],
            n_boot=n_boot,
            seed=seed,
            **ABOUT,
        )
        corrected = {
            method: np.asarray(correct(pool.predicted))
            for method, correct in corrections(card, pooled, own, chosen).items()
        }
        smooth = {method: pool.smooth(values) for method, values in corrected.items()}
        for method, values in corrected.items():
            noise.add_error(method, name, pool, values - smooth[method])
        for tau in TAUS:
            treated, control = pool.donors(tau)
            noise.add_weight(name, tau, pool, treated, control)
            effect = float(pool.truth[treated].mean() - pool.truth[control].mean())
            trial = pool.trial(treated, control, rng)
            for method, values in corrected.items():
                row = {
                    "method": method,
                    "population": name,
                    "tau": tau,
                    "effect": effect,
                    "expected": values[treated].mean() - values[control].mean(),
                    "smooth": smooth[method][treated].mean() - smooth[method][control].mean(),
                }
                yield row | (simulated(trial, card, method, effect) if method in METHODS else NOT_SIMULATED)


def simulated(trial: pd.DataFrame, card: CalibrationCard, method: str, effect: float) -> dict[str, Any]:
    """Estimate, standard error and coverage of one simulated trial."""
    result = estimate_effect(
        trial,
        outcome="wealth",
        treatment="treated",
        calibration=card,
        method=method,
        assumption="outcome" if method == "none" else "measurement",
        vcov={"CRV1": "donor"},
    )
    low, high = result.conf_int()
    return {
        "estimate": result.estimate,
        "std_error": result.std_error,
        "calibration": result.share_calibration,
        "covered": float(low <= effect <= high),
    }


def summarise(draws: pd.DataFrame, noise: Noise) -> pd.DataFrame:
    """Shares, their errors, and coverage, by method, population and tau."""
    cells: dict[Any, dict[str, float]] = defaultdict(dict)
    keys: Any = draws.groupby(["method", "population", "tau"], sort=False)
    for (method, population, tau), part in keys:
        effect, n = part["effect"].mean(), len(part)
        cells[method, population, tau] = {
            "share": part["expected"].mean() / effect,
            "share_mc_se": part["expected"].std() / np.sqrt(n) / effect,
            "population_se": noise.error_of_mean(method, population, tau) / effect,
            "smooth_share": part["smooth"].mean() / effect,
            "smooth_mc_se": part["smooth"].std() / np.sqrt(n) / effect,
            "coverage": part["covered"].mean(),
            "sd_of_estimates": (part["estimate"] - part["effect"]).std(),
            "mean_std_error": np.sqrt((part["std_error"] ** 2).mean()),
            "variance_from_calibration": part["calibration"].mean(),
            "draws": n,
        }
    table = pd.DataFrame.from_dict(cells, orient="index")
    table.index.names = ["method", "population", "tau"]
    return table.reset_index()


def order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in one order, whichever run they come from."""
    methods = [*METHODS, *(f"{name} pooled" for name in METHODS[1:])]
    rank = table["method"].map({name: place for place, name in enumerate(methods)}).fillna(len(methods))
    return table.iloc[np.argsort(rank.to_numpy(), kind="stable")].reset_index(drop=True)


def report(table: pd.DataFrame) -> str:
    """The summary as text: one line a method, then the cells."""
    lines = [
        f"{'':18}{'|share - 1|':>16}{'|smooth - 1|':>18}{'coverage':>26}",
        f"{'':18}{'mean  greatest':>16}",
    ]
    for method, part in table.groupby("method", sort=False):
        off, smooth, covered = (
            (part["share"] - 1).abs(),
            (part["smooth_share"] - 1).abs(),
            part["coverage"],
        )
        tail = (
            ""
            if covered.isna().any()
            else f"{covered.mean():.3f} ({covered.min():.3f} to {covered.max():.3f})"
        )
        lines.append(
            f"{method:18}{off.mean():8.3f}{off.max():8.3f}{smooth.mean():10.3f}{smooth.max():8.3f}{tail:>26}"
        )
    bridge = table[table["method"] == "bridge"].drop(columns="method").set_index(["population", "tau"])
    names = {
        "share": "share",
        "share_mc_se": "mc se",
        "population_se": "population se",
        "smooth_share": "smooth share",
        "coverage": "coverage",
        "sd_of_estimates": "sd",
        "mean_std_error": "std. error",
    }
    lines += [
        "",
        "bridge, calibrated in the trial's population",
        bridge[list(names)].rename(columns=names).round(3).to_string(),
    ]
    for column, title in (("share", "shares"), ("smooth_share", "smooth shares")):
        wide = table.pivot_table(index=["population", "tau"], columns="method", values=column)
        wide = wide.loc[table["population"].unique(), list(table["method"].unique())]
        lines += ["", title, wide.round(3).to_string()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet_18_msnl_concat")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--boot", type=int, default=60, help="Bootstrap draws in each card.")
    parser.add_argument("--peer-draws", type=int, default=20, help="Halvings in which unshrink takes part.")
    parser.add_argument("--only", default=",".join((*METHODS, PEER)), help="Methods, with commas between.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not TABLE.exists():
        raise SystemExit("../shared/data/yeh_dhs_incountry.parquet is not there: this benchmark needs it.")
    survey = pd.read_parquet(TABLE, columns=["y_true", "urban", "country", f"p_{arguments.model}"])
    survey = survey.rename(columns={f"p_{arguments.model}": "y_pred"})
    chosen = tuple(arguments.only.split(","))
    if unknown := set(chosen) - {*METHODS, PEER}:
        raise SystemExit(
            f"--only: {', '.join(sorted(unknown))} unknown; there are {', '.join((*METHODS, PEER))}."
        )
    rows: list[dict[str, Any]] = []
    noise = Noise(len(survey))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)  # weak fits are part of what is measured
        for draw in tqdm(range(arguments.draws), unit="draw", disable=None):
            rng = np.random.default_rng([arguments.seed, draw])
            now = chosen if draw < arguments.peer_draws else tuple(m for m in chosen if m != PEER)
            rows += one_draw(survey, rng, arguments.boot, draw, noise, now)
    table = summarise(pd.DataFrame(rows), noise)
    path = arguments.out / f"donor_trials_{arguments.model}.csv"
    kept = ""
    if set(chosen) != {*METHODS, PEER} and path.exists():
        before = pd.read_csv(path, comment="#")
        before = before[~before["method"].isin(table["method"])]
        kept = f"; kept from an earlier run: {', '.join(before['method'].unique())}"
        table = pd.concat([before, table])
    table = order(table)
    head = f"{arguments.model}: {arguments.draws} draws, trials of {UNITS} units; {describe()}{kept}"
    text = f"{head}\n\n{report(table)}\n"
    write_text(path, f"# {head}\n" + table.round(5).to_csv(index=False))
    write_text(path.with_suffix(".txt"), text)
    print(text)


if __name__ == "__main__":
    main()
