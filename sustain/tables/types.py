"""When text is numbers: one rule for all delimited files.

A column becomes numbers only where every value that is present is a plain number, which float64 or int64 holds as it is
written, apart from zeros at the end of a fraction and what lies beyond the precision of float64 in one. Codes with
leading zeros, whole numbers of more than 15 digits and everything else stay text, exactly as written. In a column of
numbers the words that programs write for what is missing (``NA``, ``NaN``, ``NULL``, ``.``) are missing, as the empty
field is; in a column of text only the empty field is, so that the country code ``NA`` is Namibia.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["MISSING", "typed_columns"]

Column: TypeAlias = pa.ChunkedArray

MISSING = r"(?i:|na|nan|-nan|n/a|#n/a|#na|<na>|null|none|\.[a-z]?)"
"""What stands for nothing in a column of numbers, in any case; ``.a`` to ``.z`` are Stata's."""
_WHOLE = r"-?(?:0|[1-9][0-9]{0,14})"
_UNSIGNED = r"(?:0|[1-9][0-9]*)"
# Programs write a sign into exponents, or a point before them: 1e-05, 1.5E3. "12E5" is somebody's code.
_FRACTION = (
    rf"-?(?:{_UNSIGNED}?MARK[0-9]+(?:[eE][+-]?[0-9]{{1,3}})?|{_UNSIGNED}MARK(?:[eE][+-]?[0-9]{{1,3}})?"
    rf"|{_UNSIGNED}[eE][+-][0-9]{{1,3}})"
)
_INFINITE = r"-?(?i:inf|infinity)"
_TRUTH = r"(?i:true|false)"
# Where commas are known to mark decimals, points can only mark thousands: 1.852 beside 600, or 1.234,56.
_GROUPED = r"-?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+|0|[1-9][0-9]{0,2})(?:,[0-9]+)?"
_GROUPED_FRACTION = r"-?[1-9][0-9]{0,2}(?:\.[0-9]{3})+,[0-9]+"
# 1,234 may be a thousand and more or one and a bit; 0,234 and 12,5 can only be the one.
_THOUSANDS = r"-?[1-9][0-9]{0,2},[0-9]{3}"

_FEW = 100  # rows that show first what most columns are not


def typed_columns(columns: Mapping[int, Column], delimiter: str) -> tuple[dict[int, Column], str]:
    """Give numbers, booleans or text for each column of text, and the mark of decimals.

    A comma marks decimals where it does not delimit, some column shows that it does (``0,5``), and no column of numbers
    has points that mark decimals. Then points mark thousands: ``1.852`` beside ``600`` is 1852. Where ``1,234`` is all
    there is, it may mean thousands, and the column stays text.

    Parameters
    ----------
    columns : mapping of int to ChunkedArray
        Text; an empty field is empty text.
    delimiter : str

    Returns
    -------
    columns : dict of int to ChunkedArray
        Of int64, float64, bool or string.
    mark : {".", ","}
    """
    mark = "."
    if delimiter != ",":
        held = list(columns.values())
        comma = any(
            (_has_decimals(column, ",") and not _all(column, _plain(",", _THOUSANDS)))
            or (_is_grouped(column) and _some(_matches(column, _GROUPED_FRACTION)))
            for column in held
        )
        points = any(_has_decimals(column, ".") and not _is_grouped(column) for column in held)
        mark = "," if comma and not points else "."
    return {place: _typed(column, mark) for place, column in columns.items()}, mark


def _has_decimals(column: Column, mark: str) -> bool:
    """Whether a column is numbers, and some of them fractions with this mark."""
    return bool(pc.any(pc.match_substring(column, mark)).as_py()) and _all(column, _plain(mark))


def _is_grouped(column: Column) -> bool:
    """Whether a column may be numbers whose points mark thousands."""
    return bool(pc.any(pc.match_substring(column, ".")).as_py()) and _all(column, f"{_GROUPED}|{MISSING}")


def _typed(column: Column, mark: str) -> Any:
    nothing = pa.scalar(None, pa.string())
    if mark == "," and _is_grouped(column):
        column = pc.replace_substring(column, ".", "")
    number = _matches(column, _number(mark))
    if (
        _every(number)
        or (_some(number) and _all(column.filter(pc.invert(number)), MISSING))
        or _all(column, "")
    ):
        text = pc.utf8_trim(pc.if_else(number, column, nothing), " \t")
        if len(column) and _every(number) and _all(column[:_FEW], _WHOLE) and _all(column, _WHOLE):
            return pc.cast(text, pa.int64())
        return pc.cast(text if mark == "." else pc.replace_substring(text, mark, "."), pa.float64())
    if _all(column[:_FEW], f"{_TRUTH}|{MISSING}") and _all(column, f"{_TRUTH}|{MISSING}"):
        truth = _matches(column, _TRUTH)
        if _some(truth):
            true = pc.equal(pc.utf8_lower(pc.utf8_trim(column, " \t")), "true")
            return pc.if_else(truth, true, pa.scalar(None, pa.bool_()))
    return pc.if_else(pc.equal(column, ""), nothing, column)


def _number(mark: str) -> str:
    return f"{_WHOLE}|{_FRACTION.replace('MARK', f'[{mark}]')}|{_INFINITE}"


def _plain(mark: str, numbers: str = "") -> str:
    """Pattern of what a column of numbers may hold; with `numbers`, of these in place of all fractions."""
    return f"{f'{numbers}|{_WHOLE}' if numbers else _number(mark)}|{MISSING}"


def _matches(column: Column, pattern: str) -> Any:
    return pc.match_substring_regex(column, rf"\A[ \t]*(?:{pattern})[ \t]*\z")


def _all(column: Column, pattern: str) -> bool:
    return _every(_matches(column, pattern))


def _every(found: Any) -> bool:
    return pc.all(found, min_count=0).as_py() is True


def _some(found: Any) -> bool:
    return pc.any(found).as_py() is True
