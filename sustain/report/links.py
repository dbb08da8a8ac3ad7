"""Text with its addresses as links: DOIs and web addresses that a citation or a note names."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

__all__ = ["linked"]

_ADDRESS = re.compile(
    r"https?://[^\s<>\"]+|\bdoi:\s?10\.\d{4,9}/[^\s<>\"]+|\b10\.\d{4,9}/[^\s<>\"]+", re.IGNORECASE
)
_TRAILING = ".,;:!?'\""  # of the sentence, not of the address


def linked(text: str) -> Markup:
    """Return text, escaped, with every web address and DOI in it as a link.

    >>> linked("See doi:10.1093/qje/qjac038.")
    Markup('See <a href="https://doi.org/10.1093/qje/qjac038">doi:10.1093/qje/qjac038</a>.')
    """
    parts, end = [Markup()], 0
    for found in _ADDRESS.finditer(text):
        shown = found[0].rstrip(_TRAILING)
        # A bracket that the address did not open closes the sentence's own.
        while shown.endswith(")") and shown.count(")") > shown.count("("):
            shown = shown[:-1].rstrip(_TRAILING)
        address = shown if "://" in shown else f"https://doi.org/{shown[shown.index('10.') :]}"
        link = Markup('<a href="{}">{}</a>').format(address, shown)
        parts += [escape(text[end : found.start()]), link]
        end = found.start() + len(shown)
    return Markup().join([*parts, escape(text[end:])])
