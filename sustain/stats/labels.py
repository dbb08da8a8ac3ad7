"""When two labels are the same: a label is its text (see `sustain.stats.columns`)."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from sustain.errors import StatisticsError

__all__ = ["label_text", "matched_label"]

EXACT_WHOLE = 2.0**53  # a float of this size or more may stand for several whole numbers


def label_text(value: Any) -> str:
    """Text of one label: whole numbers without a decimal point, booleans as 0 and 1, dates by ISO 8601.

    All else is as it is written.

    Raises
    ------
    StatisticsError
        On a float so large that it may stand for several whole numbers.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.bool_ | numbers.Integral):  # Python's own booleans are whole numbers
        return str(int(value))
    if isinstance(value, np.datetime64 | datetime.date):  # pandas' own dates are those of Python
        import pandas as pd

        return pd.Timestamp(value).isoformat().removesuffix("T00:00:00")
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else str(value.normalize())
    if isinstance(value, float | np.floating):
        number = float(value)
        if abs(number) >= EXACT_WHOLE:
            raise StatisticsError(
                f"{number!r} is a float of 16 digits or more, which may stand for several labels. Read the "
                "column as text or as whole numbers."
            )
        return str(int(number)) if number == int(number) else str(value)
    return str(value)


def matched_label(known: Iterable[str], label: Any) -> str | None:
    """Name among `known` that a label stands for, or None.

    Booleans that became text (in an older card, or in a file) and booleans that became 1 and 0 meet each other.
    """
    names, text = set(known), label_text(label)
    if text in names:
        return text
    other = {"1": "True", "0": "False", "True": "1", "False": "0"}.get(text)
    return other if other in names else None
