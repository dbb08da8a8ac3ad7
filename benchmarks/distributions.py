"""Effects on headcounts and quantiles, read off predictions, where nothing was tuned.

    python benchmarks/distributions.py points    [--draws 100]   headcount effects, by every method
    python benchmarks/distributions.py coverage  [--draws 20]    intervals of `estimate_distribution`

Trials are made by donors as in `response.py`. The lines are the 20th and the 40th percentile of the population's truth.
The rows of a population are halved: one half calibrates, trials are drawn from the other.

- bias: mean error of the headcount effect in a cell (population and model), against the donors' own truths.
- coverage: of nominal 95% intervals, clustered by donor, of what the donors' truths have.

Compared: the share of predictions below the line, as they are and corrected (linear, Tweedie); and the mean of
P(truth < line | prediction), the share below among the calibration rows with such predictions (20 bins, straight
between).

The constants of `sustain.debias.response.distribution` (degree and ridge of the tilt, share and number of steps, the
two other stops) were chosen on the models resnet_18_ms and ridge_nl_hist and the populations all, rural, urban, malawi,
tanzania, ethiopia, benin, ghana and togo, with 10 to 15 draws. The cells here are of four other models and of other
countries; rural, urban and all are the same places seen by other models.

Needs the tables of published predictions beside the repository (../shared/data).
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray
from response import ABOUT, DATA, EFFECTS, MODELS, Cell, halves, make_trial
from tqdm import tqdm

from sustain.causal import estimate_distribution
from sustain.debias import LinearCalibration, ResponseCalibration, TweedieCalibration, build_card
from sustain.debias.response.distribution import unfold_sides
from sustain.debias.response.measures import headcount
from sustain.errors import CalibrationError, SustainWarning
from sustain.files import write_text

COUNTRIES = (
    "kenya", "nigeria", "rwanda", "angola", "lesotho", "uganda", "zambia", "mali", "cameroon", "guinea",
)  # fmt: skip
PERCENTILES = (20, 40)
KINDS = ("alike .5", "half respond")
BINS = 20

Array = NDArray[np.float64]
Reader = Callable[..., float]


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


def readers(x: Array, y: Array, peers: bool) -> dict[str, Reader]:
    """Headcount effect from the predictions of treated and controls, by method, calibrated on these rows."""
    model = ResponseCalibration().fit(x, y).model_
    response = model.response(model.pooled)

    def unfolded(treated: Array, control: Array, line: float) -> float:
        shares = [response.shares(item, np.ones(item.size)) for item in (control, treated)]
        sides = unfold_sides(response, shares[0], shares[1], control.size, treated.size)
        below = headcount(model.truth, line)
        return float(below.value(sides.treated) - below.value(sides.control))

    found: dict[str, Reader] = {"unfolding": unfolded}
    if not peers:
        return found

    def below_line(correct: Callable[[Array], Any], treated: Array, control: Array, line: float) -> float:
        return float(np.mean(correct(treated) < line) - np.mean(correct(control) < line))

    found["raw"] = partial(below_line, lambda item: item)
    for name, kind in (("linear", LinearCalibration), ("Tweedie", TweedieCalibration)):
        try:
            fitted = kind().fit(x, y)
        except CalibrationError:
            continue
        found[name] = partial(below_line, partial(fitted.transform, check_support=False))
    edges = np.quantile(x, np.linspace(0, 1, BINS + 1))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, BINS - 1)
    kept = np.unique(place)
    middle = np.array([x[place == number].mean() for number in kept])

    def expected(treated: Array, control: Array, line: float) -> float:
        share = np.array([(y[place == number] < line).mean() for number in kept])
        return float(np.interp(treated, middle, share).mean() - np.interp(control, middle, share).mean())

    found["P(truth < line | prediction)"] = expected
    return found


def drawn(
    draws: int,
) -> Iterator[tuple[Cell, int, np.random.Generator, Array, Array, Array, NDArray[np.intp]]]:
    """Each cell and draw: generator, calibration rows, lines, and the rows that trials are from."""
    for number, cell in enumerate(tqdm(cells(), disable=None)):
        lines = np.quantile(cell.y_true, np.array(PERCENTILES) / 100)
        for draw in range(draws):
            rng = np.random.default_rng([5, number, draw])
            calibrating, rest = halves(cell, rng, None, False)
            yield cell, draw, rng, cell.y_pred[calibrating], cell.y_true[calibrating], lines, rest


def points(draws: int, peer_draws: int) -> Iterator[dict[str, Any]]:
    """Headcount effects by every method."""
    for cell, draw, rng, x, y, lines, rest in drawn(draws):
        methods = readers(x, y, draw < peer_draws)
        for kind in KINDS:
            trial = make_trial(cell.y_true, rest, EFFECTS[kind], rng)
            if trial is None:
                continue
            treated, control = trial.of(cell.y_true)
            for percentile, line in zip(PERCENTILES, lines, strict=True):
                true = float(np.mean(treated < line) - np.mean(control < line))
                for method, reader in methods.items():
                    yield {
                        "effect": kind,
                        "line": percentile,
                        "method": method,
                        "population": cell.population,
                        "model": cell.model,
                        "draw": draw,
                        "true": true,
                        "estimate": reader(*trial.of(cell.y_pred), float(line)),
                    }


def coverage(draws: int) -> Iterator[dict[str, Any]]:
    """Intervals of `estimate_distribution`, clustered by donor."""
    for cell, draw, rng, x, y, lines, rest in drawn(draws):
        card = build_card(x, y, methods=["linear", "response"], n_boot=20, **ABOUT)
        for kind in KINDS:
            trial = make_trial(cell.y_true, rest, EFFECTS[kind], rng)
            if trial is None:
                continue
            table = pd.DataFrame(
                {"wealth": cell.y_pred[trial.donor], "treated": trial.treated * 1, "donor": trial.donor}
            )
            result = estimate_distribution(
                table,
                outcome="wealth",
                treatment="treated",
                calibration=card,
                lines=lines.tolist(),
                vcov={"CRV1": "donor"},
            )
            for item in result.measured:
                at = PERCENTILES[int(np.abs(lines - item.at).argmin())] / 100
                at = item.at if item.kind in ("quantile", "gain") else at
                treated, control = (_measure(item.kind, item.at, arm) for arm in trial.of(cell.y_true))
                for arm, true in (("control", control), ("treated", treated), ("effect", treated - control)):
                    end = getattr(item, arm)
                    low, high = result.conf_int(end, item.kind, arm)
                    yield {
                        "effect": kind,
                        "measure": item.kind,
                        "at": round(at, 2),
                        "arm": arm,
                        "population": cell.population,
                        "model": cell.model,
                        "draw": draw,
                        "true": true,
                        "estimate": end.estimate,
                        "std_error": end.std_error,
                        "share_unfolding": item.share_unfolding,
                        "covered": float(low <= true <= high),
                    }


def _measure(kind: str, at: float, truth: Array) -> float:
    """Measure of a sample of truths."""
    if kind == "headcount":
        return float(np.mean(truth < at))
    if kind == "shortfall":
        return float(np.maximum(at - truth, 0).mean())
    if kind == "quantile":
        return float(np.quantile(truth, at))
    ordered = np.sort(truth)
    low, high = (round(share * truth.size) for share in (at - 1 / 3, at))
    return float(ordered[low:high].mean())


def summary_of_points(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bias and error by cell, and over cells."""
    raw = raw.assign(error=raw["estimate"] - raw["true"])
    raw["square"] = raw["error"] ** 2
    keys = ["effect", "line", "method", "population", "model"]
    cell = raw.groupby(keys, sort=False).agg(
        true=("true", "mean"), bias=("error", "mean"), square=("square", "mean"), draws=("draw", "nunique")
    )
    cell["rmse"] = np.sqrt(cell.pop("square"))
    cell = cell.reset_index()
    over = (
        cell.assign(off=cell["bias"].abs())
        .groupby(["effect", "line", "method"], sort=False)
        .agg(
            true=("true", "mean"),
            mean_abs_bias=("off", "mean"),
            worst_abs_bias=("off", "max"),
            mean_bias=("bias", "mean"),
            rmse=("rmse", "mean"),
            cells=("off", "size"),
            draws=("draws", "max"),
        )
    )
    return cell, over.reset_index()


def summary_of_coverage(raw: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Coverage by cell, and over cells with the least."""
    raw = raw.assign(error=raw["estimate"] - raw["true"])
    keys = ["effect", "measure", "at", "arm", "population", "model"]
    cell = raw.groupby(keys, sort=False).agg(
        true=("true", "mean"),
        bias=("error", "mean"),
        sd=("error", "std"),
        std_error=("std_error", "mean"),
        share_unfolding=("share_unfolding", "mean"),
        coverage=("covered", "mean"),
        draws=("draw", "nunique"),
    )
    cell = cell.reset_index()
    over = (
        cell.assign(off=cell["bias"].abs())
        .groupby(keys[:4], sort=False)
        .agg(
            true=("true", "mean"),
            mean_abs_bias=("off", "mean"),
            sd=("sd", "mean"),
            std_error=("std_error", "mean"),
            share_unfolding=("share_unfolding", "mean"),
            coverage=("coverage", "mean"),
            least_coverage=("coverage", "min"),
            cells=("off", "size"),
            draws=("draws", "max"),
        )
    )
    return cell, over.reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("points", "coverage"))
    parser.add_argument("--draws", type=int)
    parser.add_argument("--peer-draws", type=int, default=25, help="Draws in which other methods take part.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", SustainWarning)
    if arguments.part == "points":
        cell, over = summary_of_points(pd.DataFrame(points(arguments.draws or 100, arguments.peer_draws)))
    else:
        cell, over = summary_of_coverage(pd.DataFrame(coverage(arguments.draws or 20)))
    print(over.round(3).to_string(index=False))
    for name, table in (("", cell), ("_over_cells", over)):
        text = f"# {describe()}\n" + table.round(4).to_csv(index=False)
        write_text(RESULTS / f"distributions_{arguments.part}{name}.csv", text)


if __name__ == "__main__":
    main()
