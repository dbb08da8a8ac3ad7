"""Stage `trials`: contrasts in the map's country as a trial team sees them, with the map and its card only."""

import pandas as pd

from sustain.config import Params
from sustain.data.aid import PROJECTS_FILE, aid_trials, read_projects
from sustain.debias import CalibrationCard
from sustain.maps.read import sample_points
from sustain.stage import Artefacts, required, run_stage
from sustain.trials import as_trials, estimate_trials, write_results

QUESTION = (
    "Are places near the funder's projects of this sector richer than the other places of the same surveys?"
)
WHY = "Projects went to places that the image tells apart from others by itself: towns, roads, dense settlement."


def main(params: Params, artefacts: Artefacts) -> None:
    """Estimate from the corrected raster, with intervals that carry the card's uncertainty; the survey is the truth."""
    effects = required(params.effects, "effects", params)
    aid = required(effects.aid, "effects.aid", params)
    survey = pd.read_parquet(artefacts.predictions / "survey.parquet")
    places = survey[survey["split"] == "test"].reset_index(drop=True)
    sampled = sample_points(artefacts.maps / "wealth_corrected.tif", places["lon"], places["lat"])
    places["wealth_raw"] = sampled["wealth_raw"]
    projects = read_projects(artefacts.raw / "aid_projects" / PROJECTS_FILE)
    contrasts = aid_trials(places, projects, degrees=aid.degrees, years=aid.years, min_arm=aid.min_arm)
    units = {trial.name: places.iloc[trial.rows].assign(treated=trial.treated) for trial in contrasts}
    results = estimate_trials(
        as_trials(contrasts, question=QUESTION, why=WHY, vcov={"CRV1": "block"}),
        units,
        CalibrationCard.load(artefacts.card),
        methods=effects.methods,
        correction=effects.correction,
        level=effects.level,
        poor=effects.poor,
    )
    truths = {name: places.groupby("treated")["y_true"].mean() for name, places in units.items()}
    known = [result.with_truth(truths[result.name][1] - truths[result.name][0]) for result in results]
    write_results(artefacts.effects.with_name(f"{artefacts.source}-map"), known)


if __name__ == "__main__":
    run_stage(main)
