"""Many trials from one map: every trial of a list, by every correction, in one tidy result.

A trial is described by what its team knows: units, treatment, design, and which assumption it is willing to
name. Its result holds the naive and the corrected estimates side by side, because which of them is right is decided
by the assumption and not by the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sustain.causal.effect import estimate_effect
from sustain.errors import EffectError
from sustain.files import read_json

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["Trial", "effects_table", "estimate_trials", "load_trials"]

# There even where there is no trial.
_COLUMNS = (
    *("trial", "title", "assumption", "method", "reported"),
    *("estimate", "std_error", "conf_low", "conf_high", "level"),
    *("truth", "n_treated", "n_control"),
)


class Trial(BaseModel):
    """One trial, as its team would describe it.

    The `assumption` says what the treatment's effect is believed to be stable in: ``"measurement"`` when it can reach
    the image only through the outcome, ``"outcome"`` when the image shows the contrast by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    title: str
    question: str
    table: str = Field(description="Table of units, relative to the list of trials.")
    treatment: str = "treated"
    map: Literal["baseline", "endline"] = "baseline"
    baseline_map: bool = Field(False, description="Adjust for the prediction before treatment.")
    estimator: Literal["difference", "ols"] = "difference"
    covariates: tuple[str, ...] = ()
    vcov: str | dict[str, Any] = "HC1"
    assumption: Literal["measurement", "outcome"]
    why: str = Field(description="Why this assumption.")


def load_trials(path: str | Path) -> list[Trial]:
    """Read a list of trials from JSON.

    Raises
    ------
    EffectError
        When an entry lacks a key, has an unknown one, or a value of the wrong kind.
    """
    try:
        return TypeAdapter(list[Trial]).validate_python(read_json(path))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        )
        raise EffectError(f"{path}: not a list of trials: {problems}") from error


def estimate_trials(
    trials: Sequence[Trial],
    units: Mapping[str, pd.DataFrame],
    card: CalibrationCard,
    *,
    methods: Sequence[str],
    correction: str,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Estimate every trial by every method.

    Parameters
    ----------
    trials : sequence of Trial
    units : mapping of str to DataFrame
        For each trial's name its units, one row each, with the raw prediction in ``wealth_raw`` (and in
        ``wealth_raw_before`` where the trial adjusts for it), the treatment and whatever `Trial.vcov` names.
    card : CalibrationCard
        How the errors of these predictions behave.
    methods : sequence of str
        ``"none"`` (the naive estimate) and corrections that the card holds.
    correction : str
        The method that stands for "correct" where a trial's assumption demands it.
    level : float
        Confidence level of the intervals.

    Returns
    -------
    list of dict
        One per trial: its description, arms, the estimate of each method, and ``"reported"``, the method that
        the trial's own assumption leads to.
    """
    results = []
    for trial in trials:
        data = units[trial.name]
        covariates = (*trial.covariates, "wealth_raw_before") if trial.baseline_map else trial.covariates
        estimates = []
        for method in methods:
            effect = estimate_effect(
                data,
                outcome="wealth_raw",
                treatment=trial.treatment,
                covariates=covariates,
                estimator=trial.estimator,
                calibration=card,
                method=method,
                assumption="outcome" if method == "none" else "measurement",
                vcov=trial.vcov,
                level=level,
            )
            low, high = effect.conf_int()
            estimates.append(
                {
                    "method": method,
                    "estimate": effect.estimate,
                    "std_error": effect.std_error,
                    "conf_low": low,
                    "conf_high": high,
                    "level": level,
                    "share_var_calibration": effect.share_calibration,
                    "notes": list(effect.notes),
                }
            )
        reported = correction if trial.assumption == "measurement" else "none"
        if reported not in methods:
            raise EffectError(
                f"trial {trial.name!r} assumes {trial.assumption} stability, so it reports method {reported!r}, "
                f"but methods are {list(methods)}. Add it to the effects section of the parameters."
            )
        results.append(
            {
                "name": trial.name,
                "title": trial.title,
                "question": trial.question,
                "assumption": trial.assumption,
                "why": trial.why,
                "estimator": trial.estimator,
                "vcov": trial.vcov,
                "n_treated": effect.n_treated,
                "n_control": effect.n_control,
                "reported": reported,
                "truth": None,
                "estimates": estimates,
            }
        )
    return results


def effects_table(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per trial and method, from the result of `estimate_trials`."""
    rows = []
    for trial in results:
        for estimate in trial["estimates"]:
            rows.append(
                {
                    "trial": trial["name"],
                    "title": trial["title"],
                    "assumption": trial["assumption"],
                    "method": estimate["method"],
                    "reported": estimate["method"] == trial["reported"],
                    "estimate": estimate["estimate"],
                    "std_error": estimate["std_error"],
                    "conf_low": estimate["conf_low"],
                    "conf_high": estimate["conf_high"],
                    "level": estimate["level"],
                    "truth": trial["truth"],
                    "n_treated": trial["n_treated"],
                    "n_control": trial["n_control"],
                }
            )
    return pd.DataFrame(rows, columns=list(_COLUMNS))
