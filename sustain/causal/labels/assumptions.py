"""Labelled rows that carry the treatment, or a placebo: which assumption holds for that contrast.

A placebo is a contrast that nobody treated: exposed against other regions, bands of distance, a period before the
programme. It is built from places or covariates, never from predictions: thresholds of a prediction make every map
look right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimate import Note
from sustain.causal.labels.hausman import StabilityTest, hausman_test
from sustain.causal.labels.labelled import LabelledTrial, require_clusters_in_arms, require_rows_in_arms
from sustain.causal.labels.result import note_lines
from sustain.causal.labels.small_samples import FEW
from sustain.causal.trial.reader import read
from sustain.debias.diagnosis.curves import CurveTest
from sustain.debias.diagnosis.stability import curve_tests
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["AssumptionTests", "assumption_tests"]

Floats = NDArray[np.float64]

RELIABILITY = 0.9
"""Of labels that were said to be exact: what would follow if they were this reliable."""


@dataclass(frozen=True)
class AssumptionTests:
    """What labels in both arms say about the two assumptions, and about a card's correction.

    Attributes
    ----------
    measurement : CurveTest
        Measurement stability: predictions at equal truth, in units of the prediction.
    outcome : CurveTest
        Outcome stability: truth at equal predictions, in units of the truth.
    correction : StabilityTest or None
        The card's corrected effect against the labels' effect, where a card was given.
    n_treated, n_control : int
        Labelled rows.
    notes : tuple of Note
        ``label_noise``: what noise of the labels does to the test of measurement stability; ``few_labels`` or
        ``few_clusters``.
    """

    measurement: CurveTest
    outcome: CurveTest
    correction: StabilityTest | None
    n_treated: int
    n_control: int
    notes: tuple[Note, ...] = ()

    def verdict(self, level: float = 0.05) -> str:
        """Say which assumptions the rows refute at `level`, and what follows."""
        if math.isnan(self.outcome.p_value) or math.isnan(self.measurement.p_value):
            return (
                "Nothing can be said: truth and prediction are one exact curve, or there are too few clusters for "
                "these tests."
            )
        outcome, measurement = self.outcome.p_value < level, self.measurement.p_value < level
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
        lines = [f"{self.n_treated} labelled rows in one arm, {self.n_control} in the other"]
        for what, found, name in (
            ("truth at equal prediction", self.outcome, "outcome stability"),
            ("prediction at equal truth", self.measurement, "measurement stability"),
        ):
            lines.append(
                f"  {what}  {found.gap:.3g} (standard error {found.gap_std_error:.2g}), slopes differ by "
                f"{found.slope_gap:.3g} ({found.slope_gap_std_error:.2g}), p = {found.p_value:.2g} for {name}; "
                f"differences under {found.seen:.2g} often go unseen"
            )
        if self.correction is not None:
            lines.append(f"  {self.correction}")
        return "\n".join([*lines, *note_lines(self.notes), self.verdict()])


def assumption_tests(
    data: pd.DataFrame,
    *,
    label: str,
    prediction: str,
    treatment: str,
    covariates: Sequence[str] = (),
    clusters: str | None = None,
    target_noise_var: float = 0.0,
    calibration: CalibrationCard | str | Path | None = None,
    method: str = "linear",
) -> AssumptionTests:
    """Test both assumptions on labelled rows that carry the treatment or a placebo, and a card's correction.

    ``prediction ~ curve(truth) + treatment + treatment x truth`` for measurement stability, ``truth ~ curve(prediction)
    + treatment + treatment x prediction`` for outcome stability: the last two are zero under each. The curves are
    regression splines, with 3 knots for few rows and 16 for many (half the root of their number; a cluster counts for
    five rows at most). A straight line instead refutes what holds in a third of samples, because such curves are bent.
    Covariances are CR2 and the references F with the degrees of freedom that the clusters leave (Pustejovsky and Tipton
    2018). The second is the test of Gordon et al. (2025, arXiv:2502.12323) as a curve.

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
        predictions differ at equal *noisy* truth wherever the truth differs between the arms, and measurement stability
        is refuted though it holds; a note says how much 0.9 of reliability would make. With it the truth is unfolded
        from the labels in each arm (`sustain.debias.diagnosis.noisy_truth`). Outcome stability needs none of this:
        there labels are the response.
    calibration : CalibrationCard or path of one, optional
        Card whose corrected effect is held against the labels' effect (`ppi_effect`), with all rows of `data`: a
        Hausman test, which also sees an error that is the same in both arms. It supposes labels drawn at random.
    method : str
        Correction of the card; ``"none"`` tests the naive effect.

    Returns
    -------
    AssumptionTests

    Raises
    ------
    EffectError
        When a column is missing or holds no numbers, the treatment is not 0/1, an arm has fewer than ten labelled rows
        or lies in a single cluster, columns are linearly dependent, or `target_noise_var` is no variance or as large as
        that of the labels in an arm.
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
    noise = read.number("target_noise_var", target_noise_var, "a variance of zero or more", least=0.0)
    others = read.names("covariates", covariates)
    measurement, outcome = curve_tests(
        trial.treated,
        trial.prediction,
        trial.label,
        names=("prediction", "truth", treatment, *others),
        group=trial.group,
        noise=noise,
        covariates=trial.covariates,
        error=EffectError,
    )
    correction = None
    if calibration is not None:
        correction = hausman_test(
            data,
            label=label,
            prediction=prediction,
            treatment=treatment,
            calibration=calibration,
            method=method,
            clusters=clusters,
        )
    n_treated, n_control = int(trial.treated.sum()), int((1 - trial.treated).sum())
    notes = (*_noise_notes(trial, measurement, noise), *_few_notes(trial, min(outcome.df, measurement.df)))
    return AssumptionTests(measurement, outcome, correction, n_treated, n_control, notes)


def _few_notes(trial: LabelledTrial, df: float) -> tuple[Note, ...]:
    """Say that few labels, or few clusters of them, leave the tests little to see with."""
    if not df < FEW:
        return ()
    kind, what, n = "few_labels", "labels", trial.n
    if trial.group is not None:
        kind, what, n = "few_clusters", "clusters with labels", int(np.unique(trial.group).size)
    text = f"{n} {what} leave a test {df:.2g} degrees of freedom: that nothing is refuted says little."
    return (Note(kind, text),)


def _noise_notes(trial: LabelledTrial, found: CurveTest, noise: float) -> tuple[Note, ...]:
    """Say what noise of the labels does to the test of measurement stability."""
    arms = [trial.label[trial.treated == value] for value in (1.0, 0.0)]
    variances = [float(arm.var()) for arm in arms]
    if noise > 0:
        treated, control = (1 - noise / variance for variance in variances)
        return (
            Note(
                "label_noise",
                f"Reliability of the labels {treated:.2f} among treated rows and {control:.2f} among the others: the "
                "truth is unfolded from them, which takes normal noise of this variance.",
            ),
        )
    within = float(np.average(variances, weights=[arm.size for arm in arms]))
    apart = float(arms[0].mean() - arms[1].mean())
    steep = sum(
        float((arm - arm.mean()) @ trial.prediction[trial.treated == value])
        for value, arm in zip((1.0, 0.0), arms, strict=True)
    ) / (within * trial.n)
    # A line's gap when a share of the labels' variance is noise: steep / reliability * (1 - reliability) * apart.
    made = steep * apart * (1 - RELIABILITY) / RELIABILITY
    if not abs(made) > found.gap_std_error / 2:
        return ()
    text = (
        f"Labels count as exact. Were their reliability {RELIABILITY:g}, measurement stability would itself make a gap "
        f"of about {made:.2g} (standard error {found.gap_std_error:.2g}), since the arms' labels differ by {apart:.2g}"
    )
    if found.p_value < 0.05 and found.gap * made > 0:
        ratio = steep * apart / found.gap
        text += f"; one of {ratio / (1 + ratio):.2f} would make all of what was found"
    return (Note("label_noise", text + ". Give the labels' sampling variance as target_noise_var."),)
