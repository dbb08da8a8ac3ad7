"""Effects on changes: what differences-in-differences of real predictions recover of real changes of wealth.

    python benchmarks/changes.py [--draws 100] [--seed 0] [--models ...] [--out benchmarks/results]

Villages of five LSMS panels in their first and last wave, with the predictions of models that were trained elsewhere.
In every draw the villages are halved. One half calibrates, on the levels of both waves, as a card does. In the other
half, half of the villages are treated: a treated village takes the change of truth and the change of prediction of the
village of its country whose change of truth is nearest to its own plus 0.5 index points; an untreated one keeps its
own. The effect is the mean change of truth that this adds to the treated.

- share: mean estimate over mean effect, naive, by the slope of levels and by Tweedie's correction of both waves.
- covered: share of draws in which the 95% interval holds the effect: of the naive estimate, of the linear correction,
  and of the hull of both (a bracket).
- slope_of_levels, slope_of_changes: of prediction on truth in the calibrating half, changes within country.

Labels are means over few households, so that some of the changes of truth are sampling error, which predictions cannot
follow: the share of a true change is higher than this, by an amount that these data do not show. Needs the table
yeh_lsms_ooc.parquet of published predictions beside the repository (../shared/data).
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

from sustain.causal import estimate_effect
from sustain.causal.correction.correct import combined_df
from sustain.causal.correction.ratio import corrected_effect
from sustain.causal.estimate import Estimate
from sustain.debias import TweedieCalibration
from sustain.errors import SustainWarning
from sustain.files import write_text
from sustain.stats.line import fit_line

LSMS = TABLE.with_name("yeh_lsms_ooc.parquet")
MODELS = ("p_ms", "p_msnl", "p_msnl_concat", "p_nl")
TAU = 0.5

Array = NDArray[np.float64]


def panel(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """One row a village: country, truth and prediction in its first and last wave."""
    known = table.dropna(subset=["y_true", model]).sort_values("year")
    villages = known.groupby(["country", "lat", "lon"])
    first, last = villages.first(), villages.last()
    found = pd.DataFrame({"y0": first["y_true"], "y1": last["y_true"], "x0": first[model], "x1": last[model]})
    return found[villages.size() > 1].reset_index()


def donors(change: Array, country: NDArray[np.object_], treated: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Village of whose change each one takes: its own or, treated, the one nearest to it plus `TAU` in its country."""
    found = np.arange(change.size)
    for name in np.unique(country):
        rows = np.flatnonzero(country == name)
        those = rows[treated[rows]]
        distance = np.abs(change[rows] - (change[those] + TAU)[:, None])
        distance[rows == those[:, None]] = np.inf
        found[those] = rows[distance.argmin(axis=1)]
    return found


def one_draw(villages: pd.DataFrame, rng: np.random.Generator) -> dict[str, float]:
    half = rng.permutation(len(villages)) < len(villages) // 2
    cal, trial = villages[half], villages[~half].reset_index(drop=True)
    levels_x, levels_y = np.r_[cal["x0"], cal["x1"]], np.r_[cal["y0"], cal["y1"]]
    line = fit_line(levels_y, levels_x, np.ones(levels_y.size), np.tile(np.arange(len(cal)), 2))
    tweedie = TweedieCalibration().fit(levels_x, levels_y, groups=np.tile(np.arange(len(cal)), 2))
    moves = cal.assign(dx=cal["x1"] - cal["x0"], dy=cal["y1"] - cal["y0"])
    moves = moves[["dx", "dy"]] - moves.groupby("country")[["dx", "dy"]].transform("mean")
    of_changes = fit_line(moves["dy"].to_numpy(), moves["dx"].to_numpy(), np.ones(len(moves))).slope

    treated = rng.permutation(len(trial)) < len(trial) // 2
    dy, dx = ((trial[f"{name}1"] - trial[f"{name}0"]).to_numpy() for name in "yx")
    donor = donors(dy, trial["country"].to_numpy(), treated)
    effect = float((dy[donor] - dy)[treated].mean())
    before, after = trial["x0"].to_numpy(), trial["x0"].to_numpy() + dx[donor]
    both = pd.DataFrame({"village": np.tile(np.arange(len(trial)), 2), "wave": np.repeat([0, 1], len(trial))})
    both = both.assign(x=np.r_[before, after], treated=np.r_[treated & False, treated].astype(int))
    result = estimate_effect(
        both, outcome="x", treatment="treated", estimator="did", unit="village", time="wave"
    )
    naive, slope_var = result.naive, float(line.cov[1, 1])
    ratio = corrected_effect(naive.estimate, naive.variance_trial, line.slope, slope_var)
    trial_part, calibration_part = ratio.variance_trial, ratio.variance_calibration
    df = combined_df(trial_part, naive.df, calibration_part, line.df)
    linear = Estimate("linear", ratio.estimate, trial_part, calibration_part, df)
    (low, high), (corrected_low, corrected_high) = naive.conf_int(0.95), linear.conf_int(0.95)
    curved = both.assign(x=tweedie.transform(both["x"].to_numpy(), check_support=False))
    by_tweedie = estimate_effect(
        curved, outcome="x", treatment="treated", estimator="did", unit="village", time="wave"
    )
    return {
        "effect": effect,
        "naive": naive.estimate,
        "linear": linear.estimate,
        "tweedie": by_tweedie.estimate,
        "covered_naive": float(low <= effect <= high),
        "covered_linear": float(corrected_low <= effect <= corrected_high),
        "covered_bracket": float(min(low, corrected_low) <= effect <= max(high, corrected_high)),
        "slope_of_levels": line.slope,
        "slope_of_changes": of_changes,
    }


def run(table: pd.DataFrame, models: list[str], draws: int, seed: int) -> pd.DataFrame:
    rows = []
    for model in tqdm(models, unit="model"):
        villages, rng = panel(table, model), np.random.default_rng(seed)
        found = pd.DataFrame([one_draw(villages, rng) for _ in range(draws)]).mean()
        shares = {f"share_{name}": found[name] / found["effect"] for name in ("naive", "linear", "tweedie")}
        rest = found.drop(["naive", "linear", "tweedie"]).to_dict()
        rows.append({"model": model, "villages": len(villages), "draws": draws} | shares | rest)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the results.")
    arguments = parser.parse_args()
    machine, start = describe(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)
        found = run(pd.read_parquet(LSMS), arguments.models, arguments.draws, arguments.seed)
    seconds = time.perf_counter() - start
    text = f"# {machine}; {seconds:.0f} s\n" + found.round(4).to_csv(index=False)
    write_text(arguments.out / "changes.csv", text)
    print(found.round(3).T.to_string())


if __name__ == "__main__":
    main()
