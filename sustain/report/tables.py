"""The report's numbers as files: effects with truth, and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sustain.report.findings import Findings, TrialResult
from sustain.report.verdict import method_scores

__all__ = ["effects_with_truth", "report_metrics"]

# There even where there is no trial.
_COLUMNS = (
    *("trial", "title", "assumption", "method", "reported"),
    *("estimate", "std_error", "conf_low", "conf_high", "level"),
    *("n_treated", "n_control", "truth", "error", "covered"),
)


def effects_with_truth(trials: Sequence[TrialResult]) -> pd.DataFrame:
    """Return one row a trial and method, with the truth, the error and whether the interval holds the truth.

    Returns
    -------
    DataFrame
        Columns as in the effects stage's table, and ``error`` (estimate minus truth) and ``covered`` (0 or 1); the
        last three are empty where no truth is known.
    """
    rows = []
    for trial in trials:
        for e in trial.estimates:
            rows.append(
                {
                    "trial": trial.name,
                    "title": trial.title,
                    "assumption": trial.assumption,
                    "method": e.method,
                    "reported": e.method == trial.reported,
                    "estimate": e.estimate,
                    "std_error": e.std_error,
                    "conf_low": e.conf_low,
                    "conf_high": e.conf_high,
                    "level": e.level,
                    "n_treated": trial.n_treated,
                    "n_control": trial.n_control,
                    "truth": trial.truth,
                    "error": e.estimate - trial.truth if trial.truth is not None else None,
                    "covered": int(e.covers(trial.truth)) if trial.truth is not None else None,
                }
            )
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    return table.astype({"covered": "Int64", "truth": "float64", "error": "float64"})


def report_metrics(findings: Findings) -> dict[str, Any]:
    """Return nested numbers for ``dvc metrics``.

    Returns
    -------
    dict
        ``trials`` (per trial and method: estimate, std_error and, where truth is known, error and covered), ``scores``
        (per method over those trials), ``survey`` (per model at held-out sites) and ``slope``.
    """
    trials: dict[str, Any] = {}
    for trial in findings.trials:
        trials[trial.name] = {}
        for e in trial.estimates:
            numbers: dict[str, float] = {"estimate": e.estimate, "std_error": e.std_error}
            if trial.truth is not None:
                numbers |= {"error": e.error(trial.truth), "covered": int(e.covers(trial.truth))}
            trials[trial.name][e.method] = numbers
    metrics: dict[str, Any] = {"trials": trials, "slope": findings.card.slope}
    if findings.truth_known:
        metrics["scores"] = {
            s.method: {"mean_abs_error": s.mean_abs_error, "ratio": s.ratio, "covered": s.covered, "n": s.n}
            for s in method_scores(findings.trials)
        }
    if findings.survey is not None and findings.survey.accuracy:
        metrics["survey"] = {
            a.model: {"r2": a.r2, "rmse": a.rmse, "slope": a.slope} for a in findings.survey.accuracy
        }
    return metrics
