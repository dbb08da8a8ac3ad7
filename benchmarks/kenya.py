"""Crop types of 5,746 fields in Kenya: how much of an accuracy is the neighbours', under two ways of splitting.

``python benchmarks/kenya.py``. Random forest and temporal CNN on a year of Sentinel-2, judged under the official random
split, where a field's neighbours train, and with each region held out in turn; ``constant`` is the most frequent crop.
The published archive is looked for beside the project and never copied into it. Result in ``results/kenya.csv``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd
from machine import RESULTS, describe

from sustain.baselines.bench import bench
from sustain.data.sustainbench.tasks import ingest

DATA = Path(__file__).resolve().parents[2] / "shared" / "mirror" / "sustainbench" / "crop_type_kenya"
TASK = "sdg2-croptype-kenya"
KEPT = ["baseline", "scheme", "metric", "estimate", "low", "high", "n", "n_groups"]


def main() -> None:
    """Ingest, train, judge; print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12, help="of the temporal CNN")
    arguments = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"error: {DATA.name}: the archive is not beside the project; nothing to measure.")
    machine = describe()
    found = []
    with tempfile.TemporaryDirectory() as root:
        ingest("kenya", DATA, root)
        for baseline in ("constant", "forest", "temporal_cnn"):
            for split in ("official", "leak-free"):
                options = {"split": split, "seed": arguments.seed, "n_draws": arguments.draws}
                found.append(bench(TASK, baseline, root, epochs=arguments.epochs, **options)[KEPT])
                print(found[-1].to_string(index=False, float_format="%.3f"), flush=True)
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / "kenya.csv", "w", encoding="utf-8", newline="\n") as stream:
        stream.write(
            f"# {machine}\n"
            "# 95 % intervals: whole regions resampled where there are several, else fields\n"
            f"# eight fields without a crop type are left out; {arguments.epochs} epochs; seed {arguments.seed}\n"
        )
        pd.concat(found).to_csv(stream, index=False, float_format="%.3f", lineterminator="\n")


if __name__ == "__main__":
    main()
