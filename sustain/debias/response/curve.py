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

__all__ = ["ResponseCurve", "fit_curve"]

Array = NDArray[np.float64]

N_KNOTS, FEW_KNOTS, FEW_ROWS = 10, 6, 500
"""Knots of a curve, and those of one that is learned from fewer than `FEW_ROWS` rows."""

PENALTIES = 10.0 ** np.arange(-6.0, 3.5, 0.5)
"""Weights of the squared second derivative, a row."""

LEAST_PENALTY = 15.0
"""Least penalty times the number of rows: the fewer there are, the more the curve is drawn towards the line."""

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
    centre = float(np.average(y_true, weights=weight))
    scale = float(np.sqrt(np.average((y_true - centre) ** 2, weights=weight)))
    z = (y_true - centre) / scale
    knots = quantile_knots(z, weight, *support_of(z, weight), N_KNOTS if n >= FEW_ROWS else FEW_KNOTS)
    spline = NaturalSpline.on(knots)
    basis = spline(z)
    weighted = basis * weight[:, None]
    gram, cross = weighted.T @ basis, weighted.T @ sample.y_pred
    penalty = _penalty(sample, spline, basis)
    system = gram + _ridge(spline, penalty, n)
    bread = np.linalg.inv(system)
    values = bread @ cross
    influence = (weighted * (sample.y_pred - basis @ values)[:, None]) @ bread
    cov, cov_df = robust_or_clustered(influence, sample.group, weight)
    df = float(np.trace(bread @ gram))
    return ResponseCurve(centre, scale, spline, values, penalty, df, cov, float(cov_df))


def _penalty(sample: CalibrationSample, spline: NaturalSpline, basis: Array) -> float:
    weighted = basis * sample.weight[:, None]
    if sample.group is None:
        fold = np.zeros(sample.n, dtype=np.intp)
    else:
        fold = sample.group % min(N_FOLDS, int(sample.group.max()) + 1)
    folds = [np.flatnonzero(fold == number) for number in range(int(fold.max()) + 1)]
    grams = np.stack([weighted[rows].T @ basis[rows] for rows in folds])
    crosses = np.stack([weighted[rows].T @ sample.y_pred[rows] for rows in folds])
    gram, cross = grams.sum(axis=0), crosses.sum(axis=0)
    best = math.inf, 0.0
    for penalty in np.maximum(PENALTIES, LEAST_PENALTY / sample.n):
        ridge = _ridge(spline, penalty, sample.n)
        if sample.group is None:
            values = np.linalg.solve(gram + ridge, cross)
            df = float(np.trace(np.linalg.solve(gram + ridge, gram)))
            left = float(sample.weight @ (sample.y_pred - basis @ values) ** 2)
            score = left / (1 - df / sample.n_effective) ** 2
        else:
            score = 0.0
            for rows, part, right in zip(folds, grams, crosses, strict=True):
                values = np.linalg.solve(gram - part + ridge, cross - right)
                score += float(sample.weight[rows] @ (sample.y_pred[rows] - basis[rows] @ values) ** 2)
        best = min(best, (score, float(penalty)))
    return best[1]


def _ridge(spline: NaturalSpline, penalty: float, n: int) -> Array:
    return np.asarray(n * (penalty * spline.roughness + 1e-9 * np.eye(spline.knots.size)))
