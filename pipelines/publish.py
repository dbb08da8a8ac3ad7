"""Stage `publish`: what others download."""

from sustain.config import DownloadParams, Params
from sustain.data.catalogue.manifest import load_manifest
from sustain.data.catalogue.terms import may_publish_coordinates
from sustain.maps.correct import CELLS_FILE
from sustain.maps.publish import publish_map, publish_survey_tiles
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Publish the corrected map with its card, and the model's description where there is one."""
    section = required(params.publish, "publish", params)
    model = artefacts.model / "model.json"
    model_json = model if model.exists() else None
    if params.maps_survey_tiles:
        names = params.acquire.manifests if isinstance(params.acquire, DownloadParams) else []
        publish_survey_tiles(
            artefacts.maps / CELLS_FILE,
            artefacts.card,
            artefacts.publish,
            section,
            model_json=model_json,
            coordinates=may_publish_coordinates(section, map(load_manifest, names)),
        )
    else:
        raster = artefacts.maps / "wealth_corrected.tif"
        publish_map(raster, artefacts.card, artefacts.publish, section, model_json=model_json)


if __name__ == "__main__":
    run_stage(main)
