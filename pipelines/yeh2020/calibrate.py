"""Stage `calibrate`: a card for each mapped model, from every country but the map's."""

import pandas as pd

from sustain.config import Params
from sustain.data.catalogue.manifest import load_manifest
from sustain.data.yeh2020 import RASTERS, TARGET, imported_predictions
from sustain.debias import ContrastFamily, build_card, diagnose
from sustain.debias.judge.evaluation import correction_curves, evaluate_card
from sustain.files import atomic_directory, write_json
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Fit on the calibration split; judge in the country that was held out."""
    calibrate = required(params.calibrate, "calibrate", params)
    survey = pd.read_parquet(artefacts.predictions / "survey.parquet")
    sample, test = (survey[survey["split"] == split] for split in ("calibration", "test"))
    strata = sample["urban"].map({True: "urban", False: "rural"})
    towns = ContrastFamily.treated("urban - rural", sample["urban"], within=sample["survey"])
    mapped = imported_predictions(params).model
    metrics = {}
    with atomic_directory(artefacts.calibration) as folder:
        for model in RASTERS:
            card = build_card(
                sample[f"y_pred_{model}"],
                sample["y_true"],
                groups=sample[calibrate.groups],
                strata=strata,
                levels={"survey": sample["survey"], "region": sample["adm2"]},
                families=[towns],
                lon=sample["lon"],
                lat=sample["lat"],
                target=TARGET,
                predictor=f"yeh2020-{model}",
                methods=calibrate.methods,
                score=calibrate.score,
                n_boot=calibrate.n_boot,
                seed=params.seed,
                years=sample["year"],
                countries=sample["country"],
                licence=calibrate.licence,
                citation=calibrate.citation or load_manifest("yeh2020").citation or "",
            )
            card.save(folder / "cards" / f"{model}.json")
            line = card.prediction_on_truth
            metrics[model] = {
                "slope": line.slope,
                "slope_se": line.cov[1][1] ** 0.5,
                "r2": card.r2,
                "n": card.sample.n,
                "n_groups": card.sample.n_groups,
                "test": evaluate_card(card, test[f"y_pred_{model}"], test["y_true"]),
            }
            if model == mapped:
                card.save(folder / "card.json")
                correction_curves(card).to_csv(folder / "curves.csv", index=False)
                diagnosis = diagnose(
                    sample["y_pred"], sample["y_true"], groups=sample[calibrate.groups], strata=strata
                )
                write_json(folder / "diagnostics.json", diagnosis.to_dict())
        write_json(folder / "metrics.json", metrics)


if __name__ == "__main__":
    run_stage(main)
