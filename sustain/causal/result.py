"""What an effect estimate says: the number, its interval, and what they rest on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal, Self

from sustain.causal.variance import FiellerSet, critical_value, fieller_set, p_value
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sustain.causal.sensitivity import Sensitivity
    from sustain.debias import CalibrationCard

__all__ = ["EffectResult", "Estimate", "Note"]

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
    """

    method: str
    estimate: float
    variance_trial: float
    variance_calibration: float
    df: float
    variance_draws: float = math.nan
    slope: float = math.nan
    slope_var: float = math.nan

    @property
    def std_error(self) -> float:
        """Standard error with both parts."""
        return math.sqrt(self.variance_trial + self.variance_calibration)

    @property
    def share_calibration(self) -> float:
        """Share of the variance that the calibration sample contributes, 0..1."""
        total = self.variance_trial + self.variance_calibration
        return self.variance_calibration / total if total > 0 else 0.0

    def fieller(self, level: float) -> FiellerSet:
        """Fieller's set of a linear correction (of a naive estimate: its ordinary interval)."""
        critical = critical_value(level, self.df)
        if self.method == "none":
            return fieller_set(self.estimate, self.variance_trial, 1.0, 0.0, critical)
        if math.isnan(self.slope):
            raise EffectError(
                f"method='fieller' is an interval of a ratio, and {self.method!r} is not a division by a "
                "slope. Use method='delta' or 'bootstrap'."
            )
        effect, effect_var = self.estimate * self.slope, self.variance_trial * self.slope**2
        return fieller_set(effect, effect_var, self.slope, self.slope_var, critical)

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
                    f"method='bootstrap' needs bootstrap draws of {self.method!r} in the card, and it holds "
                    "none. Use method='delta', or build the card with n_boot."
                )
            error = math.sqrt(self.variance_trial + calibration)
        else:
            raise EffectError(f"method: got {method!r}, expected 'delta', 'fieller' or 'bootstrap'.")
        half = critical_value(level, self.df) * error
        return self.estimate - half, self.estimate + half


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
        r2 * n: how many surveyed units the n mapped ones are worth; NaN without a card.
    unit : str
        Unit of the effect, where known.
    notes : tuple of Note
        What a reader must know; each is a string with a `kind`.
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
        return _ratio(self.estimate, self.std_error)

    @property
    def pvalue(self) -> float:
        """Two-sided p-value of no effect. With ``assumption="bracket"`` the larger of both ends' p-values."""
        return max(p_value(_ratio(end.estimate, end.std_error), end.df) for end in self._ends())

    @property
    def share_calibration(self) -> float:
        """Share of the variance that the calibration sample contributes, 0..1."""
        return self.main.share_calibration

    @property
    def share_trial(self) -> float:
        """Share of the variance that the trial's own units contribute, 0..1."""
        return 1.0 - self.share_calibration

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
            exact also when the slope is weak, and then possibly (-inf, inf); `fieller` tells its true shape.
            ``bootstrap``: the calibration's part from the card's bootstrap draws, in a normal interval.

        Returns
        -------
        (low, high) : tuple of float
            With ``assumption="bracket"`` from the lowest to the highest limit of both ends.
        """
        limits = [end.conf_int(self.level if level is None else level, method) for end in self._ends()]
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
        from sustain.causal.sensitivity import sensitivity_of

        return sensitivity_of(self, card)

    def tidy(self) -> pd.DataFrame:
        """One row per reported estimate, with the columns that broom and pyfixest use."""
        import pandas as pd

        rows = []
        for end, label in zip(self._ends(), self._labels(), strict=True):
            low, high = end.conf_int(self.level)
            statistic = _ratio(end.estimate, end.std_error)
            rows.append(
                (label, end.estimate, end.std_error, statistic, p_value(statistic, end.df), low, high)
            )
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
        unit = f" ({self.unit})" if self.unit else ""
        lines = [
            f"Effect of {self.term} on {self.outcome}{unit}",
            f"{self.estimator}, {self.vcov}; n = {self.n} ({self.n_treated} treated, {self.n_control} "
            "control)",
            f"assumption: {self.assumption or 'none named'}",
            "",
            f"{'':26}{'estimate':>10}{'std.error':>11}{f'{100 * self.level:.4g}% interval':>24}{'calibration':>13}",
        ]
        reported = self._ends()
        for end in (self.naive, self.corrected):
            if end is not None:
                low, high = end.conf_int(self.level)
                name = "naive (no correction)" if end.method == "none" else f"corrected ({end.method})"
                lines.append(
                    f"{'>' if end in reported else ' '} {name:24}{end.estimate:>10.4g}{end.std_error:>11.4g}"
                    f"{f'{low:.4g} to {high:.4g}':>24}{end.share_calibration:>13.0%}"
                )
        if self.bracket is not None:
            low, high = self.conf_int()
            lines.append(f"  {'both ends':24}{'':>21}{f'{low:.4g} to {high:.4g}':>24}")
        lines.append(
            "  (> what the method and the assumption lead to; calibration: its share of the variance)"
        )
        if self.notes:
            lines += ["", *(fill(f"{note.kind}: {note}", 88, subsequent_indent="  ") for note in self.notes)]
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the naive and the corrected estimate with their intervals.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(figsize=(6, 1.8), layout="constrained")[1] if ax is None else ax
        ends = [end for end in (self.corrected, self.naive) if end is not None]
        for height, end in enumerate(ends):
            low, high = end.conf_int(self.level)
            colour = "C0" if end in self._ends() else "0.6"
            axes.plot([low, high], [height, height], color=colour, solid_capstyle="butt")
            axes.plot(end.estimate, height, "o", color=colour)
        axes.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(ends)), ["naive" if end.method == "none" else end.method for end in ends])
        axes.set_ylim(-0.6, len(ends) - 0.4)
        axes.set_xlabel(f"effect of {self.term} on {self.outcome}" + (f" ({self.unit})" if self.unit else ""))
        return axes

    def _ends(self) -> tuple[Estimate, ...]:
        return self.bracket or (self.main,)

    def _labels(self) -> tuple[str, ...]:
        if self.bracket is None:
            return (self.term,)
        return f"{self.term} (outcome stability)", f"{self.term} (measurement stability)"

    def __repr__(self) -> str:
        low, high = self.conf_int()
        return (
            f"EffectResult({self.term} on {self.outcome}: {self.estimate:.4g} [{low:.4g}, {high:.4g}], "
            f"method={self.method!r}, assumption={self.assumption!r}, {self.vcov}, n={self.n})"
        )

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        table = self.tidy().to_html(index=False, border=0, float_format=lambda value: f"{value:.4g}")
        head = (
            f"{self.estimator}, {self.vcov}; n = {self.n}; method {self.method}; assumption {self.assumption}"
        )
        notes = "".join(f"<li><b>{escape(note.kind)}</b>: {escape(note)}</li>" for note in self.notes)
        return f"<p>{escape(head)}</p>{table}<ul>{notes}</ul>"


def _ratio(estimate: float, error: float) -> float:
    if error > 0:
        return estimate / error
    return math.nan if estimate == 0 else math.copysign(math.inf, estimate)


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
