"""Stage `map`: predictions before correction, wall to wall where there is a scene, else at the survey's tiles."""

from sustain.config import Params
from sustain.maps.correct import CELLS_FILE, map_survey_tiles
from sustain.stage import Artefacts, required, run_stage

SCENES = {"scene_baseline.tif": "wealth.tif", "scene_endline.tif": "wealth_endline.tif"}


def main(params: Params, artefacts: Artefacts) -> None:
    """Map every scene with the trained model, or make the table of survey tiles."""
    section = required(params.map, "map", params)
    if params.maps_survey_tiles:
        map_survey_tiles(artefacts.predictions / "survey.parquet", artefacts.raw_maps / CELLS_FILE)
        return
    # A table of survey tiles needs no model.
    from sustain.maps.predict import predict_map
    from sustain.models import load_model

    predictor = load_model(artefacts.model)
    for scene, name in SCENES.items():
        predict_map(
            artefacts.raw / scene,
            predictor,
            artefacts.raw_maps / name,
            params=section,
            work=artefacts.work / "map" / name,
        )


if __name__ == "__main__":
    run_stage(main)
