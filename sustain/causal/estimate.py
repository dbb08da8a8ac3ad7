"""One estimate of an effect: the number, the parts of its variance, and its intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

from sustain.errors import EffectError
from sustain.stats.covariance import critical_value
from sustain.stats.fieller import FiellerSet, fieller_set

__all__ = ["Estimate", "Interval", "IntervalMethod", "Note"]

Interval = tuple[float, float]
IntervalMethod = Literal["delta", "fieller", "bootstrap"]


class Note(str):
    """A sentence about a result, with its `kind`: assumption, support, missing, few_clusters, ..."""

    kind: str

    def __new__(cls, kind: str, text: str) -> Self:
        """Make a note of one kind."""
        note = super().__new__(cls, text)
        note.kind = kind
        return note

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return self.kind, str(self)


@dataclass(frozen=True)
class Estimate:
    """One estimate of the effect, by one method.

    Attributes
    ----------
    method : str
        ``"none"`` (naive) or the correction.
    estimate : float
    variance_trial, variance_calibration : float
        Parts of the variance that the trial's units and the calibration sample contribute.
    df : float
        Degrees of freedom of the interval; infinite for a normal one.
    variance_draws : float
        The calibration's part by bootstrap; NaN when the card holds no draws.
    slope, slope_var : float
        For a linear correction, what the naive effect is divided by and its variance; otherwise NaN.
    covariance : float
        Between the trial's and the calibration's error; zero unless the samples share units.
    covariance_naive : float
        Between the trial's error of this estimate and that of the naive one.
    variance_own : float
        Part of `variance_trial` that is no unit's: the own error of a contrast of this kind.
    """

    method: str
    estimate: float
    variance_trial: float
    variance_calibration: float
    df: float
    variance_draws: float = math.nan
    slope: float = math.nan
    slope_var: float = math.nan
    covariance: float = 0.0
    covariance_naive: float = math.nan
    variance_own: float = 0.0

    @property
    def variance(self) -> float:
        """Variance with both parts, and twice their covariance where the samples share units."""
        return self.variance_trial + self.variance_calibration + 2 * self.covariance

    @property
    def std_error(self) -> float:
        """Standard error with both parts."""
        return math.sqrt(self.variance)

    @property
    def share_calibration(self) -> float:
        """Share of the variance that the calibration sample contributes, 0..1."""
        total = self.variance_trial + self.variance_calibration
        return self.variance_calibration / total if total > 0 else 0.0

    def fieller(self, level: float) -> FiellerSet:
        """Fieller's set of a linear correction (of a naive estimate: its ordinary interval)."""
        critical = critical_value(level, self.df, EffectError)
        if self.method == "none":
            return fieller_set(self.estimate, self.variance_trial, 1.0, 0.0, critical)
        if math.isnan(self.slope):
            raise EffectError(
                f"Fieller's interval is that of a ratio, and {self.method!r} is not a division by a "
                "slope. Use the interval 'delta' or 'bootstrap'."
            )
        effect, effect_var = self.estimate * self.slope, self.variance_trial * self.slope**2
        # The covariance of effect and slope: that of the estimate's parts, d/b and -tau V_b/b, undone.
        shared = -self.covariance * self.slope**2 / self.estimate if self.covariance else 0.0
        return fieller_set(effect, effect_var, self.slope, self.slope_var, critical, shared)

    @property
    def statistic(self) -> float:
        """Estimate over standard error."""
        if self.std_error > 0:
            return self.estimate / self.std_error
        if math.isnan(self.std_error):
            return math.nan
        return math.nan if self.estimate == 0 else math.copysign(math.inf, self.estimate)

    def conf_int(self, level: float, method: IntervalMethod = "delta") -> Interval:
        """Confidence interval; see `EffectResult.conf_int`."""
        if method == "fieller":
            return self.fieller(level).hull
        if method == "delta":
            error = self.std_error
        elif method == "bootstrap":
            calibration = 0.0 if self.method == "none" else self.variance_draws
            if math.isnan(calibration):
                raise EffectError(
                    f"The bootstrap interval needs draws of {self.method!r} in the card, and it holds "
                    "none. Use the interval 'delta', or build the card with n_boot."
                )
            error = math.sqrt(self.variance_trial + calibration + 2 * self.covariance)
        else:
            raise EffectError(f"method: got {method!r}, expected 'delta', 'fieller' or 'bootstrap'.")
        half = critical_value(level, self.df, EffectError) * error
        return self.estimate - half, self.estimate + half
