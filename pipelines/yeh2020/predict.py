"""Stage `predict`: the published predictions beside the survey, in the house's table."""

from sustain.config import Params
from sustain.data.yeh2020 import imported_predictions, models_of, survey_predictions
from sustain.debias.judge.agreement import agreement
from sustain.files import atomic_directory, write_json
from sustain.stage import Artefacts, run_stage

METRICS = ["r2", "pearson_r2", "rmse", "slope"]


def main(params: Params, artefacts: Artefacts) -> None:
    """Import the tables; nothing is predicted here."""
    table = survey_predictions(artefacts.raw / "yeh2020", imported_predictions(params), params.seed)
    metrics = {}
    for split, rows in table.groupby("split"):
        estimates = {model: rows[f"y_pred_{model}"] for model in models_of(table)}
        scores = agreement(rows["y_true"], estimates).set_index("method")[METRICS]
        metrics[str(split)] = scores.to_dict(orient="index") | {"n": len(rows)}
    with atomic_directory(artefacts.predictions) as folder:
        table.to_parquet(folder / "survey.parquet", index=False)
        write_json(folder / "metrics.json", metrics)


if __name__ == "__main__":
    run_stage(main)
