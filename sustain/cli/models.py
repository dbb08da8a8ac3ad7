"""``sustain train`` and ``sustain predict``: a model from packed tiles, and its predictions for any packed tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def train(
    tiles: Annotated[Path, typer.Argument(help="Folder of packed tiles.")],
    out: Annotated[Path, typer.Argument(help="Folder of the model to write.")],
    params: Annotated[Path, typer.Option(help="Parameter file, whose section train counts.")] = Path(
        "params.yaml"
    ),
    source: Annotated[
        str | None, typer.Option(help="Profile other than the one that the file names.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed other than the file's.")] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            help="Folder for TensorBoard's event files; none by default.", envvar="SUSTAIN_TENSORBOARD"
        ),
    ] = None,
) -> None:
    """Train a model; a killed run goes on where it stopped."""
    from sustain.config import load_params
    from sustain.models.training import train as train_model
    from sustain.stage import required

    content = load_params(params, source)
    section = required(content.train, "train", content)
    train_model(tiles, out, section, content.seed if seed is None else seed, tensorboard)
    typer.echo(f"{out}: written")


def predict(
    tiles: Annotated[Path, typer.Argument(help="Folder of packed tiles, in the model's bands and units.")],
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    out: Annotated[Path, typer.Argument(help="Table to write, .csv or .parquet.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles on the device at once.")] = 256,
    device: Annotated[
        Literal["auto", "cpu", "gpu"], typer.Option(help="Where to compute; auto: a GPU where there is one.")
    ] = "auto",
) -> None:
    """Predict every tile: id, lat, lon, year, y_pred, its sd where the model gives one, and the model's id."""
    from sustain.models.survey import predict_table

    predict_table(tiles, model, out, batch_size, device)
    typer.echo(f"{out}: written")
