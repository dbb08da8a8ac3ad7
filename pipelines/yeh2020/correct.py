"""Stage `correct`: every raster of Nigeria with the card of its own model."""

from sustain.config import Params
from sustain.data.yeh2020 import RASTERS, imported_predictions
from sustain.maps.correct import correct_raster
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Correct the maps."""
    method = required(params.correct, "correct", params).method
    mapped = imported_predictions(params).model
    for name, model in [("wealth", mapped), *((f"wealth_{model}", model) for model in RASTERS)]:
        correct_raster(
            artefacts.maps / f"{name}.tif",
            artefacts.maps / f"{name}_corrected.tif",
            artefacts.calibration / "cards" / f"{model}.json",
            method=method,
        )


if __name__ == "__main__":
    run_stage(main)
