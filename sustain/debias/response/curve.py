"""The response curve: the mean prediction at a given truth, E[prediction | truth]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import CalibrationSample
from sustain.debias.table import support_of
from sustain.stats.covariance import robust_or_clustered
from sustain.stats.natural_spline import NaturalSpline, quantile_knots

__all__ = ["ResponseCurve", "fit_curve", "knots_for", "penalty_for", "ridge_of"]

Array = NDArray[np.float64]

N_KNOTS, FEW_KNOTS, FEW_ROWS = 10, 6, 500
"""Knots of a curve, and those of one that is learned from fewer than `FEW_ROWS` rows."""

PENALTIES = 10.0 ** np.arange(-6.0, 3.5, 0.5)
"""Weights of the squared second derivative, a row."""

LEAST_PENALTY = 1500.0
"""Least penalty times the squared number of rows: the fewer there are, the more the curve is drawn to the line."""

N_FOLDS = 10


@dataclass(frozen=True)
class ResponseCurve:
    """A penalised natural cubic spline of prediction on truth, straight beyond the outermost knots.

    Attributes
    ----------
    centre, scale : float
        Mean and standard deviation of the truth, by which it is standardised.
    spline : NaturalSpline
        On the standardised truth.
    values : ndarray, shape (k,)
        Of the curve at its knots.
    penalty : float
        Of the squared second derivative, chosen by generalised cross-validation.
    df : float
        Effective number of parameters.
    cov : ndarray, shape (k, k)
        Covariance of the values, clustered where rows are.
    cov_df : float
        Its degrees of freedom.
    """

    centre: float
    scale: float
    spline: NaturalSpline
    values: Array
    penalty: float
    df: float
    cov: Array
    cov_df: float

    def basis(self, y_true: Array) -> Array:
        """Basis of the curve at a truth, shape (n, k)."""
        return self.spline((y_true - self.centre) / self.scale)

    def __call__(self, y_true: Array) -> Array:
        """Mean prediction at a truth."""
        return np.asarray(self.basis(y_true) @ self.values)


def fit_curve(sample: CalibrationSample) -> ResponseCurve:
    """Learn the response curve of a sample.

    The penalty makes generalised cross-validation least (Craven and Wahba 1979), or with groups cross-validation by
    folds of whole groups, and is not under a floor that falls with the number of rows. The covariance is the sandwich
    of penalised least squares, ``H^-1 sum_g s_g s_g' H^-1`` with the scores s_g of rows or clusters and the penalised
    Gram matrix H.
    """
    weight, y_true, n = sample.weight, sample.y_true, sample.n
    middle = float(np.average(sample.y_pred, weights=weight))
    y_pred = sample.y_pred - middle  # the ridge draws towards zero, whatever the predictions' origin
    centre = float(np.average(y_true, weights=weight))
    scale = float(np.sqrt(np.average((y_true - centre) ** 2, weights=weight)))
    z = (y_true - centre) / scale
    spline = NaturalSpline.on(quantile_knots(z, weight, *support_of(z, weight), knots_for(n)))
    basis = spline(z)
    weighted = basis * weight[:, None]
    gram, cross = weighted.T @ basis, weighted.T @ y_pred
    penalty = penalty_for(sample, spline, basis)
    bread = np.linalg.inv(gram + ridge_of(spline, penalty, n))
    values = bread @ cross
    influence = (weighted * (y_pred - basis @ values)[:, None]) @ bread
    cov, cov_df = robust_or_clustered(influence, sample.group, weight)
    df = float(np.trace(bread @ gram))
    return ResponseCurve(centre, scale, spline, values + middle, penalty, df, cov, float(cov_df))


def knots_for(n: int) -> int:
    """Knots of a curve that is learned from `n` rows."""
    return N_KNOTS if n >= FEW_ROWS else FEW_KNOTS


def penalty_for(sample: CalibrationSample, spline: NaturalSpline, basis: Array) -> float:
    """Penalty by cross-validation of the regression of predictions on a basis, shape (n, k)."""
    y_pred = sample.y_pred - np.average(sample.y_pred, weights=sample.weight)
    weighted = basis * sample.weight[:, None]
    if sample.group is None:
        fold = np.zeros(sample.n, dtype=np.intp)
    else:
        fold = sample.group % min(N_FOLDS, int(sample.group.max()) + 1)
    folds = [np.flatnonzero(fold == number) for number in range(int(fold.max()) + 1)]
    grams = np.stack([weighted[rows].T @ basis[rows] for rows in folds])
    crosses = np.stack([weighted[rows].T @ y_pred[rows] for rows in folds])
    gram, cross = grams.sum(axis=0), crosses.sum(axis=0)
    best = math.inf, 0.0
    for penalty in np.maximum(PENALTIES, LEAST_PENALTY / sample.n_effective**2):
        ridge = ridge_of(spline, penalty, sample.n)
        if sample.group is None:
            values = np.linalg.solve(gram + ridge, cross)
            df = float(np.trace(np.linalg.solve(gram + ridge, gram)))
            left = float(sample.weight @ (y_pred - basis @ values) ** 2)
            score = left / max(1 - df / sample.n_effective, 1e-3) ** 2
        else:
            score = 0.0
            for rows, part, right in zip(folds, grams, crosses, strict=True):
                values = np.linalg.solve(gram - part + ridge, cross - right)
                score += float(sample.weight[rows] @ (y_pred[rows] - basis[rows] @ values) ** 2)
        best = min(best, (score, float(penalty)))
    return best[1]


def ridge_of(spline: NaturalSpline, penalty: float, n: float) -> Array:
    """Penalty of `n` rows as a matrix, with a trace of a ridge for knots that no row is near."""
    return np.asarray(n * (penalty * spline.roughness + 1e-9 * np.eye(spline.knots.size)))
