"""Stage `map`: wall-to-wall predictions, one map a scene."""

from sustain.config import Params
from sustain.maps.predict import predict_map
from sustain.models.predictor import TilePredictor
from sustain.stage import Artefacts, required, run_stage

SCENES = {"scene_baseline.tif": "wealth.tif", "scene_endline.tif": "wealth_endline.tif"}


def main(params: Params, artefacts: Artefacts) -> None:
    """Map every scene with the trained model."""
    predictor = TilePredictor.load(artefacts.model)
    for scene, name in SCENES.items():
        predict_map(
            artefacts.raw / scene,
            predictor,
            artefacts.maps / name,
            params=required(params.map, "map", params),
            work=artefacts.work / "map" / name,
        )


if __name__ == "__main__":
    run_stage(main)
