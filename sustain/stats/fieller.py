"""Fieller's confidence set of a ratio of two normal estimates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["FiellerSet", "fieller_set"]


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
        Both estimates and their variances.
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
