"""The section on the model: how its training went and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sustain.report import figures
from sustain.report.blocks import Cell, Figure, Row, Section, Table
from sustain.report.words import number

__all__ = ["model_section"]


def model_section(training: pd.DataFrame | None, model: Mapping[str, Any] | None) -> Section:
    """Build the training curves and the facts about the network; what is ``None`` is left out."""
    facts = _facts(model or {})
    return Section(
        "model",
        "The model",
        "Training, validation, calibration and test sites lie in different spatial blocks.",
        figures=() if training is None else (_training(training),),
        tables=(_network(facts),) if facts else (),
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


def _network(facts: list[tuple[str, str]]) -> Table:
    rows = tuple(Row(Cell(name), (text,)) for name, text in facts)
    return Table(
        "network",
        "The network",
        ("Part", "Here"),
        (("", rows),),
        "As recorded beside the weights (model.json); the parameters are those of params.yaml, section train.",
    )


def _facts(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if "backbone" in model:
        facts.append(("Network", str(model["backbone"])))
    if "bands" in model:
        facts.append(("Bands", str(len(model["bands"]))))
    if "tile_px" in model and "pixel_m" in model:
        facts.append(("Tile", f"{model['tile_px']} x {model['tile_px']} pixels of {model['pixel_m']:g} m"))
    chosen = {name: value for name, value in model.get("params", {}).items() if name != "backbone"}
    facts += [(name.replace("_", " ").capitalize(), _said(chosen[name])) for name in sorted(chosen)]
    return facts


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
