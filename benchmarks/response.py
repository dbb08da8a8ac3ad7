"""Effects that reach the image only through wealth, read back by every method, where nothing was tuned.

    python benchmarks/response.py points    [--draws 100]     mean effects, many kinds of effects
    python benchmarks/response.py sizes     [--draws 100]     few calibration rows, and rows in whole 1-degree cells
    python benchmarks/response.py coverage  [--draws 300]     intervals of `estimate_effect`
    python benchmarks/response.py others    [--draws 100]     other targets: HDI, IWI, atoms of truth

*Donor-matched trials.* The rows of a population are halved at random. One half calibrates. In the other, 800 units are
drawn (all, where there are fewer) and treated at random; a treated unit takes the truth and the prediction of a unit
whose truth is nearest to its own after the effect (at random among the three on either side), a control that of one
whose truth is nearest to its own. Units whose truth would leave the middle 96% of the population are left out.

- share: mean estimate over mean true effect, in a cell (population and model), of the effect as it was realised.
- coverage: of nominal 95% intervals, of the effect as it was meant ("population"), which the donors' truths only
  scatter about, and as it was realised.

All constants of `sustain.debias.response` were chosen on the models resnet_18_ms and ridge_nl_hist and the populations
all, rural, urban, malawi, tanzania, ethiopia, benin, ghana and togo. The cells here are of four other models and of
other countries; rural, urban and all are the same places seen by other models.

Needs the tables of published predictions beside the repository (../shared/data).
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.causal import estimate_effect
from sustain.causal.correction import response as read_back
from sustain.debias import LinearCalibration, ResponseCalibration, TweedieCalibration, build_card
from sustain.errors import CalibrationError, SustainWarning
from sustain.files import write_text

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MODELS = ("resnet_18_msnl_concat", "resnet_18_nl", "ridge_msnl_hist", "knn_nl_mean_scalar_v2")
COUNTRIES = ("kenya", "nigeria", "rwanda", "lesotho", "uganda", "zambia", "mali", "cameroon")
UNITS = 800
ABOUT: dict[str, Any] = {"target": {"name": "wealth", "unit": "index"}, "predictor": "published"}

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Cell:
    """A population as one model sees it."""

    population: str
    model: str
    y_true: Array
    y_pred: Array
    block: NDArray[Any]


def cells() -> list[Cell]:
    """Populations and models that no constant was chosen on."""
    survey = pd.read_parquet(DATA / "yeh_dhs_incountry.parquet")
    urban = survey["urban"].to_numpy() == 1
    inside = {"all": np.ones(len(survey), dtype=bool), "rural": ~urban, "urban": urban}
    inside |= {name: (survey["country"] == name).to_numpy() for name in COUNTRIES}
    return [
        Cell(
            name,
            model,
            survey["y_true"].to_numpy()[rows],
            survey[f"p_{model}"].to_numpy()[rows],
            survey["cell1"].to_numpy()[rows],
        )
        for name, rows in inside.items()
        for model in MODELS
    ]


def other_targets() -> list[Cell]:
    """Tables of other targets, and wealth with atoms: zeros for the poorest 16%, a cap for the richest 10%."""
    found = []
    for file, models in (
        ("mosaiks_mexico_hdi", ["p_mosaiks_nl"]),
        ("viirs_subnational_iwi", ["p_ridge_viirs", "p_rf_viirs"]),
        ("aiddata_ghana2014", ["p_rf_oof_spatial"]),
        ("yeh_lsms_ooc", ["p_msnl_concat", "p_nl"]),
    ):
        table = pd.read_parquet(DATA / f"{file}.parquet")
        for model in models:
            ok = table[["y_true", model]].notna().all(axis=1)
            y = table.loc[ok, "y_true"].to_numpy()
            scale = y.std()
            block = np.arange(ok.sum())
            found.append(Cell(file, model, y / scale, table.loc[ok, model].to_numpy() / scale, block))
    for cell in cells()[:1]:
        low, high = np.quantile(cell.y_true, [0.16, 0.9])
        for name, truth in (
            ("16% at the lowest", np.maximum(cell.y_true, low)),
            ("10% at the highest", np.minimum(cell.y_true, high)),
        ):
            found.append(Cell(name, cell.model, truth, cell.y_pred, cell.block))
    return found


@dataclass(frozen=True)
class Effect:
    """What a treatment does to the truth.

    Attributes
    ----------
    gain : callable
        Takes truths, the median and standard deviation of the population, and a generator; returns gains.
    poor_half : bool
        Whether the trial is in the poorer half of the population.
    """

    gain: Callable[[Array, float, float, np.random.Generator], Array]
    poor_half: bool = False


def _alike(size: float) -> Effect:
    return Effect(lambda y, middle, sd, rng: np.full(y.size, size))


EFFECTS = {
    "alike .25": _alike(0.25),
    "alike .5": _alike(0.5),
    "alike 1": _alike(1.0),
    "alike -.5": _alike(-0.5),
    "half respond": Effect(lambda y, middle, sd, rng: 1.0 * (rng.random(y.size) < 0.5)),
    "poor only": Effect(lambda y, middle, sd, rng: 1.0 * (y < middle)),
    "poor gain more": Effect(lambda y, middle, sd, rng: 0.5 * np.clip(1 - (y - middle) / (1.5 * sd), 0, 2)),
    "trial of the poor half": Effect(_alike(0.5).gain, poor_half=True),
}


@dataclass(frozen=True)
class Trial:
    """Donors of a trial: rows of the cell, and who is treated; `meant` is the effect before donors were found."""

    donor: Rows
    treated: NDArray[np.bool_]
    meant: float

    def of(self, values: Array) -> tuple[Array, Array]:
        """Values of treated and controls."""
        return values[self.donor[self.treated]], values[self.donor[~self.treated]]


def make_trial(y: Array, rest: Rows, effect: Effect, rng: np.random.Generator) -> Trial | None:
    """Trial in the rows `rest`; None where fewer than 30 units are left."""
    pool = rest[np.argsort(y[rest], kind="stable")]
    low, high = np.quantile(y[rest], [0.02, 0.98])
    middle = float(np.median(y))
    after = y[rest] + effect.gain(y[rest], middle, float(y.std()), rng)
    ok = (y[rest] >= low) & (y[rest] <= high) & (after >= low) & (after <= high)
    if effect.poor_half:
        ok &= y[rest] < middle
    if ok.sum() < 30:
        return None
    units = rng.choice(np.flatnonzero(ok), min(UNITS, int(ok.sum())), replace=False)
    treated = rng.random(units.size) < 0.5
    target = np.where(treated, after[units], y[rest][units])
    place = np.searchsorted(y[pool], target) + rng.integers(-3, 4, units.size)
    return Trial(pool[np.clip(place, 0, pool.size - 1)], treated, float((after - y[rest])[units].mean()))


Reader = Callable[[Array, Array], float]


def readers(
    x: Array, y: Array, peers: bool, chosen: tuple[str, ...], noise: float = 0.0
) -> dict[str, Reader]:
    """Effect from the predictions of treated and controls, by method, calibrated on these rows."""
    found: dict[str, Reader] = {"none": lambda t, c: float(t.mean() - c.mean())}

    def of_places(correct: Callable[[Array], Any]) -> Reader:
        return lambda t, c: float(np.mean(correct(t)) - np.mean(correct(c)))

    kinds: dict[str, Any] = {"linear": LinearCalibration, "tweedie": TweedieCalibration}
    for name, kind in kinds.items():
        if name not in chosen:
            continue
        try:
            fitted = kind().fit(x, y, target_noise_var=noise)
        except CalibrationError:
            continue
        found[name] = of_places(partial(fitted.transform, check_support=False))
    if "response" in chosen:
        with suppress(CalibrationError):
            found["response"] = ResponseCalibration().fit(x, y, target_noise_var=noise).effect
    if peers:
        for name, correct in _peers(x, y).items():
            found[name] = of_places(correct)
    return found


def _peers(x: Array, y: Array) -> dict[str, Callable[[Array], Any]]:
    """The two corrections of the package `unshrink`, where it is installed."""
    try:
        from unshrink import LccDebiaser, TweedieDebiaser  # type: ignore[import-not-found]
    except ImportError:
        return {}
    kinds = (("unshrink LCC", LccDebiaser), ("unshrink Tweedie", TweedieDebiaser))
    return {name: kind().fit(cal_predictions=x, cal_targets=y).debiased_predictions for name, kind in kinds}


def halves(cell: Cell, rng: np.random.Generator, n_cal: int | None, blocks: bool) -> tuple[Rows, Rows]:
    """Rows that calibrate and the others; `n_cal` of the former at random, or by whole 1-degree cells."""
    order = rng.permutation(cell.y_true.size)
    calibrating, rest = order[: order.size // 2], order[order.size // 2 :]
    if blocks:
        names = rng.permutation(np.unique(cell.block))
        rank = pd.Series(np.arange(names.size), index=names)[cell.block].to_numpy()
        order = np.argsort(rank, kind="stable")
        calibrating, rest = order[: order.size // 2], order[order.size // 2 :]
        if n_cal is not None:
            last = np.searchsorted(
                rank[calibrating], rank[calibrating[min(n_cal, calibrating.size) - 1]], "right"
            )
            return calibrating[:last], rest
    return (calibrating if n_cal is None else calibrating[:n_cal]), rest


def points(
    draws: int, peer_draws: int, chosen: tuple[str, ...], found: list[Cell]
) -> Iterator[dict[str, Any]]:
    """Estimates of every kind of effect, and with labels of reliability .8."""
    for number, cell in enumerate(tqdm(found, disable=None)):
        for draw in range(draws):
            rng = np.random.default_rng([1, number, draw])
            calibrating, rest = halves(cell, rng, None, False)
            x, y = cell.y_pred[calibrating], cell.y_true[calibrating]
            exact = readers(x, y, draw < peer_draws, chosen)
            variance = float(y.var()) / 4
            noisy = readers(x, y + rng.normal(0, np.sqrt(variance), y.size), False, chosen, variance)
            for name, effect in EFFECTS.items():
                trial = make_trial(cell.y_true, rest, effect, rng)
                if trial is None:
                    continue
                ways = [(name, exact)] + ([("alike .5, reliability .8", noisy)] if name == "alike .5" else [])
                for said, methods in ways:
                    yield from _rows(cell, said, "half", draw, trial, methods)


def sizes(draws: int, chosen: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Estimates of an effect of .5 by number of calibration rows."""
    for number, cell in enumerate(tqdm(cells(), disable=None)):
        for said, n_cal, blocks in (
            ("50", 50, False),
            ("100", 100, False),
            ("300", 300, False),
            ("1000", 1000, False),
            ("1000 in whole cells", 1000, True),
        ):
            if n_cal > cell.y_true.size // 2:
                continue
            for draw in range(draws):
                rng = np.random.default_rng([2, number, n_cal, draw])
                calibrating, rest = halves(cell, rng, n_cal, blocks)
                methods = readers(cell.y_pred[calibrating], cell.y_true[calibrating], False, chosen)
                trial = make_trial(cell.y_true, rest, EFFECTS["alike .5"], rng)
                if trial is not None:
                    yield from _rows(cell, "alike .5", said, draw, trial, methods)


def _rows(
    cell: Cell, effect: str, rows: str, draw: int, trial: Trial, methods: dict[str, Reader]
) -> Iterator[dict[str, Any]]:
    treated, control = trial.of(cell.y_true)
    about = {"effect": effect, "rows": rows, "population": cell.population, "model": cell.model, "draw": draw}
    for method, reader in methods.items():
        yield about | {
            "method": method,
            "true": treated.mean() - control.mean(),
            "estimate": reader(*trial.of(cell.y_pred)),
        }


def coverage(draws: int, first: int, chosen: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Intervals of `estimate_effect`, clustered by donor."""
    read_back.N_DRAWS = read_back.LEAST_DRAWS = 4  # they serve another interval than the one that is measured
    for number, cell in enumerate(tqdm(cells(), disable=None)):
        for draw in range(first, first + draws):
            rng = np.random.default_rng([3, number, draw])
            calibrating, rest = halves(cell, rng, None, False)
            card = build_card(
                cell.y_pred[calibrating],
                cell.y_true[calibrating],
                methods=[name for name in dict.fromkeys(("linear", *chosen)) if name != "none"],
                n_boot=60 if "tweedie" in chosen else 20,
                **ABOUT,
            )
            for name in ("alike .5", "half respond"):
                trial = make_trial(cell.y_true, rest, EFFECTS[name], rng)
                if trial is None:
                    continue
                table = pd.DataFrame(
                    {
                        "wealth": cell.y_pred[trial.donor],
                        "treated": trial.treated * 1,
                        "donor": trial.donor,
                    }
                )
                realised = float(np.subtract(*(part.mean() for part in trial.of(cell.y_true))))
                for method in chosen:
                    result = estimate_effect(
                        table,
                        outcome="wealth",
                        treatment="treated",
                        calibration=card,
                        method=method,
                        assumption="outcome" if method == "none" else "measurement",
                        vcov={"CRV1": "donor"},
                    )
                    low, high = result.conf_int()
                    yield {
                        "effect": name,
                        "population": cell.population,
                        "model": cell.model,
                        "draw": draw,
                        "method": method,
                        "estimate": result.estimate,
                        "std_error": result.std_error,
                        "true": trial.meant,
                        "population covered": float(low <= trial.meant <= high),
                        "realised covered": float(low <= realised <= high),
                    }


def summary_of_points(raw: pd.DataFrame) -> pd.DataFrame:
    """Share and root mean squared error by cell, and over cells."""
    raw = raw.assign(square=(raw["estimate"] - raw["true"]) ** 2)
    keys = ["effect", "rows", "method", "population", "model"]
    cell = raw.groupby(keys, sort=False).agg(
        true=("true", "mean"),
        estimate=("estimate", "mean"),
        square=("square", "mean"),
        draws=("draw", "nunique"),
    )
    cell["share"] = cell["estimate"] / cell["true"]
    cell["rmse"] = np.sqrt(cell["square"])
    return cell.reset_index()[[*keys, "share", "rmse", "draws"]]


def over_cells(cell: pd.DataFrame) -> pd.DataFrame:
    """Mean and greatest |share - 1|, bias and error over cells."""
    off = cell.assign(off=(cell["share"] - 1).abs(), bias=cell["share"] - 1)
    linear = off[off["method"] == "linear"].set_index(["effect", "rows", "population", "model"])["rmse"]
    key = pd.MultiIndex.from_frame(off[["effect", "rows", "population", "model"]])
    off["beside_linear"] = off["rmse"].to_numpy() / linear.reindex(key).to_numpy()
    table = off.groupby(["effect", "rows", "method"], sort=False).agg(
        mean_off=("off", "mean"),
        worst_off=("off", "max"),
        mean_bias=("bias", "mean"),
        rmse=("rmse", "mean"),
        rmse_beside_linear=("beside_linear", "mean"),
        worst_beside_linear=("beside_linear", "max"),
        cells=("off", "size"),
        draws=("draws", "max"),
    )
    return table.reset_index()


def summary_of_coverage(raw: pd.DataFrame) -> pd.DataFrame:
    """Coverage by cell, with all cells last."""
    raw = raw.assign(error=raw["estimate"] - raw["true"])
    keys = ["effect", "method", "population", "model"]
    how = {
        "population_coverage": ("population covered", "mean"),
        "realised_coverage": ("realised covered", "mean"),
        "sd_of_estimates": ("error", "std"),
        "mean_std_error": ("std_error", "mean"),
        "draws": ("draw", "nunique"),
    }
    cell = raw.groupby(keys, sort=False).agg(**how).reset_index()
    total = raw.groupby(keys[:2], sort=False).agg(**how).reset_index()
    return pd.concat([cell, total.assign(population="(mean)", model="")])[[*keys, *how]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("points", "sizes", "coverage", "others"))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="First draw of coverage.")
    parser.add_argument("--peer-draws", type=int, default=4, help="Draws in which `unshrink` takes part.")
    parser.add_argument("--methods", default="linear,tweedie,response")
    parser.add_argument("--raw", type=Path, help="Also keep every estimate, in this Parquet file.")
    arguments = parser.parse_args()
    chosen = tuple(arguments.methods.split(","))
    warnings.simplefilter("ignore", SustainWarning)
    if arguments.part == "coverage":
        raw = pd.DataFrame(coverage(arguments.draws, arguments.first, chosen))
    elif arguments.part == "sizes":
        raw = pd.DataFrame(sizes(arguments.draws, chosen))
    else:
        found = cells() if arguments.part == "points" else other_targets()
        raw = pd.DataFrame(points(arguments.draws, arguments.peer_draws, chosen, found))
    if arguments.raw:
        raw.to_parquet(arguments.raw)
    write(arguments.part, raw)


def write(part: str, raw: pd.DataFrame) -> None:
    """Write the summary of a part beside the machine's description."""
    if part == "coverage":
        table = summary_of_coverage(raw)
        print(table[table["population"] == "(mean)"].round(3).to_string(index=False))
    else:
        table = summary_of_points(raw)
        wide = over_cells(table)
        print(wide.round(3).to_string(index=False))
        write_text(
            RESULTS / f"response_{part}_over_cells.csv",
            f"# {describe()}\n" + wide.round(4).to_csv(index=False),
        )
    write_text(RESULTS / f"response_{part}.csv", f"# {describe()}\n" + table.round(4).to_csv(index=False))


if __name__ == "__main__":
    main()
