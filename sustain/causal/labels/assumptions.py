"""Labelled rows that carry the treatment, or a placebo: which assumption holds for that contrast.

A placebo is a contrast that nobody treated: exposed against other regions, bands of distance, a period before the
programme. It is built from places or covariates, never from predictions: thresholds of a prediction make every map
look right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sustain.causal.labels.labelled import LabelledTrial, require_clusters_in_arms, require_rows_in_arms
from sustain.causal.trial.reader import read
from sustain.debias.diagnosis.stability import stability_of
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AssumptionTests", "assumption_tests"]


@dataclass(frozen=True)
class AssumptionTests:
    """What labels in both arms say about the two assumptions.

    Attributes
    ----------
    truth_gap, truth_gap_std_error, outcome_p : float
        Difference in truth between the arms at equal prediction, and the p-value that it is zero (outcome stability).
    prediction_gap, prediction_gap_std_error : float
        Difference in prediction between the arms at equal truth: the differential error.
    slope_gap, slope_gap_std_error : float
        Difference between the arms' slopes of prediction on truth.
    measurement_p : float
        P-value that both are zero (measurement stability). Both p-values are NaN where truth and prediction are one
        exact line, or a covariance has too few clusters.
    n_treated, n_control : int
    """

    truth_gap: float
    truth_gap_std_error: float
    outcome_p: float
    prediction_gap: float
    prediction_gap_std_error: float
    slope_gap: float
    slope_gap_std_error: float
    measurement_p: float
    n_treated: int
    n_control: int

    def verdict(self, level: float = 0.05) -> str:
        """Say which assumptions the rows refute at `level`, and what follows."""
        if math.isnan(self.outcome_p) or math.isnan(self.measurement_p):
            return (
                "Nothing can be said: truth and prediction are one exact line, or there are too few clusters for these "
                "tests."
            )
        outcome, measurement = self.outcome_p < level, self.measurement_p < level
        if outcome and measurement:
            return (
                "Both assumptions are refuted: the image shows part of this contrast by itself. Report the bracket, or "
                "give each arm a line of its own (arm_lines, effect_with_arm_lines)."
            )
        if outcome:
            return "Outcome stability is refuted, measurement stability is not: correct."
        if measurement:
            return "Measurement stability is refuted, outcome stability is not: do not correct."
        return "Neither is refuted: the rows are too few, or the arms too alike, to tell. Report the bracket."

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.n_treated} labelled rows in one arm, {self.n_control} in the other",
                f"  truth at equal prediction  {self.truth_gap:.3g} (standard error {self.truth_gap_std_error:.2g}), "
                f"p = {self.outcome_p:.2g} for outcome stability",
                f"  prediction at equal truth  {self.prediction_gap:.3g} ({self.prediction_gap_std_error:.2g}), slopes "
                f"differ by {self.slope_gap:.3g} ({self.slope_gap_std_error:.2g}), p = {self.measurement_p:.2g} for "
                "measurement stability",
                self.verdict(),
            ]
        )


def assumption_tests(
    data: pd.DataFrame,
    *,
    label: str,
    prediction: str,
    treatment: str,
    covariates: Sequence[str] = (),
    clusters: str | None = None,
    target_noise_var: float = 0.0,
) -> AssumptionTests:
    """Test both assumptions on labelled rows that carry the treatment or a placebo.

    ``truth ~ prediction + treatment`` for outcome stability; ``prediction ~ truth * treatment`` for measurement
    stability, the truth centred on its mean. The first is the test of Gordon et al. (2025, arXiv:2502.12323) as
    a slope.

    Parameters
    ----------
    data : DataFrame
        Rows without a label are left out.
    label, prediction : str
        Columns of truth and prediction; predictions of rows that the model was not trained on.
    treatment : str
        Column of 0 and 1, of the treatment or a placebo.
    covariates : sequence of str
        Numeric columns that the trial's design adjusts for, such as dummies of surveys.
    clusters : str, optional
        Column of clusters. Without, errors of neighbours count as independent, and the tests refute too much.
    target_noise_var : float
        Variance of the labels' own sampling error (few households to a label), as the card was built with. Without it
        predictions differ at equal *noisy* truth wherever the truth differs, and measurement stability is refuted
        though it holds.

    Returns
    -------
    AssumptionTests

    Raises
    ------
    EffectError
        When a column is missing or holds no numbers, the treatment is not 0/1, an arm has fewer than ten labelled rows
        or lies in a single cluster, columns are linearly dependent, or `target_noise_var` is no variance or as large as
        that of the labels.
    """
    trial = LabelledTrial.read(
        data,
        label=label,
        prediction=prediction,
        treatment=treatment,
        covariates=covariates,
        clusters=clusters,
        complete=True,
    )
    require_rows_in_arms(trial.treated)
    require_clusters_in_arms(trial.group, trial.treated)
    found = stability_of(
        trial.treated,
        trial.prediction,
        trial.label,
        name=treatment,
        group=trial.group,
        noise=read.number("target_noise_var", target_noise_var, "a variance of zero or more", least=0.0),
        covariates=trial.covariates,
        covariate_names=read.names("covariates", covariates),
        slope_by_arm=True,
        error=EffectError,
    )
    return AssumptionTests(
        **asdict(found), n_treated=int(trial.treated.sum()), n_control=int((1 - trial.treated).sum())
    )
