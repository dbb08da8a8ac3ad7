"""Stage `effects`: what each trial did, naive and corrected, with intervals."""

import pandas as pd

from sustain.causal.trials import effects_table, estimate_trials, load_trials
from sustain.config import Params
from sustain.debias import CalibrationCard
from sustain.files import atomic_directory, write_json
from sustain.maps.zonal import sample_points
from sustain.stage import Artefacts, required, run_stage

MAPS = {"baseline": "wealth_corrected.tif", "endline": "wealth_endline_corrected.tif"}


def main(params: Params, artefacts: Artefacts) -> None:
    """Sample the maps at every trial's units and estimate."""
    effects = required(params.effects, "effects", params)
    trials = load_trials(artefacts.raw / "trials.json")
    units = {}
    for trial in trials:
        table = pd.read_csv(artefacts.raw / trial.table)
        values = sample_points(artefacts.maps / MAPS[trial.map], table["lon"], table["lat"])
        table = table.join(values)
        if trial.baseline_map:
            before = sample_points(artefacts.maps / MAPS["baseline"], table["lon"], table["lat"])
            table["wealth_raw_before"] = before["wealth_raw"]
        units[trial.name] = table
    results = estimate_trials(
        trials,
        units,
        CalibrationCard.load(artefacts.card),
        methods=effects.methods,
        correction=required(params.correct, "correct", params).method,
        level=effects.level,
    )
    with atomic_directory(artefacts.effects) as folder:
        write_json(folder / "effects.json", {"trials": results})
        effects_table(results).to_csv(folder / "effects.csv", index=False)


if __name__ == "__main__":
    run_stage(main)
