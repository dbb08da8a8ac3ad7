"""Stage `compare`: the published maps, raw and corrected, against the survey of their country."""

import pandas as pd

from sustain.config import Params
from sustain.data.yeh2020 import RASTERS
from sustain.debias import CalibrationCard
from sustain.debias.judge.agreement import agreement_by_level, bias_by_tenth
from sustain.files import atomic_directory
from sustain.maps.read import sample_points
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Compare at places, by admin-2 unit and by tenth; the cards know no label of this country."""
    methods = required(params.effects, "effects", params).methods
    survey = pd.read_parquet(artefacts.predictions / "survey.parquet")
    places = survey[survey["split"] == "test"]
    truth = places["y_true"]
    scores, tenths = {}, {}
    for model in RASTERS:
        raster = artefacts.maps / f"wealth_{model}.tif"
        raw = sample_points(raster, places["lon"], places["lat"])["wealth_raw"]
        card = CalibrationCard.load(artefacts.calibration / "cards" / f"{model}.json")
        of_cells: list[str] = [method for method in methods if method in card.methods]
        estimates = {method: card.transform(raw, method=method, check_support=False) for method in of_cells}
        scores[model] = agreement_by_level(truth, estimates, places["adm2"])
        for by, key in (("survey", truth), ("map", raw)):
            tenths[model, by] = bias_by_tenth(truth, estimates, by=key)
    with atomic_directory(artefacts.maps.with_name(f"{artefacts.source}-survey")) as folder:
        pd.concat(scores, names=["model"]).reset_index("model").to_csv(folder / "agreement.csv", index=False)
        pd.concat(tenths, names=["model", "by"]).reset_index(["model", "by"]).to_csv(
            folder / "tenths.csv", index=False
        )


if __name__ == "__main__":
    run_stage(main)
