"""Results as files whose kind their name says, and specifications side by side: ``sustain table``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sustain.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from sustain.causal import EffectTable

__all__ = ["require_result", "table", "write_result"]

_KINDS = (".json", ".tex", ".md", ".html", ".csv", ".xlsx")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first date that a zip archive can say


def require_result(path: Path | None, kinds: tuple[str, ...] = _KINDS) -> None:
    """Raise `DataError` unless a result can be written under this name, before any work is done."""
    if path is not None and path.suffix.lower() not in kinds:
        raise DataError(
            f"--out: {path} is no kind of result, expected a name that ends in {', '.join(kinds)}."
        )


def write_result(path: Path, content: Mapping[str, Any], numbers: pd.DataFrame, shown: EffectTable) -> None:
    """Write all of a result (JSON), its numbers (CSV, Excel), or a table for readers (LaTeX, Markdown, HTML)."""
    from sustain.files import atomic_path, write_json, write_text
    from sustain.tables import write_table

    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, content)
    elif suffix == ".csv":
        write_table(path, numbers)
    elif suffix == ".xlsx":
        with atomic_path(path) as partial:
            partial.write_bytes(_workbook(numbers))
    else:
        written = {".tex": shown.to_latex, ".md": shown.to_markdown, ".html": shown.to_html}
        write_text(path, written[suffix]())


def table(
    results: Annotated[
        list[Path], typer.Argument(help="Results of sustain effect -o FILE.json, a column each.")
    ],
    name: Annotated[
        list[str] | None, typer.Option(help="Head of a column; repeat. (1), (2), ... by default.")
    ] = None,
    stars: Annotated[bool, typer.Option(help="Stars at p < 0.05, 0.01 and 0.001.")] = True,
    digits: Annotated[int, typer.Option(help="Decimals of effects.", min=0, max=12)] = 3,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write it: .tex (booktabs), .md, .html, .csv or .xlsx."),
    ] = None,
) -> None:
    """Put effects of several specifications side by side."""
    from sustain.causal import table as side_by_side

    require_result(out, _KINDS[1:])
    made = side_by_side(results, names=name or None, stars=stars, digits=digits)
    typer.echo(str(made), nl=False)
    if out is not None:
        write_result(out, {}, made.frame.reset_index(), made)


def _workbook(numbers: pd.DataFrame) -> bytes:
    """Excel's file of a table; the same bytes for the same numbers, so without the hour at which it was made."""
    from datetime import datetime

    import pandas as pd

    made, timeless = BytesIO(), BytesIO()
    with pd.ExcelWriter(made, engine="openpyxl") as writer:
        numbers.to_excel(writer, index=False)
        writer.book.properties.created = writer.book.properties.modified = datetime(*_LONG_AGO)
    with zipfile.ZipFile(made) as read, zipfile.ZipFile(timeless, "w", zipfile.ZIP_DEFLATED) as written:
        for item in read.infolist():
            text = read.read(item)
            if item.filename == "docProps/core.xml":  # openpyxl writes the hour of saving over it
                text = _without_hours(text)
            written.writestr(zipfile.ZipInfo(item.filename, _LONG_AGO), text, zipfile.ZIP_DEFLATED)
    return timeless.getvalue()


def _without_hours(text: bytes) -> bytes:
    import re

    return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"1980-01-01T00:00:00Z", text)
