"""Tables that a user names on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sustain.errors import DataError


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV or Parquet file and check that it has `columns`.

    Raises
    ------
    DataError
        When a column is missing; the message lists those there are.
    """
    data = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    missing = [name for name in columns if name not in data]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, data.columns))}."
        )
    return data
