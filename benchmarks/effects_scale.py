"""Time and memory of large trials: a million units doubly robust and clustered, 100,000 units with Conley errors.

    python benchmarks/effects_scale.py [--out benchmarks/results/effects_scale.csv]

Each case runs in a process of its own, so that its peak of memory is its own; making the data is not timed. Conley's
neighbours are counted, to show that time follows them and memory does not.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import RESULTS, describe, peak_memory_gb
from scipy.spatial import cKDTree

from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card
from sustain.files import write_text

KM = 111.2  # in a degree
DRAWS = 400


def make_card() -> CalibrationCard:
    rng = np.random.default_rng(0)
    y_pred = rng.normal(size=2000)
    return build_card(
        y_pred,
        y_pred + 0.75 * rng.normal(size=2000),
        target={"name": "wealth", "unit": "index"},
        predictor="benchmark",
        n_boot=DRAWS,
    )


def make_places(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"lat": rng.uniform(4, 14, n), "lon": rng.uniform(3, 14, n)})
    return data.assign(treated=rng.integers(0, 2, n), wealth=rng.normal(size=n))


def make_units(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    data = pd.DataFrame(rng.normal(size=(n, 10)), columns=[f"x{k}" for k in range(10)])
    treated = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.5 * data["x0"]))).astype(int)
    wealth = 0.3 * treated + 0.3 * data["x0"] + rng.normal(size=n)
    return data.assign(treated=treated, wealth=wealth, district=rng.integers(0, 5000, n))


def conley(n: int, cutoff_km: float) -> dict[str, Any]:
    """Seconds, peak of memory and neighbours of one Conley estimate."""
    data, card = make_places(n), make_card()
    points = data[["lat", "lon"]].to_numpy() * KM
    sample = points[:: max(1, n // 2000)]
    neighbours = cKDTree(points).query_ball_point(sample, cutoff_km, return_length=True).mean()
    vcov = {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": cutoff_km}}
    return timed(data, card, vcov=vcov, method="linear") | {"neighbours": round(float(neighbours))}


def doubly_robust(n: int, method: str) -> dict[str, Any]:
    """Seconds and peak of memory of one clustered doubly robust estimate."""
    names = [f"x{k}" for k in range(10)]
    arguments = {"estimator": "aipw", "covariates": names, "vcov": {"CRV1": "district"}, "method": method}
    return timed(make_units(n), make_card(), **arguments)


def difference(n: int) -> dict[str, Any]:
    """Seconds and peak of memory of a difference in means, read back through the response curve."""
    return timed(make_units(n), make_card(), vcov={"CRV1": "district"}, method="response")


def fixed_effects(n: int) -> dict[str, Any]:
    """Seconds and peak of memory of least squares with two absorbed effects."""
    data = make_units(n).assign(year=np.random.default_rng(3).integers(2000, 2020, n))
    return timed(data, make_card(), formula="wealth ~ treated + x0 + x1 | district + year", method="linear")


def timed(data: pd.DataFrame, card: CalibrationCard, **arguments: Any) -> dict[str, Any]:
    if "formula" not in arguments:
        arguments |= {"outcome": "wealth", "treatment": "treated"}
    before = peak_memory_gb()
    start, processor = time.perf_counter(), time.process_time()
    result = estimate_effect(data, calibration=card, assumption="measurement", **arguments)
    bootstrap = result.conf_int(method="bootstrap")
    seconds, busy = time.perf_counter() - start, time.process_time() - processor
    peak = peak_memory_gb()
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 1),
        "peak_gb": round(peak, 2),
        "peak_gb_before": round(before, 2),
        "estimate": round(result.estimate, 4),
        "std_error": round(result.std_error, 5),
        "bootstrap_low": round(bootstrap[0], 4),
        "bootstrap_high": round(bootstrap[1], 4),
    }


CASES = [
    ("AIPW, 10 covariates, CRV1 by 5,000 clusters, linear, 400 draws", doubly_robust, (1_000_000, "linear")),
    (
        "AIPW, 10 covariates, CRV1 by 5,000 clusters, tweedie, 400 draws",
        doubly_robust,
        (1_000_000, "tweedie"),
    ),
    ("AIPW, 10 covariates, CRV1 by 5,000 clusters, response", doubly_robust, (1_000_000, "response")),
    ("difference, CRV1 by 5,000 clusters, response", difference, (100_000,)),
    ("difference, CRV1 by 5,000 clusters, response", difference, (1_000_000,)),
    ("OLS, 5,000 and 20 fixed effects absorbed", fixed_effects, (1_000_000,)),
    ("Conley, 50 km", conley, (100_000, 50.0)),
    ("Conley, 100 km", conley, (100_000, 100.0)),
    ("Conley, 100 km", conley, (50_000, 100.0)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "effects_scale.csv")
    arguments = parser.parse_args()
    machine, rows = describe(), []
    for name, case, sizes in CASES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(case, *sizes).result()
        rows.append({"case": name, "units": sizes[0]} | found)
        print(rows[-1], flush=True)
    write_text(arguments.out, f"# {machine}\n" + pd.DataFrame(rows).to_csv(index=False))


if __name__ == "__main__":
    main()
