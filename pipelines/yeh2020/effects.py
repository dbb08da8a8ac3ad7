"""Stage `effects`: contrasts between places near aid projects and the rest, from survey and predictions."""

import pandas as pd
from tqdm import tqdm

from sustain.config import Params
from sustain.data.aid import PROJECTS_FILE, aid_trials, read_projects
from sustain.data.yeh2020 import imported_predictions, models_of
from sustain.debias import CalibrationCard
from sustain.stage import Artefacts, required, run_stage
from sustain.trials import (
    contrast_results,
    contrast_scores,
    contrast_table,
    explain_gaps,
    explain_scores,
    stability_gaps,
    write_results,
)

QUESTION = (
    "Are places near the funder's projects of this sector richer than the other places of the same surveys?"
)


def main(params: Params, artefacts: Artefacts) -> None:
    """Estimate every contrast by every model and correction, each place corrected out of fold."""
    effects = required(params.effects, "effects", params)
    aid = required(effects.aid, "effects.aid", params)
    mapped = imported_predictions(params).model
    survey = pd.read_parquet(artefacts.predictions / "survey.parquet")
    corrected = pd.read_parquet(
        artefacts.calibration.with_name(f"{artefacts.source}-crossfit") / "corrected.parquet"
    )
    projects = read_projects(artefacts.raw / "aid_projects" / PROJECTS_FILE)
    trials = aid_trials(survey, projects, degrees=aid.degrees, years=aid.years, min_arm=aid.min_arm)

    truth, blocks = survey["y_true"], survey["block"]
    tables = {}
    for model in tqdm(models_of(survey), desc="contrasts", unit="model", disable=None):
        prefix = f"{model}:"
        estimates = {
            name.removeprefix(prefix): corrected[name]
            for name in map(str, corrected)
            if name.startswith(prefix)
        }
        card = CalibrationCard.load(artefacts.card) if model == mapped else None
        tables[model] = contrast_table(
            trials, estimates, truth, blocks, card=card, y_pred=survey["y_pred"], level=effects.level
        )
    scores = {model: contrast_scores(table, truth.std(ddof=0)) for model, table in tables.items()}
    gaps = stability_gaps(trials, survey["y_pred"], truth, blocks)
    why = f"{explain_gaps(gaps)} {explain_scores(scores[mapped], aid.reference)} {aid.remark}".rstrip()
    results = contrast_results(trials, tables[mapped], question=QUESTION, why=why, level=effects.level)
    write_results(
        artefacts.effects,
        results,
        contrasts=pd.concat(tables, names=["model"]).reset_index("model"),
        scores=pd.concat(scores, names=["model"]).reset_index("model"),
        stability=gaps,
    )


if __name__ == "__main__":
    run_stage(main)
