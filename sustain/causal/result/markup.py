"""Tables of text in LaTeX, Markdown and HTML; every cell is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

__all__ = ["html_table", "latex_table", "markdown_table"]

Row = tuple[str, tuple[str, ...]]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    # As text they come out as other signs in LaTeX's first encoding.
    **{"<": r"$<$", ">": r"$>$", "|": r"$|$"},
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")
_STARS = re.compile(r"\*+$")


def latex_table(names: Sequence[str], parts: Sequence[Sequence[Row]], notes: Sequence[str]) -> str:
    """LaTeX with booktabs: a ``tabular`` with a rule between parts, notes over its whole width below."""
    width = len(names) + 1
    lines = [
        rf"\begin{{tabular}}{{l{'c' * len(names)}}}",
        r"\toprule",
        _latex_row("", names),
        r"\midrule",
        *(line for place, part in enumerate(filter(None, parts)) for line in _latex_part(part, place)),
        r"\bottomrule",
        *(rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {_latex(note)}}} \\" for note in notes),
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def markdown_table(
    names: Sequence[str], parts: Sequence[Sequence[Row]], notes: Sequence[str], *, escaped: bool = True
) -> str:
    """Pipes, columns of one width so that it is legible as it stands; for a terminal not `escaped`."""
    shown = _markdown if escaped else str
    rows = [(name, cells) for part in parts for name, cells in part]
    grid = [[shown(cell) for cell in (name, *cells)] for name, cells in [("", tuple(names)), *rows]]
    widths = [max(3, *(len(line[place]) for line in grid)) for place in range(len(names) + 1)]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join([":" + "-" * (widths[0] + 1), *(f":{'-' * width}:" for width in widths[1:])]) + "|"
    return "\n".join([line(grid[0]), rule, *map(line, grid[1:]), "", *map(shown, notes)]) + "\n"


def html_table(names: Sequence[str], parts: Sequence[Sequence[Row]], notes: Sequence[str]) -> str:
    """Give a ``table`` with a ``tbody`` a part; notes are its last row."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", *names))
    bodies = "\n".join(
        "<tbody>\n" + "\n".join(_html_row(*row) for row in part) + "\n</tbody>" for part in parts
    )
    foot = "<br>".join(map(escape, notes))
    return (
        f"<table>\n<thead><tr>{head}</tr></thead>\n{bodies}\n"
        f'<tfoot><tr><td colspan="{len(names) + 1}">{foot}</td></tr></tfoot>\n</table>\n'
    )


def _latex_part(part: Sequence[Row], place: int) -> list[str]:
    return [*([r"\midrule"] if place else []), *(_latex_row(*row) for row in part)]


def _latex_row(name: str, cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, (name, *cells))) + r" \\"


def _latex(text: str) -> str:
    stars = _STARS.search(text)
    kept = text[: stars.start()] if stars else text
    # A bracket at the start of a line would be read as an option of the line before.
    safe = "".join(_LATEX.get(sign, sign) for sign in kept)
    safe = f"{{{safe}}}" if safe.startswith("[") else safe
    if stars and kept:
        return safe + rf"$^{{{stars.group()}}}$"
    return safe.replace("*", "{*}") if not stars else safe + "".join("{*}" for _ in stars.group())


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _html_row(name: str, cells: Sequence[str]) -> str:
    return (
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )
