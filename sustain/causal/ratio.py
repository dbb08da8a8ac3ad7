"""A corrected effect as a ratio: effect on the prediction over the slope of prediction on truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sustain.errors import EffectError

__all__ = ["CorrectedEffect", "FiellerSet", "corrected_effect", "corrected_mean", "fieller_set"]


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


@dataclass(frozen=True)
class FiellerSet:
    """Fieller's confidence set of a ratio: an interval, its outside, or the whole line.

    Attributes
    ----------
    kind : {"bounded", "exclusive", "line"}
        ``bounded``: from `low` to `high`. ``exclusive``: everything outside ]`low`, `high`[. ``line``:
        everything.
    low, high : float
        The roots, or -inf and inf for ``line``.
    """

    kind: Literal["bounded", "exclusive", "line"]
    low: float
    high: float

    @property
    def hull(self) -> tuple[float, float]:
        """The smallest interval that holds the set."""
        return (self.low, self.high) if self.kind == "bounded" else (-math.inf, math.inf)

    def __contains__(self, value: float) -> bool:
        if self.kind == "bounded":
            return self.low <= value <= self.high
        return self.kind == "line" or value <= self.low or value >= self.high

    def __str__(self) -> str:
        if self.kind == "bounded":
            return f"[{self.low:.4g}, {self.high:.4g}]"
        if self.kind == "exclusive":
            return f"unbounded: (-inf, {self.low:.4g}] and [{self.high:.4g}, inf)"
        return "unbounded: the whole line"


def fieller_set(
    effect: float,
    effect_var: float,
    slope: float,
    slope_var: float,
    critical: float,
    covariance: float = 0.0,
) -> FiellerSet:
    """Fieller's confidence set of effect / slope (Fieller 1954).

    All t with (d - t b)^2 <= c^2 (V_d - 2 t C + t^2 V_b): bounded only when the slope differs from zero at that
    level.

    Parameters
    ----------
    effect, effect_var, slope, slope_var : float
        As in `corrected_effect`.
    critical : float
        Critical value c, for example 1.96.
    covariance : float
        Covariance C of effect and slope; zero for independent samples.
    """
    square = slope**2 - critical**2 * slope_var
    middle = effect * slope - critical**2 * covariance
    constant = effect**2 - critical**2 * effect_var
    discriminant = middle**2 - square * constant
    if square == 0 or discriminant < 0:
        return FiellerSet("line", -math.inf, math.inf)
    first = (middle - math.sqrt(discriminant)) / square
    second = (middle + math.sqrt(discriminant)) / square
    return FiellerSet("bounded" if square > 0 else "exclusive", min(first, second), max(first, second))
