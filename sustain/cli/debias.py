"""``sustain debias``: fit a calibration card, correct a raster with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Calibration cards and corrections.", no_args_is_help=True)


@app.command()
def fit(
    table: Annotated[Path, typer.Argument(help="Calibration sample, Parquet or CSV, one row a place.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The card to write.")],
    target: Annotated[str, typer.Option(help="What the labels measure.")],
    unit: Annotated[str, typer.Option(help="Unit of the labels.")],
    y_pred: Annotated[str, typer.Option(help="Column of out-of-sample predictions.")] = "y_pred",
    y_true: Annotated[str, typer.Option(help="Column of labels.")] = "y_true",
    groups: Annotated[str | None, typer.Option(help="Column of clusters, for covariances.")] = None,
    strata: Annotated[str | None, typer.Option(help="Column of strata with slopes of their own.")] = None,
    predictor: Annotated[str, typer.Option(help="Which model made the predictions.")] = "unknown",
    n_boot: Annotated[int, typer.Option(help="Bootstrap draws kept in the card.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Write the calibration card of a table of predictions and labels."""
    from sustain.cli.tables import read_table
    from sustain.debias import build_card

    data = read_table(table, [y_pred, y_true, *(name for name in (groups, strata) if name)])
    card = build_card(
        data[y_pred].to_numpy(),
        data[y_true].to_numpy(),
        groups=data[groups].to_numpy() if groups else None,
        strata=data[strata].to_numpy() if strata else None,
        target={"name": target, "unit": unit},
        predictor={"id": predictor},
        n_boot=n_boot,
        seed=seed,
    )
    card.save(out)
    typer.echo(f"{out}: slope {card.slope:.3f}, r2 {card.r2:.3f}, {len(data)} places")


@app.command()
def correct(
    source: Annotated[Path, typer.Argument(help="Raster of raw predictions.")],
    out: Annotated[Path, typer.Argument(help="Corrected raster to write.")],
    card: Annotated[Path, typer.Option(help="The map's calibration card.")],
    method: Annotated[str, typer.Option(help="none, linear, tweedie or bridge.")] = "linear",
) -> None:
    """Correct a raster block by block, in bounded memory."""
    from sustain.maps.raster import correct_raster

    correct_raster(source, out, card, method=method)
