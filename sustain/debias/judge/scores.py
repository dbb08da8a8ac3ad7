"""How estimated contrasts compare with the true ones, and which methods a comparison leaves standing.

Contrasts of one fold share places and calibrations, so every standard error is clustered by fold, with Student's t of
the folds less one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.errors import CalibrationError
from sustain.stats.covariance import critical_value

__all__ = ["MARGIN", "MethodScore", "recommended", "scores_of"]

Array = NDArray[np.float64]
Interval = tuple[float, float]

MARGIN = 0.1
"""Distance of a share from 1 that is let pass: a tenth too much or too little of an effect."""


@dataclass(frozen=True)
class MethodScore:
    """How one method does on the held-out contrasts; intervals are of 95%, clustered by fold.

    Attributes
    ----------
    method : str
    mae, rmse : float
        Mean absolute and root mean squared error of the contrasts, in the target's unit.
    bias : float
        Mean error in the direction of the true contrast: negative when contrasts come out too small.
    share : float
        Share of the true contrasts that comes out: slope of estimated on true ones through the origin.
    share_low, share_high : float
        Its interval.
    behind : float
        By how much the mean absolute error is above that of the first of the recommended; below zero for a method
        that is closer, and clearly biased.
    behind_low, behind_high : float
        The interval of that difference, whose errors are paired.
    biased : bool
        Whether the share is clearly more than a tenth away from 1, and clearly farther than that of the nearest method
        which is not. Nothing is where all are off.
    """

    method: str
    mae: float
    rmse: float
    bias: float
    share: float
    share_low: float
    share_high: float
    behind: float
    behind_low: float
    behind_high: float
    biased: bool


def scores_of(found: Mapping[str, Array], truth: Array, fold: NDArray[np.intp]) -> tuple[MethodScore, ...]:
    """Score every method, the recommended first, then by mean absolute error; `fold` is that of each contrast."""
    errors = {name: values - truth for name, values in found.items()}
    mae = {name: float(np.abs(error).mean()) for name, error in errors.items()}
    shares = {name: _Share.of(values, truth, fold) for name, values in found.items()}
    biased = _biased(shares, fold)
    # Ties go to the method that comes first: "none" does the least.
    order = sorted(found, key=lambda name: (biased[name], mae[name]))
    scores = []
    for name in order:
        behind = np.abs(errors[name]) - np.abs(errors[order[0]])
        low, high = _interval(float(behind.mean()), (behind - behind.mean()) / behind.size, fold)
        scores.append(
            MethodScore(
                method=name,
                mae=mae[name],
                rmse=math.sqrt(float((errors[name] ** 2).mean())),
                bias=float((errors[name] * np.sign(truth)).mean()),
                share=shares[name].value,
                share_low=shares[name].interval[0],
                share_high=shares[name].interval[1],
                behind=float(behind.mean()),
                behind_low=low,
                behind_high=high,
                biased=biased[name],
            )
        )
    return tuple(scores)


def recommended(scores: tuple[MethodScore, ...]) -> tuple[str, ...]:
    """Methods that a comparison cannot tell apart: the first, and those not clearly behind it.

    A method that is clearly biased beside another is not among them: over many contrasts, or in large arms, its bias
    is what is left of its error, however close it came to single contrasts.
    """
    first = scores[0]
    rest = (item for item in scores[1:] if item.behind_low <= 0 and not item.biased)
    return (first.method, *(item.method for item in rest))


@dataclass(frozen=True)
class _Share:
    """Slope of estimated on true contrasts through the origin, with each contrast's influence on it."""

    value: float
    influence: Array
    interval: Interval

    @classmethod
    def of(cls, values: Array, truth: Array, fold: NDArray[np.intp]) -> _Share:
        square = float(truth @ truth)
        value = float(values @ truth) / square
        influence = (values - value * truth) * truth / square
        return cls(value, influence, _interval(value, influence, fold))

    @property
    def clearly_off(self) -> bool:
        """Whether the interval leaves out all that is let pass."""
        low, high = self.interval
        return high < 1 - MARGIN or low > 1 + MARGIN

    def clearly_farther(self, other: _Share, fold: NDArray[np.intp]) -> bool:
        """Whether it is farther from 1 than another, by the interval of the paired difference."""
        own, its = np.sign(self.value - 1), np.sign(other.value - 1)
        gap = abs(self.value - 1) - abs(other.value - 1)
        return _interval(gap, own * self.influence - its * other.influence, fold)[0] > 0


def _biased(shares: Mapping[str, _Share], fold: NDArray[np.intp]) -> dict[str, bool]:
    """Say which methods are clearly off, and clearly farther off than the nearest that is not."""
    passed = [share for share in shares.values() if not share.clearly_off]
    if not passed:
        return dict.fromkeys(shares, False)
    nearest = min(passed, key=lambda share: abs(share.value - 1))
    return {
        name: share.clearly_off and share.clearly_farther(nearest, fold) for name, share in shares.items()
    }


def _interval(value: float, influence: Array, fold: NDArray[np.intp]) -> Interval:
    """Interval of an estimate whose error is the sum of `influence`, alike within folds."""
    sums = np.bincount(np.unique(fold, return_inverse=True)[1], weights=influence)
    if sums.size < 2:
        return -math.inf, math.inf
    error = math.sqrt(float(sums @ sums) * sums.size / (sums.size - 1))
    margin = critical_value(0.95, sums.size - 1, CalibrationError) * error
    return value - margin, value + margin
