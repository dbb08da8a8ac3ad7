"""What a finished pipeline says on the terminal: its effects, and where the page is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sustain.report.style import method_style
from sustain.stage import Artefacts

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["summary"]

# A longer list of trials is summed up by method.
_SHOWN = 8


def summary(artefacts: Artefacts) -> Group:
    """Return the effects of a finished pipeline and the place of its page, to be printed with rich.

    Parameters
    ----------
    artefacts : Artefacts
        The source's files; only ``effects.csv`` of the report is read.

    Returns
    -------
    rich.console.Group

    Raises
    ------
    FileNotFoundError
        When the report has not been made yet.
    """
    from rich.console import Group
    from rich.text import Text

    path = artefacts.report / "effects.csv"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no report of {artefacts.source!r} yet. Run its pipeline first (make repro)."
        )
    page = Text(f"page: {artefacts.report / 'index.html'}")
    effects = pd.read_csv(path)
    if effects.empty:
        return Group(
            Text("No effects: there is no trial, nor urban beside rural places in the test part."), page
        )
    few = effects["trial"].nunique() <= _SHOWN
    parts: list[Table | Text] = [_per_trial(effects) if few else _per_method(effects)]
    if few:
        parts.append(Text("* the method that the trial's own assumption leads to", style="dim"))
    return Group(*parts, page)


def _per_trial(effects: pd.DataFrame) -> Table:
    from rich.table import Table

    known = effects["truth"].notna().any()
    table = Table(title="Effects on wealth", title_justify="left")
    table.add_column("trial")
    table.add_column("method")
    table.add_column("effect", justify="right")
    table.add_column(f"{effects['level'].iloc[0]:.0%} interval", justify="right")
    if known:
        table.add_column("truth", justify="right")
        table.add_column("inside")
    for title, rows in effects.groupby("title", sort=False):
        for i, row in enumerate(rows.to_dict("records")):
            cells = [
                str(title) if i == 0 else "",
                method_style(row["method"]).label.lower() + (" *" if row["reported"] else ""),
                f"{row['estimate']:.3f}",
                f"{row['conf_low']:.3f} to {row['conf_high']:.3f}",
            ]
            if known:
                has = pd.notna(row["truth"])
                cells += [
                    f"{row['truth']:.3f}" if has else "",
                    ("yes" if row["covered"] else "no") if has else "",
                ]
            table.add_row(*cells, style="bold" if row["reported"] else "", end_section=i == len(rows) - 1)
    return table


def _per_method(effects: pd.DataFrame) -> Table:
    from rich.table import Table

    known = effects.dropna(subset=["truth"])
    table = Table(title=f"{effects['trial'].nunique()} contrasts from the map", title_justify="left")
    table.add_column("method")
    table.add_column("mean effect", justify="right")
    if len(known):
        table.add_column("mean absolute error", justify="right")
        table.add_column("slope on truth", justify="right")
        table.add_column("intervals with truth", justify="right")
    for method, rows in effects.groupby("method", sort=False):
        cells = [method_style(str(method)).label.lower(), f"{rows['estimate'].mean():.3f}"]
        if len(known):
            rows = known[known["method"] == method]
            cells += [
                f"{rows['error'].abs().mean():.3f}",
                f"{(rows['estimate'] * rows['truth']).sum() / (rows['truth'] ** 2).sum():.2f}",
                f"{int(rows['covered'].sum())} of {len(rows)}",
            ]
        table.add_row(*cells)
    return table
