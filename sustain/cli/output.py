"""Results as files whose kind their name says, and specifications side by side: ``sustain table``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sustain.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from sustain.causal import EffectTable

__all__ = ["require_result", "table", "write_result"]

_KINDS = (".json", ".tex", ".md", ".html", ".csv", ".xlsx")


def require_result(path: Path | None, kinds: tuple[str, ...] = _KINDS) -> None:
    """Raise `DataError` unless a result can be written under this name, before any work is done."""
    if path is not None and path.suffix.lower() not in kinds:
        raise DataError(
            f"--out: {path} is no kind of result, expected a name that ends in {', '.join(kinds)}."
        )


def write_result(path: Path, content: Mapping[str, Any], numbers: pd.DataFrame, shown: EffectTable) -> None:
    """Write all of a result (JSON), its numbers (CSV, Excel), or a table for readers (LaTeX, Markdown, HTML)."""
    from sustain.files import write_json, write_text
    from sustain.tables import write_table

    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, content)
    elif suffix in (".csv", ".xlsx"):
        write_table(path, numbers)
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
