"""What a calibration sample says of the errors of its predictions, without fitting a correction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.contrasts.slopes import LevelSlope
from sustain.debias.diagnosis.diagnosis import Bin, Diagnosis, InSample, LineSummary, Shape
from sustain.debias.diagnosis.stability import Stability
from sustain.debias.diagnosis.verdicts import verdicts
from sustain.debias.sample import CalibrationSample
from sustain.errors import CalibrationError, StatisticsError
from sustain.stats.covariance import Wald, robust_or_clustered, wald_test
from sustain.stats.least_squares import least_squares, require_full_rank
from sustain.stats.line import EXACT, Line, weighted_moments

__all__ = ["describe"]

Array = NDArray[np.float64]


def describe(
    sample: CalibrationSample,
    level: float = 0.95,
    *,
    in_sample: InSample | None = None,
    levels: Mapping[str, LevelSlope] | None = None,
    stability: Mapping[str, Stability] | None = None,
) -> Diagnosis:
    """Diagnose a checked sample; what needs more than the sample is passed in. See `sustain.debias.diagnose`."""
    down, up = sample.prediction_on_truth, sample.truth_on_prediction
    found: dict[str, Any] = {
        "n": sample.n,
        "n_groups": sample.n_groups,
        "r2": down.r2,
        "prediction_on_truth": _summary(down, level),
        "truth_on_prediction": _summary(up, level),
        "berkson": _berkson(sample),
        "linearity": _linearity(sample),
        "deciles": _deciles(sample),
        "shape": _shape(sample),
        "support": sample.support,
        "strata": {
            name: _summary(part.prediction_on_truth, level) for name, part in sample.strata_with_lines.items()
        },
        "strata_differ": _strata_differ(sample),
        "slope_without_a_group": _without_a_group(sample),
        "in_sample": in_sample,
        "levels": dict(levels or {}),
        "stability": dict(stability or {}),
        "level": level,
    }
    said = verdicts(Diagnosis(**found, verdicts={}))
    return Diagnosis(**found, verdicts={**sample.weaknesses, **said})  # what is weak is said first


def _summary(line: Line, level: float) -> LineSummary:
    low, high = line.slope_interval(level, CalibrationError)
    return LineSummary(line.slope, line.slope_se, low, high, line.intercept, line.sigma, line.n)


def _at(centre: float, line: Line, sample: CalibrationSample) -> tuple[Array, Array]:
    """Value of a line at `centre` and its slope, with their covariance: far from the data both would cancel."""
    turn = np.array([[1.0, centre], [0.0, 1.0]])
    group = None if sample.in_one_group else sample.group
    cov, _ = robust_or_clustered(line.influence @ turn.T, group, sample.weight, CalibrationError)
    return turn @ [line.intercept, line.slope], cov


def _berkson(sample: CalibrationSample) -> Wald:
    """Test that the truth given the prediction is the prediction."""
    line = sample.truth_on_prediction
    centre = float(np.average(sample.y_pred, weights=sample.weight))
    found, cov = _at(centre, line, sample)
    return wald_test(found - [centre, 1.0], cov, line.df)


def _linearity(sample: CalibrationSample) -> Wald:
    """Wald test of the square and the cube of the truth in E[prediction | truth]."""
    z = (sample.y_true - sample.y_true.mean()) / sample.y_true.std()
    design = np.column_stack([np.ones_like(z), z, z**2, z**3])
    powers = ("truth", "its square", "its cube")
    untestable = Wald(math.nan, (2, sample.n - 4), math.nan)
    if sample.prediction_on_truth.r2 > EXACT:  # residuals of an exact line are rounding, and no test is
        return untestable
    try:
        require_full_rank(design[:, 1:], powers, sample.weight)
    except StatisticsError:  # a truth of two or three values has no cubic
        return untestable
    if sample.noise > 0:
        return _noisy_linearity(sample, z, design, sample.noise / sample.y_true.var())
    coefficients, cov, df = least_squares(
        design[:, 1:],
        powers,
        sample.y_pred,
        sample.weight,
        sample.group,
        0.0,
        CalibrationError,
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
        rows = np.flatnonzero(tenth == k)
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


def _shape(sample: CalibrationSample) -> Shape:
    up = sample.truth_on_prediction
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


def _strata_differ(sample: CalibrationSample) -> Wald | None:
    """Test that all strata share one line of prediction on truth; None with fewer than two."""
    parts = list(sample.strata_with_lines.values())
    if len(parts) < 2:
        return None
    centre = float(np.average(sample.y_true, weights=sample.weight))
    (base, base_cov), *rest = [_at(centre, part.prediction_on_truth, part) for part in parts]
    # Strata are taken as independent; a cluster that crosses strata makes this test a little too eager.
    cov: Array = np.kron(np.ones((len(rest), len(rest))), base_cov).astype(np.float64)
    for k, (_, own_cov) in enumerate(rest):
        cov[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] += own_cov
    apart = np.concatenate([own - base for own, _ in rest])
    return wald_test(apart, cov, min(part.prediction_on_truth.df for part in parts))


def _without_a_group(sample: CalibrationSample) -> tuple[float, float] | None:
    if sample.group is None or sample.n_groups is None:
        return None
    counts = np.ones((sample.n_groups, sample.n_groups)) - np.eye(sample.n_groups)
    m = weighted_moments(sample.y_true, sample.y_pred, sample.weight, sample.group, counts)
    room = m.var_x - sample.noise
    if not (room > 0).all():  # without some group the labels vary less than their noise
        return None
    slopes = m.cov_xy / room
    return float(slopes.min()), float(slopes.max())
