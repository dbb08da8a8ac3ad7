"""By how much the mean of Tweedie-corrected predictions misses that of the labels, and whether the fit says so.

All sets of published predictions in the shared tables, and made-up ones that pile up at one value. The bound
beyond which the fit warns, a twentieth of a standard deviation, was set with these tables at hand.

    python benchmarks/tweedie_level.py [--shared ../shared]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from tqdm import tqdm

from sustain.debias import TweedieCalibration
from sustain.errors import CalibrationError, WeakCalibrationWarning
from sustain.files import write_text

TABLES = (
    "lsms_hist_ridge",
    "mosaiks_mexico_hdi",
    "viirs_subnational_iwi",
    "yeh_dhs_incountry",
    "yeh_lsms_ooc",
    "aiddata_ghana2014",
)
FEWEST = 100  # rows


def samples(shared: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Table, model, predictions and labels."""
    for name in TABLES:
        table = pd.read_parquet(shared / "data" / f"{name}.parquet")
        for column in [column for column in table if column.startswith("p_")]:
            rows = table.dropna(subset=[column, "y_true"])
            if len(rows) >= FEWEST:
                yield (
                    name,
                    column.removeprefix("p_"),
                    rows[column].to_numpy(float),
                    rows["y_true"].to_numpy(float),
                )
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    predicted = 0.6 * truth + 0.4 * rng.normal(size=2000)
    piles = {
        "as they are": predicted,
        "a third capped": np.minimum(predicted, np.quantile(predicted, 2 / 3)),
        "seven in ten zero": np.where(predicted < np.quantile(predicted, 0.7), 0.0, predicted),
    }
    for name, values in piles.items():
        yield "made up", name, values, truth


def main() -> None:
    """Fit all of them and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    shared, machine, rows = parser.parse_args().shared, describe(), []
    for table, model, predicted, truth in tqdm(samples(shared), desc="Tweedie", unit="model", disable=None):
        row = {"table": table, "model": model, "n": truth.size, "off_sd": np.nan, "warned": "refused"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", WeakCalibrationWarning)  # what it says is the last column
            try:
                fitted = TweedieCalibration().fit(predicted, truth)
            except CalibrationError:
                rows.append(row)
                continue
        off = float(fitted.transform(predicted, check_support=False).mean() - truth.mean())
        said = any(subject.startswith("tweedie level") for subject in fitted.weaknesses_)
        rows.append({**row, "off_sd": off / truth.std(), "warned": "yes" if said else "no"})
    result = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.4f")
    write_text(RESULTS / "tweedie_level.csv", f"# {machine}\n{result}")
    print(result)


if __name__ == "__main__":
    main()
