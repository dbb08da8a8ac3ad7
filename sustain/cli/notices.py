"""What commands say to a user: arguments spelled as options, and each warning once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sustain.errors import SustainWarning

__all__ = ["options_of", "unless_said"]

# Arguments of functions whose options have other names, or are given one by one.
_RENAMED = {"calibration": "card", "maps": "map_", "noise_var": "noise"}
_REPEATED = {
    "lines": "line",
    "quantiles": "quantile",
    "measures": "measure",
    "levels": "level",
    "methods": "method",
}


def options_of(root: Any, words: Sequence[str]) -> dict[str, str]:
    """Option by argument, for the command that `words` call; what only a card's maker has, under that command's name.

    Parameters
    ----------
    root : click.Group
        Typer's own, or click's.
    words : sequence of str
        As typed, after the program's name.
    """
    command, names = root, list(words)
    while names and names[0] in getattr(command, "commands", ()):
        command = command.commands[names.pop(0)]
    fit = root.commands["debias"].commands["fit"]
    here = _options(command)
    elsewhere = {name: f"sustain debias fit {option}" for name, option in _options(fit).items()}
    return here if command is fit else elsewhere | here


def _options(command: Any) -> dict[str, str]:
    params = {param.name: param for param in command.params if param.param_type_name == "option"}
    found = {name: max(param.opts, key=len) for name, param in params.items()}
    found |= {name: found[own] for name, own in _RENAMED.items() if own in params and name not in params}
    repeated = {name: own for name, own in _REPEATED.items() if own in params and params[own].multiple}
    return found | {name: found[own] for name, own in repeated.items()}


@contextmanager
def unless_said() -> Iterator[set[str]]:
    """Keep warnings of ours back until the block is done, and leave out those whose text it has put into the set."""
    said: set[str] = set()
    kept: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            kept = caught
            warnings.simplefilter("always", SustainWarning)
            yield said
    finally:
        _repeat(kept, said)


def _repeat(caught: Sequence[warnings.WarningMessage], said: set[str]) -> None:
    for item in caught:
        text = str(item.message)
        if text not in said or not issubclass(item.category, SustainWarning):
            said.add(text)
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
