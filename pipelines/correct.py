"""Stage `correct`: the corrected map with its standard error and support, the raw one beside it."""

from sustain.config import Params
from sustain.maps.correct import CELLS_FILE, correct_raster, correct_survey_tiles
from sustain.maps.publish import copy_into
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Correct the baseline map and, where there is one, the endline map."""
    method = required(params.correct, "correct", params).method
    raw, maps = artefacts.raw_maps, artefacts.maps
    if params.maps_survey_tiles:
        correct_survey_tiles(raw / CELLS_FILE, maps / CELLS_FILE, artefacts.card, method=method)
        return
    for name in ("wealth", "wealth_endline"):
        if name == "wealth" or (raw / f"{name}.tif").exists():
            correct_raster(raw / f"{name}.tif", maps / f"{name}_corrected.tif", artefacts.card, method=method)
            copy_into(raw / f"{name}.tif", maps / f"{name}.tif")


if __name__ == "__main__":
    run_stage(main)
