"""The only reader of tables that people bring."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sustain.errors import DataError, DataWarning, FileFormatError
from sustain.tables.delimited import DELIMITED, Delimited
from sustain.tables.types import typed_columns

__all__ = ["SUFFIXES", "read_table"]

PARQUET = (".parquet", ".pq")
STATISTICS = (".dta", ".sav", ".zsav")
EXCEL = (".xlsx", ".xlsm")
SUFFIXES = (*DELIMITED, *PARQUET, *STATISTICS, *EXCEL)
"""How names of tables end."""

_KINDS = "CSV (.csv, .tsv, .txt), Parquet, Stata (.dta), SPSS (.sav) or Excel (.xlsx)"
_NOTHING = {"", "na", "nan", "n/a", "#n/a", "null", "none", "."}  # beside numbers in a sheet, in any case
_NAMED = 3  # columns in a warning


def read_table(
    path: str | Path, columns: Sequence[str] = (), *, sheet: str | None = None, hint: str = ""
) -> pd.DataFrame:
    """Read a table and check that it has the columns that are needed.

    Delimited text may be delimited by commas, semicolons or tabs, have decimal commas, and be in UTF-8, UTF-16 or a
    western European encoding; `sustain.tables.types` says when its columns are numbers. A named index of a Parquet file
    becomes columns. Of Stata and SPSS a column whose values all have labels is read as its labels, unless it is 0 and 1
    only; any other is read as its numbers. What Stata and SPSS declare missing is missing.

    Parameters
    ----------
    path : str or Path
    columns : sequence of str
        Columns that must be there, once.
    sheet : str, optional
        Sheet of an Excel workbook; needed where several sheets hold anything.
    hint : str
        What to do where a column is missing, for the message.

    Returns
    -------
    DataFrame
        Rows numbered from 0. Of Parquet files ``attrs`` are kept.

    Raises
    ------
    DataError
        When there is no such file, a column is missing or there twice, or a sheet must be named.
    FileFormatError
        When the file is not what its name promises.

    Warns
    -----
    DataWarning
        When text is not in UTF-8, or a column of numbers has labels for some values only.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if sheet is not None and suffix not in EXCEL:
        raise DataError(f"sheet: {path} has none; only an Excel workbook (.xlsx) has sheets.")
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: not a table by its name. Give {_KINDS}.")
    reader: Callable[[Path], pd.DataFrame]
    if suffix in DELIMITED:
        reader = _delimited
    elif suffix in PARQUET:
        reader = _parquet
    elif suffix in STATISTICS:
        reader = _statistics
    else:
        return _checked(path, _read(lambda place: _excel(place, sheet), path), columns, hint)
    return _checked(path, _read(reader, path), columns, hint)


def _read(reader: Callable[[Path], pd.DataFrame], path: Path) -> pd.DataFrame:
    try:
        return reader(path)
    except (DataError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such table. Check the path.") from error
    except Exception as error:  # each format's package has errors of its own for other bytes
        raise FileFormatError(f"{path}: not a readable {path.suffix.lower()} table ({error}).") from error


def _checked(path: Path, data: pd.DataFrame, columns: Sequence[str], hint: str) -> pd.DataFrame:
    there = data.columns.tolist()
    if missing := [name for name in columns if name not in there]:
        found = f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, there))}."
        raise DataError(f"{found} {hint}".rstrip())
    if twice := [name for name in columns if there.count(name) > 1]:
        raise DataError(f"{path}: has more than one column named {twice[0]!r}. Rename or drop one.")
    return data


def _delimited(path: Path) -> pd.DataFrame:
    table = Delimited.of(path)
    columns, _ = typed_columns(table.fields(), table.delimiter)
    # Names may repeat, which an Arrow table and a dict of columns would not bear.
    found: pd.DataFrame = pa.table({str(place): column for place, column in columns.items()}).to_pandas()
    return found.set_axis(list(table.header), axis=1)


def _parquet(path: Path) -> pd.DataFrame:
    data = pd.read_parquet(path)
    named = [name for name in data.index.names if name is not None]
    if clash := [name for name in named if name in data.columns]:
        raise DataError(f"{path}: both the index and a column are named {clash[0]!r}. Rename or drop one.")
    for place, name in enumerate(data.index.names):
        if name is None and len(data.index.names) > 1:
            data.index = data.index.set_names(f"level_{place}", level=place)
    return data.reset_index(drop=not named)


def _statistics(path: Path) -> pd.DataFrame:
    import pyreadstat

    if not path.is_file():
        raise FileNotFoundError(path)
    read = pyreadstat.read_dta if path.suffix.lower() == ".dta" else pyreadstat.read_sav
    data, about = read(str(path))
    partly = []
    for name, labels in about.variable_value_labels.items():
        column = data[name]
        kinds = set(column.dropna().unique().tolist())
        if not kinds or kinds <= {0, 1}:
            continue
        if kinds <= set(labels):
            texts = [labels[kind] for kind in kinds]
            if len(set(texts)) == len(texts):
                data[name] = column.map(labels)
        elif kinds & set(labels) and all(isinstance(kind, int | float) for kind in kinds):
            some = next(iter(sorted(kinds & set(labels))))
            partly.append(f"{name} ({some:g} is {labels[some]!r})")
    if partly:
        more = ", ..." if len(partly) > _NAMED else ""
        warnings.warn(
            f"{path}: in {len(partly)} columns of numbers some values have labels and others have none: "
            f"{', '.join(partly[:_NAMED])}{more}. They are read as numbers. If a label means that the value is "
            "missing, declare it missing in the file.",
            DataWarning,
            stacklevel=4,
        )
    # Text that is empty is how both programs say that it is missing.
    for name in data.select_dtypes(["object", "string"]).columns:
        data[name] = data[name].mask(data[name] == "").infer_objects()
    return data


def _excel(path: Path, sheet: str | None) -> pd.DataFrame:
    with pd.ExcelFile(path, engine="openpyxl") as book:
        names = [str(name) for name in book.sheet_names]
        if sheet is not None and sheet not in names:
            raise DataError(f"sheet: {path} has no sheet {sheet!r}; it has {', '.join(names)}.")
        if sheet is None:
            full = [name for name in names if _is_filled(book.book[name])]
            if len(full) > 1:
                raise DataError(
                    f"{path}: {len(full)} sheets hold something ({', '.join(full)}), and none is named. Say which one "
                    "(sheet=, on the command line --sheet)."
                )
            sheet = next(iter(full), names[0])
        data = pd.read_excel(book, sheet_name=sheet, dtype=object, keep_default_na=False, na_values=[""])
    if data.columns.empty:
        raise FileFormatError(
            f"{path}: sheet {sheet!r} is empty, expected a table with a header in its first row."
        )
    data = data.dropna(how="all").reset_index(drop=True)  # rows that were only ever coloured
    return data.set_axis([str(name).strip() for name in data.columns], axis=1).apply(_cells)


def _is_filled(sheet: Any) -> bool:
    return any(cell is not None for row in sheet.iter_rows(values_only=True) for cell in row)


def _cells(column: pd.Series) -> pd.Series:
    """Cells of a sheet as numbers where all are numbers, but for words for what is missing; else as they are."""
    there = column[column.notna()]
    number = there.map(lambda cell: isinstance(cell, int | float | np.number) and not isinstance(cell, bool))
    words = there[~number]
    if number.any() and all(isinstance(word, str) and word.strip().lower() in _NOTHING for word in words):
        column = column.where(column.index.isin(there.index[number]), np.nan)
        return pd.to_numeric(column)
    return column.infer_objects()
