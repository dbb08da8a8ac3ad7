"""Combinations of labels from several columns, such as country and urban or rural: one name for each.

A combination is named by its labels' texts (`sustain.stats.columns.label_text`) with a comma between, in the order of
the columns: ``"kenya, 1"``. A single column's combinations are its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.stats.columns import ColumnReader, label_text

__all__ = ["Combinations", "columns_of", "combined_label", "read_combinations"]

Codes = NDArray[np.intp]

SEPARATOR = ", "


class Combinations(NamedTuple):
    """Combinations of labels, as codes.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
        ``0 .. len(names) - 1``.
    names : tuple of str
        Combinations that occur, sorted by their labels.
    parts : tuple of tuple of str
        The labels of each combination, one for each column.
    """

    codes: Codes
    names: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]


def combined_label(labels: Iterable[Any]) -> str:
    """Name of a combination of labels."""
    return SEPARATOR.join(label_text(label) for label in labels)


def read_combinations(
    reader: ColumnReader, name: str, values: Any, n: int | None = None, *, like: str = "y_pred"
) -> Combinations:
    """Read one column of labels or several.

    Parameters
    ----------
    reader : ColumnReader
        Raises its kind of error.
    name : str
        Argument, for the error.
    values : array_like
        One column, shape (n,); or several: a DataFrame, a mapping of names to columns, an array of shape (n, k), or a
        list of columns (arrays or Series), from coarse to fine.
    n : int, optional
        Length that the columns must have: that of `like`.

    Raises
    ------
    SustainError
        As `ColumnReader.labels`; when there is no column; when two combinations have one name.
    """
    columns = columns_of(name, values)
    if not columns:
        raise reader.error(f"{name}: got no column. Pass at least one, or leave {name} out.")
    read = [reader.labels(subject, column, n, like=like) for subject, column in columns.items()]
    first = next(iter(columns))
    for subject, item in zip(columns, read, strict=True):
        if item.codes.size != read[0].codes.size:
            raise reader.error(
                f"{subject}: has {item.codes.size} rows, but {first} has {read[0].codes.size}. Pass one label a row."
            )
    if len(read) == 1:
        return Combinations(read[0].codes, read[0].names, tuple((item,) for item in read[0].names))
    found, codes = np.unique(np.column_stack([item.codes for item in read]), axis=0, return_inverse=True)
    parts = tuple(
        tuple(item.names[code] for item, code in zip(read, row, strict=True)) for row in found.tolist()
    )
    names = tuple(combined_label(part) for part in parts)
    seen: dict[str, tuple[str, ...]] = {}
    for label, part in zip(names, parts, strict=True):
        if label in seen:
            raise reader.error(
                f"{name}: the labels {seen[label]} and {part} would both be named {label!r}. Rename one of them."
            )
        seen[label] = part
    return Combinations(codes.reshape(-1).astype(np.intp), names, parts)


def columns_of(name: str, values: Any) -> dict[str, Any]:
    """Columns that were passed as one argument, by what they are called in errors."""
    if hasattr(values, "columns"):
        return {f"{name}[{key!r}]": values.iloc[:, place] for place, key in enumerate(values.columns)}
    if isinstance(values, Mapping):
        return {f"{name}[{key!r}]": column for key, column in values.items()}
    if isinstance(values, list | tuple) and values and all(np.ndim(item) == 1 for item in values):
        return {f"{name}[{place}]": column for place, column in enumerate(values)}
    if getattr(values, "ndim", 1) == 2:
        return {f"{name}[:, {place}]": values[:, place] for place in range(values.shape[1])}
    return {name: values}
