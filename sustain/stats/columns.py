"""Columns as users pass them, read at one place: numbers, weights, labels, treatments, and whether rows go together.

A `ColumnReader` belongs to a room and raises that room's error. Whoever needs a user's column asks its reader; nobody
else turns what a user passed into an array.

Labels (clusters, groups, strata, ids, periods, fixed effects) follow one rule: **a label is its text**. A whole number
is written without a decimal point and a boolean as 0 or 1, so that 1, 1.0 and True are one label, however a join or a
file changed the column's type; text is taken as it stands, so that "007" is neither "7" nor 7.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.errors import StatisticsError, SustainError
from sustain.stats.labels import label_text, matched_label

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnReader", "Labels", "label_text", "matched_label"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

MANY_NUMBERS = 10  # text with more values than this that all are numbers was meant as numbers


class Labels(NamedTuple):
    """Labels as codes.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
        ``0 .. len(names) - 1``.
    names : tuple of str
        The labels as text, sorted.
    """

    codes: Codes
    names: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of different labels."""
        return len(self.names)


@dataclass(frozen=True)
class ColumnReader:
    """Reads what users pass as columns, and raises one kind of error on what cannot be used.

    Parameters
    ----------
    error : type of SustainError
        `sustain.errors.CalibrationError` for calibrations, `sustain.errors.EffectError` for trials,
        `sustain.errors.DataError` for places on a map.
    """

    error: type[SustainError]

    def vector(
        self, name: str, values: Any, n: int | None = None, *, like: str = "y_pred", missing: bool = False
    ) -> Floats:
        """One column of numbers.

        Parameters
        ----------
        name : str
            Argument or column, for the error.
        values : array_like, shape (n,)
            Numbers of any numeric or boolean type, pandas' own included, or objects that all are numbers.
        n : int, optional
            Length that the column must have: that of `like`.
        like : str
            Argument that gives the length, for the error.
        missing : bool
            Whether values may be missing; missing and masked ones are then NaN.

        Raises
        ------
        StatisticsError
            On text, dates, complex numbers, several columns, another length, infinite values, and missing or masked
            ones unless `missing`.
        """
        column = self._numeric(name, values, missing)
        if column.ndim != 1:
            raise self.error(f"{name}: expected one dimension, got shape {column.shape}. Pass one column.")
        if n is not None and column.size != n:
            raise self.error(
                f"{name}: has {column.size} values, but {like} has {n}. Pass one value for each row."
            )
        self._require_finite(name, column, missing)
        return column

    def matrix(
        self, name: str, values: Any, n: int | None = None, *, like: str = "y_pred"
    ) -> tuple[Floats, tuple[str, ...]]:
        """Several columns of numbers, shape (n, k), and their names; finite all of them."""
        if hasattr(values, "columns"):
            names = [str(column) for column in values.columns]
            twice = sorted({column for column in names if names.count(column) > 1})
            if twice:
                raise self.error(f"{name}: has more than one column named {twice[0]!r}. Rename or drop one.")
            parts = [
                self.vector(f"{name}[{column!r}]", values.iloc[:, place])
                for place, column in enumerate(names)
            ]
            table = np.column_stack(parts) if parts else np.empty((len(values), 0))
        else:
            table = self._numeric(name, values, False)
            if table.ndim != 2:
                raise self.error(f"{name}: expected a table of shape (n, k), got shape {table.shape}.")
            self._require_finite(name, table, False)
            names = [f"column {place} of {name}" for place in range(table.shape[1])]
        if n is not None and len(table) != n:
            raise self.error(f"{name}: has {len(table)} rows, but {like} has {n}. Pass one for each.")
        return table, tuple(names)

    def weights(self, name: str, values: Any, n: int, *, like: str = "y_pred") -> Floats:
        """Weights as they are, finite and not negative, not all zero; ones where `values` is None."""
        if values is None:
            return np.ones(n)
        weight = self.vector(name, values, n, like=like)
        if (weight < 0).any():
            raise self.error(
                f"{name}: {int((weight < 0).sum())} weights are negative (least {weight.min():g}). "
                "Pass weights of zero or more."
            )
        if not weight.any():
            raise self.error(f"{name}: all {n} weights are zero. Pass some above zero.")
        return weight

    def arms(self, name: str, values: Any, n: int | None = None, *, like: str = "y_pred") -> Floats:
        """Read a treatment: 0 and 1, or booleans, none missing."""
        treated = self.vector(name, values, n, like=like)
        self.require_arms(name, treated)
        return treated

    def require_arms(self, name: str, treated: Floats) -> None:
        """Raise unless all values are 0 and 1."""
        others = np.setdiff1d(np.unique(treated), [0.0, 1.0])
        if others.size:
            raise self.error(
                f"treatment: column {name!r} must hold 0 and 1 only, but holds "
                f"{', '.join(f'{v:g}' for v in others[:5])}. Code the arms as 0 (control) and 1 (treated)."
            )

    def labels(self, name: str, values: Any, n: int | None = None, *, like: str = "y_pred") -> Labels:
        """One column of labels, as codes and names; see the module for when two labels are the same.

        Raises
        ------
        StatisticsError
            When there is not one label a row, or some are missing or masked.
        """
        import pandas as pd

        if isinstance(values, np.ma.MaskedArray):
            self._require_unmasked(name, values)
            values = values.data
        column = _array(values) if hasattr(values, "dtype") else _listed(values)
        if np.ndim(column) != 1 or (n is not None and len(column) != n):
            raise self.error(
                f"{name}: has shape {np.shape(column)}, but {like} has {'one dimension' if n is None else f'{n} rows'}."
                " Pass one label for each row."
            )
        try:
            codes, kinds = pd.factorize(np.asarray(column, dtype=object) if _is_text(column) else column)
        except TypeError as error:
            raise self.error(
                f"{name}: expected labels (text, numbers, dates), got values that cannot be one ({error})."
            ) from error
        if (codes < 0).any():
            raise self.error(
                f"{name}: {int((codes < 0).sum())} values are missing. Give one for every row (a label of its own "
                "where a row stands alone), or drop those rows."
            )
        try:
            texts = [label_text(kind) for kind in kinds]
        except StatisticsError as error:
            raise self.error(f"{name}: {error}") from error
        names, place = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
        return Labels(place.astype(np.intp)[codes], tuple(str(item) for item in names))

    def joint_labels(self, name: str, *columns: Any) -> tuple[Labels, ...]:
        """Labels of several tables in one numbering, so that equal labels have equal codes and names."""
        parts = [self.labels(name, column) for column in columns]
        names = sorted({item for part in parts for item in part.names})
        number = {item: code for code, item in enumerate(names)}
        return tuple(
            Labels(np.array([number[item] for item in part.names], dtype=np.intp)[part.codes], tuple(names))
            for part in parts
        )

    def require_same_index(self, name: str, values: Any, other_name: str, other: Any) -> None:
        """Raise when both are pandas objects with different indexes.

        Rows are matched by position, so that two columns in a different order would be paired wrongly without a sign.
        """
        left: Any = getattr(values, "index", None)
        right: Any = getattr(other, "index", None)
        if hasattr(left, "equals") and hasattr(right, "equals") and not left.equals(right):
            raise self.error(
                f"{other_name} and {name} are pandas objects with different indexes. Align them first "
                f"(for example {name}.loc[{other_name}.index]), or pass .to_numpy() of both."
            )

    def require_one_index(self, **columns: Any) -> Any:
        """Raise unless all pandas objects among some arguments have one index; give it, or None where there is none."""
        first, index = "", None
        for name, values in columns.items():
            own: Any = getattr(values, "index", None)
            if not hasattr(own, "equals"):
                continue
            if index is None:
                first, index = name, own
            else:
                self.require_same_index(name, values, first, columns[first])
        return index

    def require_index_of(self, other_name: str, other: Any, **columns: Any) -> None:
        """`require_same_index` for several arguments by name."""
        for name, values in columns.items():
            self.require_same_index(name, values, other_name, other)

    def require_telling_index(self, name: str, values: Any) -> None:
        """Raise where the index of a pandas object repeats: joined by it, every row would meet all rows of its name."""
        index: Any = getattr(values, "index", None)
        if hasattr(index, "is_unique") and not index.is_unique:
            shared = index.duplicated(keep=False)
            raise self.error(
                f"{name}: its index repeats ({int(shared.sum())} of {len(index)} rows share theirs, such as "
                f"{index[shared][0]!r}), so that a join with what comes back would multiply rows. Number the rows "
                "first (reset_index()), or pass .to_numpy()."
            )

    def require_columns(self, data: pd.DataFrame, names: Iterable[Any], *, argument: str = "data") -> None:
        """Raise unless `data` is a table that has every named column once; `argument` is its name in messages."""
        if not hasattr(data, "columns"):
            raise self.error(
                f"{argument}: got {type(data).__name__}, expected a pandas DataFrame with one row a unit."
            )
        there = data.columns.tolist()
        for name in names:
            if name not in there:
                raise self.error(f"no column {name!r} in {argument}; it has {', '.join(map(str, there))}.")
            if there.count(name) > 1:
                raise self.error(f"{argument} has more than one column named {name!r}. Rename or drop one.")

    def names(self, argument: str, values: Any) -> tuple[Any, ...]:
        """Column names from one name, several, or none; each once."""
        if values is None:
            return ()
        if isinstance(values, set | frozenset):
            raise self.error(f"{argument}: got a set, which has no order. Pass a list of columns.")
        found = (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)
        twice = [name for place, name in enumerate(found) if name in found[:place]]
        if twice:
            raise self.error(f"{argument}: {twice[0]!r} is named twice. Take one out.")
        return found

    def number(self, name: str, value: Any, expected: str, *, least: float = -np.inf) -> float:
        """One finite real number of `least` or more, numpy's own included; `expected` is said in the error."""
        real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
        if not real or not np.isfinite(float(value)) or float(value) < least:
            raise self.error(f"{name}: got {value!r}, expected {expected}.")
        return float(value)

    def whole(self, name: str, value: Any, expected: str, *, least: int = 0) -> int:
        """One whole number of `least` or more, numpy's own included."""
        if type(value) is bool or not isinstance(value, numbers.Integral) or int(value) < least:
            raise self.error(f"{name}: got {value!r}, expected {expected}.")
        return int(value)

    def refuse_number_like(self, name: str, values: Sequence[Any]) -> None:
        """Raise where text that was to become categories is numbers that came as text.

        Codes with leading zeros, and a handful of values, are categories.
        """
        import pandas as pd

        kinds = pd.unique(pd.Series(np.asarray(values, dtype=object)).dropna())
        if len(kinds) <= MANY_NUMBERS or not all(isinstance(kind, str) for kind in kinds):
            return
        texts = [kind.strip() for kind in kinds]
        if any(text.lstrip("+-")[:1] == "0" and text.lstrip("+-")[1:2].isdigit() for text in texts):
            return
        if pd.to_numeric(pd.Series(texts), errors="coerce").notna().all():
            raise self.error(
                f"{name}: {len(kinds)} different texts that all are numbers, such as {texts[0]!r}, would become as "
                f"many categories. Make it numbers (pd.to_numeric), or say that they are categories "
                f"(.astype('category'))."
            )

    def _numeric(self, name: str, values: Any, missing: bool) -> Floats:
        if isinstance(values, np.ma.MaskedArray) and not missing:
            self._require_unmasked(name, values)
        # pandas' own types (Float64, boolean) say what they hold by `dtype`; lists only once they are arrays.
        column = _array(values) if hasattr(values, "dtype") else np.asarray(values)
        kind = column.dtype
        if getattr(kind, "kind", "O") in "mMcSUV" or _is_text(column):
            years = " (such as years)" if getattr(kind, "kind", "O") in "mM" else ""
            raise self.error(
                f"{name}: expected numbers, got {kind}{_first_text(column)}. Pass numbers{years}."
            )
        try:
            if isinstance(column, np.ma.MaskedArray):
                return np.asarray(
                    np.ma.filled(column.astype(float), np.nan)
                )  # what lies under a mask is no value
            if getattr(kind, "kind", "O") == "O":  # pandas' categories too: they hold objects of any kind
                return _from_objects(np.asarray(column, dtype=object))
            if hasattr(column, "to_numpy"):
                return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
            return np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self.error(f"{name}: expected numbers, got {type(values).__name__} ({error}).") from error

    def _require_finite(self, name: str, column: Floats, missing: bool) -> None:
        bad = np.isinf(column) if missing else ~np.isfinite(column)
        if bad.any():
            what = "infinite" if missing else "NaN or infinite"
            first = int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])
            raise self.error(
                f"{name}: {int(bad.sum())} of {column.size} values are {what} (first at row {first}). "
                + ("Mark what is missing as NaN." if missing else "Leave those rows out.")
            )

    def _require_unmasked(self, name: str, values: np.ma.MaskedArray[Any, Any]) -> None:
        if np.ma.is_masked(values):
            raise self.error(
                f"{name}: {int(np.ma.getmaskarray(values).sum())} of {values.size} values are masked. Leave these rows "
                "out of all columns; what lies under a mask is no value."
            )


def _array(values: Any) -> Any:
    """Give what numpy and pandas hold as it is, and of others (xarray, dask) their values."""
    own = isinstance(values, np.ndarray) or type(values).__module__.split(".")[0] == "pandas"
    return values if own else np.asarray(values)


def _listed(values: Any) -> NDArray[Any]:
    """List as an array of objects, so that numbers beside text stay numbers, and tuples stay whole."""
    items = list(values)
    column = np.empty(len(items), dtype=object)
    column[:] = items
    return column


def _is_text(column: Any) -> bool:
    """Whether a column is text by its type; objects may hold anything."""
    kind = column.dtype
    return getattr(kind, "kind", "") in "SU" or str(kind).startswith(("string", "str"))


def _first_text(column: Any) -> str:
    """Name the first value of a column of text that is no number, if there is one."""
    import pandas as pd

    texts = (
        pd.Series(np.ravel(np.asarray(column, dtype=object))).dropna() if _is_text(column) else pd.Series()
    )
    strange = texts[pd.to_numeric(texts, errors="coerce").isna()]
    return f", such as {str(strange.iloc[0])!r}" if len(strange) else ""


def _from_objects(column: NDArray[Any]) -> Floats:
    import pandas as pd

    flat = column.reshape(-1)
    text = [item for item in flat if isinstance(item, str | bytes)]
    if text:
        raise ValueError(f"{len(text)} of {flat.size} are text, such as {text[0]!r}")
    filled = np.where(pd.isna(flat), np.nan, flat)
    return np.asarray(filled, dtype=np.float64).reshape(column.shape)
