"""The viewer: what it answers, what it refuses, and what a visitor sees in a browser."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient
from odc.geo.geobox import GeoBox
from PIL import Image
from shapely import Polygon

from sustain.debias import CalibrationCard
from sustain.errors import RasterError
from sustain.maps.correct.raster import correct_values
from sustain.maps.read import area_means
from sustain.maps.writing import create_geotiff
from sustain.viewer import MapLayers, make_app
from sustain.viewer import app as app_module
from sustain.viewer import layers as layers_module
from tests.chromium import open_chromium
from tests.maps.fakes import make_card

from .test_regions import published

HALVES = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))  # of a cell, from its centre: corners in turn
BANDS = ("wealth", "wealth_raw", "wealth_se", "support")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A published folder: wealth rises from west to east, one corner has no imagery."""
    folder = tmp_path_factory.mktemp("published")
    rows, cols = 60, 80
    raw = np.broadcast_to(np.linspace(-1, 1, cols), (rows, cols)).astype(np.float32)
    card = make_card()
    raw = np.where((np.arange(rows) < 10)[:, None] & (np.arange(cols) < 10), np.nan, raw)
    bands = correct_values(raw.astype(float), card, "linear")
    with create_geotiff(
        folder / "wealth.tif",
        like=GeoBox((rows, cols), rasterio.Affine(1000, 0, 800_000, 0, -1000, 900_000), "EPSG:3857"),
        bands=BANDS,
        units=("index", "index", "index", "1"),
        tags={
            "SUSTAIN_METHOD": "linear",
            "SUSTAIN_TARGET": "asset_index",
            "SUSTAIN_CARD_SHA256": card.sha256,
        },
    ) as target:
        target.write(bands)
    card.save(folder / "card.json")
    (folder.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def client(folder):
    return TestClient(make_app(MapLayers(folder), hosts=("testserver",)))


def place(folder, row, col):
    with rasterio.open(folder / "wealth.tif") as source:
        x, y = source.xy(row, col)
        lon, lat = rasterio.warp.transform(source.crs, "EPSG:4326", [x], [y])
        return {"lon": lon[0], "lat": lat[0]}


def test_corrected_and_raw_share_their_colour_scale(client):
    layers = {layer["name"]: layer for layer in client.get("/map.json").json()["layers"]}
    assert list(layers) == list(BANDS)
    assert (layers["wealth"]["low"], layers["wealth"]["high"]) == (
        layers["wealth_raw"]["low"],
        layers["wealth_raw"]["high"],
    )
    assert layers["wealth_se"]["low"] == 0


def test_values_at_a_point_are_the_cell_s(client, folder):
    answer = client.get("/at", params=place(folder, 30, 60)).json()
    values = answer["values"]
    with rasterio.open(folder / "wealth.tif") as source:
        expected = source.read()[:, 30, 60]
    assert list(values.values()) == pytest.approx(expected.tolist())
    corners = [place(folder, 30 + down, 60 + across) for down, across in HALVES]
    np.testing.assert_allclose(
        answer["cell"], [[corner["lon"], corner["lat"]] for corner in corners], atol=1e-9
    )
    assert client.get("/at", params=place(folder, 3, 3)).json()["values"]["wealth"] is None


def test_a_region_s_mean_is_the_mean_of_its_cells(client, folder):
    corners = [(20, 20), (20, 40), (50, 40), (50, 20)]
    drawn = [tuple(place(folder, row - 0.5, col - 0.5).values()) for row, col in corners]
    means = client.post("/region", json={"corners": drawn}).json()
    area = gpd.GeoDataFrame(geometry=[Polygon(drawn)], crs="EPSG:4326")
    (found,) = area_means(folder / "wealth.tif", area, folder / "card.json").to_dict("records")
    unknown = ["country_se", "expected_country_se"]  # the folder's card knows no countries
    assert [name for name, value in means.items() if value is None] == unknown
    assert means == pytest.approx(found | dict.fromkeys(unknown))
    with rasterio.open(folder / "wealth.tif") as source:
        expected = source.read(1)[20:50, 20:40].mean()
    assert means["wealth"] == pytest.approx(float(expected), abs=2e-3)
    assert means["imagery_share"] == pytest.approx(1, abs=1e-3)


def test_support_is_drawn_as_kinds(client, folder):
    (layer,) = (item for item in client.get("/map.json").json()["layers"] if item["name"] == "support")
    assert layer["kinds"] == ["within the calibration's range", "beyond it: extrapolated", "no imagery"]
    assert len(set(layer["colours"])) == 3
    spot = place(folder, 3, 3)
    z = 9
    x = int((spot["lon"] + 180) / 360 * 2**z)
    y = int((1 - np.arcsinh(np.tan(np.radians(spot["lat"]))) / np.pi) / 2 * 2**z)
    answer = client.get(f"/tiles/support/{z}/{x}/{y}.png")
    picture = np.array(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
    drawn = {
        "#{:02x}{:02x}{:02x}".format(*colour[:3])
        for colour in np.unique(picture.reshape(-1, 4), axis=0)
        if colour[3]
    }
    assert drawn == set(layer["colours"])  # the ends of the range are beyond the card's support


def test_tiles_are_pictures_with_holes_where_nothing_is_known(client):
    west, _, _, north = client.get("/map.json").json()["bounds"]
    z = 8
    x = int((west + 180) / 360 * 2**z)
    y = int((1 - np.arcsinh(np.tan(np.radians(north))) / np.pi) / 2 * 2**z)
    answer = client.get(f"/tiles/wealth/{z}/{x}/{y}.png")
    assert answer.headers["content-type"] == "image/png"
    picture = np.array(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
    assert picture.shape == (256, 256, 4)
    assert set(np.unique(picture[..., 3])) == {0, 255}
    assert client.get(f"/tiles/wealth/{z}/0/0.png").status_code == 204


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/tiles/nothing/8/128/127.png", 400),
        ("/tiles/wealth/3/9/0.png", 404),
        ("/at?lon=400&lat=0", 422),
        ("/at?lon=nan&lat=0", 422),
        ("/../secret.txt", 404),
        ("/%2e%2e/secret.txt", 404),
        ("/..%2f..%2fapp.py", 404),
        ("/%2e%2e%2f%2e%2e%2fapp.py", 404),
        ("/..%5c..%5capp.py", 404),
        ("/%252e%252e%252fapp.py", 404),
        ("//etc/passwd", 404),
        ("/%2fetc%2fpasswd", 404),
        ("/tiles/..%2f..%2fsecret/8/1/1.png", 404),
        ("/tiles/%2e%2e/8/1/1.png", 400),
        ("/wealth.tif", 404),
        ("/card.json", 404),
        ("/index.html%00.txt", 404),
    ],
)
def test_what_is_not_of_the_map_is_refused(client, address, status):
    answer = client.get(address)
    assert answer.status_code == status
    assert "secret" not in answer.text


def test_other_host_names_and_senseless_regions_are_refused(client):
    assert client.get("/map.json", headers={"Host": "elsewhere.example"}).status_code == 400
    line = [[7.2, 8.0], [7.3, 8.0], [7.4, 8.0]]
    answer = client.post("/region", json={"corners": line})
    assert answer.status_code == 400
    assert "no area" in answer.json()["detail"]
    assert client.post("/region", json={"corners": line[:2]}).status_code == 422
    assert client.post("/region", json={"corners": [[0, 0]] * 2000}).status_code == 422


def test_a_link_out_of_the_page_s_folder_is_refused(folder, tmp_path, monkeypatch):
    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text("page")
    (tmp_path / "secret.txt").write_text("secret")
    (static / "link.txt").symlink_to(tmp_path / "secret.txt")
    (static / "folder").symlink_to(tmp_path)
    monkeypatch.setattr(app_module, "_STATIC", static)
    client = TestClient(make_app(MapLayers(folder), hosts=("testserver",)))
    assert client.get("/").text == "page"
    for address in ("/link.txt", "/folder/secret.txt", "/folder"):
        answer = client.get(address)
        assert answer.status_code == 404, address
        assert "secret" not in answer.text


def raw_request(address, path):
    """Ask for a path as it is: clients tidy ``..`` away before it reaches the server."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: wire.recv(65536), b"")).decode(errors="replace")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/../../../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/static/../../app.py",
        "//etc/passwd",
        "http://127.0.0.1//etc/passwd",
        "/tiles/wealth/../../../app.py",
    ],
)
def test_paths_that_climb_out_reach_nothing_on_the_wire(address, path):
    answer = raw_request(address, path)
    assert answer.split()[1] in ("400", "404"), answer[:200]
    assert "root:" not in answer
    assert "secret" not in answer
    assert "def make_app" not in answer


def test_a_folder_without_a_card_tells_the_widest_interval_only(folder, tmp_path):
    shutil.copy(folder / "wealth.tif", tmp_path)
    layers = MapLayers(tmp_path)
    assert layers.describe()["has_card"] is False
    west, south, east, north = layers.bounds
    means = layers.region([(west, south), (east, south), (east, north), (west, north)])
    assert {"wealth", "wealth_se"} <= set(means)
    assert "calibration_se" not in means


def test_a_folder_with_another_map_s_card_is_refused(folder, tmp_path):
    shutil.copy(folder / "wealth.tif", tmp_path)
    make_card(-2, 2).save(tmp_path / "card.json")
    with pytest.raises(RasterError, match="corrected with card"):
        MapLayers(tmp_path)


def test_a_region_of_too_many_cells_says_what_to_do_instead(folder, monkeypatch):
    monkeypatch.setattr(layers_module, "_MOST_CELLS", 100)
    client = TestClient(make_app(MapLayers(folder), hosts=("testserver",)))
    west, south, east, north = client.get("/map.json").json()["bounds"]
    corners = [(west, south), (east, south), (east, north), (west, north)]
    answer = client.post("/region", json={"corners": corners})
    assert answer.status_code == 400
    assert "run sustain areas" in answer.json()["detail"]


def test_a_missing_map_is_one_message(tmp_path):
    with pytest.raises(RasterError, match="no such raster"):
        MapLayers(tmp_path / "absent.tif")


@contextmanager
def served(folder):
    """Address of ``sustain serve`` in a process of its own."""
    code = "from sustain.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().split(" at ")[1].split()[0]
    finally:
        process.terminate()
        assert process.wait(20) is not None


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as address:
        yield address


@contextmanager
def visited(address, says="\0", **context):
    """A page in Chromium that says no more than it should."""
    with open_chromium() as chromium:
        page = chromium.new_context(**context).new_page()
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.wait_for_selector(".leaflet-tile-loaded")
        yield page
    assert [line for line in said if not line.endswith(says)] == []


@pytest.mark.browser
def test_a_visitor_sees_the_map_clicks_it_and_draws_a_region(address, folder):
    card = CalibrationCard.load(folder / "card.json")
    with open_chromium() as chromium:
        page = chromium.new_page(viewport={"width": 1000, "height": 700})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector(".leaflet-tile-loaded")
        assert page.inner_text("h1") == "asset index"
        page.wait_for_selector(".country")
        box = page.locator("#map path.frame").bounding_box()
        assert box["x"] + box["width"] <= page.locator("#panel").bounding_box()["x"]

        def inside(across, down):
            return box["x"] + across * box["width"], box["y"] + down * box["height"]

        page.mouse.click(*inside(0.75, 0.5))
        page.wait_for_selector("#values:not([hidden])")
        cells = page.locator("#values td").all_inner_texts()
        assert cells[::2] == ["corrected", "95%", "as predicted", "standard error", "within calibrated range"]
        corrected, ends, raw, error, within = (cell.replace("\u2212", "-") for cell in cells[1::2])
        assert float(corrected) == pytest.approx((float(raw) - card.intercept) / card.slope, abs=0.02)
        reach = 1.96 * float(error)
        expected = pytest.approx([float(corrected) - reach, float(corrected) + reach], abs=0.02)
        assert [float(end) for end in ends.split(" to ")] == expected
        assert within == "yes"
        assert page.inner_text("#values caption").endswith("(index)")
        page.check("input[value=wealth_se]")
        page.click("#draw")
        for corner in ((0.5, 0.3), (0.9, 0.3), (0.9, 0.8)):
            page.mouse.click(*inside(*corner))
        page.mouse.dblclick(*inside(0.5, 0.8))
        page.wait_for_selector("caption:has-text('Mean of the region')")
        seen = dict(zip(*[iter(page.locator("#values td").all_inner_texts())] * 2, strict=True))
        assert [name for name in seen if name.endswith("95%")] == ["95%", "its 95%"]
        for name, ends in (("wealth to expect", "95%"), ("corrected", "its 95%")):
            low, high = (float(end.replace("\u2212", "-")) for end in seen[ends].split(" to "))
            assert low < float(seen[name].replace("\u2212", "-")) < high
        assert seen["with imagery"] == "100 %"
        assert "says how wealthy the region is" in page.inner_text("#hint")
        if picture := os.environ.get("SUSTAIN_SCREENSHOT"):
            page.screenshot(path=picture)
    assert said == []
    assert all(url.startswith((address, "data:")) for url in asked)


@pytest.mark.browser
def test_a_map_across_180_degrees_is_whole_on_the_page(tmp_path):
    """West of it dark, east of it bright: the tiles beyond 180 degrees are those of the other end of the world."""
    with (
        served(published(tmp_path, "EPSG:32760", 800_000, 8_100_000)) as address,
        visited(address, viewport={"width": 1000, "height": 700}) as page,
    ):
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(800)  # tiles fade in
        frame = page.locator("#map path.frame").bounding_box()
        picture = np.array(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
        row = int(frame["y"] + frame["height"] / 2)
        line = picture[row, int(frame["x"]) + 12 : int(frame["x"] + frame["width"]) - 12]
        background = picture[row, 4]
        assert (np.abs(line - background).sum(axis=1) > 30).mean() > 0.97
        assert line[:5].sum(axis=1).max() < line[-5:].sum(axis=1).min()
        page.mouse.click(frame["x"] + 0.9 * frame["width"], row)
        page.wait_for_selector("caption:has-text(' W')")
        assert float(page.locator("#values td").nth(5).inner_text()) == pytest.approx(0.8, abs=0.1)


@pytest.mark.browser
def test_on_a_phone_the_panel_leaves_the_map_free_and_a_region_ends_with_a_button(address):
    context = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with visited(address, says="status of 400 (Bad Request)", **context) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        frame = page.locator("#map path.frame").bounding_box()

        def tap(across, down):
            page.touchscreen.tap(frame["x"] + across * frame["width"], frame["y"] + down * frame["height"])
            page.wait_for_timeout(400)  # two quick taps would be a double one

        page.tap("#draw")
        for corner in ((0.3, 0.3), (0.7, 0.3)):
            tap(*corner)
        assert not page.locator("#finish").is_visible()
        tap(0.7, 0.7)
        page.keyboard.press("Escape")
        assert page.locator("#draw").inner_text() == "Draw a region"
        page.tap("#draw")
        for corner in ((0.3, 0.3), (0.7, 0.3), (0.7, 0.7)):
            tap(*corner)
        page.tap("#finish")
        page.wait_for_selector("caption:has-text('Mean of the region')")
        assert page.locator("#values tr").first.is_visible()
        panel = page.locator("#panel").bounding_box()
        assert frame["y"] + frame["height"] <= panel["y"]
        assert panel["y"] + panel["height"] <= 844
        # Outside of the map.
        tap(0.5, -0.05)
        page.wait_for_selector("#hint:has-text('No value here')")
        page.tap("#draw")
        for corner in ((0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8)):
            tap(*corner)
        page.tap("#finish")
        page.wait_for_selector("#hint:has-text('its sides cross')")
