"""Coverage of effects that rest on few labels, or on labels in few clusters, of each arm.

Every trial has 200 units an arm, and truth and prediction correlate by 0.83. That a tuned factor counts as one degree
of freedom was chosen on simulations like those of the normal truth; the skewed one (exponential) was not looked at.

    python benchmarks/few_labels.py [--replications 2000]
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from tqdm import tqdm

from sustain.causal import ppi_effect
from sustain.errors import EffectError
from sustain.files import write_text

UNITS = 200  # an arm
CLUSTERS = 20  # an arm, where there are clusters
NUMBERS = (2, 3, 5, 10, 20)
ICCS = (0.0, 0.1, 0.6)
POPULATIONS = ("normal", "skewed")
COLUMNS = {"label": "y", "prediction": "f", "treatment": "t"}


def draw(rng: np.random.Generator, labelled: int, icc: float, population: str) -> pd.DataFrame:
    """One trial without an effect: `labelled` units of each arm have a label; with `icc`, half of as many clusters."""
    cluster = np.arange(2 * UNITS) // (UNITS // CLUSTERS)
    shared = rng.normal(size=2 * CLUSTERS)[cluster]
    own = rng.normal(size=2 * UNITS) if population == "normal" else rng.exponential(size=2 * UNITS) - 1
    truth = np.sqrt(icc) * shared + np.sqrt(1 - icc) * own
    predicted = 0.6 * truth + 0.4 * rng.normal(size=2 * UNITS)
    place = np.arange(2 * UNITS) % UNITS
    seen = place < labelled if icc == 0 else cluster % CLUSTERS < labelled
    # Within a labelled cluster half of the units have a label, so that both kinds are there.
    seen &= (icc == 0) | (place % 2 == 0)
    columns = {"y": np.where(seen, truth, np.nan), "f": predicted, "t": np.repeat([0, 1], UNITS)}
    return pd.DataFrame({**columns, "cluster": cluster})


def covered(population: str, labelled: int, icc: float, lam: float | None, replications: int) -> float:
    """Share of 95% intervals that hold zero; NaN where the estimator refuses."""
    rng = np.random.default_rng([labelled, int(100 * icc), lam is None, POPULATIONS.index(population)])
    clusters = None if icc == 0 else "cluster"
    held = 0
    for _ in range(replications):
        try:
            found = ppi_effect(draw(rng, labelled, icc, population), clusters=clusters, lam=lam, **COLUMNS)
        except EffectError:
            return float("nan")
        low, high = found.conf_int()
        held += low <= 0 <= high
    return held / replications


def main() -> None:
    """Run all cells and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=2000)
    replications = parser.parse_args().replications
    machine = describe()
    cells = list(product(POPULATIONS, ICCS, NUMBERS, (None, 1.0)))
    rows = [
        {
            "population": population,
            "icc": icc,
            "unit": "labels" if icc == 0 else "clusters",
            "an_arm": number,
            "lam": "tuned" if lam is None else f"{lam:g}",
            "coverage": covered(population, number, icc, lam, replications),
            "replications": replications,
        }
        for population, icc, number, lam in tqdm(cells, desc="few labels", unit="cell", disable=None)
    ]
    table = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", float_format="%.4f", na_rep="refused")
    write_text(RESULTS / "few_labels.csv", f"# {machine}\n{table}")
    print(table)


if __name__ == "__main__":
    main()
