"""Stage `map`: the published rasters of Nigeria, with names, unit and nodata put in."""

from sustain.config import Params
from sustain.data.yeh2020 import RASTERS, TARGET, imported_predictions
from sustain.maps.correct import adopt_raster
from sustain.stage import Artefacts, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Adopt every raster; that of the chosen model is also `wealth.tif`, the map that is published."""
    mapped = imported_predictions(params).model
    for name, model in [("wealth", mapped), *((f"wealth_{model}", model) for model in RASTERS)]:
        adopt_raster(
            artefacts.raw / "yeh2020" / RASTERS[model],
            artefacts.maps / f"{name}.tif",
            target=TARGET,
            predictor=f"yeh2020-{model}",
            band=1,
        )


if __name__ == "__main__":
    run_stage(main)
