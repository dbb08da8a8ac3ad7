"""The report's numbers for ``dvc metrics``."""

from __future__ import annotations

from typing import Any

from sustain.report.findings import Findings
from sustain.trials.results import method_scores

__all__ = ["report_metrics"]


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
