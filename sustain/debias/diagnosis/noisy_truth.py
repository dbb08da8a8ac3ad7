"""Predictions at equal truth where only noisy labels of it are known.

At equal *label* predictions differ between arms that differ in truth, measurement stability or not: of two places with
one label, that of the richer arm is richer. Known noise is taken off as follows. The truth's distribution in each arm
is unfolded from its labels (expectation maximisation from the normal distribution that has the right variance, stopped
early); every column of the curve is replaced by its expectation given label and arm; under measurement stability the
prediction's expectation given these is the curve of the *truth*, whatever its shape. (Regression calibration; Carroll
et al. 2006, chapter 4, doi:10.1201/9781420010138, with distributions by arm.) A treatment of more than two values has
no arms: the truth is then taken to vary by one distribution about a line in it. What the unfolding adds to the variance
is in a jackknife over clusters that repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sustain.debias.diagnosis.curves import FEWEST, CurveTest, Regression, Spline, finish, knots_for
from sustain.errors import StatisticsError
from sustain.stats.hotelling import Joint, f_tail
from sustain.stats.least_squares import Regressors

__all__ = ["same_curve_of_truth"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

GRID = 80  # values of the truth in an arm's distribution
STEPS = 15  # of expectation maximisation
MOST_KNOTS = 6  # noise hides the finer shape of a curve
FOLDS = 50  # sets of clusters that the jackknife leaves out in turn
LEAST = 0.05  # share of a variance that noise must leave


def same_curve_of_truth(
    prediction: Floats,
    label: Floats,
    treatment: Floats,
    covariates: Floats,
    names: Sequence[str],
    group: Codes | None,
    noise: float,
    weight: Floats | None = None,
    error: type[StatisticsError] = StatisticsError,
) -> CurveTest:
    """Test that predictions at equal truth do not change with the treatment, with labels of the truth that hold noise.

    Parameters
    ----------
    prediction, label, treatment : ndarray, shape (n,)
    covariates : ndarray, shape (n, p)
    names : sequence of str
        Of the truth, the treatment and the covariates.
    group : ndarray of int, shape (n,), optional
        Cluster codes.
    noise : float
        Variance of the labels' noise, taken as normal; above 0.
    weight : ndarray, shape (n,), optional
        Sampling weights above zero; only their ratios matter.
    error : type of StatisticsError
        What is raised.

    Raises
    ------
    StatisticsError
        When the noise is as large as what the covariates leave of an arm's labels, or columns are linearly dependent.
    """
    mass = np.ones(label.size) if weight is None else weight
    mean, variance = _moments(label, mass)
    # Of the spread of the truth; where that is too small, `_unfold` says so.
    shrink = math.sqrt(max(LEAST, 1 - noise / variance)) if variance > 0 else 1.0
    knots = max(FEWEST, min(MOST_KNOTS, round(knots_for(label.size, group, weight) / 2)))
    spline = Spline.of(mean + shrink * (label - mean), knots, weight)
    arms = np.unique(treatment)
    # An arm has its own mean; without arms the treatment moves it, as covariates do.
    arm = np.searchsorted(arms, treatment) if arms.size == 2 else np.zeros(label.size, dtype=np.intp)
    moved_by = 1 if arms.size == 2 else 0

    def regression(rows: NDArray[np.bool_]) -> Regression:
        part, w, others = label[rows], mass[rows], covariates[rows]
        columns = np.column_stack([treatment[rows], others])
        coefficients = Regressors.of(columns, names[1:], w, error=error).solve(part)[1:]
        centre = columns[:, moved_by:] @ coefficients[moved_by:]
        curve = np.empty((part.size, spline.width))
        for value in range(1 + moved_by):
            inside = arm[rows] == value
            offset, weights = _unfold(part[inside] - centre[inside], w[inside], noise, error)
            curve[inside] = _expected(spline, centre[inside], offset, weights)
        truth = spline.sd * curve[:, 0]  # its expectation, up to a constant
        truth -= np.average(truth, weights=w)
        return Regression(prediction[rows], treatment[rows], curve, truth, others, names, w, error)

    joint = regression(np.ones(label.size, dtype=bool)).joint(group)
    if not joint.df > 0:
        return finish(joint, spline)  # nothing can be said, and a cluster left out may take an arm with it
    folds = _folds(label, prediction, group)
    n_folds = int(folds.max()) + 1
    without = np.array([regression(folds != fold).gaps() for fold in range(n_folds)])
    away = without - without.mean(axis=0)
    return finish(_with_cov(joint, (n_folds - 1) / n_folds * (away.T @ away), n_folds), spline)


def _with_cov(joint: Joint, cov: Floats, folds: int) -> Joint:
    """Take the jackknife's covariance, and no more degrees of freedom than it has."""
    q = joint.estimate.size
    df = min(joint.df, float(folds - q))
    # In standard errors: a gap and a slope gap have units of their own.
    error = np.sqrt(np.diag(cov))
    error[error == 0] = 1.0
    correlation, standard = cov / np.outer(error, error), joint.estimate / error
    if not df > 0 or np.linalg.matrix_rank(correlation, hermitian=True) < q:
        return Joint(joint.estimate, cov, math.nan, 0.0, math.nan)
    eta = df + q - 1
    distance = float(standard @ np.linalg.solve(correlation, standard))
    statistic = distance * df / (eta * q)
    return Joint(joint.estimate, cov, statistic, df, f_tail(q, df, statistic))


def _moments(values: Floats, weight: Floats) -> tuple[float, float]:
    mean = float(np.average(values, weights=weight))
    return mean, float(np.average((values - mean) ** 2, weights=weight))


def _unfold(
    values: Floats, weight: Floats, noise: float, error: type[StatisticsError]
) -> tuple[Floats, Floats]:
    """Truths on a grid, and of each value the probabilities of these, shape (n, GRID)."""
    mean, variance = _moments(values, weight)
    left = variance - noise
    if left <= LEAST * variance:
        raise error(
            f"target_noise_var: {noise:g} is not below {1 - LEAST:.0%} of the variance of the labels that covariates "
            f"leave in an arm, {variance:.3g}. Give the variance of the labels' sampling error, in squared units of "
            "the label."
        )
    shrink = math.sqrt(left / variance)
    low, high = mean + shrink * (values.min() - mean), mean + shrink * (values.max() - mean)
    pad = 0.5 * math.sqrt(left)
    grid = np.linspace(low - pad, high + pad, GRID)
    likely = np.exp(-((values[:, None] - grid) ** 2) / (2 * noise))
    # A label far beyond the grid is next to its end.
    likely += 1e-12 * np.exp(-np.abs(values[:, None] - grid) / math.sqrt(left))
    share = np.exp(-((grid - mean) ** 2) / (2 * left))
    share /= share.sum()
    for _ in range(STEPS):
        weights = likely * share
        weights /= weights.sum(axis=1, keepdims=True)
        share = np.average(weights, axis=0, weights=weight)
    weights = likely * share
    return grid, weights / weights.sum(axis=1, keepdims=True)


def _expected(spline: Spline, centre: Floats, grid: Floats, weights: Floats) -> Floats:
    """Give the expectation of the spline's columns given each label."""
    if not centre.any():
        return np.asarray(weights @ spline(grid))
    rows = max(1, 4_000_000 // (GRID * max(1, spline.knots.size)))  # at a time, to bound memory
    parts = [
        np.einsum("ij,ijk->ik", weights[at : at + rows], spline(centre[at : at + rows, None] + grid))
        for at in range(0, centre.size, rows)
    ]
    return np.concatenate(parts)


def _folds(label: Floats, prediction: Floats, group: Codes | None) -> Codes:
    """Deal clusters (or rows) into sets to leave out, the same in whatever order rows come."""
    if group is None:
        rank = np.empty(label.size, dtype=np.intp)
        rank[np.lexsort((prediction, label))] = np.arange(label.size)
        codes = rank
    else:
        codes = np.unique(group, return_inverse=True)[1]
    n = int(codes.max()) + 1
    return np.random.default_rng(0).permutation(np.arange(n) % min(FOLDS, n))[codes]
