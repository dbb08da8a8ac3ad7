"""Summaries that fit a screen: the numbers, and of each caveat as much as there is room for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap

from sustain.spelling import argument

__all__ = ["LINES", "WIDTH", "on_a_screen", "wrapped"]

LINES, WIDTH = 40, 98
_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z'\"(])")


def on_a_screen(
    numbers: Sequence[str], notes: Sequence[tuple[str, str]], details: bool = False, lines: int = LINES
) -> str:
    """Put numbers and caveats on a screen.

    All is written where it fits; else the first sentence of each caveat; else, of the last ones, the kind only.

    Parameters
    ----------
    numbers : sequence of str
        Lines that are written whatever they take.
    notes : sequence of (str, str)
        Kind and text of each caveat.
    details : bool
        Whether everything is written, however long.
    lines : int
        Of the screen.
    """
    whole = [line for kind, text in notes for line in wrapped(f"{kind}: {text}")]
    room = lines - len(numbers) - 1
    if details or not notes or len(whole) <= room:
        return "\n".join([*numbers, *([""] if whole else []), *whole])
    short: list[str] = []
    left: list[str] = []
    for kind, text in notes:
        first = wrapped(f"{kind}: {_SENTENCE.split(text)[0]}")
        # Two lines are kept for what is left out, and for how to read it.
        if left or len(short) + len(first) > room - 3:
            left.append(kind)
        else:
            short += first
    if left:
        short += wrapped(f"and more: {', '.join(dict.fromkeys(left))}")
    return "\n".join([*numbers, "", *short, f"(in full: {argument('details', True)})"])


def wrapped(text: str) -> list[str]:
    """Lines of a paragraph, all but the first indented."""
    return wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
