"""Coverage of effects that are read back, by design: the trials of `coverage.py`, with cards that hold a response.

    python benchmarks/response_designs.py [--replications 100]

Trials of 1,000 units with an effect of 0.5, where the truth's standard deviation is 1.25; 250 or 2,000 calibration
rows. By region, units are treated by region, and errors go together within regions and between neighbours;
calibration rows then come in groups of ten. Nothing was chosen on these simulations.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from coverage import IN_GROUP, SD_TRUTH, Places, draw_noise, draw_trial, draw_truth, mix, predict
from machine import RESULTS, describe
from tqdm import tqdm

from sustain.causal import estimate_effect
from sustain.causal.correction import response as read_back
from sustain.debias import CalibrationCard, build_card
from sustain.errors import EffectError, SustainWarning
from sustain.files import write_text

EFFECT, SIZES = 0.5, (250, 2000)
CASES = [
    *((False, design, "HC1") for design in ("difference", "ols", "ipw", "aipw", "iv")),
    *((True, design, {"CRV1": "region"}) for design in ("difference", "ols", "iv")),
]
ABOUT: dict[str, Any] = {"target": {"name": "truth", "unit": "1"}, "predictor": "simulated"}


def make_card(kind: str, n: int, grouped: bool, rng: np.random.Generator) -> CalibrationCard:
    """Card of calibration rows as `coverage.py` draws them."""
    group = np.arange(n) // IN_GROUP if grouped else None
    common = [rng.normal(size=n // IN_GROUP)[group] if grouped else None for _ in range(2)]
    truth = SD_TRUTH * mix(draw_truth(kind, n, rng), common[0])
    predicted = predict(kind, truth, mix(draw_noise(kind, n, rng), common[1]))
    return build_card(predicted, truth, groups=group, methods=["linear", "response"], n_boot=20, **ABOUT)


def replications(n: int) -> Iterator[dict[str, Any]]:
    """Whether the interval holds the effect, by case and replication."""
    read_back.N_DRAWS = read_back.LEAST_DRAWS = 4  # they serve another interval than the one that is measured
    places = Places()
    for number in tqdm(range(n), unit="replication", disable=None):
        for case, (clustered, design, vcov) in enumerate(CASES):
            rng = np.random.default_rng([4, number, case])
            units, outcomes = draw_trial(design, clustered, places, rng)
            table = pd.DataFrame({"treated": units.treated, "region": units.extra["region"]})
            asked: dict[str, Any] = {"estimator": design, "vcov": vcov}
            if units.names:
                table, asked["covariates"] = table.assign(x=units.covariates[:, 0]), "x"
            if design == "iv":
                table, asked["instrument"] = table.assign(offer=units.instruments[:, 0]), "offer"
            for kind, effect, values in outcomes:
                if effect != EFFECT:
                    continue
                for size in SIZES:
                    card = make_card(kind, size, clustered, rng)
                    try:
                        found = estimate_effect(
                            table.assign(wealth=values),
                            outcome="wealth",
                            treatment="treated",
                            calibration=card,
                            method="response",
                            assumption="measurement",
                            **asked,
                        )
                    except EffectError:  # few regions: the arms may be told apart
                        continue
                    low, high = found.conf_int()
                    yield {
                        "dependence": "regions" if clustered else "independent",
                        "design": design,
                        "errors": kind,
                        "n_cal": size,
                        "covered": float(low <= EFFECT <= high),
                        "error": found.estimate - EFFECT,
                        "std_error": found.std_error,
                    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=100)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", SustainWarning)
    head = describe()
    raw = pd.DataFrame(replications(arguments.replications))
    table = raw.groupby(["dependence", "design", "errors", "n_cal"], sort=False).agg(
        coverage=("covered", "mean"),
        mean_error=("error", "mean"),
        sd_of_estimates=("error", "std"),
        mean_std_error=("std_error", "mean"),
        replications=("covered", "size"),
    )
    print(table.round(3).to_string())
    write_text(RESULTS / "response_designs.csv", f"# {head}\n" + table.round(4).to_csv())


if __name__ == "__main__":
    main()
