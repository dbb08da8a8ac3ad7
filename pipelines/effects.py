"""Stage `effects`: what each trial did, naive and corrected, with intervals."""

import pandas as pd

from sustain.config import Params
from sustain.debias import CalibrationCard
from sustain.maps.correct import CELLS_FILE, read_survey_tiles
from sustain.maps.read import sample_points
from sustain.stage import Artefacts, required, run_stage
from sustain.tables import read_table
from sustain.trials import Trial, estimate_trials, load_trials, named_warnings, tile_trials, write_results

MAPS = {"baseline": "wealth_corrected.tif", "endline": "wealth_endline_corrected.tif"}


def sampled_units(trial: Trial, artefacts: Artefacts) -> pd.DataFrame:
    """Read the raw predictions off the rasters at the units' places."""
    table = read_table(artefacts.raw / trial.table)
    table = table.join(sample_points(artefacts.maps / MAPS[trial.map], table["lon"], table["lat"]))
    if trial.baseline_map:
        before = sample_points(artefacts.maps / MAPS["baseline"], table["lon"], table["lat"])
        table["wealth_raw_before"] = before["wealth_raw"]
    return table


def main(params: Params, artefacts: Artefacts) -> None:
    """Read the map at every trial's units and estimate."""
    effects = required(params.effects, "effects", params)
    if params.maps_survey_tiles:
        cells, _ = read_survey_tiles(artefacts.maps / CELLS_FILE)
        trials, units = tile_trials(cells, artefacts.raw / "trials")
    else:
        trials = load_trials(artefacts.raw / "trials.json")
        units = {}
        for trial in trials:
            with named_warnings(trial.title):
                units[trial.name] = sampled_units(trial, artefacts)
    results = estimate_trials(
        trials,
        units,
        CalibrationCard.load(artefacts.card),
        methods=effects.methods,
        correction=effects.correction,
        level=effects.level,
        poor=effects.poor,
    )
    write_results(artefacts.effects, results)


if __name__ == "__main__":
    run_stage(main)
