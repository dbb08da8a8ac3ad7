"""What a page is made of: sections of figures, tables and notes that explain themselves, some of them folded."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["Cell", "Figure", "Fold", "Note", "Panel", "Row", "Section", "Table"]


@dataclass(frozen=True)
class Panel:
    """One picture within a figure; a title only where there are several.

    Its own legend is drawn, or a row of swatches (colour, words).
    """

    svg: Markup
    title: str = ""
    legend: Markup | None = None
    swatches: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Figure:
    """One or more panels under one title, with a caption that says what to see, and a legend they share."""

    id: str
    title: str
    panels: tuple[Panel, ...]
    caption: str
    legend: Markup | None = None

    @classmethod
    def single(cls, id: str, title: str, svg: Markup, caption: str) -> Figure:
        """Make a figure of one panel, which needs no title of its own."""
        return cls(id, title, (Panel(svg),), caption)


@dataclass(frozen=True)
class Cell:
    """One cell of a table; `method` puts that method's marker before the text."""

    text: str
    method: str = ""


@dataclass(frozen=True)
class Row:
    """One row: its header cell, then its values; `strong` for the one to look at."""

    header: Cell
    cells: tuple[str, ...]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table in groups of rows; a group without a title has no heading row.

    A wide one takes the whole width of the page. `spans` heads neighbouring columns together: (words, columns), in
    order, empty words over columns that stand alone.
    """

    id: str
    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]
    caption: str
    wide: bool = False
    spans: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Note:
    """A few paragraphs under a heading."""

    title: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Fold:
    """What only some readers want: closed on the screen under a title that says what is in it, open in print."""

    id: str
    title: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.figures or self.tables or self.notes)


@dataclass(frozen=True)
class Section:
    """A part of the page: opening words; figures, tables and notes that all see; then what is folded.

    `aside` are notes that stand beside the figure or table where the page is wide enough.
    """

    id: str
    title: str
    intro: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    aside: tuple[Note, ...] = ()
    folds: tuple[Fold, ...] = ()

    @property
    def folded(self) -> bool:
        """Whether nothing of it is open, so that it is folded whole."""
        return not (self.figures or self.tables or self.aside)
