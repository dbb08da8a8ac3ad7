"""Diagnostics: what kind of errors predictions make, and what may be corrected."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from sustain.debias.diagnosis.describe import describe
from sustain.debias.diagnosis.diagnosis import Diagnosis, InSample
from sustain.debias.diagnosis.stability import Stability, stability_of
from sustain.debias.diagnosis.verdicts import IN_SAMPLE_RATIO
from sustain.debias.level import LevelCalibration
from sustain.debias.sample import CalibrationSample, as_sample, read
from sustain.errors import CalibrationError, InSampleWarning
from sustain.stats.line import fit_line

__all__ = ["diagnose"]


def diagnose(
    y_pred: Any,
    y_true: Any,
    *,
    sample_weight: Any = None,
    groups: Any = None,
    strata: Any = None,
    target_noise_var: float = 0.0,
    train: tuple[Any, Any] | None = None,
    levels: Mapping[str, Any] | None = None,
    treatment_like: Mapping[str, Any] | None = None,
    level: float = 0.95,
) -> Diagnosis:
    """Describe the errors of predictions on calibration rows.

    Parameters
    ----------
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels.
    sample_weight, groups, strata : array_like, shape (n,), optional
        Sampling weights; clusters for all covariances; strata such as urban and rural.
    target_noise_var : float
        Variance of the labels' sampling error.
    train : pair of array_like, optional
        Predictions and labels of training rows, to show what in-sample errors would have hidden.
    levels : mapping of str to array_like, shape (n,), optional
        Group labels, coarse to fine, for slopes by level of variation; see `LevelCalibration`.
    treatment_like : mapping of str to array_like, shape (n,), optional
        Covariates that resemble the trial's treatment (near a road, in an exposed region, an earlier programme), of 0
        and 1 or any numbers, to test measurement and outcome stability with: whether predictions at equal truth, and
        truth at equal predictions, change with them. With `target_noise_var` the first repeats an unfolding of the
        truth fifty times, which takes seconds for ten thousand rows.
    level : float
        Confidence level.

    Raises
    ------
    CalibrationError
        On unusable rows; see `LinearCalibration.fit`.

    Warns
    -----
    InSampleWarning
        When training residuals are more than 10% smaller than held-out ones: a correction fitted on training rows
        would be too weak.
    """
    sample = as_sample(y_pred, y_true, sample_weight, groups, strata, target_noise_var)
    return describe(
        sample,
        level,
        in_sample=None if train is None else _in_sample(train, sample.truth_on_prediction.sigma),
        levels=LevelCalibration().fit_sample(sample, levels).levels_ if levels else {},
        stability={name: _stability(name, values, sample) for name, values in (treatment_like or {}).items()},
    )


def _in_sample(train: tuple[Any, Any], held_out_sd: float) -> InSample:
    x = read.vector("train[0]", train[0])
    y = read.vector("train[1]", train[1], x.size)
    read.require_same_index("train[1]", train[1], "train[0]", train[0])
    line = fit_line(x, y, np.ones(x.size), error=CalibrationError)
    ratio = line.sigma / held_out_sd if held_out_sd > 0 else math.nan
    if ratio < IN_SAMPLE_RATIO:
        warnings.warn(
            f"Residuals of the training rows have a standard deviation of {line.sigma:.3g}, held-out ones of "
            f"{held_out_sd:.3g}. Calibrate on held-out rows only: training rows hide {1 - ratio:.0%} of the error.",
            InSampleWarning,
            stacklevel=3,
        )
    return InSample(line.sigma, held_out_sd, ratio)


def _stability(name: str, values: Any, sample: CalibrationSample) -> Stability:
    named = f"treatment_like[{name!r}]"
    read.require_same_index(named, values, "y_pred", sample)
    covariate = sample.kept(read.vector(named, values, sample.n_passed))
    if not np.ptp(covariate) > 0:
        raise CalibrationError(
            f"treatment_like: {name!r} is {covariate[0]:g} in every row; it tests nothing."
        )
    return stability_of(
        covariate,
        sample.y_pred,
        sample.y_true,
        name=named,
        weight=sample.weight,
        group=sample.group,
        noise=sample.noise,
    )
