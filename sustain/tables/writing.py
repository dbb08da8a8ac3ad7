"""Tables written whole, and columns added to somebody's table without touching the others."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sustain.errors import DataError
from sustain.files import atomic_path
from sustain.tables.delimited import DELIMITED, Delimited
from sustain.tables.reading import PARQUET, read_table
from sustain.tables.types import typed_columns
from sustain.tables.workbook import workbook

__all__ = ["WRITABLE", "add_columns", "require_writable", "write_table"]

WRITABLE = (*DELIMITED, *PARQUET, ".xlsx")
"""How names of tables that can be written end."""


def require_writable(path: str | Path) -> None:
    """Refuse a name to write that is of no kind of table, before any work is done.

    Raises
    ------
    DataError
        When it ends otherwise than `WRITABLE`.
    """
    if Path(path).suffix.lower() not in WRITABLE:
        raise DataError(f"{path}: expected a name that ends in .csv, .tsv, .parquet or .xlsx.")


def write_table(
    path: str | Path, data: pd.DataFrame, *, rounded: Collection[Hashable] = (), digits: int = 6
) -> None:
    """Write a table without its index, as the name's end says.

    Parameters
    ----------
    path : str or Path
    data : DataFrame
    rounded : collection of hashable
        Columns of measurements that delimited text holds with `digits` significant digits. All others are written so
        that they are read back as they were.
    digits : int

    Raises
    ------
    DataError
        As `require_writable`.
    """
    require_writable(path)
    suffix = Path(path).suffix.lower()
    with atomic_path(path) as partial:
        if suffix in PARQUET:
            data.to_parquet(partial, index=False)
        elif suffix == ".xlsx":
            partial.write_bytes(workbook(data))
        else:
            text = {
                name: _texts(data[name], digits)
                if name in rounded and data[name].dtype.kind == "f"
                else data[name]
                for name in data.columns
            }
            delimiter = "\t" if suffix == ".tsv" else ","
            pd.DataFrame(text, index=data.index).to_csv(
                partial, index=False, sep=delimiter, lineterminator="\n"
            )


def add_columns(
    source: str | Path, out: str | Path, added: Mapping[str, Any], *, sheet: str | None = None
) -> None:
    """Write a table, which was read for its values, again with further columns at its end.

    From delimited text to delimited text every byte of the source stays, whatever its delimiter, quotes, line ends and
    encoding; new values are written the same way. From Parquet to Parquet the types, the index and what the file says
    of itself stay. Between kinds, columns are written as `sustain.tables.read_table` reads them.

    Parameters
    ----------
    source, out : str or Path
    added : mapping of str to array_like, shape (n,)
        Numbers for each row of the source; NaN is written as nothing.
    sheet : str, optional
        As of `sustain.tables.read_table`.

    Raises
    ------
    DataError
        When the source has such a column already, or another number of rows; and as `require_writable`.
    """
    require_writable(out)
    kinds = [Path(name).suffix.lower() for name in (source, out)]
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in added.items()}
    if all(kind in DELIMITED for kind in kinds):
        _add_to_text(Path(source), Path(out), columns)
    elif all(kind in PARQUET for kind in kinds):
        held = pq.read_table(source)
        _require_fit(source, held.column_names, held.num_rows, columns)
        for name, values in columns.items():
            held = held.append_column(name, pa.array(values, from_pandas=True))
        with atomic_path(out) as partial:
            pq.write_table(held, partial)
    else:
        data = read_table(source, sheet=sheet)
        _require_fit(source, data.columns.tolist(), len(data), columns)
        write_table(out, data.assign(**columns))


def _add_to_text(source: Path, out: Path, columns: Mapping[str, Any]) -> None:
    table = Delimited.of(source, again=True)
    _, mark = typed_columns(table.fields(), table.delimiter)
    texts = [[text.replace(".", mark) for text in _texts(values)] for values in columns.values()]
    records = list(table.records())
    _require_fit(source, table.header, sum(filled for _, filled in records) - 1, columns)
    added = itertools.chain(
        [_line(columns, table.delimiter)], map(table.delimiter.join, zip(*texts, strict=True))
    )
    written = []
    for raw, filled in records:
        body = raw.rstrip("\r\n") if filled else raw
        written.append(f"{body}{table.delimiter}{next(added)}{raw[len(body) :]}" if filled else raw)
    with atomic_path(out) as partial:
        partial.write_bytes(table.mark + "".join(written).encode(table.encoding))


def _line(fields: Collection[str], delimiter: str) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="").writerow(fields)
    return stream.getvalue()


def _texts(values: Any, digits: int | None = None) -> list[str]:
    """Numbers as text: the shortest that is read back as the same, or so many significant digits."""
    numbers = np.asarray(values, dtype=np.float64).tolist()
    return [
        "" if math.isnan(number) else repr(number) if digits is None else f"{number:.{digits}g}"
        for number in numbers
    ]


def _require_fit(source: str | Path, there: Collection[str], n: int, columns: Mapping[str, Any]) -> None:
    if clash := [name for name in columns if name in there]:
        raise DataError(
            f"{source}: has a column {clash[0]!r} already, which is what would be added. Rename or drop it."
        )
    for name, values in columns.items():
        if len(values) != n:
            raise DataError(
                f"{name}: has {len(values)} values, but {source} has {n} rows. Pass one for each."
            )
