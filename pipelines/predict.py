"""Stage `predict`: predictions beside the labels at every survey site, with their metrics."""

from sustain.config import Params, PredictParams
from sustain.errors import ConfigError
from sustain.models.survey import predict_survey
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Predict all sites, of every split."""
    predict = required(params.predict, "predict", params)
    if not isinstance(predict, PredictParams):
        raise ConfigError(
            f"profile {params.source!r} brings its own predictions; it has no model to predict with."
        )
    predict_survey(artefacts.tiles, artefacts.model, artefacts.predictions, predict)


if __name__ == "__main__":
    run_stage(main)
