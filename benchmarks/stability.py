"""How corrections settle as the calibration sample grows, on real predictions.

    python benchmarks/stability.py [--draws 4]

In every draw each of five folds is corrected by a calibration on some rows of the other four (500, 1,000 and 10,000, or
as many as there are). Figures are of all places together, in standard deviations of the truth, and averaged over
draws: RMSE; slope of corrected on truth; the largest correction, as a mean over draws and the worst of them; mean
absolute bias by tenth of the truth, which is what an effect that reaches the image through the truth alone meets; and
the share of places that the monotone projection changes. Changes are from the fewest rows.

Needs the tables of published predictions beside the repository (../shared/data). Four minutes on one core.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.base import Calibration
from sustain.errors import SustainWarning
from sustain.files import write_text

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TABLES = [  # table, model, folds, sizes of the calibration sample
    ("yeh_dhs_incountry", "resnet_18_ms", "fold", (500, 1_000, 10_000)),
    ("yeh_dhs_incountry", "resnet_18_msnl_concat", "fold", (500, 1_000, 10_000)),
    ("yeh_dhs_incountry", "ridge_ms_hist", "fold", (500, 1_000, 10_000)),
    ("mosaiks_mexico_hdi", "mosaiks_nl", "adm1", (500, 1_000, 1_900)),
    ("aiddata_ghana2014", "rf_oof_spatial", "fold_spatial", (150, 300)),
]
METHODS: dict[str, Calibration] = {
    "linear": LinearCalibration(),
    "tweedie": TweedieCalibration(),
    "tweedie, one size": TweedieCalibration(heteroskedastic=False),
    "tweedie, second order": TweedieCalibration(second_order=True),
    "tweedie, kernel": TweedieCalibration("kde"),
    "tweedie, as published": TweedieCalibration("scott", recalibrate=False, monotone=False),
}
FIGURES = ["rmse", "slope", "largest", "bias_by_tenth", "share_changed"]

Array = NDArray[np.float64]


def read(table: str, model: str, folds: str) -> tuple[Array, Array, NDArray[np.intp]]:
    """Predictions, truth and fold (one of five) of one model."""
    rows = pd.read_parquet(DATA / f"{table}.parquet").dropna(subset=["y_true", f"p_{model}"])
    fold = np.unique(rows[folds].astype(str), return_inverse=True)[1] % 5
    return rows[f"p_{model}"].to_numpy(np.float64), rows["y_true"].to_numpy(np.float64), fold


def figures(corrected: Array, x: Array, y: Array) -> list[float]:
    """RMSE, slope, largest correction and mean absolute bias by tenth, in sd of the truth."""
    error, sd = corrected - y, y.std()
    tenth = np.searchsorted(np.quantile(y, np.linspace(0.1, 0.9, 9)), y)
    bias = np.mean([abs(error[tenth == i].mean()) for i in range(10)])
    slope = np.cov(corrected, y)[0, 1] / y.var(ddof=1)
    return [np.sqrt(np.mean(error**2)) / sd, slope, np.abs(corrected - x).max() / sd, bias / sd]


def draws(
    method: Calibration, x: Array, y: Array, fold: NDArray[np.intp], n: int, n_draws: int
) -> Iterator[list[float]]:
    """Figures of every draw; the same rows for every method."""
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        corrected, changed = np.empty_like(x), 0.0
        for number in np.unique(fold):
            inside, others = fold == number, np.flatnonzero(fold != number)
            rows = rng.permutation(others)[:n]
            fitted = type(method)(**method.get_params()).fit(x[rows], y[rows])
            corrected[inside] = fitted.transform(x[inside], check_support=False)
            changed += getattr(fitted, "share_changed_", 0.0) * inside.mean()
        yield [*figures(corrected, x, y), changed]


def measure(n_draws: int) -> pd.DataFrame:
    """One row a table, model, method and size."""
    found = []
    with tqdm(total=sum(len(t[3]) for t in TABLES) * len(METHODS), unit="cell", disable=None) as bar:
        for table, model, folds, sizes in TABLES:
            x, y, fold = read(table, model, folds)
            for name, method in METHODS.items():
                first: Array | None = None
                for n in sizes:
                    # Few draws say enough of many rows.
                    values = np.array(
                        list(draws(method, x, y, fold, n, max(2, n_draws * 500 // max(500, n))))
                    )
                    mean = values.mean(axis=0)
                    first = mean if first is None else first
                    row = {"table": table, "model": model, "method": name, "rows": n, "draws": len(values)}
                    row |= dict(zip(FIGURES, mean, strict=True))
                    row |= {"rmse_sd": values[:, 0].std(), "slope_sd": values[:, 1].std()}
                    row |= {"worst_largest": values[:, 2].max()}
                    row |= {"rmse_change": mean[0] / first[0] - 1, "slope_change": mean[1] / first[1] - 1}
                    found.append(row)
                    bar.update()
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4, help="Draws of the smallest sample.")
    parser.add_argument("--out", type=Path, default=RESULTS / "stability.csv")
    arguments = parser.parse_args()
    if not DATA.exists():
        raise SystemExit("../shared/data is not there: this benchmark needs its tables of real predictions.")
    machine = describe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)  # weak fits are part of what is measured
        table = measure(arguments.draws)
    write_text(arguments.out, f"# {machine}\n{table.round(4).to_csv(index=False)}")
    shown = ["model", "method", "rows", *FIGURES, "rmse_change", "slope_change"]
    print(table[shown].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
