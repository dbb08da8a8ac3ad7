"""``sustain bench``: a baseline's figures on a task, beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    task: Annotated[str, typer.Argument(help="Name of a task; sustain data list shows them.")],
    baseline: Annotated[
        str | None, typer.Option(help="Name of a baseline; without it, those of the task are listed.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="leak-free, or a scheme by its name; by default official, or the first proposed one where there is "
            "none."
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of ingested sources.")] = Path("data/sustainbench"),
    out: Annotated[Path | None, typer.Option(help="Table to write, .csv or .parquet.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the baseline and of the intervals.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Other than a network's own.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Bootstrap draws of the intervals.")] = 1000,
) -> None:
    """Train a baseline on a task and judge it: the task's metrics with intervals, beside the published figures."""
    from sustain.baselines.tasks import baselines_of, find_baseline

    if baseline is None:
        typer.echo(f"{task}: {', '.join(baselines_of(task))}")
        return

    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from sustain.baselines.bench import bench as run
    from sustain.data.sustainbench.tasks import schemes_of
    from sustain.tables import require_writable, write_table

    if out is not None:
        require_writable(out)
    find_baseline(task, baseline)
    if split is None:
        schemes = schemes_of(task, root)
        split = "official" if "official" in schemes else min(schemes)
    figures = run(task, baseline, root, split=split, seed=seed, epochs=epochs, n_draws=draws)
    table = Table(
        *("split", "metric", "estimate", "interval", "n", "groups", "published", "comparable", "note"),
        title=f"{task}: {baseline}",
        box=None,
        pad_edge=False,
    )
    for row in figures.to_dict("records"):
        published = f"{row['published']:g} ({row['published_model']})" if row["published_model"] else ""
        interval = f"{row['low']:.3f} to {row['high']:.3f}" if pd.notna(row["low"]) else ""
        table.add_row(
            row["scheme"],
            row["metric"],
            f"{row['estimate']:.3f}",
            interval,
            str(row["n"]),
            str(row["n_groups"]),
            published,
            row["comparable"],
            row["note"],
        )
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console = Console(width=200)
    console.print(table)
    for name, scheme in schemes_of(task, root).items():
        if name in set(figures["scheme"]):
            console.print(f"{name}: {scheme.note}", soft_wrap=True, markup=False)
    if out is not None:
        write_table(out, figures)
        typer.echo(f"{out}: written")
