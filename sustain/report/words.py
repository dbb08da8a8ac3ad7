"""Numbers as a reader expects them in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["MINUS", "count", "interval", "listing", "number", "percent", "plural", "signed"]

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a fixed number of decimals with a true minus sign; a dash when there is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """Return a number that always shows its sign, unless it rounds to zero."""
    text = number(value, digits)
    return text if value <= 0 or float(text) == 0 else f"+{text}"


def percent(share: float, digits: int = 0) -> str:
    """Return a share as a percentage."""
    return f"{number(100 * share, digits)}%"


def interval(low: float, high: float, digits: int = 2) -> str:
    """Return an interval as ``low to high``, readable with negative numbers too."""
    return f"{number(low, digits)} to {number(high, digits)}"


def count(value: int) -> str:
    """Return a whole number with thousands set apart."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def plural(value: int, noun: str, nouns: str | None = None) -> str:
    """Return a count with its noun in the right number."""
    return f"{count(value)} {noun if value == 1 else nouns or noun + 's'}"


def listing(items: Sequence[str]) -> str:
    """Return items joined as in a sentence."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
