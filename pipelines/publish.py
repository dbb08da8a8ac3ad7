"""Stage `publish`: what others download."""

from sustain.config import Params
from sustain.maps.publish import publish_map
from sustain.maps.publish_tiles import publish_survey_tiles
from sustain.maps.survey_tiles import CELLS_FILE
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Publish the corrected map with its card, and the model's description where there is one."""
    tiles, model_json = params.maps_survey_tiles, artefacts.model / "model.json"
    publish = publish_survey_tiles if tiles else publish_map
    publish(
        artefacts.maps / (CELLS_FILE if tiles else "wealth_corrected.tif"),
        artefacts.card,
        artefacts.publish,
        required(params.publish, "publish", params),
        model_json=model_json if model_json.exists() else None,
    )


if __name__ == "__main__":
    run_stage(main)
