"""Legend, thumbnail and QGIS styles say the same, and end where the values end."""

import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from sustain.config import PublishParams
from sustain.maps.correct.raster import correct_raster
from sustain.maps.publish.publish import publish_map
from sustain.palettes import ERROR, SUPPORT_KINDS, WEALTH
from tests.maps.fakes import make_card, write_raster

ABOUT = PublishParams(title="A map", licence="CC0-1.0", start="2016-01-01", end="2016-12-31")
# What QGIS 3 reads of a raster's style: https://github.com/qgis/QGIS, QgsSingleBandPseudoColorRenderer::create,
# QgsColorRampShader::readXml, QgsPalettedRasterRenderer::create.
ATTRIBUTES = {
    "rasterrenderer": {"type", "band", "opacity", "alphaBand", "nodataColor"},
    "colorrampshader": {
        *("colorRampType", "classificationMode", "clip", "minimumValue", "maximumValue", "labelPrecision"),
    },
    "item": {"alpha", "value", "label", "color"},
    "paletteEntry": {"value", "color", "alpha", "label"},
}


def published(root, values, **layout):
    card = make_card().save(root / "card.json")
    write_raster(root / "raw.tif", [values], ("wealth_raw",), units=("index points",), **layout)
    correct_raster(root / "raw.tif", root / "corrected.tif", card)
    return publish_map(root / "corrected.tif", card, root / "out", ABOUT)


def slope(height=60, width=90):
    """Rich in the north-east, poor in the south-west, nothing in the south-east."""
    rows, cols = np.mgrid[:height, :width]
    values = (cols / width - rows / height) * 0.9
    values[-20:, -30:] = np.nan
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published(tmp_path_factory.mktemp("style"), slope())


def read_style(folder, name):
    text = (folder / name).read_text()
    assert text.startswith("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis ")
    root = ET.fromstring(text)
    for tag, attributes in ATTRIBUTES.items():
        for element in root.iter(tag):
            assert attributes <= set(element.attrib), tag
    return root.find("pipe/rasterrenderer")


def test_the_legend_ends_where_the_values_end(folder):
    bands = {band["band"]: band for band in json.loads((folder / "legend.json").read_text())["bands"]}
    with rasterio.open(folder / "wealth.tif") as raster:
        wealth, raw, error, _ = raster.read()
    both = np.concatenate([wealth[np.isfinite(wealth)], raw[np.isfinite(raw)]])
    for name in ("wealth", "wealth_raw"):
        assert bands[name]["low"] == pytest.approx(both.min(), rel=1e-5)
        assert bands[name]["high"] == pytest.approx(both.max(), rel=1e-5)
        assert bands[name]["values_below_low"] is bands[name]["values_above_high"] is False
        colours = [stop["colour"] for stop in bands[name]["colours"]]
        assert (colours[0], colours[-1]) == (WEALTH.stops[0], WEALTH.stops[-1])
    assert bands["wealth_se"]["low"] == 0
    assert bands["wealth_se"]["high"] == pytest.approx(np.nanmax(error), rel=1e-5)
    assert bands["wealth_se"]["colours"][-1]["colour"] == ERROR.stops[-1]
    assert bands["support"]["kinds"][1] == {"value": 1, "colour": "#882e72", "words": SUPPORT_KINDS[1].words}


@pytest.mark.parametrize(("file", "band"), [("wealth.qml", 1), ("wealth_se.qml", 3)])
def test_a_style_has_the_legend_s_colours_at_the_legend_s_values(folder, file, band):
    renderer = read_style(folder, file)
    assert (renderer.get("type"), renderer.get("band")) == ("singlebandpseudocolor", str(band))
    legend = json.loads((folder / "legend.json").read_text())["bands"][band - 1]
    shader = renderer.find("rastershader/colorrampshader")
    assert shader.get("colorRampType") == "INTERPOLATED"
    items = [(float(item.get("value")), item.get("color")) for item in shader.iter("item")]
    assert items == [(stop["value"], stop["colour"]) for stop in legend["colours"]]
    assert float(shader.get("minimumValue")) == float(renderer.get("classificationMin")) == legend["low"]
    assert float(shader.get("maximumValue")) == float(renderer.get("classificationMax")) == legend["high"]
    options = {option.get("name"): option.get("value") for option in shader.find("colorramp/Option")}
    red, green, blue, _ = (int(part) for part in options["color1"].split(","))
    assert f"#{red:02x}{green:02x}{blue:02x}" == legend["colours"][0]["colour"]
    assert len(options["stops"].split(":")) == len(items) - 2


def test_the_style_of_the_flags_has_one_colour_a_kind(folder):
    renderer = read_style(folder, "support.qml")
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "4")
    entries = renderer.findall("colorPalette/paletteEntry")
    assert [(entry.get("value"), entry.get("color")) for entry in entries] == [
        (str(value), kind.colour) for value, kind in SUPPORT_KINDS.items()
    ]


def corners(path):
    """Mean colour near the map's north-west, north-east, south-west and south-east corner on the thumbnail."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    drawn = np.abs(pixels - 255).sum(axis=2) > 30
    columns = np.flatnonzero(drawn.mean(axis=0) > 0.3)
    rows = np.flatnonzero(drawn[:, columns].mean(axis=1) > 0.97)
    top, left, right = rows[0], columns[0], columns[-1]
    bottom = rows[np.flatnonzero(np.diff(rows) > 1)[0]] if (np.diff(rows) > 1).any() else rows[-1]
    pad = 12
    places = [(top + pad, left + pad), (top + pad, right - pad), (bottom - pad, left + pad)]
    return [pixels[row, col] for row, col in [*places, (bottom - pad, right - pad)]]


@pytest.mark.parametrize("layout", ["north-up", "south-up"])
def test_the_thumbnail_shows_the_map_north_up(tmp_path, layout):
    north_up = from_origin(3.0, 14.0, 0.05, 0.05)
    if layout == "north-up":
        out = published(tmp_path, slope(), crs="EPSG:4326", transform=north_up)
    else:
        turned = rasterio.Affine(0.05, 0, 3.0, 0, 0.05, 11.0)
        out = published(tmp_path, slope()[::-1], crs="EPSG:4326", transform=turned)
    _, north_east, south_west, south_east = corners(out / "thumbnail.png")
    low, high = WEALTH.rgb()[0].astype(int), WEALTH.rgb()[-1].astype(int)
    assert np.abs(north_east - high).max() < 60  # near the rich end
    assert np.abs(south_west - low).max() < 60
    assert np.ptp(south_east) == 0  # grey: no value


def test_the_thumbnail_is_small_and_the_same_every_time(folder, tmp_path):
    again = published(tmp_path, slope())
    assert (again / "thumbnail.png").read_bytes() == (folder / "thumbnail.png").read_bytes()
    width, height = Image.open(folder / "thumbnail.png").size
    assert 400 < width < 1000
    assert 300 < height < 1600
    asset = json.loads((folder / "item.json").read_text())["assets"]["thumbnail"]
    assert (asset["roles"], asset["type"]) == (["thumbnail"], "image/png")
    assert "](thumbnail.png)" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("title", "licence"),
    [("地図 of wealth", "MIT"), ("From $1 to $2 | a day", "by request | or not"), ("A" * 200, "$x_{$")],
)
def test_whatever_a_title_holds_there_is_a_picture_and_a_table(tmp_path, title, licence, recwarn):
    about = ABOUT.model_copy(update={"title": title, "licence": licence})
    write_raster(tmp_path / "raw.tif", [slope()], ("wealth_raw",), units=("US$ | day",))
    card = make_card(unit="US$ | day").save(tmp_path / "card.json")
    correct_raster(tmp_path / "raw.tif", tmp_path / "corrected.tif", card)
    out = publish_map(tmp_path / "corrected.tif", card, tmp_path / "out", about)
    assert Image.open(out / "thumbnail.png").size[0] < 1000
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    text = (out / "README.md").read_text()
    for line in text.splitlines():
        if line.startswith("| this map"):
            assert line == f"| this map | {licence.replace('|', chr(92) + '|')} |"
    assert text.startswith(f"# {title}\n")
