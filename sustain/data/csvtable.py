"""Label tables in CSV, read as text first, so that codes keep their zeros and wrong values are named."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from sustain.errors import DataError, FileFormatError
from sustain.tables import read_text

__all__ = ["numbers", "read_csv", "records", "refuse_duplicates", "refuse_others", "some_of", "whole_numbers"]


def read_csv(source: str | Path | IO[bytes], needed: Collection[str], where: str = "") -> pd.DataFrame:
    """Read a table with every value as text; an empty field is missing, and nothing else is.

    Parameters
    ----------
    source : path or binary file
    needed : collection of str
        Columns that must be there.
    where : str
        Name for messages; by default `source`.

    Raises
    ------
    FileFormatError
        When it is not a CSV table or lacks columns.
    """
    where = where or str(source)
    table = read_text(source, where)
    if missing := sorted(set(needed) - set(table.columns)):
        raise FileFormatError(
            f"{where}: missing column {', '.join(missing)}; found {', '.join(map(str, table.columns))}."
        )
    if table.empty:
        raise FileFormatError(f"{where}: has a header but no rows. Fetch or make it again.")
    return table


def numbers(table: pd.DataFrame, column: str, where: str, *, whole: bool = False) -> pd.Series[float]:
    """Return a column as float64, NaN where missing.

    Parameters
    ----------
    whole : bool
        Whether each value must be present and a whole number.

    Raises
    ------
    DataError
        When a value is no number. The message names the row.
    """
    text = table[column].mask(table[column].str.lower() == "nan")
    values = pd.to_numeric(text, errors="coerce").astype("float64")
    wrong = values.isna() & text.notna()
    if whole:
        wrong |= ~(values % 1 == 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{where}: column {column} holds {table[column].iloc[row]!r} in data row {row + 1}; "
            f"expected {'a whole number' if whole else 'a number or nothing'}."
        )
    return values


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dicts by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def whole_numbers(table: pd.DataFrame, column: str, where: str) -> pd.Series[int]:
    """Return a column of whole numbers, all of them present, as int64; errors as `numbers`."""
    return numbers(table, column, where, whole=True).astype("int64")


def some_of(names: Collection[object], most: int = 3) -> str:
    """Say how many there are, and name the first few."""
    listed = [str(name) for name in names]
    more = ", ..." if len(listed) > most else ""
    return f"{len(listed)}: {', '.join(listed[:most])}{more}"


def refuse_others(table: pd.DataFrame, column: str, allowed: Collection[str], where: str) -> None:
    """Raise `DataError` when a column holds anything but the values allowed; a missing one is something else."""
    if (wrong := ~table[column].isin(list(allowed))).any():
        found = some_of(sorted(table[column][wrong].astype(str).unique()))
        raise DataError(f"{where}: {column} is {found}; expected one of {', '.join(allowed)}.")


def refuse_duplicates(ids: pd.Series[str], where: str, what: str) -> None:
    """Raise `DataError` when an id is missing or repeats."""
    if (empty := ids.isna()).any():
        raise DataError(f"{where}: {int(empty.sum())} row(s) without {what}.")
    if (twice := ids.duplicated()).any():
        raise DataError(f"{where}: {what} repeats ({some_of(ids[twice].tolist())}). Keep one row each.")
