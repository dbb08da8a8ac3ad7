"""Tables that a user names on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sustain.errors import DataError
from sustain.files import atomic_path

SUFFIXES = (".csv", ".parquet")


def read_table(path: Path, columns: Sequence[str], hint: str = "") -> pd.DataFrame:
    """Read a CSV or Parquet file and check that it has `columns`; `hint` says what to do where it has not.

    Raises
    ------
    DataError
        When the file is missing or not a table, or a column is missing; the message lists those there are.
    """
    try:
        data = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such table. Check the path.") from error
    except (ValueError, OSError) as error:  # what pandas and pyarrow raise on other bytes
        raise DataError(f"{path}: not a readable CSV or Parquet table ({error}).") from error
    missing = [name for name in columns if name not in data]
    if missing:
        found = f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, data.columns))}."
        raise DataError(f"{found} {hint}".rstrip())
    return data


def require_table(path: Path) -> None:
    """Refuse a name to write that is neither a CSV nor a Parquet file's, before any work is done.

    Raises
    ------
    DataError
        When it ends otherwise.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: expected a name that ends in .csv or .parquet.")


def write_table(path: Path, data: pd.DataFrame, float_format: str | None = None) -> None:
    """Write a CSV, with numbers as `float_format` says, or a Parquet file; raises as `require_table`."""
    require_table(path)
    with atomic_path(path) as partial:
        if path.suffix.lower() == ".csv":
            data.to_csv(partial, index=False, float_format=float_format)
        else:
            data.to_parquet(partial, index=False)
