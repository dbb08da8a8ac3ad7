"""Effects when each arm has a line of prediction on truth of its own: measured in both arms, or supposed.

The general form of differential error: not only a shift at equal truth, but another slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sustain.causal.correction.ratio import CorrectedEffect, corrected_mean
from sustain.causal.labels.labelled import require_clusters_in_arms, require_rows_in_arms
from sustain.causal.trial.reader import read
from sustain.errors import EffectError

__all__ = ["Line", "arm_lines", "effect_with_arm_lines", "effect_with_slope_ratio"]

Line = tuple[float, float, Sequence[Sequence[float]]]


def effect_with_arm_lines(
    treated_mean: tuple[float, float],
    control_mean: tuple[float, float],
    treated_line: Line,
    control_line: Line,
) -> CorrectedEffect:
    """Effect when each arm has its own line of prediction on truth: ``(m1 - a1) / b1 - (m0 - a0) / b0``.

    For calibration samples with both arms in them, where a single line is refuted (differential error; Nab et al. 2019,
    doi:10.1002/sim.8359).

    Parameters
    ----------
    treated_mean, control_mean : (mean, variance)
        Mean prediction of each arm in the trial.
    treated_line, control_line : (intercept, slope, covariance)
        Line of prediction on truth in each arm of the calibration sample; covariance of (intercept, slope).
    """
    arms = []
    for (mean, mean_var), (intercept, slope, cov) in (
        (treated_mean, treated_line),
        (control_mean, control_line),
    ):
        arms.append(corrected_mean(mean, mean_var, intercept, slope, cov))
    trial = sum(arm.variance_trial for arm in arms)
    calibration = sum(arm.variance_calibration for arm in arms)
    return CorrectedEffect(
        arms[0].estimate - arms[1].estimate, math.sqrt(trial + calibration), trial, calibration
    )


def effect_with_slope_ratio(
    treated_mean: tuple[float, float],
    control_mean: tuple[float, float],
    line: Line,
    ratio: float,
) -> CorrectedEffect:
    """Effect when the treated arm's slope is supposed to be `ratio` times the card's: a sensitivity analysis.

    ``(m1 - a) / (ratio b) - (m0 - a) / b``, the control arm following the card's line; 1 is measurement stability. One
    line serves both arms, so its error is shared by them.

    Parameters
    ----------
    treated_mean, control_mean : (mean, variance)
        Mean prediction of each arm in the trial.
    line : (intercept, slope, covariance)
        Of a card: ``(card.intercept, card.slope, card.slope_cov)``.
    ratio : float
        Slope among treated places over that among the others, above 0.
    """
    if not read.number("ratio", ratio, "a ratio of slopes above 0; 1 is no difference") > 0:
        raise EffectError(f"ratio: got {ratio!r}, expected a ratio of slopes above 0; 1 is no difference.")
    intercept, slope, cov = line
    (m1, v1), (m0, v0) = treated_mean, control_mean
    treated, control = (m1 - intercept) / (ratio * slope), (m0 - intercept) / slope
    trial = v1 / (ratio * slope) ** 2 + v0 / slope**2
    gradient = np.array([1 - 1 / ratio, control - treated]) / slope
    calibration = float(gradient @ np.asarray(cov, dtype=float) @ gradient)
    return CorrectedEffect(treated - control, math.sqrt(trial + calibration), trial, calibration)


def arm_lines(
    y_pred: ArrayLike,
    y_true: ArrayLike,
    treated: ArrayLike,
    clusters: ArrayLike | None = None,
    target_noise_var: float = 0.0,
) -> tuple[Line, Line]:
    """Fit the line of prediction on truth in each arm, for `effect_with_arm_lines`.

    Parameters
    ----------
    y_pred, y_true, treated : array_like, shape (n,)
        Calibration rows that carry the treatment.
    clusters : array_like, shape (n,), optional
    target_noise_var : float
        Variance of the labels' own sampling error, which flattens both lines.

    Returns
    -------
    treated_line, control_line : (intercept, slope, covariance)

    Raises
    ------
    EffectError
        When `treated` is not 0 and 1, or an arm has fewer than ten rows or lies in a single cluster.
    CalibrationError
        On unusable rows, or when the labels of an arm vary less than their noise.
    """
    from sustain.debias.label_noise import noise_variance
    from sustain.debias.sample import as_sample
    from sustain.stats.line import fit_line

    read.require_same_index("treated", treated, "y_pred", y_pred)
    sample = as_sample(y_pred, y_true, None, clusters)
    arm = read.arms("treated", treated, sample.n)
    require_rows_in_arms(arm)
    noise = noise_variance(target_noise_var)
    require_clusters_in_arms(sample.group, arm)
    lines = []
    for value in (1.0, 0.0):
        part = sample.take(np.flatnonzero(arm == value))
        found = fit_line(part.y_true, part.y_pred, part.weight, part.group, noise)
        lines.append((found.intercept, found.slope, found.cov.tolist()))
    return lines[0], lines[1]
