"""Columns to adjust for, as a matrix: named columns as they are, or the terms of a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.causal.trial.reader import read
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Covariates", "NamedColumns", "Terms", "variables_of"]

Floats = NDArray[np.float64]
Matrix = tuple[Floats, tuple[str, ...]]


class Covariates(Protocol):
    """What to adjust for: the columns it is made of, and the matrix it becomes."""

    @property
    def columns(self) -> tuple[Any, ...]:
        """Columns of the data that it needs; a row that lacks one of them is left out."""

    def matrix(self, data: pd.DataFrame) -> Matrix:
        """Values, shape (n, k), and names of the k columns, for rows without missing values."""


@dataclass(frozen=True)
class NamedColumns:
    """Columns by name; text and categories become dummies, the first category left out.

    Attributes
    ----------
    columns : tuple
    role : str
        Argument that named them, for errors.
    """

    columns: tuple[Any, ...]
    role: str

    @classmethod
    def of(cls, names: Any, role: str) -> NamedColumns:
        """Columns from one name, several or none."""
        return cls(read.names(role, names), role)

    def matrix(self, data: pd.DataFrame) -> Matrix:
        """Values and names; raises `EffectError` on dates, numbers that came as text, and infinite values."""
        values, names = [np.empty((len(data), 0))], []
        for name in self.columns:
            column, about = _plain(data[name], self.role, name), f"{self.role}: column {name!r}"
            if _is_numeric(column):
                values.append(read.vector(about, column)[:, None])
                names.append(str(name))
            else:
                labels = read.labels(about, column)
                values.append((labels.codes[:, None] == np.arange(1, labels.n)).astype(float))
                names += [f"{name}_{label}" for label in labels.names[1:]]
        return np.hstack(values), tuple(names)


@dataclass(frozen=True)
class Terms:
    """Right-hand side of a formula, as `formulaic` reads it: transforms, interactions, ``C()`` for categories.

    Attributes
    ----------
    terms : tuple
        Terms of `formulaic`, without the constant. They stay objects: written out and read again, ``{x**2}`` would be
        something else.
    role : str
        Part of the formula, for errors.
    without : str, optional
        Column whose own term is left out of the matrix: the treatment, which coded its interactions.
    """

    terms: tuple[Any, ...]
    role: str = "formula"
    without: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that the terms use, but for `without`, in alphabetical order."""
        return tuple(name for name in variables_of(self.terms) if name != self.without)

    def matrix(self, data: pd.DataFrame) -> Matrix:
        """Values and names; raises `EffectError` where a term cannot be computed."""
        from formulaic import SimpleFormula
        from formulaic.errors import FormulaicError
        from formulaic.parser.types import Factor, Term

        if not self.terms:
            return np.empty((len(data), 0)), ()
        table = data[list(variables_of(self.terms))].reset_index(drop=True)
        bare = {factor.expr for term in self.terms for factor in term.factors if _is_column(factor)}
        for name in table.columns:
            table[name] = _plain(table[name], self.role, name, bare=name in bare)
        formula = SimpleFormula([Term([Factor("1", eval_method="literal")]), *self.terms], _ordering="none")
        try:
            # An empty context: a term sees the data and formulaic's own functions, not the caller's variables.
            matrix = formula.get_model_matrix(table, context={}, na_action="ignore", output="pandas")
        except (FormulaicError, TypeError, ValueError) as error:
            raise EffectError(f"{self.role}: {formula} cannot be computed: {error}") from error
        dropped = {"Intercept"} if self.without is None else {"Intercept", self.without}
        return _finite(matrix.drop(columns=list(dropped)), self.role)


def variables_of(terms: Sequence[Any]) -> tuple[str, ...]:
    """Columns that terms of `formulaic` use, in alphabetical order.

    Its own ``required_variables`` leaves out what stands in poly(), bs(), scale() and their like, and columns that are
    named like one of its functions (formulaic 1.2).

    Raises
    ------
    EffectError
        When a term is no expression.
    """
    from formulaic.transforms import TRANSFORMS
    from formulaic.utils.variables import Variable, get_required_variables

    found: set[str] = set()
    for factor in (factor for term in terms for factor in term.factors):
        if _is_column(factor):
            found.add(str(factor.expr))
        elif factor.eval_method.value == "python":
            try:
                named = get_required_variables(factor.expr, {})
            except SyntaxError as error:
                raise EffectError(f"formula: {factor.expr!r} is no expression ({error.msg}).") from error
            for name in named:
                # A function, or a part of one's module such as np.pi; a column may be called `log` all the same.
                function = Variable.Role.VALUE not in name.roles or "." in name
                if not (function and str(name.root) in TRANSFORMS):
                    found.add(str(name.root))
    return tuple(sorted(found))


def _is_column(factor: Any) -> bool:
    return bool(factor.eval_method.value == "lookup")


def _is_numeric(column: pd.Series) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column.dtype)


def _plain(column: pd.Series, role: str, name: Any, *, bare: bool = True) -> pd.Series:
    """One column as numbers, booleans or categories, whatever type held them; `bare` where no function takes it.

    Raises
    ------
    EffectError
        On bare dates and durations, bare text that is numbers, lists and the like.
    """
    import pandas as pd

    kind = column.dtype
    about = f"{role}: column {name!r}"
    if isinstance(kind, pd.CategoricalDtype):
        return (
            column.cat.remove_unused_categories()
        )  # a category that no used row has makes no column of zeros
    held = pd.api.types.infer_dtype(column, skipna=True)
    dates = pd.api.types.is_datetime64_any_dtype(kind) or held in ("datetime", "date", "period")
    durations = held.startswith("timedelta")
    if (dates or durations or held == "interval") and bare:
        what = "durations" if durations else "dates" if dates else "intervals"
        raise EffectError(
            f"{about} holds {what}. Make it numbers (such as {'days' if durations else 'years'}), or text that names "
            "categories."
        )
    if _is_numeric(column):
        return column if isinstance(kind, np.dtype) else pd.Series(_numpy(column), index=column.index)
    if held in (
        "boolean",
        "floating",
        "integer",
        "decimal",
        "mixed-integer-float",
    ):  # objects that are numbers
        numbers = pd.Series(read.vector(about, column), index=column.index)
        return numbers.astype(bool) if held == "boolean" else numbers
    if bare:
        read.labels(about, column)
        read.refuse_number_like(about, column.tolist())
    return column


def _numpy(column: pd.Series) -> NDArray[Any]:
    """Pandas' own numbers and booleans as numpy's, which formulaic reads alike."""
    return column.to_numpy(dtype=bool if str(column.dtype).startswith("bool") else float)


def _finite(table: pd.DataFrame, role: str) -> Matrix:
    times = [name for name, kind in table.dtypes.items() if kind.kind in "mM"]
    if times:
        raise EffectError(f"{role}: {times[0]!r} comes out as dates or durations. Make it numbers.")
    values = table.to_numpy(dtype=float)
    if not np.all(np.isfinite(values)):
        worst = table.columns[~np.isfinite(values).all(axis=0)]
        raise EffectError(
            f"{role}: {', '.join(map(str, worst))} hold infinite values (or the log of none). Mark what is "
            "missing as NaN."
        )
    return values, tuple(map(str, table.columns))
