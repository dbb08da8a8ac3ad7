"""What each population's rows say of its own response curve: how it differs from the common one in a few shapes.

The shapes are a constant, a straight line and bends, orthonormal over the pooled rows and each the least rough of all
that are orthogonal to those before (Demmler and Reinsch 1975, doi:10.1007/BF01437407). A population's coordinates in
them are least squares on the residuals of the common curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.model import ResponseModel
from sustain.debias.response.noisy_labels import expected_basis
from sustain.debias.sample import CalibrationSample
from sustain.stats.covariance import robust_or_clustered
from sustain.stats.natural_spline import NaturalSpline

__all__ = ["OwnCurves", "own_curves", "shapes_of"]

Array = NDArray[np.float64]

N_SHAPES = 6
"""A constant, a line and four bends."""

PRIOR_DF = 30.0
"""Degrees of freedom at which a population's own robust covariance counts as much as the one that all have in common,
scaled to it."""

_RIDGE = (
    0.01  # rows that say that a shape's coordinate is zero: rows that do not span the shapes have no inverse
)


@dataclass(frozen=True)
class OwnCurves:
    """Estimates of S populations.

    Attributes
    ----------
    estimates : ndarray, shape (S, r)
        Coordinates of a population's curve less the common one, in the shapes.
    variances : ndarray, shape (S, r, r)
        Their covariances.
    df : ndarray, shape (S,)
        Degrees of freedom of these.
    log_scale, log_scale_var : ndarray, shape (S,)
        Logarithm of the residuals' standard deviation over that of the common kernel, and its sampling variance.
    residual_variances : ndarray, shape (S,)
        Of the predictions about a population's curve; drawn towards the pooled one in small populations.
    """

    estimates: Array
    variances: Array
    df: Array
    log_scale: Array
    log_scale_var: Array
    residual_variances: Array


def shapes_of(model: ResponseModel, sample: CalibrationSample) -> tuple[Array, Array]:
    """Values of the shapes at the knots of the curve, shape (k, r), and coordinates in them of such values, (r, k).

    The shapes are orthonormal over the sample's rows; the coordinates are those of the nearest curve over these.
    """
    from scipy.linalg import eigh

    spline = NaturalSpline.on(model.knots)
    basis = spline((sample.y_true - model.centre) / model.scale)
    gram = (basis * sample.weight[:, None]).T @ basis / sample.weight.sum()
    ridge = 1e-9 * np.eye(len(gram))
    bends = eigh(spline.roughness, gram + ridge)[1][:, 2:N_SHAPES]
    plain = np.column_stack([np.ones(model.knots.size), model.knots, bends])
    shapes = plain @ np.linalg.inv(np.linalg.cholesky(plain.T @ gram @ plain)).T
    return shapes, shapes.T @ gram


def own_curves(model: ResponseModel, parts: list[CalibrationSample], shapes: Array) -> OwnCurves:
    """Estimate how the curve of each part differs from the model's.

    Covariances are robust, or clustered; in a part of few rows or clusters such a covariance is itself noise, so it is
    weighed with one that follows from the part's rows and the pooled residual variance, times how far robust
    covariances exceed such ones in all parts together.
    """
    r = shapes.shape[1]
    spline = NaturalSpline.on(model.knots)
    variance = _kernel_variance(model)
    estimates, robust, dfs, squares, grams = [], [], [], [], []
    log_scale, log_scale_var = [], []
    for part in parts:
        basis = spline((part.y_true - model.centre) / model.scale)
        unseen: Array = np.zeros(part.n)
        if part.noise > 0:
            basis, unseen = expected_basis(part, model.truth, model.basis, model.pooled.values)
        columns = basis @ shapes
        weighted = columns * part.weight[:, None]
        gram = weighted.T @ columns + _RIDGE * np.eye(r)
        inverse = np.linalg.inv(gram)
        from_common = part.y_pred - basis @ model.pooled.values
        found = inverse @ (weighted.T @ from_common)
        left = from_common - columns @ found
        estimates.append(found)
        grams.append(inverse * part.weight.sum() / part.n_effective)
        squares.append(float(part.weight @ left**2))
        if part.n > 2 * r and not part.in_one_group:
            cov, df = robust_or_clustered((weighted * left[:, None]) @ inverse, part.group, part.weight)
        else:
            cov, df = np.zeros((r, r)), 0
        robust.append(cov)
        dfs.append(float(df))
        relative = (left**2 - unseen) / np.interp(part.y_true, model.kernel.truth.x, variance)
        mean = float(np.average(relative, weights=part.weight)) * part.n / max(part.n - r, 1)
        kurtosis = float(np.average(relative**2, weights=part.weight)) / max(mean, 1e-300) ** 2
        log_scale.append(0.5 * np.log(max(mean, 1e-12)))
        log_scale_var.append(max(kurtosis - 1, 1.0) / (4 * part.n_effective))
    rows = np.array([part.n for part in parts], dtype=np.float64)
    pooled_variance = sum(squares) / max(float((rows - r).sum()), 1.0)
    residual_variances = (np.array(squares) + PRIOR_DF * pooled_variance) / (rows + PRIOR_DF)
    usual = np.array(grams) * residual_variances[:, None, None]
    freedom = np.array(dfs)
    variances = _weighed(np.array(robust), usual, freedom)
    return OwnCurves(
        np.array(estimates),
        variances,
        freedom,
        np.array(log_scale),
        np.array(log_scale_var),
        residual_variances,
    )


def _kernel_variance(model: ResponseModel) -> Array:
    residual = model.kernel.residual.x
    mean = model.kernel.density @ residual
    return np.asarray(model.kernel.density @ residual**2 - mean**2)


def _weighed(robust: Array, usual: Array, df: Array) -> Array:
    """Robust covariances, drawn towards the usual ones times the mean excess of all."""
    size, axes = np.linalg.eigh(usual)
    root = (axes * np.sqrt(size)[:, None, :]) @ np.swapaxes(axes, 1, 2)
    back = np.linalg.inv(root)
    excess = np.eye(usual.shape[1])
    if df.sum() > 0:
        excess = np.einsum("s,sij->ij", df, back @ robust @ back) / df.sum()
    share = (df / (df + PRIOR_DF))[:, None, None]
    return np.asarray(share * robust + (1 - share) * (root @ excess @ root))
