"""Stage `crossfit`: every published model corrected out of fold, over spatial folds and over countries."""

import pandas as pd

from sustain.config import Params
from sustain.data.yeh2020 import imported_predictions, models_of
from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.judge.agreement import agreement
from sustain.debias.judge.cross_fit import cross_fit_models, model_table
from sustain.files import atomic_directory
from sustain.stage import Artefacts, required, run_stage

# The estimator as published, beside the house's own.
PUBLISHED = TweedieCalibration(score="scott", recalibrate=False, monotone=False)


def main(params: Params, artefacts: Artefacts) -> None:
    """Cross-fit all models by the house's corrections, and the map's model by the published one too."""
    survey = pd.read_parquet(artefacts.predictions / "survey.parquet")
    mapped = imported_predictions(params).model
    predictions = {model: survey[f"y_pred_{model}"].to_numpy() for model in models_of(survey)}
    truth = survey["y_true"].to_numpy()
    score = required(params.calibrate, "calibrate", params).score
    house = {"linear": LinearCalibration(), "tweedie": TweedieCalibration(score=score)}

    spatial = cross_fit_models(predictions, truth, survey["fold"], house)
    spatial |= cross_fit_models(
        {mapped: predictions[mapped]},
        truth,
        survey["fold"],
        {"tweedie_scott": PUBLISHED},
    )
    abroad = cross_fit_models(predictions, truth, survey["country"], house)
    models = {"spatial": model_table(spatial, truth), "country": model_table(abroad, truth)}
    countries = {
        country: agreement(truth[rows], {method: abroad[mapped, method][rows] for method in ("none", *house)})
        for country, rows in survey.groupby("country").indices.items()
    }
    corrected = {f"{model}:{method}": values for (model, method), values in spatial.items()}
    with atomic_directory(artefacts.calibration.with_name(f"{artefacts.source}-crossfit")) as folder:
        pd.concat(models, names=["folds"]).reset_index("folds").to_csv(folder / "models.csv", index=False)
        pd.concat(countries, names=["country"]).reset_index("country").to_csv(
            folder / "countries.csv", index=False
        )
        pd.DataFrame({"id": survey["id"]} | corrected).to_parquet(folder / "corrected.parquet", index=False)


if __name__ == "__main__":
    run_stage(main)
