"""What labels in the trial say about a correction: a Hausman test of measurement stability."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sustain.causal.estimators import difference_in_means
from sustain.causal.ppi import clustered_variance, ppi_effect
from sustain.causal.variance import p_value

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["StabilityTest", "stability_test"]


class StabilityTest(NamedTuple):
    """A Hausman test of measurement stability: the corrected effect against the labels' effect.

    Attributes
    ----------
    difference, std_error : float
        Corrected less prediction-powered effect.
    pvalue : float
        A small one says that the correction does not hold in this trial.
    corrected, powered : float
        The two effects.
    """

    difference: float
    std_error: float
    pvalue: float
    corrected: float
    powered: float


def stability_test(
    data: pd.DataFrame,
    *,
    label: str,
    prediction: str,
    treatment: str,
    calibration: CalibrationCard,
    method: str = "linear",
    clusters: str | None = None,
) -> StabilityTest:
    """Test a card's correction against the labels that a trial has.

    Both effects come from the same units, so the variance of their difference is that of the difference of their
    influences, plus the calibration's part. With ``method="none"`` the naive effect is tested.

    Parameters
    ----------
    data, label, prediction, treatment, clusters
        As in `ppi_effect`.
    calibration : CalibrationCard
    method : str
        Correction that the card holds.
    """
    powered = ppi_effect(data, label=label, prediction=prediction, treatment=treatment, clusters=clusters)
    treated, predicted = data[treatment].to_numpy(dtype=float), data[prediction].to_numpy(dtype=float)
    linear = difference_in_means(treated, np.ones(len(treated)))
    outcome = np.asarray(calibration.transform(predicted, method=method, check_support=False))
    corrected = linear.estimate(outcome)
    groups = None if clusters is None else data[clusters].to_numpy()
    spread = 0.0
    if method != "none":
        spread = float(np.var(calibration.draws(method).weighted_sum(predicted, linear.weights), ddof=1))
    variance = clustered_variance(linear.influence(outcome) - powered.influence, groups) + spread
    difference, error = corrected - powered.estimate, math.sqrt(variance)
    return StabilityTest(
        difference, error, p_value(difference / error, math.inf), corrected, powered.estimate
    )
