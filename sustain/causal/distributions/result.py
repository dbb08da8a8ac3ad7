"""What is said of a treatment's effect on a distribution: tables, sentences and a picture."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.distributions.arms import Measured
from sustain.causal.distributions.figure import draw_distributions
from sustain.causal.estimate import Estimate, Interval, Note
from sustain.causal.fit import FittedDesign
from sustain.causal.result.correction_notes import support_notes, weak_model_notes
from sustain.causal.result.notes import cluster_notes, dependence_notes, dropped_notes, few_units_notes
from sustain.causal.result.screen import on_a_screen, wrapped
from sustain.causal.result.table import EffectTable, number
from sustain.errors import EffectError
from sustain.stats.covariance import p_value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sustain.debias import CalibrationCard

__all__ = ["DistributionResult", "distribution_notes"]

FAR = 0.1  # share of the treated beyond the curve's ends that is said
_QUANTILES = (
    "Intervals of low quantiles and of the poorest third are too short where a treatment lifts all units clear of the "
    "lower end: in trials made of real tables they covered far less often than those of headcounts. Take headcounts."
)
ARMS = ("control", "treated", "effect")
THIRDS = {1 / 3: "poorest third", 2 / 3: "middle third", 1.0: "richest third"}


@dataclass(frozen=True, repr=False)
class DistributionResult:
    """The effect of a treatment on the distribution of an outcome that was read off a map.

    Attributes
    ----------
    term, outcome, unit : str
        Columns of treatment and outcome; unit of the truth.
    measured : tuple of Measured
        Headcounts, shortfalls, quantiles and gains, in both arms and their difference.
    band : tuple of Measured
        Share below evenly spaced truths, for `plot`.
    mean : Measured
        Mean truth of the two distributions.
    truth, control, treated : ndarray, shape (m,)
        Nodes of the truth, and the unfolded distributions on them.
    estimator, vcov : str
    level : float
    n, n_treated, n_dropped : int
        Units, those treated, and rows left out.
    r2 : float
        Of the card.
    extrapolated : float
        Share of the treated whose truth lies beyond the ends of the response curve.
    notes : tuple of Note
    """

    term: str
    outcome: str
    unit: str
    measured: tuple[Measured, ...]
    band: tuple[Measured, ...]
    mean: Measured
    truth: NDArray[np.float64]
    control: NDArray[np.float64]
    treated: NDArray[np.float64]
    estimator: str
    vcov: str
    level: float
    n: int
    n_treated: int
    n_dropped: int
    r2: float
    extrapolated: float
    notes: tuple[Note, ...]

    def get(self, kind: str, at: float) -> Measured:
        """Look up a measure, such as ``get("headcount", -0.5)``; of gains `at` is the third, 1, 2 or 3."""
        at = at / 3 if kind == "gain" else at
        for item in self.measured:
            if item.kind == kind and math.isclose(item.at, at, rel_tol=1e-9, abs_tol=1e-12):
                return item
        known = ", ".join(f"{item.kind} {item.at:.4g}" for item in self.measured)
        raise EffectError(f"kind, at: {kind!r} at {at:.4g} was not measured; known: {known}.")

    def conf_int(self, end: Estimate, kind: str = "", arm: str = "effect") -> Interval:
        """Interval of an estimate; of an arm's share it does not leave 0 to 1, of a shortfall not fall below 0."""
        low, high = end.conf_int(self.level)
        if arm != "effect" and kind in ("headcount", "shortfall"):
            low, high = max(low, 0.0), max(high, 0.0)
        if arm != "effect" and kind == "headcount":
            low, high = min(low, 1.0), min(high, 1.0)
        return low, high

    def tidy(self) -> pd.DataFrame:
        """One row a measure and arm (control, treated, effect), with broom's columns.

        ``term`` is the measure's kind, ``at`` its line or quantile (of a gain the quantile at the upper end of the
        third). ``share.calibration`` is the calibration sample's share of the variance, ``share.unfolding`` that of
        the bias which unfolding may leave (of effects only).
        """
        import pandas as pd

        rows = []
        for item in (*self.measured, *_as_mean(self.mean)):
            for arm in ARMS:
                end: Estimate = getattr(item, arm)
                low, high = self.conf_int(end, item.kind, arm)
                rows.append(
                    {
                        "term": item.kind,
                        "at": item.at,
                        "arm": arm,
                        "estimate": end.estimate,
                        "std.error": end.std_error,
                        "statistic": end.statistic,
                        "p.value": p_value(end.statistic, end.df),
                        "conf.low": low,
                        "conf.high": high,
                        "share.calibration": end.share_calibration,
                        "share.unfolding": item.share_unfolding if arm == "effect" else math.nan,
                    }
                )
        return pd.DataFrame(rows)

    def distributions(self) -> pd.DataFrame:
        """Give the two distributions: share of units below evenly spaced truths, with pointwise intervals."""
        import pandas as pd

        rows = []
        for item in self.band:
            row = {"truth": item.at}
            for arm in ARMS:
                end: Estimate = getattr(item, arm)
                row[arm] = end.estimate
                row[f"{arm}.low"], row[f"{arm}.high"] = self.conf_int(end, "headcount", arm)
            rows.append(row)
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts."""
        return {
            "term": self.term,
            "outcome": self.outcome,
            "unit": self.unit,
            "estimator": self.estimator,
            "vcov": self.vcov,
            "level": self.level,
            "n": self.n,
            "n_treated": self.n_treated,
            "n_control": self.n - self.n_treated,
            "n_dropped": self.n_dropped,
            "card_r2": self.r2,
            "extrapolated": self.extrapolated,
            "measures": [
                {str(key).replace(".", "_"): value for key, value in row.items() if value == value}
                for row in self.tidy().to_dict("records")
            ],
            "distributions": [
                {str(key).replace(".", "_"): value for key, value in row.items()}
                for row in self.distributions().to_dict("records")
            ],
            "notes": [{"kind": note.kind, "text": str(note)} for note in self.notes],
        }

    def summary(self, details: bool = False, beside: Sequence[tuple[str, str]] = ()) -> str:
        """Plain text: each measure in both arms, its effect with an interval, and every caveat.

        At most a screen, on which long caveats are cut after their first sentence; with `details` all of them.
        `beside` has further caveats, by kind, of who read the trial.
        """
        unit = f" ({self.unit})" if self.unit else ""
        lines = [
            f"Effect of {self.term} on the distribution of {self.outcome}{unit}",
            f"{self.estimator}, {self.vcov}",
            f"n = {self.n} ({self.n_treated} treated, {self.n - self.n_treated} control)",
            *wrapped(
                "assumption: measurement stability (given the truth, predictions are alike in both arms and in the "
                "calibration sample)"
            ),
            f"card: its predictions explain {self.r2:.1%} of the variance of the labels (r2)",
            "",
            f"{'':26}{'control':>10}{'treated':>10}{'effect':>10}{f'{100 * self.level:.4g}% interval':>24}"
            f"{'calibration':>13}{'unfolding':>11}",
        ]
        for name, item in self._named():
            low, high = self.conf_int(item.effect)
            lines.append(
                f"{name:26}{item.control.estimate:>10.4g}{item.treated.estimate:>10.4g}{item.effect.estimate:>10.4g}"
                f"{f'{low:.4g} to {high:.4g}':>24}{item.effect.share_calibration:>13.0%}{item.share_unfolding:>11.0%}"
            )
        lines.append(
            "(calibration, unfolding: shares of the variance; the latter for bias that unfolding may leave)"
        )
        return on_a_screen(lines, [*((note.kind, str(note)) for note in self.notes), *beside], details)

    def table(self) -> EffectTable:
        """Measures in both arms and their effects, for readers: LaTeX, Markdown or HTML."""
        rows = []
        for name, item in self._named():
            low, high = self.conf_int(item.effect)
            numbers = (number(getattr(item, arm).estimate, 3) for arm in ARMS)
            error, interval = number(item.effect.std_error, 3), f"[{number(low, 3)}, {number(high, 3)}]"
            rows.append((name, (*numbers, f"({error})", interval)))
        notes = (
            f"Effect of {self.term} on the distribution of {self.outcome}; {self.estimator}, {self.vcov}; "
            f"{self.n} units, {self.n_treated} treated.",
            "Standard errors in parentheses carry the calibration's uncertainty; measurement stability is supposed.",
        )
        heads = (*ARMS, "std. error", f"{100 * self.level:.4g}% interval")
        return EffectTable(heads, tuple(rows), (), notes)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of units below each truth in both arms, with bands, and the lines of headcounts."""
        return draw_distributions(self.distributions(), self.lines, self.unit, self.level, ax)

    @property
    def lines(self) -> tuple[float, ...]:
        """Lines of headcounts and shortfalls."""
        return tuple(sorted({item.at for item in self.measured if item.kind in ("headcount", "shortfall")}))

    def _named(self) -> list[tuple[str, Measured]]:
        return [(_name(item), item) for item in (*self.measured, *_as_mean(self.mean))]

    def __repr__(self) -> str:
        return (
            f"DistributionResult({self.term} on {self.outcome}: {len(self.measured)} measures, {self.estimator}, "
            f"{self.vcov}, n={self.n})"
        )

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        titles = ("", "control", "treated", "effect", f"{100 * self.level:.4g}% interval")
        rows = []
        for name, item in self._named():
            low, high = self.conf_int(item.effect)
            numbers = (getattr(item, arm).estimate for arm in ARMS)
            cells = (name, *(f"{number:.4g}" for number in numbers), f"{low:.4g} to {high:.4g}")
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        head = "".join(f"<th>{title}</th>" for title in titles)
        notes = "".join(f"<li><b>{escape(note.kind)}</b>: {escape(note)}</li>" for note in self.notes)
        about = (
            f"Effect of {self.term} on the distribution of {self.outcome}: {self.estimator}, {self.vcov}; "
            f"n = {self.n}; r2 of the card {self.r2:.3f}"
        )
        return (
            f"<p>{escape(about)}</p><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
            f"<ul>{notes}</ul>"
        )


def distribution_notes(
    card: CalibrationCard,
    fitted: FittedDesign,
    kinds: Collection[str],
    gap: Estimate | None,
    share_outside: float,
    extrapolated: float,
    level: float,
) -> tuple[Note, ...]:
    """Everything that a reader must know.

    Parameters
    ----------
    kinds : collection of str
        Of measures that are given.
    gap : Estimate or None
        Gain of the poorest third less that of the richest; None where gains are not asked for.
    share_outside : float
        Of the estimator's weight, on predictions outside the card's support.
    extrapolated : float
        Share of the treated beyond the ends of the response curve.
    """
    units, spec = fitted.units, fitted.vcov
    notes = [Note(kind, text) for kind, text in (*fitted.estimator.notes, *fitted.trial.notes)]
    notes += dropped_notes(units) + few_units_notes(units) + dependence_notes(fitted.design, spec)
    for column in spec.columns if spec.kind in ("CRV1", "CR2") else ():
        notes += cluster_notes(units, fitted.estimator.weights, column, spec.kind)
    notes += support_notes(card, share_outside, stacklevel=5) + weak_model_notes(card, stacklevel=5)
    if "quantile" in kinds or "gain" in kinds:
        notes.append(Note("quantiles", _QUANTILES))
    if gap is not None:
        notes.append(Note("order", _gains(gap, level)))
    if extrapolated > FAR:
        text = (
            f"{extrapolated:.0%} of the treated are beyond the truths that shaped the response curve, where it is "
            "straight. Calibrate on places like theirs."
        )
        notes.append(Note("extrapolated", text))
    return tuple(notes)


def _gains(gap: Estimate, level: float) -> str:
    low, high = gap.conf_int(level)
    text = (
        "Gains of thirds suppose that the treatment leaves the order of units as it was; otherwise they are "
        "differences of the two distributions, and nobody's gains. "
    )
    between = f"The poorest third gains {gap.estimate:.3g} more than the richest ({low:.3g} to {high:.3g})"
    if low <= 0 <= high:
        return text + between + ": who gains more cannot be told."
    return text + between + "."


def _name(item: Measured) -> str:
    if item.kind == "gain":
        return next(name for end, name in THIRDS.items() if math.isclose(end, item.at))
    if item.kind == "mean":
        return "mean"
    if item.kind == "quantile":
        return f"quantile {item.at:.4g}"
    return f"{item.kind} below {item.at:.4g}"


def _as_mean(item: Measured) -> tuple[Measured]:
    return (replace(item, kind="mean"),)
