"""Stage `publish`: what others download."""

from sustain.config import Params
from sustain.maps.publish import publish_map
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Publish the corrected map with its card, and the model's description where there is one."""
    model_json = artefacts.model / "model.json"
    publish_map(
        artefacts.maps / "wealth_corrected.tif",
        artefacts.card,
        artefacts.publish,
        required(params.publish, "publish", params),
        model_json=model_json if model_json.exists() else None,
    )


if __name__ == "__main__":
    run_stage(main)
