"""Stage `calibrate`: the calibration card, from sites in blocks that training never saw."""

import pandas as pd

from sustain.config import Params
from sustain.debias import build_card, diagnose
from sustain.debias.judge.evaluation import correction_curves, evaluate_card
from sustain.files import atomic_directory, read_json, write_json
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Fit on the calibration split; judge on the test split."""
    calibrate = required(params.calibrate, "calibrate", params)
    model = read_json(artefacts.model / "model.json")
    survey = pd.read_parquet(artefacts.predictions / "survey.parquet")
    # With cross-fitting, every site but those of the test split; else the calibration split.
    sample = survey[survey["out_of_sample"] & (survey["split"] != "test")]
    card = build_card(
        sample["y_pred"],
        sample["y_true"],
        groups=sample[calibrate.groups],
        strata=sample["urban"].map({True: "urban", False: "rural"}),
        levels={"block": sample["block"]},
        lon=sample["lon"],
        lat=sample["lat"],
        target=model["target"],
        predictor={
            "id": f"{model['backbone']}-{model['weights_sha256'][:12]}",
            "sha256": model["weights_sha256"],
        },
        methods=calibrate.methods,
        score=calibrate.score,
        target_noise_var=float((calibrate.household_sd**2 / sample["n"]).mean()),
        n_boot=calibrate.n_boot,
        seed=params.seed,
        years=sample.loc[sample["year"] > 0, "year"],  # your own table may name neither
        countries=sample.loc[sample["country"] != "", "country"],
        licence=calibrate.licence,
        citation=calibrate.citation,
    )
    diagnosis = diagnose(
        sample["y_pred"],
        sample["y_true"],
        groups=sample[calibrate.groups],
        strata=sample["urban"].map({True: "urban", False: "rural"}),
        target_noise_var=card.target_noise_var,
    )
    test = survey[survey["split"] == "test"]
    line = card.prediction_on_truth
    metrics = {
        "slope": line.slope,
        "slope_se": line.cov[1][1] ** 0.5,
        "r2": card.r2,
        "n": card.sample.n,
        "n_groups": card.sample.n_groups,
        "test": evaluate_card(card, test["y_pred"], test["y_true"]),
    }
    with atomic_directory(artefacts.calibration) as folder:
        card.save(folder / "card.json")
        correction_curves(card).to_csv(folder / "curves.csv", index=False)
        write_json(folder / "diagnostics.json", diagnosis.to_dict())
        write_json(folder / "metrics.json", metrics)


if __name__ == "__main__":
    run_stage(main)
