"""A family of contrasts as results of trials, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sustain.trials.contrasts import Contrast
from sustain.trials.results import MethodEstimate, TrialResult
from sustain.trials.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StabilityGaps", "as_trials", "contrast_results", "explain_gaps", "explain_scores", "median_gaps"]

_WORDS = {
    "none": "the map as it is",
    "tweedie": "Tweedie",
    "tweedie_scott": "Tweedie as published",
}


def as_trials(
    contrasts: Sequence[Contrast], *, question: str, why: str, vcov: str | Mapping[str, Any]
) -> list[Trial]:
    """Describe contrasts as trials that assume outcome stability, for `sustain.trials.trial.estimate_trials`."""
    return [
        Trial(
            name=contrast.name,
            title=contrast.title,
            question=question,
            table="",
            vcov=vcov if isinstance(vcov, str) else dict(vcov),
            assumption="outcome",
            why=why,
        )
        for contrast in contrasts
    ]


def contrast_results(
    contrasts: Sequence[Contrast], table: pd.DataFrame, *, question: str, why: str, level: float = 0.95
) -> list[TrialResult]:
    """Turn a table of contrasts into results.

    Their assumption is outcome stability, so the map as it is is what they report.

    Parameters
    ----------
    contrasts : sequence of Contrast
    table : DataFrame
        From `sustain.trials.contrasts.contrast_table`.
    question, why : str
        What the family asks, and why the assumption.
    level : float
        Confidence level of the table.
    """
    fields = ["method", "estimate", "std_error", "conf_low", "conf_high", "share_var_calibration"]
    results = []
    for contrast in contrasts:
        rows = table[table["contrast"] == contrast.name]
        results.append(
            TrialResult(
                name=contrast.name,
                title=contrast.title,
                question=question,
                assumption="outcome",
                why=why,
                estimator="difference",
                vcov="CRV1",
                n_treated=int(rows["n_treated"].iloc[0]),
                n_control=int(rows["n_control"].iloc[0]),
                reported="none",
                truth=float(rows["truth"].iloc[0]),
                truth_definition="the difference in survey wealth between the same places",
                estimates=tuple(
                    MethodEstimate(level=level, **{str(name): value for name, value in row.items()})
                    for row in rows[fields].to_dict("records")
                ),
            )
        )
    return results


class StabilityGaps(NamedTuple):
    """Medians, without sign, over a family of contrasts: how far it is from each of the two assumptions.

    Attributes
    ----------
    in_truth : float
        Gap in truth at equal predictions: the error of the map as it is.
    in_prediction : float
        Gap in predictions at equal truth.
    corrected : float
        What a correction makes of `in_prediction`, in the unit of the truth: its error.
    """

    in_truth: float
    in_prediction: float
    corrected: float

    @property
    def outcome_stable(self) -> bool:
        """Whether outcome stability describes the family better than measurement stability."""
        return self.in_truth < self.corrected


def median_gaps(gaps: pd.DataFrame) -> StabilityGaps:
    """Sum up what `sustain.trials.contrasts.stability_gaps` found."""
    return StabilityGaps(
        float(gaps["truth_gap"].abs().median()),
        float(gaps["prediction_gap"].abs().median()),
        float((gaps["prediction_gap"] / gaps["slope"]).abs().median()),
    )


def explain_gaps(gaps: pd.DataFrame) -> str:
    """Say in words what `sustain.trials.contrasts.stability_gaps` found over a family of contrasts."""
    median = median_gaps(gaps)
    stable = (
        "outcome stability is the better description: the image shows by itself which places differ, and a model "
        "that is right on average given what it sees is right about them. A correction assumes the opposite and "
        "overshoots"
        if median.outcome_stable
        else "measurement stability is the better description, and a correction is due"
    )
    return (
        f"At equal predictions the two groups of places differ in survey wealth by {median.in_truth:.2f} (median "
        f"over {len(gaps)} contrasts, without sign); at equal survey wealth their predictions differ by "
        f"{median.in_prediction:.2f}, which a correction makes {median.corrected:.2f}. So {stable}."
    )


def explain_scores(scores: pd.DataFrame, reference: Mapping[str, float]) -> str:
    """Say in words how `contrast_scores` compare with figures that somebody else found for the same family."""
    errors = [
        f"{_WORDS.get(method, method)} {error:.3f}"
        + (f" ({reference[method]:.3f})" if method in reference else "")
        for method, error in zip(scores["method"].astype(str), scores["mae_sd"], strict=True)
    ]
    said = f"Mean absolute errors in standard deviations of the truth: {', '.join(errors)}."
    if reference:
        said += " In brackets: what an independent calculation found."
    return said
