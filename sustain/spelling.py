"""How an argument is spelled where the user is: as in Python, or as on the command line.

Messages that advise an argument ask this module for its spelling, so that who types commands reads commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["Placeholder", "argument", "on_command_line", "spelled"]

_options: ContextVar[Mapping[str, str] | None] = ContextVar("options", default=None)


class Placeholder(str):
    """A word that stands for a value of the user's, such as the name of a column."""

    def __repr__(self) -> str:
        return str(self)


@contextmanager
def on_command_line(options: Mapping[str, str]) -> Iterator[None]:
    """Spell arguments as options, within the block.

    Parameters
    ----------
    options : mapping of str to str
        Option by the argument of a function: ``{"calibration": "--card"}``. Others stay as they are in Python.
    """
    token = _options.set(options)
    try:
        yield
    finally:
        _options.reset(token)


def argument(name: str, *values: Any) -> str:
    """Spell an argument, with values of which one is to be chosen.

    >>> argument("assumption", "measurement", "outcome", "bracket")
    "assumption='measurement', 'outcome' or 'bracket'"
    >>> with on_command_line({"assumption": "--assumption", "vcov": "--vcov"}):
    ...     argument("assumption", "outcome"), argument("vcov", {"CRV1": Placeholder("column")})
    ('--assumption outcome', '--vcov CRV1:COLUMN')
    """
    option = (_options.get() or {}).get(name)
    if option is None:
        return f"{name}={_any_of([repr(value) for value in values])}"
    return " ".join([option, *([_any_of([_word(value) for value in values])] if values else [])]).rstrip()


def spelled(message: str) -> str:
    """Spell the arguments that a message begins with, before its first colon, as options where there are such."""
    options = _options.get() or {}
    names, colon, rest = message.partition(":")
    words = names.split(", ")
    if not colon or not all(word in options for word in words):
        return message
    return ", ".join(options[word] for word in words) + colon + rest


def _any_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _word(value: Any) -> str:
    """Write a value as it is typed; a switch that is on needs no value."""
    if value is True:
        return ""
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_word(item)}" for key, item in value.items())
    if isinstance(value, Placeholder):
        return value.upper()
    if isinstance(value, list | tuple):
        return ",".join(map(_word, value))
    text = str(value)
    return f"'{text}'" if " " in text else text
