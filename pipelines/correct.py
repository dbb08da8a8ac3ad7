"""Stage `correct`: the corrected map with its standard error and support."""

from sustain.config import Params
from sustain.maps.raster import correct_raster
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Correct the baseline map and, where there is one, the endline map."""
    method = required(params.correct, "correct", params).method
    for name in ("wealth", "wealth_endline"):
        raw = artefacts.maps / f"{name}.tif"
        if name == "wealth" or raw.exists():
            correct_raster(raw, artefacts.maps / f"{name}_corrected.tif", artefacts.card, method=method)


if __name__ == "__main__":
    run_stage(main)
