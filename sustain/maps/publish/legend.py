"""How a published map is to be coloured: one legend, from which the thumbnail and the QGIS styles are made too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import rasterio

from sustain.files import write_json, write_text
from sustain.maps.geotiff import SUPPORT, WEALTH, WEALTH_RAW, WEALTH_SE, read_window
from sustain.maps.read.cells import MapSummary
from sustain.palettes import ERROR, SUPPORT_KINDS, Palette, Scale, number_text, scale_of
from sustain.palettes import WEALTH as WEALTH_COLOURS

__all__ = ["LEGEND_FILE", "STYLES", "BandLegend", "legends", "write_legend", "write_styles"]

LEGEND_FILE = "legend.json"
STYLES = {"wealth.qml": WEALTH, "wealth_se.qml": WEALTH_SE, "support.qml": SUPPORT}
"""QGIS takes the style that is called like the raster by itself; the others are for its two other questions."""

_TITLES = {
    WEALTH: "Wealth, corrected",
    WEALTH_RAW: "Wealth, as predicted",
    WEALTH_SE: "Standard error of a cell",
    SUPPORT: "Range of the calibration",
}
_N_COLOURS = 11
_SAMPLE_PX = 2048  # side of what percentiles are taken of; the ends themselves are those of all cells
_DIGITS = 6


class BandLegend(NamedTuple):
    """Colours of one band with amounts."""

    name: str
    title: str
    unit: str
    palette: Palette
    scale: Scale

    def stops(self) -> list[tuple[float, str]]:
        """Values, evenly spaced from end to end, and their colours."""
        step = (self.scale.high - self.scale.low) / (_N_COLOURS - 1)
        values = [self.scale.low + i * step for i in range(_N_COLOURS)]
        return [
            (float(f"{v:.{_DIGITS}g}"), c)
            for v, c in zip(values, self.palette.colours(_N_COLOURS), strict=True)
        ]


def legends(raster: rasterio.io.DatasetReader, summary: MapSummary) -> dict[str, BandLegend]:
    """Legend of each band with amounts, by name; empty for a map without values.

    ``wealth`` and ``wealth_raw`` share a scale; that of ``wealth_se`` starts at zero.

    Parameters
    ----------
    raster : rasterio.io.DatasetReader
        The published map, open.
    summary : MapSummary
        Its figures.
    """
    if not summary.n_values:
        return {}
    names = [str(name) for name in raster.descriptions]
    # Some cells, as they are: overviews hold means, which are less spread.
    step = max(1, -(-max(raster.shape) // _SAMPLE_PX))
    rows = range(0, raster.height, step)
    sample: dict[str, list[Any]] = {name: [] for name in summary.bands}
    for row in rows:
        window = rasterio.windows.Window(0, row, raster.width, 1)
        for name, line in zip(names, read_window(raster, raster.indexes, window), strict=True):
            if name in sample:
                sample[name].append(line[0, ::step])
    ends = {name: [found.minimum, found.maximum] for name, found in summary.bands.items()}
    wealth = scale_of(*(part for name in (WEALTH, WEALTH_RAW) for part in (*sample[name], ends[name])))
    error = scale_of(*sample[WEALTH_SE], ends[WEALTH_SE], from_zero=True)
    found = {}
    for name, palette, scale in (
        (WEALTH, WEALTH_COLOURS, wealth),
        (WEALTH_RAW, WEALTH_COLOURS, wealth),
        (WEALTH_SE, ERROR, error),
    ):
        if scale is not None:
            unit = str(raster.units[names.index(name)] or "")
            found[name] = BandLegend(name, _TITLES[name], unit, palette, scale)
    return found


def write_legend(path: Path, bands: dict[str, BandLegend]) -> None:
    """Write all colours with their values as JSON, for whoever draws the map with other tools."""
    content: list[dict[str, Any]] = [
        {
            "band": legend.name,
            "title": legend.title,
            "unit": legend.unit,
            "low": legend.stops()[0][0],
            "high": legend.stops()[-1][0],
            "values_below_low": legend.scale.cut_low,
            "values_above_high": legend.scale.cut_high,
            "colours": [{"value": value, "colour": colour} for value, colour in legend.stops()],
        }
        for legend in bands.values()
    ]
    kinds = [
        {"value": value, "colour": kind.colour, "words": kind.words} for value, kind in SUPPORT_KINDS.items()
    ]
    content.append({"band": SUPPORT, "title": _TITLES[SUPPORT], "kinds": kinds})
    write_json(path, {"no_colour": "no value", "bands": content})


def write_styles(folder: Path, raster: rasterio.io.DatasetReader, bands: dict[str, BandLegend]) -> None:
    """Write the QGIS styles `STYLES` into `folder`."""
    names = [str(name) for name in raster.descriptions]
    for file, name in STYLES.items():
        number = names.index(name) + 1
        if name == SUPPORT:
            renderer = _kinds(number)
        elif name in bands:
            renderer = _amounts(number, bands[name])
        else:
            continue
        # The elements and attributes of QGIS 3; it fills in what is not said.
        root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
        pipe = ET.SubElement(root, "pipe")
        pipe.append(renderer)
        ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
        ET.SubElement(root, "blendMode").text = "0"
        ET.indent(root, " ")
        head = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        write_text(folder / file, head + ET.tostring(root, encoding="unicode") + "\n")


def _renderer(kind: str, band: int, **more: str) -> ET.Element:
    common = {"type": kind, "band": str(band), "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    element = ET.Element("rasterrenderer", common | more)
    ET.SubElement(element, "rasterTransparency")
    return element


def _amounts(band: int, legend: BandLegend) -> ET.Element:
    stops = legend.stops()
    low, high = repr(stops[0][0]), repr(stops[-1][0])
    element = _renderer("singlebandpseudocolor", band, classificationMin=low, classificationMax=high)
    limits = ET.SubElement(element, "minMaxOrigin")
    # QGIS otherwise takes ends of its own, by what is in view.
    for name, text in (("limits", "None"), ("extent", "WholeRaster"), ("statAccuracy", "Exact")):
        ET.SubElement(limits, name).text = text
    shader = ET.SubElement(
        ET.SubElement(element, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        minimumValue=low,
        maximumValue=high,
        labelPrecision="4",
    )
    ramp = ET.SubElement(shader, "colorramp", type="gradient", name="[source]")
    options = ET.SubElement(ramp, "Option", type="Map")
    inner = stops[1:-1]
    parts = {
        "color1": _rgba(stops[0][1]),
        "color2": _rgba(stops[-1][1]),
        "discrete": "0",
        "rampType": "gradient",
        "stops": ":".join(f"{(i + 1) / (len(stops) - 1):.6g};{_rgba(c)}" for i, (_, c) in enumerate(inner)),
    }
    for name, text in parts.items():
        ET.SubElement(options, "Option", name=name, type="QString", value=text)
    ends = legend.scale.labels()
    for i, (value, colour) in enumerate(stops):
        label = ends[0] if i == 0 else ends[1] if i == len(stops) - 1 else number_text(value)
        ET.SubElement(shader, "item", alpha="255", value=repr(value), label=label, color=colour)
    return element


def _kinds(band: int) -> ET.Element:
    element = _renderer("paletted", band)
    palette = ET.SubElement(element, "colorPalette")
    for value, kind in SUPPORT_KINDS.items():
        ET.SubElement(
            palette, "paletteEntry", value=str(value), color=kind.colour, alpha="255", label=kind.words
        )
    return element


def _rgba(colour: str) -> str:
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)) + ",255"
