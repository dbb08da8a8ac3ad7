"""Time and memory of large trials: a million units doubly robust and clustered, 100,000 units with Conley errors.

python benchmarks/effects_scale.py
"""

from __future__ import annotations

import resource
import time

import numpy as np
import pandas as pd

from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card


def make_card(rng: np.random.Generator) -> CalibrationCard:
    y_pred = rng.normal(size=2000)
    y_true = y_pred + 0.75 * rng.normal(size=2000)
    return build_card(
        y_pred, y_true, target={"name": "wealth", "unit": "index"}, predictor="benchmark", n_boot=400
    )


def run(name: str, data: pd.DataFrame, card: CalibrationCard, **arguments: object) -> None:
    start = time.perf_counter()
    result = estimate_effect(
        data, outcome="wealth", treatment="treated", calibration=card, assumption="measurement", **arguments
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{name}: {seconds:.1f} s, peak {peak:.2f} GB; {result!r}")


def main() -> None:
    rng = np.random.default_rng(0)
    card = make_card(rng)

    n = 100_000
    places = pd.DataFrame({"lat": rng.uniform(4, 14, n), "lon": rng.uniform(3, 14, n)})
    places = places.assign(treated=rng.integers(0, 2, n), wealth=rng.normal(size=n))
    conley = {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 100}}
    run("100,000 units, Conley 100 km", places, card, vcov=conley)

    n, names = 1_000_000, [f"x{k}" for k in range(10)]
    data = pd.DataFrame(rng.normal(size=(n, 10)), columns=names)
    treated = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.5 * data["x0"]))).astype(int)
    wealth = 0.3 * treated + 0.3 * data["x0"] + rng.normal(size=n)
    data = data.assign(treated=treated, wealth=wealth, district=rng.integers(0, 5000, n))
    for method in ("linear", "tweedie"):
        arguments = {"estimator": "aipw", "covariates": names, "vcov": {"CRV1": "district"}, "method": method}
        run(f"1,000,000 units, 10 covariates, AIPW, CRV1, {method}", data, card, **arguments)


if __name__ == "__main__":
    main()
