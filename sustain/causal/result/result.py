"""What an effect estimate says: the number, its interval, and what they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.ratio import FiellerSet
from sustain.causal.estimate import Estimate, Interval, IntervalMethod, Note
from sustain.causal.result.text import html_text, plot_effects, summary_text
from sustain.stats.covariance import p_value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sustain.causal.result.sensitivity import Sensitivity
    from sustain.debias import CalibrationCard

__all__ = ["EffectResult", "Estimate", "Note"]


@dataclass(frozen=True, repr=False)
class EffectResult:
    """The effect of a treatment on an outcome that was read off a map.

    Attributes
    ----------
    term, outcome : str
        Columns of treatment and outcome.
    main : Estimate
        The estimate that the method and the assumption lead to.
    naive : Estimate
        The estimate on the predictions as they are.
    corrected : Estimate or None
        The estimate with the correction, when one was asked for and the assumption allows it.
    method, assumption, estimator, vcov : str
        What was asked for, in words; `assumption` is None when none was named.
    level : float
        Confidence level of intervals by default.
    n, n_treated, n_control, n_dropped : int
        Units used, in all and by arm, and rows left out for missing values.
    share_outside : float
        Share of the estimator's weight on predictions outside the card's support; NaN without a correction.
    n_effective : float
        r2 * n: how many surveyed units the n mapped ones are worth to a corrected effect, where truth varies within the
        arms as it does in the calibration sample and before the calibration's own error; NaN without a correction,
        and in panels and within fixed effects, of which the card's r2 says nothing.
    unit : str
        Unit of the effect, where known.
    notes : tuple of Note
        What a reader must know; each is a string with a `kind`.
    rows : ndarray of int, shape (n,)
        Positions in the data of the units used.
    influence : ndarray, shape (n,)
        Each unit's share in the trial's error of `estimate`; sums of its products are the trial's variance.
    n_params : int
        Estimated coefficients, for small-sample factors of that variance.
    path_slope : float
        The card's slope of prediction on truth, which `path` goes along; NaN without a correction.
    """

    term: str
    outcome: str
    main: Estimate
    naive: Estimate
    corrected: Estimate | None
    method: str
    assumption: str | None
    estimator: str
    vcov: str
    level: float
    n: int
    n_treated: int
    n_control: int
    n_dropped: int = 0
    share_outside: float = math.nan
    n_effective: float = math.nan
    unit: str = ""
    notes: tuple[Note, ...] = field(default=())
    rows: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp), compare=False)
    influence: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), compare=False)
    n_params: int = 0
    path_slope: float = math.nan

    @property
    def estimate(self) -> float:
        """The effect. With ``assumption="bracket"`` the corrected end; see `bracket` for both."""
        return self.main.estimate

    @property
    def std_error(self) -> float:
        """Standard error of `estimate`, trial and calibration together."""
        return self.main.std_error

    @property
    def df(self) -> float:
        """Degrees of freedom of the interval."""
        return self.main.df

    @property
    def statistic(self) -> float:
        """Estimate over standard error."""
        return self.main.statistic

    @property
    def pvalue(self) -> float:
        """Two-sided p-value of no effect. With ``assumption="bracket"`` the larger of both ends' p-values."""
        return max(p_value(end.statistic, end.df) for end in self.reported)

    @property
    def share_calibration(self) -> float:
        """Share of the variance that the calibration sample contributes, 0..1."""
        return self.main.share_calibration

    @property
    def share_trial(self) -> float:
        """Share of the variance that the trial's own units contribute, 0..1."""
        return 1.0 - self.share_calibration

    @property
    def reported(self) -> tuple[Estimate, ...]:
        """The estimate that is meant; with ``assumption="bracket"`` both."""
        return self.bracket or (self.main,)

    @property
    def bracket(self) -> tuple[Estimate, Estimate] | None:
        """With ``assumption="bracket"`` both ends: outcome stability (naive), measurement stability."""
        if self.assumption != "bracket" or self.corrected is None:
            return None
        return self.naive, self.corrected

    def conf_int(self, level: float | None = None, method: IntervalMethod = "delta") -> Interval:
        """Confidence interval of the effect.

        Parameters
        ----------
        level : float, optional
            Confidence level; `self.level` by default.
        method : {"delta", "fieller", "bootstrap"}
            ``delta``: symmetric, with trial and calibration variance. ``fieller``: for a linear correction,
            right also when the slope is weak, and then possibly (-inf, inf); `fieller` tells its true shape.
            ``bootstrap``: the calibration's part from the card's bootstrap draws, in a normal interval.

        Returns
        -------
        (low, high) : tuple of float
            With ``assumption="bracket"`` from the lowest to the highest limit of both ends.
        """
        limits = [end.conf_int(self.level if level is None else level, method) for end in self.reported]
        return min(low for low, _ in limits), max(high for _, high in limits)

    def fieller(self, level: float | None = None) -> FiellerSet:
        """Fieller's confidence set of a linear correction, which need not be an interval."""
        return self.main.fieller(self.level if level is None else level)

    def sensitivity(self, card: CalibrationCard | None = None) -> Sensitivity:
        """How wrong the assumption must be before the conclusion falls; for linear corrections.

        Parameters
        ----------
        card : CalibrationCard, optional
            The card that was used; its residual standard deviation scales differential errors.
        """
        from sustain.causal.result.sensitivity import sensitivity_of

        return sensitivity_of(self, card)

    def path(self, shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> pd.DataFrame:
        """Effects between both assumptions, by how much of the contrast the image shows only through the outcome.

        See `sustain.causal.result.path.visible_share_path`.
        """
        from sustain.causal.result.path import visible_share_path

        return visible_share_path(self, shares)

    def conley_profile(
        self,
        data: pd.DataFrame,
        lat: str,
        lon: str,
        cutoffs_km: Sequence[float] = (25, 50, 100, 200, 400),
    ) -> pd.DataFrame:
        """Give the standard error of the effect by Conley's cutoff.

        See `sustain.causal.result.profile.conley_profile`.
        """
        from sustain.causal.result.profile import conley_profile

        return conley_profile(self, data, lat, lon, cutoffs_km)

    def tidy(self) -> pd.DataFrame:
        """One row per reported estimate, with the columns that broom and pyfixest use."""
        import pandas as pd

        rows = []
        for end, label in zip(self.reported, self._labels(), strict=True):
            low, high = end.conf_int(self.level)
            p = p_value(end.statistic, end.df)
            rows.append((label, end.estimate, end.std_error, end.statistic, p, low, high))
        columns = ["term", "estimate", "std.error", "statistic", "p.value", "conf.low", "conf.high"]
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts (infinite numbers stay floats)."""
        low, high = self.conf_int()
        return {
            "term": self.term,
            "outcome": self.outcome,
            "unit": self.unit,
            "estimate": self.estimate,
            "std_error": self.std_error,
            "conf_low": low,
            "conf_high": high,
            "level": self.level,
            "statistic": self.statistic,
            "p_value": self.pvalue,
            "df": self.df,
            "method": self.method,
            "assumption": self.assumption,
            "estimator": self.estimator,
            "vcov": self.vcov,
            "share_calibration": self.share_calibration,
            "share_trial": self.share_trial,
            "n": self.n,
            "n_treated": self.n_treated,
            "n_control": self.n_control,
            "n_dropped": self.n_dropped,
            "share_outside": self.share_outside,
            "n_effective": self.n_effective,
            "naive": _plain(self.naive, self.level),
            "corrected": None if self.corrected is None else _plain(self.corrected, self.level),
            "notes": [{"kind": note.kind, "text": str(note)} for note in self.notes],
        }

    def summary(self) -> str:
        """Plain text for a reader: the estimates, which one is meant, and every caveat."""
        return summary_text(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the naive and the corrected estimate with their intervals.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        """
        return plot_effects(self, ax)

    def _labels(self) -> tuple[str, ...]:
        if self.bracket is None:
            return (self.term,)
        return f"{self.term} (outcome stability)", f"{self.term} (measurement stability)"

    def __repr__(self) -> str:
        low, high = self.conf_int()
        # A correction that nobody asked for by naming its assumption does not stand alone.
        beside = f"naive {self.naive.estimate:.4g}, " if self.corrected and self.assumption is None else ""
        return (
            f"EffectResult({self.term} on {self.outcome}: {self.estimate:.4g} [{low:.4g}, {high:.4g}], {beside}"
            f"method={self.method!r}, assumption={self.assumption!r}, {self.vcov}, n={self.n})"
        )

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return html_text(self)


def _plain(end: Estimate, level: float) -> dict[str, Any]:
    low, high = end.conf_int(level)
    return {
        "method": end.method,
        "estimate": end.estimate,
        "std_error": end.std_error,
        "conf_low": low,
        "conf_high": high,
        "share_calibration": end.share_calibration,
    }
