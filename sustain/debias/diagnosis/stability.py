"""Which assumption holds for a contrast, told from labels in both of its arms.

A correction is right under measurement stability: given the truth, predictions do not depend on the treatment. None is
right under outcome stability: given the prediction, the truth does not. Each is a regression on a curve, because a
straight line where the curve is bent refutes what holds (`sustain.debias.diagnosis.curves`; the second is the test of
Gordon et al. 2025, arXiv:2502.12323, as a curve).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.diagnosis.curves import CurveTest, same_curve
from sustain.debias.diagnosis.noisy_truth import same_curve_of_truth
from sustain.errors import CalibrationError, StatisticsError

__all__ = ["Stability", "curve_tests", "stability_of"]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Stability:
    """What a treatment, or a covariate like it, says about the two assumptions.

    Attributes
    ----------
    truth_gap, truth_gap_std_error : float
        Change in truth with a unit of the treatment at equal predictions, at their mean: zero under outcome stability,
        when predictions need no correction.
    truth_slope_gap, truth_slope_gap_std_error : float
        How that change grows with a unit of the prediction: zero as well.
    outcome_p : float
        That both are zero.
    prediction_gap, prediction_gap_std_error : float
        Change in prediction with a unit of the treatment at equal truth, at its mean: zero under measurement stability,
        when a correction is right.
    prediction_slope_gap, prediction_slope_gap_std_error : float
        How that change grows with a unit of the truth: zero as well.
    measurement_p : float
        That both are zero. Both p-values are NaN where truth and prediction are one exact curve, or clusters are too
        few.
    """

    truth_gap: float
    truth_gap_std_error: float
    outcome_p: float
    prediction_gap: float
    prediction_gap_std_error: float
    measurement_p: float
    truth_slope_gap: float
    truth_slope_gap_std_error: float
    prediction_slope_gap: float
    prediction_slope_gap_std_error: float


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
    error: type[StatisticsError] = CalibrationError,
) -> Stability:
    """Test both assumptions; see `curve_tests`, whose numbers these are."""
    measurement, outcome = curve_tests(
        treatment,
        y_pred,
        y_true,
        names=("prediction", "truth", name, *covariate_names),
        weight=weight,
        group=group,
        noise=noise,
        covariates=covariates,
        error=error,
    )
    return Stability(
        truth_gap=outcome.gap,
        truth_gap_std_error=outcome.gap_std_error,
        outcome_p=outcome.p_value,
        prediction_gap=measurement.gap,
        prediction_gap_std_error=measurement.gap_std_error,
        measurement_p=measurement.p_value,
        truth_slope_gap=outcome.slope_gap,
        truth_slope_gap_std_error=outcome.slope_gap_std_error,
        prediction_slope_gap=measurement.slope_gap,
        prediction_slope_gap_std_error=measurement.slope_gap_std_error,
    )


def curve_tests(
    treatment: Array,
    y_pred: Array,
    y_true: Array,
    *,
    names: Sequence[str],
    weight: Array | None = None,
    group: Codes | None = None,
    noise: float = 0.0,
    covariates: Array | None = None,
    error: type[StatisticsError] = CalibrationError,
) -> tuple[CurveTest, CurveTest]:
    """Test measurement and outcome stability, in this order.

    ``prediction ~ curve(truth) + treatment + treatment x truth + covariates`` and the same with truth and prediction
    exchanged; under each assumption the two terms of the treatment are zero.

    Parameters
    ----------
    treatment, y_pred, y_true : ndarray, shape (n,)
        The treatment or a covariate like it, of any values; predictions; labels. All finite.
    names : sequence of str, length 3 + k
        Of prediction, truth, treatment and covariates, for errors.
    weight : ndarray, shape (n,), optional
        Sampling weights above zero; only their ratios matter.
    group : ndarray of int, shape (n,), optional
        Cluster codes; the covariance is CR2, without them HC2.
    noise : float
        Variance of the labels' sampling error. Where labels are what is given, the truth is unfolded from them
        (`sustain.debias.diagnosis.noisy_truth`): at equal *noisy* truth predictions would differ with anything that the
        truth differs with.
    covariates : ndarray, shape (n, k), optional
        What both regressions adjust for.
    error : type of StatisticsError
        What is raised.

    Raises
    ------
    StatisticsError
        When columns are dependent, or the noise is as large as what they leave of the truth's variance.
    """
    others = np.empty((y_true.size, 0)) if covariates is None else covariates
    prediction, truth, *shared = names
    outcome = same_curve(y_true, y_pred, treatment, others, (prediction, *shared), group, weight, error)
    if noise > 0:
        measurement = same_curve_of_truth(
            y_pred, y_true, treatment, others, (truth, *shared), group, noise, weight, error
        )
    else:
        measurement = same_curve(y_pred, y_true, treatment, others, (truth, *shared), group, weight, error)
    return measurement, outcome
