"""Diagnostics: what kind of errors predictions make, and what may be corrected."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.bridge.calibration import BridgeCalibration
from sustain.debias.diagnosis.diagnosis import Bin, Diagnosis, InSample, Shape, Slope, Stability
from sustain.debias.diagnosis.verdicts import IN_SAMPLE_RATIO, verdicts
from sustain.debias.level import LevelCalibration, LevelSlope
from sustain.debias.sample import MIN_PAIRS, CalibrationSample, as_sample, noise_variance, read
from sustain.debias.table import support_of
from sustain.errors import CalibrationError, InSampleWarning
from sustain.stats.covariance import Wald, wald_test
from sustain.stats.line import EXACT, Line, fit_line, least_squares, robust_or_clustered, weighted_moments

__all__ = ["describe", "diagnose"]

Array = NDArray[np.float64]


def diagnose(
    y_pred: Any,
    y_true: Any,
    *,
    sample_weight: Any = None,
    groups: Any = None,
    strata: Any = None,
    target_noise_var: float = 0.0,
    train: tuple[Any, Any] | None = None,
    levels: Mapping[str, Any] | None = None,
    treatment_like: Mapping[str, Any] | None = None,
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
    levels : mapping of str to array_like, shape (n,), optional
        Group labels, coarse to fine, for slopes by level of variation; see `LevelCalibration`.
    treatment_like : mapping of str to array_like, shape (n,), optional
        Covariates that resemble the trial's treatment (near a road, in an exposed region, an earlier programme), to
        test measurement and outcome stability with.
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
    for argument, columns in (("levels", levels), ("treatment_like", treatment_like)):
        for name, values in (columns or {}).items():
            read.require_same_index(f"{argument}[{name!r}]", values, "y_pred", y_pred)
    held_out = fit_line(sample.y_pred, sample.y_true, sample.weight).sigma
    return describe(
        sample,
        noise,
        None if train is None else _in_sample(train, held_out),
        level,
        j_test=_j_test(sample, noise),
        levels={} if not levels else _by_level(sample, levels, strata, noise),
        stability={
            name: _stability(name, values, sample, noise) for name, values in (treatment_like or {}).items()
        },
    )


def describe(
    sample: CalibrationSample,
    noise: float,
    in_sample: InSample | None,
    level: float,
    *,
    j_test: Wald | None = None,
    levels: dict[str, LevelSlope] | None = None,
    stability: dict[str, Stability] | None = None,
) -> Diagnosis:
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
        "linearity": _linearity(sample, down.r2, noise),
        "deciles": _deciles(sample),
        "shape": _shape(sample, up),
        "support": support_of(x, weight),
        "strata": strata_slopes,
        "strata_differ": strata_differ,
        "slope_without_a_group": _without_a_group(sample, noise),
        "in_sample": in_sample,
        "j_test": j_test,
        "levels": levels or {},
        "stability": stability or {},
        "level": level,
    }
    return Diagnosis(**found, verdicts=verdicts(Diagnosis(**found, verdicts={})))


def _slope(line: Line, level: float) -> Slope:
    low, high = line.slope_interval(level)
    return Slope(line.slope, line.slope_se, low, high, line.intercept, line.sigma, line.n)


def _linearity(sample: CalibrationSample, r2: float, noise: float) -> Wald:
    """Wald test of the square and the cube of the truth in E[prediction | truth]."""
    z = (sample.y_true - sample.y_true.mean()) / sample.y_true.std()
    design = np.column_stack([np.ones_like(z), z, z**2, z**3])
    # A truth of two or three values has no cubic; residuals of an exact line are rounding, and no test is.
    if np.linalg.matrix_rank(design) < 4 or r2 > EXACT:
        return Wald(math.nan, (2, sample.n - 4), math.nan)
    if noise > 0:
        return _noisy_linearity(sample, z, design, noise / sample.y_true.var())
    coefficients, cov, df = least_squares(
        design[:, 1:], ("truth", "its square", "its cube"), sample.y_pred, sample.weight, sample.group
    )
    return wald_test(coefficients[2:], cov[2:, 2:], df)


def _noisy_linearity(sample: CalibrationSample, z: Array, powers: Array, noise: float) -> Wald:
    """Test that a line in the truth meets the moments of the square and the cube of noisy labels.

    At equal *labels* predictions bend wherever the truth is not normal. The moments of the truth are those of the
    labels less noise times the instruments' derivatives, for normal noise (Stein's lemma).
    """
    weight = sample.weight[:, None]
    slopes = np.column_stack([np.zeros_like(z), np.ones_like(z), 2 * z, 3 * z**2])
    along = powers * z[:, None] - noise * slopes
    crossed = np.column_stack([(weight * powers).mean(axis=0), (weight * along).mean(axis=0)])
    bread = np.linalg.inv(crossed[:2])
    intercept, slope = bread @ (weight * powers * sample.y_pred[:, None]).mean(axis=0)[:2]
    pieces = weight * (powers * (sample.y_pred - intercept)[:, None] - slope * along)
    # With the influence of the two estimated coefficients taken into account.
    left = pieces[:, 2:] - pieces[:, :2] @ (crossed[2:] @ bread).T
    over = left.mean(axis=0)
    cov, df = robust_or_clustered((left - weight * over) / sample.n, sample.group, sample.weight)
    return wald_test(over, cov, df)


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
    coefficients, cov, df = least_squares(
        z[:, None], ("prediction",), residual**2 / scale, sample.weight, sample.group
    )
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
        rows = np.flatnonzero((sample.stratum == code) & (sample.weight > 0))
        if rows.size < MIN_PAIRS:
            continue
        part = sample.take(rows)
        group = None if part.in_one_group else part.group
        try:
            line = fit_line(part.y_true, part.y_pred, part.weight, group, noise)
        except CalibrationError:  # labels that vary less than their noise have no slope
            continue
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
    m = weighted_moments(sample.y_true, sample.y_pred, sample.weight, sample.group, counts)
    room = m.var_x - noise
    if not (room > 0).all():  # without some group the labels vary less than their noise
        return None
    slopes = m.cov_xy / room
    return float(slopes.min()), float(slopes.max())


def _in_sample(train: tuple[Any, Any], held_out_sd: float) -> InSample:
    x = read.vector("train[0]", train[0])
    y = read.vector("train[1]", train[1], x.size)
    read.require_same_index("train[1]", train[1], "train[0]", train[0])
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


def _j_test(sample: CalibrationSample, noise: float) -> Wald | None:
    bridge = BridgeCalibration(min_r2=0.0)  # weakness has a verdict of its own
    try:
        bridge._fit_sample(sample, noise)
    except CalibrationError:
        return None  # predictions that carry no correction have no bridge to test against
    return bridge.j_test_


def _by_level(
    sample: CalibrationSample, levels: Mapping[str, Any], strata: Any, noise: float
) -> dict[str, LevelSlope]:
    found = LevelCalibration().fit(
        sample.y_pred,
        sample.y_true,
        levels,
        sample_weight=sample.weight,
        groups=sample.group,
        strata=strata,
        target_noise_var=noise,
    )
    return found.levels_


def _stability(name: str, values: Any, sample: CalibrationSample, noise: float) -> Stability:
    """Regress truth on prediction and covariate, and prediction on truth and covariate (Dell & Rambachan 2026).

    Noise of the labels is taken off in the second: at equal *noisy* truth, predictions would differ with any covariate
    that the truth differs with.
    """
    covariate = read.vector(f"treatment_like[{name!r}]", values, sample.n)
    if not np.ptp(covariate) > 0:
        raise CalibrationError(
            f"treatment_like: {name!r} is {covariate[0]:g} in every row; it tests nothing."
        )
    exact = fit_line(sample.y_true, sample.y_pred, sample.weight).r2 > EXACT
    gaps = []
    for outcome, given, noisy in (
        (sample.y_true, sample.y_pred, 0.0),
        (sample.y_pred, sample.y_true, noise),
    ):
        coefficients, cov, df = least_squares(
            np.column_stack([given, covariate]),
            ("truth or prediction", f"treatment_like[{name!r}]"),
            outcome,
            sample.weight,
            sample.group,
            np.array([noisy, 0.0]),
            CalibrationError,
        )
        # Residuals of an exact line are rounding, and no test is.
        p_value = math.nan if exact else wald_test(coefficients[2:], cov[2:, 2:], df).p_value
        gaps += [float(coefficients[2]), math.sqrt(float(cov[2, 2])), p_value]
    return Stability(*gaps)
