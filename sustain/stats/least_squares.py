"""Least squares that is safe with any scale of columns; dependent columns are an error that names them.

Columns are centred and scaled before anything is decided or solved, so that years, populations, GDP in currency units
and products of UTM coordinates are as good as standardised ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.errors import StatisticsError
from sustain.stats.covariance import robust_or_clustered

__all__ = ["Regressors", "least_squares", "require_full_rank"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

CONSTANT = "the constant"

DEPENDENT = (
    1e-10  # share of a centred column that others leave of it, up to which it counts as explained by them
)

ROUNDING = 1e-13  # share of a column as it came, up to which what is left of it is rounding


@dataclass(frozen=True)
class Regressors:
    """Columns of a weighted regression: checked for rank, orthogonalised, with the way back to their own scale.

    With X the columns and w the weights, ``root[:, None] * X = basis @ inv(back)`` where root is the square root of w.

    Attributes
    ----------
    basis : ndarray, shape (n, k)
        Orthonormal basis of the weighted columns, in their order.
    root : ndarray, shape (n,)
        Square roots of the weights.
    back : ndarray, shape (k, k)
        Takes coefficients on `basis` to those on the columns, so that ``back @ back.T`` is the inverse of ``X'WX``.
    """

    basis: Floats
    root: Floats
    back: Floats

    @classmethod
    def of(
        cls,
        columns: Floats,
        names: Sequence[str],
        weight: Floats | None = None,
        *,
        constant: bool = True,
        size: Floats | None = None,
        error: type[StatisticsError] = StatisticsError,
    ) -> Regressors:
        """Check and orthogonalise columns.

        Parameters
        ----------
        columns : ndarray, shape (n, p)
            Finite; without the constant.
        names : sequence of str, length p
            For the error.
        weight : ndarray, shape (n,), optional
            Weights of zero or more; all alike by default.
        constant : bool
            Whether a column of ones comes before `columns`; then k is p + 1.
        size : ndarray, shape (p,), optional
            Norm of each weighted column before something was taken out of it (fixed effects); by default that of the
            columns as they are.
        error : type of StatisticsError
            What is raised.

        Raises
        ------
        StatisticsError
            When there are no more rows than columns, or a column is constant or a combination of those before it.
        """
        n, k = len(columns), columns.shape[1] + constant
        if n <= k:
            raise error(f"too few units: {n} units for {k} coefficients. Use fewer covariates.")
        root = np.ones(n) if weight is None else np.sqrt(weight)
        mass = root @ root
        mean = root**2 @ columns / mass if constant else np.zeros(columns.shape[1])
        centred = root[:, None] * (columns - mean)
        norm = np.linalg.norm(centred, axis=0)
        # A column as it came says how large its rounding is; one that is all rounding is not scaled up to one.
        whole = np.hypot(norm, np.abs(mean) * math.sqrt(mass)) if size is None else size
        scale = np.where(norm > 0, norm, 1.0)
        scaled = centred / scale
        labels = [*([CONSTANT] if constant else []), *names]
        if constant:
            scaled = np.column_stack([root / math.sqrt(mass), scaled])
            norm, whole = np.append(math.sqrt(mass), norm), np.append(math.sqrt(mass), whole)
        basis, upper = np.linalg.qr(scaled)
        left = np.abs(np.diag(upper))
        own = np.append(1.0, scale) if constant else scale
        least = np.maximum(DEPENDENT, ROUNDING * whole / own)
        _refuse_dependent(labels, left <= least, error, "" if size is None else "the fixed effects and ")
        inverse = np.linalg.solve(upper, np.eye(len(upper)))
        back = inverse / np.append(math.sqrt(mass), scale)[:, None] if constant else inverse / scale[:, None]
        if constant:
            back[0] -= mean @ back[1:]
        return cls(basis, root, back)

    def solve(self, y: Floats) -> Floats:
        """Coefficients of the regression of `y`, shape (n,) or (n, m), on the columns, the constant first."""
        return np.asarray(self.back @ (self.basis.T @ (y.T * self.root).T))

    def residual(self, y: Floats) -> Floats:
        """Residuals of `y`, shape (n,); rows of no weight have `y` itself less what the others predict."""
        seen = self.root > 0
        weighted = self.root * y
        left = weighted - self.basis @ (self.basis.T @ weighted)
        return np.asarray(np.divide(left, self.root, out=np.zeros_like(left), where=seen))

    def influence(self, residual: Floats) -> Floats:
        """Influence of every row on the coefficients, shape (n, k): they sum to the error of the estimate."""
        return np.asarray((self.basis * (self.root * residual)[:, None]) @ self.back.T)


def require_full_rank(
    columns: Floats,
    names: Sequence[str],
    weight: Floats | None = None,
    error: type[StatisticsError] = StatisticsError,
) -> None:
    """Raise `error` unless the columns and a constant are linearly independent; see `Regressors.of`."""
    Regressors.of(columns, names, weight, error=error)


def _refuse_dependent(
    names: Sequence[str], dependent: NDArray[np.bool_], error: type[StatisticsError], absorbed: str = ""
) -> None:
    found = [name for name, bad in zip(names, dependent, strict=True) if bad]
    if found:
        raise error(
            f"singular design: {', '.join(map(str, found))} is constant or a linear combination of {absorbed}the "
            f"columns before it ({', '.join(map(str, names))}). Drop it from the covariates."
        )


def least_squares(
    columns: Floats,
    names: Sequence[str],
    y: Floats,
    weight: Floats,
    group: Codes | None,
    noise_var: Floats | float = 0.0,
    error: type[StatisticsError] = StatisticsError,
) -> tuple[Floats, Floats, int]:
    """Regress on a constant and columns, with a robust covariance: (coefficients, covariance, degrees of freedom).

    Parameters
    ----------
    columns : ndarray, shape (n, p)
        Without the constant, whose coefficient comes first.
    names : sequence of str, length p
    y : ndarray, shape (n,)
    weight : ndarray, shape (n,)
        With a mean of one.
    group : ndarray of int, shape (n,), optional
        Cluster codes; with them the covariance is CRV1, else HC1.
    noise_var : ndarray, shape (p,) or (n, p), or float
        Variance of the noise in each column (and row), independent of all else; taken off the moments (Fuller 1987,
        section 2.2, doi:10.1002/9780470316665).
    error : type of StatisticsError
        What is raised.

    Raises
    ------
    StatisticsError
        When columns are dependent, or the noise is as large as what the other columns leave of the variance of its own.
    """
    found = Regressors.of(columns, names, weight, error=error)
    noise = np.broadcast_to(np.asarray(noise_var, dtype=np.float64), columns.shape)
    if not noise.any():
        coefficients = found.solve(y)
        influence = found.influence(y - coefficients[0] - columns @ coefficients[1:])
        return coefficients, *robust_or_clustered(influence, group, weight, error)
    # In an orthonormal basis: whether noise exceeds what is left of a variance must not depend on units, nor on how
    # alike columns without noise are (a year and its cube).
    n = y.size
    back = found.back * math.sqrt(n)
    z = np.divide(
        found.basis, found.root[:, None], out=np.zeros_like(found.basis), where=found.root[:, None] > 0
    )
    z *= math.sqrt(n)
    noise = np.column_stack([np.zeros(n), noise])
    products = np.eye(len(back)) - (back.T * (weight[:, None] * noise).mean(axis=0)) @ back
    if np.linalg.eigvalsh(products)[0] <= DEPENDENT:
        raise error(
            f"target_noise_var: {np.max(noise_var):g} is not below the variance of the labels that the covariates "
            "leave unexplained. Give the variance of the labels' sampling error, in squared units of the label."
        )
    # The response too, for its level is large where its spread is small.
    centre = float(np.average(y, weights=weight))
    standard = np.linalg.solve(products, z.T @ (weight * (y - centre)) / n)
    residual = y - centre - z @ standard
    pieces = weight[:, None] * (z * residual[:, None] + (noise * (back @ standard)) @ back)
    influence = np.linalg.solve(products, pieces.T).T / n
    coefficients = back @ standard
    coefficients[0] += centre
    return coefficients, *robust_or_clustered(influence @ back.T, group, weight, error)
