"""The section on the model: how its training went and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sustain.report import figures
from sustain.report.blocks import Cell, Figure, Fold, Row, Section, Table
from sustain.report.words import number

__all__ = ["model_section"]


def model_section(training: pd.DataFrame | None, model: Mapping[str, Any] | None) -> Section:
    """Build the training curves and the facts about the model; what is ``None`` is left out."""
    facts = _facts(model or {})
    fold = Fold(
        "model-training",
        "Its training and its parts",
        () if training is None else (_training(training),),
        (_parts(facts),) if facts else (),
    )
    return Section(
        "model",
        "The model",
        f"{_SIMPLE.get(str((model or {}).get('backbone')), 'A convolutional network')}, which learns from images what "
        "goes with wealth. Training, validation, calibration and test sites lie in different blocks of land.",
        folds=() if fold.empty else (fold,),
    )


def _training(curves: pd.DataFrame) -> Figure:
    best = curves["val_loss"].to_numpy().argmin()
    epoch, loss = int(curves["epoch"].iloc[best]), float(curves["val_loss"].iloc[best])
    alt = f"Loss by epoch; the validation loss is least, {loss:.3f}, at epoch {epoch}."
    caption = (
        f"The weights of epoch {epoch} were kept: there the loss at validation sites is least "
        f"({number(loss, 3)}; a loss of 1 is no better than predicting the mean). Where the training loss goes on "
        "falling and the validation loss does not, the network is overfitting."
    )
    return Figure.single("training", "Training", figures.training_curves(curves, alt=alt), caption)


def _parts(facts: list[tuple[str, str]]) -> Table:
    rows = tuple(Row(Cell(name), (text,)) for name, text in facts)
    return Table(
        "network",
        "The model",
        ("Part", "Here"),
        (("", rows),),
        "Every other setting of the training is among the parameters, under Provenance.",
    )


# Settings that say what was trained and for how long, in words; the rest are for those who train.
_WORDS = {
    "epochs": "Passes over the training sites",
    "batch_size": "Sites a step",
    "learning_rate": "Learning rate",
    "weight_decay": "Weight decay",
    "average": "Decay of the weights' moving average",
    "views": "Turns of a tile that are averaged",
    "stack": "Averaged with two ridge regressions",
    "members": "Networks averaged",
    "weights": "Pretrained weights",
}
_SIMPLE = {
    "nightlights": "Nearest neighbours in night lights",
    "ridge_histograms": "A ridge regression on histograms of bands",
    "ridge_statistics": "A ridge regression on statistics of bands",
    "forest_statistics": "A random forest on statistics of bands",
}
_BACKBONES = {
    "resnet_narrow": "a small residual network",
    "resnet18": "a residual network of 18 layers",
    "resnet50": "a residual network of 50 layers",
}


def _facts(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if name := str(model.get("backbone", "")):
        facts.append(("Kind", f"{_BACKBONES[name]} ({name})" if name in _BACKBONES else name))
    if "bands" in model:
        facts.append(("Bands", ", ".join(str(band).replace("_", " ").lower() for band in model["bands"])))
    if "tile_px" in model and "pixel_m" in model:
        facts.append(("Tile", f"{model['tile_px']} x {model['tile_px']} pixels of {model['pixel_m']:g} m"))
    chosen = model.get("params", {})
    return facts + [(words, _said(chosen[name])) for name, words in _WORDS.items() if name in chosen]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
