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

__all__ = ["Columns", "Covariates", "Terms", "variables_of"]

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
        columns = (names,) if isinstance(names, str) else tuple(names)
        twice = [name for place, name in enumerate(columns) if name in columns[:place]]
        if twice:
            raise EffectError(f"{role}: {twice[0]!r} is named twice. Take one out.")
        return cls(columns, role)

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
        try:
            coded = pd.get_dummies(table, columns=text, drop_first=True, dtype=float)
        except TypeError as error:  # lists, arrays and the like
            raise EffectError(
                f"{self.role}: {text} hold neither numbers nor categories ({error})."
            ) from error
        return _finite(coded, self.role)


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
        return variables_of(self.formula)

    def matrix(self, data: pd.DataFrame) -> Matrix:
        """Values and names; raises `EffectError` where a term cannot be computed."""
        from formulaic.errors import FormulaicError

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


def variables_of(formula: Any) -> tuple[str, ...]:
    """Columns that the terms of a ``formulaic.Formula`` use, in alphabetical order.

    Its own ``required_variables`` leaves out what stands in poly(), bs(), scale() and their like (formulaic 1.2).

    Raises
    ------
    EffectError
        When a term is no expression.
    """
    from formulaic.transforms import TRANSFORMS
    from formulaic.utils.variables import get_required_variables

    found: set[str] = set()
    for factor in (factor for term in formula for factor in term.factors):
        method = factor.eval_method.value
        if method == "lookup":
            found.add(str(factor.expr))
        elif method == "python":
            try:
                roots = {str(variable.root) for variable in get_required_variables(factor.expr, {})}
            except SyntaxError as error:
                raise EffectError(f"formula: {factor.expr!r} is no expression ({error.msg}).") from error
            found |= {name for name in roots if name not in TRANSFORMS}
    return tuple(sorted(found))


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
