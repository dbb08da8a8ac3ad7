"""Which assumption holds for a contrast, told from labels in both of its arms.

A correction is right under measurement stability: given the truth, predictions are the same in both arms. None is right
under outcome stability: given the prediction, the truth is the same. Each is a regression with the contrast as a
covariate (Dell & Rambachan 2026; the second is the test of Gordon et al. 2025, arXiv:2502.12323, as a slope).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.errors import CalibrationError, StatisticsError
from sustain.stats.covariance import wald_test
from sustain.stats.least_squares import least_squares
from sustain.stats.line import EXACT, fit_line

__all__ = ["Stability", "stability_of"]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Stability:
    """What a treatment, or a covariate like it, says about the two assumptions, by least squares.

    Attributes
    ----------
    truth_gap, truth_gap_std_error, outcome_p : float
        Change in truth with the covariate at equal predictions: zero under outcome stability, when predictions need no
        correction.
    prediction_gap, prediction_gap_std_error, measurement_p : float
        Change in prediction with the covariate at equal truth: zero under measurement stability, when a correction is
        right. Both p-values are NaN where truth and prediction are one exact line, or clusters are too few.
    slope_gap, slope_gap_std_error : float or None
        Difference between the arms' slopes of prediction on truth, where each arm has its own; then `measurement_p` is
        that both gaps are zero.
    """

    truth_gap: float
    truth_gap_std_error: float
    outcome_p: float
    prediction_gap: float
    prediction_gap_std_error: float
    measurement_p: float
    slope_gap: float | None = None
    slope_gap_std_error: float | None = None


def stability_of(
    treatment: Array,
    y_pred: Array,
    y_true: Array,
    *,
    name: str = "treatment",
    weight: Array | None = None,
    group: Codes | None = None,
    noise: float = 0.0,
    covariates: Array | None = None,
    covariate_names: Sequence[str] = (),
    slope_by_arm: bool = False,
    error: type[StatisticsError] = CalibrationError,
) -> Stability:
    """Regress truth on prediction and treatment, and prediction on truth and treatment.

    Parameters
    ----------
    treatment, y_pred, y_true : ndarray, shape (n,)
        The treatment or a covariate like it; predictions; labels. All finite.
    name : str
        Of the treatment, for errors.
    weight : ndarray, shape (n,), optional
        With a mean of one.
    group : ndarray of int, shape (n,), optional
        Cluster codes; with them both covariances are CRV1, else HC1.
    noise : float
        Variance of the labels' sampling error, taken off where they are the regressor: at equal *noisy* truth
        predictions would differ with anything that the truth differs with.
    covariates : ndarray, shape (n, k), optional
        What both regressions adjust for.
    covariate_names : sequence of str, length k
    slope_by_arm : bool
        Whether, with a treatment of 0 and 1, each arm has its own slope of prediction on truth; the gap is then that at
        the mean truth.
    error : type of StatisticsError
        What is raised when columns are dependent, or the noise as large as what they leave of the truth's variance.
    """
    weight = np.ones(y_true.size) if weight is None else weight
    others = np.empty((y_true.size, 0)) if covariates is None else covariates
    on_truth, truth_cov, df = least_squares(
        np.column_stack([treatment, y_pred, others]),
        (name, "prediction", *covariate_names),
        y_true,
        weight,
        group,
        error=error,
    )
    truth = y_true - np.average(y_true, weights=weight)
    # A slope for each arm: noise of the labels is then in one column of each row, and their difference is the test's.
    arms = np.column_stack([treatment, 1 - treatment]) if slope_by_arm else np.ones((truth.size, 1))
    columns = np.column_stack([treatment, arms * truth[:, None], others])
    in_labels = np.zeros_like(columns)
    in_labels[:, 1 : 1 + arms.shape[1]] = noise * arms
    given = ("truth of treated", "truth of others") if slope_by_arm else ("truth",)
    on_prediction, cov, _ = least_squares(
        columns, (name, *given, *covariate_names), y_pred, weight, group, in_labels, error
    )
    gaps = np.zeros((arms.shape[1], on_prediction.size))
    gaps[0, 1] = 1.0
    if slope_by_arm:
        gaps[1, 2:4] = 1.0, -1.0
    found, found_cov = gaps @ on_prediction, gaps @ cov @ gaps.T
    # Residuals of an exact line are rounding, and no test is.
    exact = fit_line(y_true, y_pred, weight).r2 > EXACT
    return Stability(
        truth_gap=float(on_truth[1]),
        truth_gap_std_error=math.sqrt(truth_cov[1, 1]),
        outcome_p=math.nan if exact else wald_test(on_truth[1:2], truth_cov[1:2, 1:2], df).p_value,
        prediction_gap=float(found[0]),
        prediction_gap_std_error=math.sqrt(found_cov[0, 0]),
        measurement_p=math.nan if exact else wald_test(found, found_cov, df).p_value,
        slope_gap=float(found[1]) if slope_by_arm else None,
        slope_gap_std_error=math.sqrt(found_cov[1, 1]) if slope_by_arm else None,
    )
