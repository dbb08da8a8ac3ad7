"""The sections that only published models and maps have: their map against the survey, and all models compared."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sustain.report import figures
from sustain.report.blocks import Cell, Figure, Fold, Note, Row, Section, Table
from sustain.report.findings import Published, model_label
from sustain.report.methods import method_style
from sustain.report.words import count, interval, number, signed

__all__ = ["models_section", "survey_section"]

_LEVELS = {"place": "Single places", "area": "Districts"}


def survey_section(published: Published, mapped: str, *, unit: str) -> Section | None:
    """Build the comparison of the map with the survey of its country, place by place, by tenth and by area."""
    agreement, tenths = published.agreement, published.tenths
    if agreement is None:
        return None
    blocks: list[Figure] = []
    if tenths is not None:
        blocks.append(_tenths(tenths[(tenths["model"] == mapped) & (tenths["by"] == "map")], unit))
    tables = (_levels(agreement[agreement["model"] == mapped], unit),)
    compared: tuple[Table, ...] = ()
    if len(set(agreement["model"])) > 1:
        compared = (_maps(agreement[agreement["level"] == "area"], mapped, unit),)
    intro = (
        "The map's cells at survey places of its own country, of which the calibration card knows no label. Which "
        "version is better depends on the question: a single place, the mean of an area, or a difference "
        "that the image cannot show."
    )
    note = (
        "The card was made from the published predictions at survey places. A published map may come from "
        "another training run of the same model, so the two need not agree at a place."
    )
    fold = Fold(
        "survey-more", "Errors by what the map says, and other published maps", tuple(blocks), compared
    )
    return Section(
        "survey",
        "The map against the survey",
        intro,
        tables=tables,
        aside=(Note("Map and predictions", (note,)),),
        folds=() if fold.empty else (fold,),
    )


def models_section(published: Published, mapped: str, *, unit: str) -> Section | None:
    """Build the table of all published models: place by place and over the contrasts, by every correction."""
    if published.models is None:
        return None
    models = published.models[published.models["folds"] == "spatial"]
    per_method = models["method"].value_counts(sort=False)
    methods = [str(method) for method, n in per_method.items() if n > 1]
    order = models[models["method"] == "none"].sort_values("r2", ascending=False)["model"]
    measures = [
        ("Slope on survey wealth", _lookup(models, "slope")),
        ("RMSE of a place", _lookup(models, "rmse")),
    ]
    intro = f"{len(order)} models of the same survey places, from night lights alone to images of all bands."
    if published.scores is not None:
        errors = _lookup(published.scores, "mae_sd")
        measures.append(("Error of a contrast, sd", errors))
        better = sum(min(errors[m, c] for c in methods if c != "none") < errors[m, "none"] for m in order)
        intro += f" A correction brings the contrasts nearer to the survey for {better or 'none'} of them."
    r2 = _lookup(models, "r2")
    rows = tuple(
        Row(
            Cell(model_label(model)),
            (number(r2[model, "none"]), *(number(v[model, c]) for _, v in measures for c in methods)),
            strong=model == mapped,
        )
        for model in order
    )
    labels = [method_style(method).label for method in methods]
    table = Table(
        "models-table",
        "Place by place and by contrast",
        ("Model", "R²", *(label for _ in measures for label in labels)),
        (("", rows),),
        f"Every place corrected by a calibration that saw no place of its spatial block. RMSE in {unit}. "
        "Error of a contrast: mean absolute error over the contrasts above, in standard deviations of "
        "survey wealth. Bold: the "
        "model of the map." + _other_corrections(models, published.scores, methods),
        wide=True,
        spans=(("", 2), *((words, len(methods)) for words, _ in measures)),
    )
    tables = (table,) if published.countries is None else (table, _countries(published.countries, unit))
    fold = Fold("models-all", "All models, place by place, by contrast and in new countries", (), tables)
    return Section("models", "The published models", intro, folds=(fold,))


def _countries(countries: pd.DataFrame, unit: str) -> Table:
    rows = []
    for method, part in countries.groupby("method", sort=False):
        slope = part["slope"]
        values = (
            number(float(slope.median())),
            interval(float(slope.min()), float(slope.max())),
            number(float(part["bias"].abs().mean())),
        )
        rows.append(Row(Cell(method_style(str(method)).label, str(method)), values))
    n = countries["country"].nunique()
    return Table(
        "countries",
        "In a country that the calibration never saw",
        ("Method", "Slope, median", "Lowest to highest", "Mean error, without sign"),
        (("", tuple(rows)),),
        f"The map's model in each of {n} countries, corrected with the labels of the others; in {unit}. "
        "The range says how far a slope learned elsewhere can be from that of one country.",
    )


def _lookup(table: pd.DataFrame, value: str) -> dict[tuple[str, str], float]:
    return {
        (str(m), str(c)): float(v)
        for m, c, v in zip(table["model"], table["method"], table[value], strict=True)
    }


def _tenths(tenths: pd.DataFrame, unit: str) -> Figure:
    raw = tenths[tenths["method"] == "none"]
    low, high = float(raw["bias"].iloc[0]), float(raw["bias"].iloc[-1])
    svg = figures.decile_bias(
        tenths,
        unit=unit,
        tenths_of="map",
        name="map-tenths",
        alt=f"Mean error by tenth of what the map says. Naive: {signed(low)} in the lowest and {signed(high)} "
        "in the highest tenth.",
    )
    caption = (
        "The same question asked of the map: tenths of places by what the map says, not by what the survey "
        f"says. The map as it is errs by {signed(low)} in its poorest tenth and {signed(high)} in its "
        "richest. A map that is right place by place is level here. A correction tilts it: "
        "that is the price of correct differences."
    )
    return Figure.single("map-tenths", "Errors by what the map says", svg, caption)


def _levels(agreement: pd.DataFrame, unit: str) -> Table:
    groups = []
    for level, rows in agreement.groupby("level", sort=False):
        title = f"{_LEVELS.get(str(level), str(level))} ({count(int(rows['n'].iloc[0]))})"
        groups.append((title, tuple(_agreement_row(row) for _, row in rows.iterrows())))
    slope = {(str(r["level"]), str(r["method"])): float(r["slope"]) for _, r in agreement.iterrows()}
    note = f"Map against survey, in {unit}; slope of the map on the survey. Districts: admin level 2."
    if {("place", "linear"), ("area", "linear")} <= set(slope):
        place, area = slope["place", "linear"], slope["area", "linear"]
        note += (
            f" The linear correction takes the slope from {number(slope['place', 'none'])} to "
            f"{number(place)} for single places and from {number(slope['area', 'none'])} to {number(area)} "
            "for areas."
        )
        if area - 1 > max(0.05, abs(place - 1)):
            note += (
                " Chance errors of places average out over an area, so the correction that is right for places is too "
                "strong there."
            )
    return Table(
        "agreement",
        "By single places and by area",
        ("Method", "Slope", "Mean error", "RMSE", "R²"),
        tuple(groups),
        note,
    )


def _agreement_row(row: pd.Series[Any]) -> Row:
    method = str(row["method"])
    slope, bias, rmse, r2 = (float(row[name]) for name in ("slope", "bias", "rmse", "r2"))
    return Row(
        Cell(method_style(method).label, method), (number(slope), signed(bias), number(rmse), number(r2))
    )


def _maps(areas: pd.DataFrame, mapped: str, unit: str) -> Table:
    methods = list(dict.fromkeys(areas["method"]))
    measures = [_lookup(areas, "slope"), _lookup(areas, "rmse")]
    rows = tuple(
        Row(
            Cell(model_label(model)),
            tuple(number(values[model, method]) for values in measures for method in methods),
            strong=model == mapped,
        )
        for model in dict.fromkeys(areas["model"])
    )
    labels = tuple(method_style(method).label for method in methods)
    return Table(
        "maps-compared",
        "All published maps by area",
        ("Map", *labels, *labels),
        (("", rows),),
        f"Means of districts (admin level 2), map against survey; RMSE in {unit}. Bold: the map of this page.",
        wide=True,
        spans=(("", 1), ("Slope", len(labels)), ("RMSE", len(labels))),
    )


def _other_corrections(models: pd.DataFrame, scores: pd.DataFrame | None, methods: list[str]) -> str:
    """Say how corrections did that only one model has."""
    text = ""
    for row in models[~models["method"].isin(methods)].to_dict("records"):
        method, model = str(row["method"]), str(row["model"])
        text += (
            f" {method_style(method).label}, for {model_label(model)}: slope "
            f"{number(float(row['slope']))}, RMSE {number(float(row['rmse']))}"
        )
        if scores is not None:
            error = scores.loc[(scores["model"] == model) & (scores["method"] == method), "mae_sd"]
            text += "".join(f", error of a contrast {number(float(value))}" for value in error)
        text += "."
    return text
