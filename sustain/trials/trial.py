"""Many trials from one map: every trial of a list, by every correction, in one tidy result.

A trial is described by what its team knows: units, treatment, design, and which assumption it is willing to
name. Its result holds the naive and the corrected estimates side by side, because which of them is right is decided
by the assumption and not by the arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sustain.causal.distribution import estimate_distribution
from sustain.causal.effect import estimate_effect
from sustain.errors import EffectError, SustainWarning
from sustain.files import read_json
from sustain.trials.distribution import TrialDistribution, poverty_lines
from sustain.trials.results import MethodEstimate, ReadBack, TrialNote, TrialResult

if TYPE_CHECKING:
    import pandas as pd

    from sustain.causal.result.result import EffectResult
    from sustain.debias import CalibrationCard

__all__ = ["Trial", "estimate_trials", "load_trials", "named_warnings"]


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
    poor: Sequence[float] = (0.2, 0.4),
) -> list[TrialResult]:
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
        ``"none"`` (the naive estimate), corrections, and ``"response"``. What the card does not hold is left out: the
        response needs 50 rows.
    correction : str
        The method that stands for "correct" where a trial's assumption demands it; ``"linear"`` where the card does
        not hold it.
    level : float
        Confidence level of the intervals.
    poor : sequence of float
        With ``"response"`` among the methods, poverty lines: shares of the calibration sample that lie below.

    Returns
    -------
    list of TrialResult
        One a trial, without a truth.
    """
    results = []
    for trial in trials:
        reported = correction if trial.assumption == "measurement" else "none"
        if reported not in methods:
            raise EffectError(
                f"trial {trial.name!r} assumes {trial.assumption} stability, so it reports method {reported!r}, "
                f"but methods are {list(methods)}. Add it to the effects section of the parameters."
            )
        held = [method for method in methods if method in card.effect_methods]
        reported = reported if reported in held else "linear"
        with named_warnings(trial.title):
            effects = [_estimate(trial, units[trial.name], card, method, level) for method in held]
            spread = (
                _distribution(trial, units[trial.name], card, level, poor) if "response" in held else None
            )
        results.append(
            TrialResult(
                name=trial.name,
                title=trial.title,
                question=trial.question,
                assumption=trial.assumption,
                why=trial.why,
                estimator=trial.estimator,
                vcov=trial.vcov,
                n_treated=effects[-1].n_treated,
                n_control=effects[-1].n_control,
                reported=reported,
                distribution=spread,
                estimates=tuple(
                    MethodEstimate(
                        method=method,
                        estimate=effect.estimate,
                        std_error=effect.std_error,
                        conf_low=effect.conf_int()[0],
                        conf_high=effect.conf_int()[1],
                        level=level,
                        share_var_calibration=effect.share_calibration,
                        notes=tuple(TrialNote(kind=note.kind, text=str(note)) for note in effect.notes),
                        read_back=_read_back(effect),
                    )
                    for method, effect in zip(held, effects, strict=True)
                ),
            )
        )
    return results


@contextmanager
def named_warnings(title: str) -> Iterator[None]:
    """Give each warning of what is done here once, with a trial's title, however many methods or maps give it."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        yield
    for text, kind in dict.fromkeys((str(item.message), item.category) for item in given):
        if issubclass(kind, SustainWarning):
            text = f"“{title}”: {text}"
        warnings.warn(text, kind, stacklevel=4)


def _distribution(
    trial: Trial, units: pd.DataFrame, card: CalibrationCard, level: float, poor: Sequence[float]
) -> TrialDistribution:
    found = estimate_distribution(
        units,
        outcome="wealth_raw",
        treatment=trial.treatment,
        covariates=_covariates(trial),
        estimator=trial.estimator,
        calibration=card,
        lines=poverty_lines(card, poor),
        vcov=trial.vcov,
        level=level,
    )
    return TrialDistribution.of(found)


def _covariates(trial: Trial) -> tuple[str, ...]:
    return (*trial.covariates, "wealth_raw_before") if trial.baseline_map else trial.covariates


def _read_back(effect: EffectResult) -> ReadBack | None:
    found = effect.response
    if found is None:
        return None
    low, high = found.alike.conf_int(effect.level)
    return ReadBack(
        slope=found.slope,
        alike=found.alike.estimate,
        alike_low=low,
        alike_high=high,
        differs=found.differs,
        extrapolated=found.extrapolated,
    )


def _estimate(
    trial: Trial, units: pd.DataFrame, card: CalibrationCard, method: str, level: float
) -> EffectResult:
    return estimate_effect(
        units,
        outcome="wealth_raw",
        treatment=trial.treatment,
        covariates=_covariates(trial),
        estimator=trial.estimator,
        calibration=card,
        method=method,
        assumption="outcome" if method == "none" else "measurement",
        vcov=trial.vcov,
        level=level,
    )
