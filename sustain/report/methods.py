"""How corrections look and are called, everywhere on the page and on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["METHODS", "MUTED", "MethodStyle", "method_style", "methods_said"]

MUTED = "#5d5e5f"


@dataclass(frozen=True)
class MethodStyle:
    """How one correction looks and is called."""

    label: str
    colour: str
    marker: str
    words: str = ""

    @property
    def name(self) -> str:
        """The label within a sentence."""
        return self.label if self.label.startswith("Tweedie") else self.label.lower()

    @property
    def shape(self) -> str:
        """The marker as an SVG path within 10 x 10."""
        return _SHAPES[self.marker]


_SHAPES = {
    "o": "M5 .8a4.2 4.2 0 1 0 .01 0z",
    "s": "M1.2 1.2h7.6v7.6h-7.6z",
    "^": "M5 .6L9.6 9.2H.4z",
    "D": "M5 .2L9.8 5L5 9.8L.2 5z",
    "v": "M5 9.4L.4 .8H9.6z",
    "P": "M3.4 .6h3.2v2.8h2.8v3.2h-2.8v2.8h-3.2v-2.8h-2.8v-3.2h2.8z",
}

# Okabe and Ito's colours (Color Universal Design, 2008), told apart by shape as well.
METHODS = {
    "none": MethodStyle("Naive", "#D55E00", "o", "the map as it is"),
    "response": MethodStyle("Response", "#CC79A7", "D", "read back through the response curve"),
    "linear": MethodStyle("Linear", "#0072B2", "s", "divided by one slope"),
    "tweedie": MethodStyle("Tweedie", "#009E73", "^", "by a curve for single places"),
    "tweedie_scott": MethodStyle("Tweedie as published", MUTED, "P"),
    "level": MethodStyle("Level", "#E69F00", "v"),
}


def method_style(method: str) -> MethodStyle:
    """Return the style of a method; an unknown one is drawn in muted ink under its own name."""
    return METHODS.get(method, MethodStyle(method.replace("_", " ").capitalize(), MUTED, "P"))


def methods_said(methods: Iterable[str]) -> str:
    """Return a few words on each of the methods, each once."""
    known = [METHODS[method] for method in dict.fromkeys(methods) if method in METHODS]
    said = "; ".join(f"{style.name}: {style.words}" for style in known if style.words)
    return f"{said[:1].upper()}{said[1:]}." if said else ""
