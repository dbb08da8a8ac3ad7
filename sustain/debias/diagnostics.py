"""Diagnostics: what kind of errors predictions make, and what may be corrected."""

from __future__ import annotations

import html
import math
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.regression import Line, Wald, critical_value, fit_line, least_squares, moments, wald_test
from sustain.debias.sample import MIN_PAIRS, CalibrationSample, as_sample, as_vector, noise_variance
from sustain.debias.table import support_of
from sustain.errors import InSampleWarning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bin", "Diagnosis", "InSample", "Shape", "Slope", "describe", "diagnose"]

Array = NDArray[np.float64]

IN_SAMPLE_RATIO = 0.9  # of the held-out residual sd; a training residual sd below it shows memory
USELESS_R2 = 0.1


@dataclass(frozen=True)
class Slope:
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
    prediction_on_truth, truth_on_prediction : Slope
        Below one, the first says that effects which reach the image only through the truth come out too small;
        the second is one for predictions that are right on average at every predicted value (Berkson errors).
    berkson : Wald
        Test that the truth given the prediction is the prediction: intercept 0 and slope 1.
    linearity : Wald
        Test that E[prediction | truth] is a line, against a cubic: what the linear correction assumes.
    deciles : tuple of Bin
        Bias (prediction less truth) by tenth of the truth.
    shape : Shape
        Residuals: Tweedie's formula assumes normal ones of one size.
    support : tuple of float
        Range of predictions in which a correction can be learned.
    strata : dict of str to Slope
        Slope of prediction on truth within each stratum of at least 20 pairs.
    strata_differ : Wald or None
        Test that all strata share one line of prediction on truth.
    slope_without_a_group : tuple of float or None
        Least and greatest slope of prediction on truth when one cluster is left out.
    in_sample : InSample or None
        Comparison with training rows, when they were given.
    level : float
        Confidence level of the intervals.
    verdicts : dict of str to str
        What follows, in words.
    """

    n: int
    n_groups: int | None
    r2: float
    prediction_on_truth: Slope
    truth_on_prediction: Slope
    berkson: Wald
    linearity: Wald
    deciles: tuple[Bin, ...]
    shape: Shape
    support: tuple[float, float]
    strata: dict[str, Slope]
    strata_differ: Wald | None
    slope_without_a_group: tuple[float, float] | None
    in_sample: InSample | None
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
        )
        ax.set_xlabel("mean truth of the tenth")
        ax.set_ylabel("prediction less truth")
        return ax


def diagnose(
    y_pred: Any,
    y_true: Any,
    *,
    sample_weight: Any = None,
    groups: Any = None,
    strata: Any = None,
    target_noise_var: float = 0.0,
    train: tuple[Any, Any] | None = None,
    level: float = 0.95,
) -> Diagnosis:
    """Describe the errors of predictions on calibration rows.

    Parameters
    ----------
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels.
    sample_weight, groups, strata : array_like, shape (n,), optional
        Sampling weights; clusters for all covariances; strata such as urban and rural.
    target_noise_var : float
        Variance of the labels' sampling error.
    train : pair of array_like, optional
        Predictions and labels of training rows, to show what in-sample errors would have hidden.
    level : float
        Confidence level.

    Raises
    ------
    CalibrationError
        On unusable rows; see `LinearCalibration.fit`.

    Warns
    -----
    InSampleWarning
        When training residuals are more than 10% smaller than held-out ones: a correction fitted on training rows
        would be too weak.
    """
    sample = as_sample(y_pred, y_true, sample_weight, groups, strata)
    noise = noise_variance(target_noise_var)
    held_out = fit_line(sample.y_pred, sample.y_true, sample.weight).sigma
    return describe(sample, noise, None if train is None else _in_sample(train, held_out), level)


def describe(sample: CalibrationSample, noise: float, in_sample: InSample | None, level: float) -> Diagnosis:
    """Diagnose a checked sample; see `diagnose`."""
    x, y, weight, group = sample.y_pred, sample.y_true, sample.weight, sample.group
    down, up = fit_line(y, x, weight, group, noise), fit_line(x, y, weight, group)
    strata_slopes, strata_differ = _by_stratum(sample, noise, level)
    found: dict[str, Any] = {
        "n": sample.n,
        "n_groups": sample.n_groups,
        "r2": down.r2,
        "prediction_on_truth": _slope(down, level),
        "truth_on_prediction": _slope(up, level),
        "berkson": wald_test(np.array([up.intercept, up.slope - 1.0]), up.cov, up.df),
        "linearity": _linearity(sample),
        "deciles": _deciles(sample),
        "shape": _shape(sample, up),
        "support": support_of(x, weight),
        "strata": strata_slopes,
        "strata_differ": strata_differ,
        "slope_without_a_group": _without_a_group(sample, noise),
        "in_sample": in_sample,
        "level": level,
    }
    return Diagnosis(**found, verdicts=_verdicts(Diagnosis(**found, verdicts={})))


def _slope(line: Line, level: float) -> Slope:
    low, high = line.slope_interval(level)
    return Slope(line.slope, line.slope_se, low, high, line.intercept, line.sigma, line.n)


def _linearity(sample: CalibrationSample) -> Wald:
    """Wald test of the square and the cube of the truth in E[prediction | truth]."""
    z = (sample.y_true - sample.y_true.mean()) / sample.y_true.std()
    design = np.column_stack([np.ones_like(z), z, z**2, z**3])
    if np.linalg.matrix_rank(design) < 4:  # a truth of two or three values has no cubic
        return Wald(math.nan, (2, sample.n - 4), math.nan)
    coefficients, cov, df = least_squares(design, sample.y_pred, sample.weight, sample.group)
    return wald_test(coefficients[2:], cov[2:, 2:], df)


def _deciles(sample: CalibrationSample) -> tuple[Bin, ...]:
    """Bias by weighted tenth of the truth; standard errors are clustered where groups are given."""
    order = np.argsort(sample.y_true, kind="stable")
    share = np.cumsum(sample.weight[order]) - sample.weight[order] / 2
    tenth = np.empty(sample.n, dtype=np.intp)
    tenth[order] = np.minimum((10 * share / sample.weight.sum()).astype(np.intp), 9)
    bins = []
    for k in range(10):
        rows = np.flatnonzero((tenth == k) & (sample.weight > 0))
        if rows.size < 2:
            continue
        weight = sample.weight[rows] / sample.weight[rows].sum()
        error = sample.y_pred[rows] - sample.y_true[rows]
        bias = float(weight @ error)
        pieces = weight * (error - bias)
        if sample.group is not None:
            pieces = np.bincount(np.unique(sample.group[rows], return_inverse=True)[1], weights=pieces)
        few = pieces.size / max(1, pieces.size - 1)
        std_error = math.sqrt(float(pieces @ pieces) * few)
        bins.append(Bin(float(weight @ sample.y_true[rows]), bias, std_error, rows.size))
    return tuple(bins)


def _shape(sample: CalibrationSample, up: Line) -> Shape:
    residual = sample.y_true - up.intercept - up.slope * sample.y_pred
    weight = sample.weight / sample.weight.sum()
    residual = residual - weight @ residual
    variance = float(weight @ residual**2)
    scale = variance if variance > 0 else 1.0
    z = (sample.y_pred - sample.y_pred.mean()) / sample.y_pred.std()
    # Breusch and Pagan's regression of squared residuals, with a covariance that does not assume normality.
    design = np.column_stack([np.ones_like(z), z])
    coefficients, cov, df = least_squares(design, residual**2 / scale, sample.weight, sample.group)
    trend = (
        wald_test(coefficients[1:], cov[1:, 1:], df) if variance > 0 else Wald(math.nan, (1, df), math.nan)
    )
    return Shape(
        skewness=float(weight @ residual**3) / scale**1.5,
        excess_kurtosis=float(weight @ residual**4) / scale**2 - 3.0,
        variance_trend=trend,
    )


def _by_stratum(
    sample: CalibrationSample, noise: float, level: float
) -> tuple[dict[str, Slope], Wald | None]:
    if sample.stratum is None:
        return {}, None
    slopes, lines = {}, []
    for code, name in enumerate(sample.stratum_names):
        rows = np.flatnonzero(sample.stratum == code)
        if rows.size < MIN_PAIRS:
            continue
        part = sample.take(rows)
        group = part.group if part.n_groups is not None and part.n_groups > 1 else None
        line = fit_line(part.y_true, part.y_pred, part.weight, group, noise)
        slopes[name] = _slope(line, level)
        lines.append(line)
    if len(lines) < 2:
        return slopes, None
    # Strata are taken as independent; a cluster that crosses strata makes this test a little too eager.
    base, rest = lines[0], lines[1:]
    own = [np.array([line.intercept - base.intercept, line.slope - base.slope]) for line in rest]
    cov: Array = np.kron(np.ones((len(rest), len(rest))), base.cov).astype(np.float64)
    for k, line in enumerate(rest):
        cov[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] += line.cov
    return slopes, wald_test(np.concatenate(own), cov, min(line.df for line in lines))


def _without_a_group(sample: CalibrationSample, noise: float) -> tuple[float, float] | None:
    if sample.group is None or sample.n_groups is None:
        return None
    counts = np.ones((sample.n_groups, sample.n_groups)) - np.eye(sample.n_groups)
    m = moments(sample.y_true, sample.y_pred, sample.weight, sample.group, counts)
    slopes = m.cov_xy / (m.var_x - noise)
    return float(slopes.min()), float(slopes.max())


def _in_sample(train: tuple[Any, Any], held_out_sd: float) -> InSample:
    x = as_vector("train[0]", train[0])
    y = as_vector("train[1]", train[1], x.size)
    line = fit_line(x, y, np.ones(x.size))
    ratio = line.sigma / held_out_sd if held_out_sd > 0 else math.nan
    if ratio < IN_SAMPLE_RATIO:
        warnings.warn(
            f"Residuals of the training rows have a standard deviation of {line.sigma:.3g}, held-out ones of "
            f"{held_out_sd:.3g}. Calibrate on held-out rows only: training rows hide {1 - ratio:.0%} of the error.",
            InSampleWarning,
            stacklevel=3,
        )
    return InSample(line.sigma, held_out_sd, ratio)


def _verdicts(d: Diagnosis) -> dict[str, str]:
    alpha, b, up = 1 - d.level, d.prediction_on_truth, d.truth_on_prediction
    interval = f"{b.slope:.3f} [{b.low:.3f}, {b.high:.3f}]"
    if b.low <= 0:
        shrinkage = f"the slope of prediction on truth, {interval}, may be zero: nothing can be corrected."
    elif b.high < 1:
        shrinkage = (
            f"slope of prediction on truth {interval}: an effect that reaches the image only through the truth "
            f"comes out at {b.slope:.0%} of its size; one that the image shows by itself needs no correction."
        )
    else:
        shrinkage = (
            f"slope of prediction on truth {interval}: no clear shrinkage; a correction adds noise only."
        )
    verdicts = {"shrinkage": shrinkage}
    if d.r2 < USELESS_R2:
        verdicts["strength"] = f"predictions explain {d.r2:.1%} of the variance: too little to correct with."
    told = f"truth on prediction {up.slope:.3f} [{up.low:.3f}, {up.high:.3f}], intercept {up.intercept:.3g}"
    verdicts["level and scale"] = (
        f"{told}; p = {d.berkson.p_value:.2g}: predictions are off in level or scale; recalibrate them."
        if d.berkson.p_value < alpha
        else f"{told}; p = {d.berkson.p_value:.2g}: right on average at every predicted value."
    )
    if d.linearity.p_value < alpha:
        verdicts["linearity"] = (
            f"E[prediction | truth] is curved (p = {d.linearity.p_value:.2g}): one slope does not serve all levels."
        )
    else:
        verdicts["linearity"] = (
            f"no sign of curvature in E[prediction | truth] (p = {d.linearity.p_value:.2g})."
        )
    if d.shape.variance_trend.p_value < alpha or abs(d.shape.skewness) > 0.5:
        verdicts["residuals"] = (
            f"skewness {d.shape.skewness:.2f}, variance changes with the prediction "
            f"(p = {d.shape.variance_trend.p_value:.2g}): Tweedie's formula assumes normal errors of one size."
        )
    if d.strata_differ is not None:
        slopes = ", ".join(f"{name} {item.slope:.3f}" for name, item in d.strata.items())
        verdicts["strata"] = (
            f"slopes {slopes}; p = {d.strata_differ.p_value:.2g} that they share one line: "
            + ("calibrate within strata." if d.strata_differ.p_value < alpha else "one line will do.")
        )
    if d.slope_without_a_group is not None:
        low, high = d.slope_without_a_group
        verdicts["single groups"] = f"leaving one group out moves the slope between {low:.3f} and {high:.3f}."
    if d.in_sample is not None:
        verdicts["in sample"] = f"training residuals are {d.in_sample.ratio:.2f} times the held-out ones" + (
            ": calibrate on held-out rows only." if d.in_sample.ratio < IN_SAMPLE_RATIO else "."
        )
    return verdicts
