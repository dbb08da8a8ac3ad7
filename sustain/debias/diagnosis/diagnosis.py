"""The result of a diagnosis: numbers, what follows in words, and a picture."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sustain.debias.contrasts.slopes import LevelSlope
from sustain.debias.diagnosis.stability import Stability
from sustain.stats.covariance import Wald, critical_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bin", "Diagnosis", "InSample", "LineSummary", "Shape"]


@dataclass(frozen=True)
class LineSummary:
    """A regression slope with its interval, and the intercept of the line."""

    slope: float
    std_error: float
    low: float
    high: float
    intercept: float
    residual_sd: float
    n: int


@dataclass(frozen=True)
class Bin:
    """One tenth of the sample by truth: how far the predictions are off there."""

    mean_true: float
    bias: float
    std_error: float
    n: int


@dataclass(frozen=True)
class Shape:
    """Distribution of the truth about its best linear prediction."""

    skewness: float
    excess_kurtosis: float
    variance_trend: Wald


@dataclass(frozen=True)
class InSample:
    """Residual standard deviation of the truth given the prediction, in training and held out."""

    train_sd: float
    held_out_sd: float
    ratio: float


@dataclass(frozen=True)
class Diagnosis:
    """How predictions err. Printed, it is a short report; `to_dict` gives plain numbers.

    Attributes
    ----------
    n, n_groups : int
        Pairs, clusters (None without groups).
    r2 : float
        Squared correlation.
    prediction_on_truth, truth_on_prediction : LineSummary
        Below one, the first says that effects which reach the image only through the truth come out too small;
        the second is one for predictions that are right on average at every predicted value (Berkson errors).
    berkson : Wald
        Test that the truth given the prediction is the prediction: intercept 0 and slope 1.
    linearity : Wald
        Test that E[prediction | truth] is a line, against a cubic: what the linear correction assumes. Noise of the
        labels, taken as normal, is allowed for.
    deciles : tuple of Bin
        Bias (prediction less truth) by tenth of the truth.
    shape : Shape
        Residuals: Tweedie's formula assumes normal ones, the published estimator also ones of one size.
    support : tuple of float
        Range of predictions in which a correction can be learned.
    strata : dict of str to LineSummary
        Slope of prediction on truth within each stratum of at least 20 pairs.
    strata_differ : Wald or None
        Test that all strata share one line of prediction on truth.
    slope_without_a_group : tuple of float or None
        Least and greatest slope of prediction on truth when one cluster is left out.
    in_sample : InSample or None
        Comparison with training rows, when they were given.
    levels : dict of str to LevelSlope
        Slope of prediction on truth by level of variation, when levels were given.
    stability : dict of str to Stability
        Tests of outcome and of measurement stability on curves, by treatment-like covariate.
    level : float
        Confidence level of the intervals.
    verdicts : dict of str to str
        What follows, in words.
    """

    n: int
    n_groups: int | None
    r2: float
    prediction_on_truth: LineSummary
    truth_on_prediction: LineSummary
    berkson: Wald
    linearity: Wald
    deciles: tuple[Bin, ...]
    shape: Shape
    support: tuple[float, float]
    strata: dict[str, LineSummary]
    strata_differ: Wald | None
    slope_without_a_group: tuple[float, float] | None
    in_sample: InSample | None
    levels: dict[str, LevelSlope]
    stability: dict[str, Stability]
    level: float
    verdicts: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as dictionaries, lists and numbers."""
        return asdict(self)

    def __str__(self) -> str:
        groups = "" if self.n_groups is None else f" in {self.n_groups} groups"
        lines = [f"{self.n} pairs{groups}, r2 {self.r2:.3f}"]
        lines += [f"- {name}: {verdict}" for name, verdict in self.verdicts.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in self.verdicts.items()
        )
        return f"<p>{html.escape(str(self).splitlines()[0])}</p><table>{rows}</table>"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the bias by tenth of the truth, with its confidence intervals."""
        from matplotlib import pyplot

        if ax is None:
            ax = pyplot.subplots(layout="constrained")[1]
        margin = critical_value(self.level)
        ax.axhline(0, color="0.6", linewidth=1)
        ax.errorbar(
            [item.mean_true for item in self.deciles],
            [item.bias for item in self.deciles],
            yerr=[margin * item.std_error for item in self.deciles],
            fmt="o",
            capsize=3,
            label=f"mean of a tenth, {self.level:.0%} interval",
        )
        ax.legend(frameon=False)
        ax.set_xlabel("mean truth of the tenth")
        ax.set_ylabel("prediction less truth")
        return ax
