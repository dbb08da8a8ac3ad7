"""``sustain train`` and ``sustain predict``: a model from packed tiles, and its predictions for any packed tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def train(
    tiles: Annotated[Path, typer.Argument(help="Folder of packed tiles.")],
    out: Annotated[Path, typer.Argument(help="Folder of the model to write.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Other than the file's: a network (resnet18, resnet_narrow, ...), or a simple model without torch and "
            "parameter file: ridge_statistics, ridge_histograms, forest_statistics, nightlights."
        ),
    ] = None,
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
    """Train a model: a network, which goes on where a killed run stopped, or a ridge regression or forest."""
    from sustain.config import TrainParams, load_params
    from sustain.models import train_model
    from sustain.models.simple import SIMPLE_MODELS
    from sustain.stage import required

    if backbone in SIMPLE_MODELS and not params.exists() and source is None:
        section, file_seed = TrainParams(), 0  # nothing else of it counts
    else:
        content = load_params(params, source)
        section, file_seed = required(content.train, "train", content), content.seed
    if backbone is not None:
        section = section.model_copy(update={"backbone": backbone})
    train_model(tiles, out, section, file_seed if seed is None else seed, tensorboard)
    typer.echo(f"{out}: written")


def predict(
    tiles: Annotated[Path, typer.Argument(help="Folder of packed tiles, in the model's bands and units.")],
    model: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    out: Annotated[Path, typer.Argument(help="Table to write, .csv or .parquet.")],
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Part of the split to predict: train, val, calibration or test; may be repeated, by default all. "
            "A calibration card is fitted on calibration."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles on the device at once.")] = 256,
    device: Annotated[
        Literal["auto", "cpu", "gpu"], typer.Option(help="Where to compute; auto: a GPU where there is one.")
    ] = "auto",
) -> None:
    """Predict tiles, beside their labels (y_true, y_pred), split and places: what sustain debias fit takes."""
    from sustain.models.survey import predict_table

    predict_table(tiles, model, out, batch_size, device, split or ())
    typer.echo(f"{out}: written")
