"""Columns to adjust for, as a matrix: named columns as they are, or the terms of a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Columns", "Covariates", "Terms"]

Floats = NDArray[np.float64]
Matrix = tuple[Floats, tuple[str, ...]]


class Covariates(Protocol):
    """What to adjust for: the columns it is made of, and the matrix it becomes."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that it needs; a row that lacks one of them is left out."""

    def matrix(self, data: pd.DataFrame) -> Matrix:
        """Values, shape (n, k), and names of the k columns, for rows without missing values."""


@dataclass(frozen=True)
class Columns:
    """Columns by name; text and categories become dummies, the first category left out.

    Attributes
    ----------
    columns : tuple of str
    role : str
        Argument that named them, for errors.
    """

    columns: tuple[str, ...]
    role: str

    @classmethod
    def of(cls, names: str | Sequence[str] | None, role: str) -> Columns:
        """Columns from one name, several or none."""
        if names is None:
            return cls((), role)
        return cls((names,) if isinstance(names, str) else tuple(names), role)

    def matrix(self, data: pd.DataFrame) -> Matrix:
        """Values and names; raises `EffectError` on dates and infinite values."""
        import pandas as pd

        if not self.columns:
            return np.empty((len(data), 0)), ()
        table = data[list(self.columns)].reset_index(drop=True)
        text = [name for name in self.columns if not pd.api.types.is_numeric_dtype(table[name])]
        wrong = [name for name in text if pd.api.types.is_datetime64_any_dtype(table[name])]
        if wrong:
            raise EffectError(
                f"{self.role}: {wrong[0]!r} is a date. Turn it into numbers (years) or categories first."
            )
        # As objects, so that a category which no used row has makes no column of zeros.
        table = table.astype(dict.fromkeys(text, object))
        return _finite(pd.get_dummies(table, columns=text, drop_first=True, dtype=float), self.role)


@dataclass(frozen=True)
class Terms:
    """Right-hand side of a formula, as `formulaic` reads it: transforms, interactions, ``C()`` for categories.

    Attributes
    ----------
    formula : Any
        A ``formulaic.Formula`` with a constant, which is not part of the matrix.
    role : str
        Part of the formula, for errors.
    """

    formula: Any
    role: str = "formula"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that the terms use, in alphabetical order."""
        return tuple(sorted(map(str, self.formula.required_variables)))

    def matrix(self, data: pd.DataFrame) -> Matrix:
        """Values and names; raises `EffectError` where a term cannot be computed."""
        from formulaic.errors import FormulaicError  # type: ignore[import-untyped]

        table = data[list(self.columns)].reset_index(drop=True)
        # As objects, so that a category which no used row has makes no column of zeros.
        unused = [name for name in self.columns if isinstance(table[name].dtype, _categorical())]
        table = table.astype(dict.fromkeys(unused, object))
        if not len(self.formula) or [str(term) for term in self.formula] == ["1"]:
            return np.empty((len(data), 0)), ()
        try:
            # An empty context: a term sees the data and formulaic's own functions, not the caller's variables.
            matrix = self.formula.get_model_matrix(table, context={}, na_action="ignore", output="pandas")
        except (FormulaicError, TypeError, ValueError) as error:
            raise EffectError(f"{self.role}: {self.formula} cannot be computed: {error}") from error
        return _finite(matrix.drop(columns="Intercept"), self.role)


def _categorical() -> type:
    import pandas as pd

    return pd.CategoricalDtype


def _finite(table: pd.DataFrame, role: str) -> Matrix:
    values = table.to_numpy(dtype=float)
    if not np.all(np.isfinite(values)):
        worst = table.columns[~np.isfinite(values).all(axis=0)]
        raise EffectError(
            f"{role}: {', '.join(map(str, worst))} hold infinite values (or the log of none). Mark what is "
            "missing as NaN."
        )
    return values, tuple(map(str, table.columns))
