"""The page as it looks: nothing covers anything, borders and names, the marker, the line between two maps."""

from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
from PIL import Image

from sustain.viewer import MapLayers

from .test_viewer import address, folder, place, visited

__all__ = ["address", "folder"]  # fixtures

pytestmark = pytest.mark.browser

DESKTOP = {"viewport": {"width": 1400, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PARTS = ["#map", "header", "#legend", "#answer", "#layers", "#with-borders", "footer"]
ON_THE_MAP = ["path.frame", ".leaflet-control-zoom", ".leaflet-control-scale", ".country"]


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(address, request):
    with visited(address, **request.param) as page:
        page.wait_for_selector(".country")
        yield page


def boxes(page, selectors):
    found = []
    for selector in selectors:
        for item in page.locator(selector).all():
            box = item.bounding_box()
            assert box, selector
            found.append((selector, box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]))
    return found


def parts(page):
    """Boxes of the page's parts, as far as they are scrolled into the panel."""
    panel = page.locator("#panel").bounding_box()
    bottom = panel["y"] + panel["height"]
    whole, *inner = boxes(page, PARTS)
    seen = [(name, x, max(y, panel["y"]), end, min(below, bottom)) for name, x, y, end, below in inner]
    return [whole, *(part for part in seen if part[2] < part[4])]


def overlaps(found):
    return [
        (a[0], b[0])
        for i, a in enumerate(found)
        for b in found[i + 1 :]
        if min(a[3], b[3]) - max(a[1], b[1]) > 1 and min(a[4], b[4]) - max(a[2], b[2]) > 1
    ]


def middle(box):
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def picture_of(page):
    return np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def on_page(page, folder, row, col):
    """Pixel of the page at which a cell's centre is drawn: the frame is the map's, which is in Web Mercator."""
    frame = page.locator("#map path.frame").bounding_box()
    with rasterio.open(folder / "wealth.tif") as source:
        height, width = source.shape
    return (
        frame["x"] + (col + 0.5) / width * frame["width"],
        frame["y"] + (row + 0.5) / height * frame["height"],
    )


def test_nothing_covers_anything(page):
    assert overlaps(parts(page)) == []
    page.mouse.click(*middle(page.locator("#map path.frame").bounding_box()))
    page.wait_for_selector("#values:not([hidden])")
    page.wait_for_timeout(300)
    assert overlaps(parts(page)) == []
    controls = [pair for pair in overlaps(boxes(page, ON_THE_MAP)) if "path.frame" not in pair]
    assert controls == []
    free = boxes(page, [".leaflet-control-zoom", ".leaflet-control-scale", "path.frame"])
    assert overlaps(free) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


@pytest.mark.parametrize("cell", [(30, 60), (12, 20)])
def test_the_marker_stands_on_the_clicked_cell(page, folder, cell):
    page.mouse.click(*(at + 0.3 for at in on_page(page, folder, *cell)))
    page.wait_for_selector("path.marker")
    x, y = on_page(page, folder, *cell)
    for mark in ("path.marker", "path.cell"):
        found = middle(page.locator(mark).last.bounding_box())
        assert found == pytest.approx((x, y), abs=1.5)
    lat, lon = place(folder, *cell)["lat"], place(folder, *cell)["lon"]
    caption = page.inner_text("#values caption").replace("°", "").split()
    assert float(caption[2]) == pytest.approx(lat, abs=0.01)
    assert float(caption[4]) == pytest.approx(lon, abs=0.01)
    # The name of the country makes room.
    assert overlaps(boxes(page, ["path.marker", ".country"])[1:]) == []


def test_the_legend_ends_where_the_layer_ends(page, folder):
    for layer in MapLayers(folder).describe()["layers"]:
        page.check(f"input[value={layer['name']}]")
        if layer["kinds"]:
            assert page.locator("#kinds li").all_inner_texts() == layer["kinds"]
            continue
        assert [page.inner_text("#low"), page.inner_text("#high")] == layer["ends"]
        with rasterio.open(folder / "wealth.tif") as source:
            names = ["wealth", "wealth_raw"] if layer["name"] != "wealth_se" else ["wealth_se"]
            values = np.stack([source.read(source.descriptions.index(name) + 1) for name in names])
        low, high = (float(end.replace("\N{MINUS SIGN}", "-")) for end in layer["ends"])
        assert high == pytest.approx(float(np.nanmax(values)), rel=5e-3)
        assert low == pytest.approx(0 if layer["name"] == "wealth_se" else float(np.nanmin(values)), rel=5e-3)


def test_the_line_between_two_maps_moves(page, folder):
    """Left of it is the raw map, right of it the corrected one; both are told apart where they differ most."""
    page.uncheck("#borders")
    spots = [tuple(round(at) for at in on_page(page, folder, 40, col)) for col in (24, 60)]

    def colours():
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(700)  # tiles fade in
        picture = picture_of(page)
        return [tuple(picture[y, x]) for x, y in spots]

    seen = {}
    for name in ("wealth_raw", "wealth"):
        page.check(f"input[value={name}]")
        seen[name] = colours()
    page.check("input[value=compare]")
    assert colours() == [seen["wealth_raw"][0], seen["wealth"][1]]
    controls = ["#swipe button", "#swipe .before", "#swipe .after"]
    assert overlaps(boxes(page, [*controls, ".leaflet-control-zoom", ".leaflet-control-scale"])) == []
    handle = page.locator("#swipe button")
    start, whole = middle(handle.bounding_box()), page.locator("#map").bounding_box()
    for share, left in (
        (0.02, [seen["wealth"][0], seen["wealth"][1]]),
        (0.98, [seen["wealth_raw"][0], seen["wealth_raw"][1]]),
    ):
        page.mouse.move(*start)
        page.mouse.down()
        start = whole["x"] + share * whole["width"], start[1]
        page.mouse.move(*start, steps=4)
        page.mouse.up()
        assert colours() == left
    for _ in range(24):
        handle.press("ArrowLeft")
    assert handle.get_attribute("aria-valuenow") == "50"
    assert colours() == [seen["wealth_raw"][0], seen["wealth"][1]]
    page.check("input[value=wealth]")
    assert page.locator("#swipe").count() == 0
    assert colours() == seen["wealth"]


def test_borders_and_names_are_shown_and_taken_away(page):
    """The map lies in the south of Nigeria."""
    assert page.locator(".country").all_inner_texts() == ["Nigeria"]
    whole = page.locator("#map").bounding_box()
    label = page.locator(".country").bounding_box()
    assert whole["x"] <= label["x"]
    assert label["x"] + label["width"] <= whole["x"] + whole["width"]
    page.uncheck("#borders")
    assert page.locator(".country").count() == 0
    page.check("#borders")
    assert page.locator(".country").all_inner_texts() == ["Nigeria"]


def test_borders_go_around_the_world_once(address):
    """Seen whole: names lie in their countries and do not meet, and no line runs along 180 degrees or across it."""
    with visited(address, viewport={"width": 1800, "height": 900}) as page:
        page.wait_for_selector(".country")
        for _ in range(8):
            page.click(".leaflet-control-zoom-out", force=True)
            page.wait_for_timeout(350)
        names = boxes(page, [".country"])
        assert overlaps(names) == []
        texts = page.locator(".country").all_inner_texts()
        assert {"Brazil", "Algeria", "India", "Australia"} <= set(texts)
        by_name = dict(zip(texts, names, strict=True))
        assert by_name["Brazil"][1] < by_name["Algeria"][1] < by_name["India"][1] < by_name["Australia"][1]
        assert by_name["Australia"][2] > by_name["India"][2]
        picture = picture_of(page)
        whole = page.locator("#map").bounding_box()
        dark = (picture.sum(axis=2) < 200)[: int(whole["height"]), 48 : int(whole["width"]) - 12]
        assert dark.mean(axis=0).max() < 0.2  # no line from north to south
        assert dark.mean(axis=1).max() < 0.2  # nor from west to east
