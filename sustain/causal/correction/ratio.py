"""A corrected effect as a ratio: effect on the prediction over the slope of prediction on truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sustain.errors import EffectError

__all__ = ["CorrectedEffect", "corrected_effect", "corrected_mean"]


class CorrectedEffect(NamedTuple):
    """A corrected effect and where its variance comes from."""

    estimate: float
    std_error: float
    variance_trial: float
    variance_calibration: float

    @property
    def share_calibration(self) -> float:
        """Share of the variance that the calibration sample contributes, 0..1."""
        total = self.variance_trial + self.variance_calibration
        return self.variance_calibration / total if total > 0 else 0.0


def corrected_effect(effect: float, effect_var: float, slope: float, slope_var: float) -> CorrectedEffect:
    """Divide an effect by the slope of prediction on truth, with the delta-method variance.

    V(tau) = V_d / b^2 + tau^2 V_b / b^2 with tau = d / b, for independent trial and calibration samples
    (Nab et al. 2019, doi:10.1002/sim.8359).

    Parameters
    ----------
    effect, effect_var : float
        Effect d on the prediction and its variance.
    slope, slope_var : float
        Slope b of prediction on truth in the calibration sample and its variance.

    Raises
    ------
    EffectError
        When the slope is zero or not finite, or a variance is negative.
    """
    if not math.isfinite(slope) or slope == 0:
        raise EffectError(
            f"slope: got {slope!r}; predictions that do not move with the truth cannot be corrected."
        )
    if effect_var < 0 or slope_var < 0:
        raise EffectError(
            f"variances must not be negative; got effect_var={effect_var!r}, slope_var={slope_var!r}."
        )
    tau = effect / slope
    trial, calibration = effect_var / slope**2, tau**2 * slope_var / slope**2
    return CorrectedEffect(tau, math.sqrt(trial + calibration), trial, calibration)


def corrected_mean(
    mean: float, mean_var: float, intercept: float, slope: float, cov: Sequence[Sequence[float]]
) -> CorrectedEffect:
    """Level of the truth from a mean prediction, mu = (m - a) / b, with the delta-method variance.

    V(mu) = (V_m + (1, mu) Cov(a, b) (1, mu)') / b^2. For a proportion this is the estimator of Rogan and Gladen (1978).

    Parameters
    ----------
    mean, mean_var : float
        Mean prediction in the trial and its variance.
    intercept, slope : float
        Line of prediction on truth in the calibration sample.
    cov : array_like, shape (2, 2)
        Covariance of (intercept, slope).
    """
    level = corrected_effect(mean - intercept, mean_var, slope, 0.0)
    loading = np.array([1.0, level.estimate])
    calibration = float(loading @ np.asarray(cov, dtype=float) @ loading) / slope**2
    return level._replace(
        std_error=math.sqrt(level.variance_trial + calibration), variance_calibration=calibration
    )
