"""Keys: which row of one table belongs to a row of another.

Keys are labels, which are their text (`sustain.stats.columns`). What only looks alike, such as 001 and 1, is never
taken for the same, nor passed over: `match_keys` refuses it. A missing key is the key of nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.stats.columns import ColumnReader

__all__ = ["match_keys", "refuse_lookalikes"]

_CODE = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")


def match_keys(
    reader: ColumnReader,
    left: Any,
    right: Any,
    *,
    left_name: str = "left",
    right_name: str = "right",
    absent: bool = False,
) -> NDArray[np.intp]:
    """Row of `right` that has the key of each row of `left`.

    Parameters
    ----------
    reader : ColumnReader
        Raises its kind of error.
    left : array_like, shape (n,)
        Keys, none missing; they may repeat.
    right : array_like, shape (m,)
        Keys, none twice. A missing one belongs to no row.
    left_name, right_name : str
        What they are called in messages, such as ``"units: column 'id'"``.
    absent : bool
        Whether keys of `left` may have no row in `right`.

    Returns
    -------
    ndarray of int, shape (n,)
        Positions in `right`, -1 where there is none.

    Raises
    ------
    StatisticsError
        When a key of `left` is missing, a key of `right` repeats that `left` has, one has no row there (unless
        `absent`), or only looks like one that has (001 and 1, or blanks about it).
    """
    import pandas as pd

    column = right if hasattr(right, "dtype") else np.asarray(right, dtype=object)
    held = np.flatnonzero(~np.asarray(pd.isna(column)))
    wanted = reader.labels(left_name, left)
    there = reader.labels(right_name, column.iloc[held] if hasattr(column, "iloc") else column[held])
    place = {name: code for code, name in enumerate(there.names)}
    code_of = np.array([place.get(name, -1) for name in wanted.names], dtype=np.intp)
    times = np.append(np.bincount(there.codes, minlength=there.n), 0)
    if (times[code_of] > 1).any():
        name = wanted.names[int(np.argmax(times[code_of] > 1))]
        raise reader.error(f"{right_name}: {name!r} is there more than once. Keep one row of each.")
    refuse_lookalikes(reader, wanted.names, there.names, left_name, right_name)
    lost = np.flatnonzero(code_of < 0)
    if lost.size and not absent:
        raise reader.error(
            f"{left_name}: {lost.size} values are not in {right_name}, the first {wanted.names[lost[0]]!r}."
        )
    row = np.full(there.n + 1, -1, dtype=np.intp)
    row[there.codes] = held
    return np.asarray(row[code_of][wanted.codes])


def refuse_lookalikes(
    reader: ColumnReader, left: Iterable[str], right: Iterable[str], left_name: str, right_name: str
) -> None:
    """Raise where a label of `left` that `right` lacks looks like one that it has: 001 and 1, 1.0 as text and 1."""
    known = set(right)
    alike = {_plain(name): name for name in known}
    lookalikes = [(name, alike[_plain(name)]) for name in left if name not in known and _plain(name) in alike]
    if lookalikes:
        ours, theirs = lookalikes[0]
        raise reader.error(
            f"{left_name}: {len(lookalikes)} values only look like those in {right_name}: {ours!r} and {theirs!r}, for "
            "example. Write them alike in both; text keeps leading zeros, numbers lose them."
        )


def _plain(label: str) -> str:
    """Label without what programs add to or take from codes."""
    text = label.strip()
    code = _CODE.fullmatch(text)
    return f"{code[1].strip('+')}{code[2]}" if code else text
