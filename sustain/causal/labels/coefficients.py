"""Coefficients of a regression, as an estimator for `sustain.causal.predict_then_debias`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.causal.trial.reader import read
from sustain.errors import EffectError
from sustain.stats.least_squares import Regressors

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RegressionCoefficients", "least_squares"]


@dataclass(frozen=True)
class RegressionCoefficients:
    """Regression for `predict_then_debias`, which counts the degrees of freedom of its coefficients.

    Attributes
    ----------
    outcome : str
    regressors : tuple of str
    weights : str or None
    """

    outcome: str
    regressors: tuple[str, ...]
    weights: str | None = None

    def __call__(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Coefficients, the constant first."""
        read.require_columns(rows, (self.outcome,))
        return self.design(rows).solve(read.vector(f"column {self.outcome!r}", rows[self.outcome]))

    def design(self, rows: pd.DataFrame) -> Regressors:
        """Constant and regressors, orthogonalised."""
        weighted = () if self.weights is None else (self.weights,)
        read.require_columns(rows, (*self.regressors, *weighted))
        columns = [read.vector(f"column {name!r}", rows[name]) for name in self.regressors]
        table = np.column_stack(columns) if columns else np.empty((len(rows), 0))
        given = None if self.weights is None else rows[self.weights]
        weight = read.weights(f"column {self.weights!r}", given, len(rows), like="data")
        return Regressors.of(table, self.regressors, weight, error=EffectError)


def least_squares(
    outcome: str, regressors: Sequence[str], weights: str | None = None
) -> RegressionCoefficients:
    """Coefficients of a regression of `outcome` on a constant and `regressors`, for `predict_then_debias`.

    Parameters
    ----------
    outcome : str
    regressors : sequence of str
        Columns; none gives the mean, and one of 0 and 1 a mean and a difference in means.
    weights : str, optional
        Column of weights.

    Returns
    -------
    RegressionCoefficients
        Called with rows it gives the coefficients, the constant first, shape (1 + k,).
    """
    return RegressionCoefficients(outcome, tuple(read.names("regressors", regressors)), weights)
