"""A prediction-powered estimate as its users see it: number, interval, p-value, what to know about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimate import Note
from sustain.errors import EffectError
from sustain.stats.covariance import critical_value, p_value

__all__ = ["Alternative", "PPIResult", "note_lines"]

Alternative = Literal["two-sided", "larger", "smaller"]


@dataclass(frozen=True)
class PPIResult:
    """A prediction-powered estimate.

    Attributes
    ----------
    estimate, std_error : float
        The error is NaN for a coefficient of `sustain.causal.ppi_ols` that a single cluster decides.
    lam : tuple of float
        Power-tuning factor; for an effect those of the control and the treated arm.
    n_labelled, n_unlabelled : int
    influence : ndarray
        Influence of each unit, labelled before unlabelled, or the rows of the data; with small-sample factors, so that
        the squares of their sums over clusters (of each, without clusters) sum to the variance.
    df : float
        Degrees of freedom of intervals; see `sustain.causal.labels.small_samples`.
    notes : tuple of Note
        What a reader should know, such as that few labels or few clusters say little.
    """

    estimate: float
    std_error: float
    lam: tuple[float, ...]
    n_labelled: int
    n_unlabelled: int
    influence: NDArray[np.float64] = field(repr=False, compare=False)
    df: float = math.inf
    notes: tuple[Note, ...] = ()

    def conf_int(self, level: float = 0.95, alternative: Alternative = "two-sided") -> tuple[float, float]:
        """Give a confidence interval, by Student's t with `df` degrees of freedom.

        Parameters
        ----------
        level : float
        alternative : {"two-sided", "larger", "smaller"}
            ``"larger"`` gives the lower bound that goes with testing for a larger value, (low, inf); ``"smaller"``
            the upper bound, (-inf, high).
        """
        _require_alternative(alternative)
        half = critical_value(level, self.df, EffectError)
        if (
            alternative != "two-sided"
        ):  # a bound at some level is the end of an interval that leaves twice as much out
            half = -_quantile(1 - level, self.df)
        low, high = self.estimate - half * self.std_error, self.estimate + half * self.std_error
        return (
            -math.inf if alternative == "smaller" else low,
            math.inf if alternative == "larger" else high,
        )

    def pvalue(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """P-value of the hypothesis that the value is `null`; NaN when it is so exactly and nothing scatters."""
        from scipy.special import ndtr, stdtr

        _require_alternative(alternative)
        gap = self.estimate - null
        if self.std_error == 0:  # nothing scatters: no p-value where the estimate is the null itself
            statistic = math.nan if gap == 0 else math.copysign(math.inf, gap)
        else:
            statistic = gap / self.std_error
        if alternative == "two-sided":
            return p_value(statistic, self.df)
        tail = -statistic if alternative == "larger" else statistic
        return float(ndtr(tail) if math.isinf(self.df) else stdtr(self.df, tail))

    def __str__(self) -> str:
        low, high = self.conf_int()
        factors = ", ".join(f"{lam:.3g}" for lam in self.lam)
        lines = [
            f"{self.estimate:.4g} (standard error {self.std_error:.3g}), 95% interval {low:.4g} to {high:.4g}",
            f"{self.n_labelled} labelled and {self.n_unlabelled} other units; weight of the predictions {factors} "
            "(0: labels alone). Rests on labels drawn at random, and on neither assumption about the map's errors.",
        ]
        return "\n".join([*lines, *note_lines(self.notes)])


def note_lines(notes: tuple[Note, ...]) -> list[str]:
    """Lines of a summary that say the notes."""
    return [f"  {note.kind}: {note}" for note in notes]


def _quantile(share: float, df: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(share) if math.isinf(df) else stdtrit(df, share))


def _require_alternative(alternative: str) -> None:
    if alternative not in ("two-sided", "larger", "smaller"):
        raise EffectError(f"alternative: got {alternative!r}, expected 'two-sided', 'larger' or 'smaller'.")
