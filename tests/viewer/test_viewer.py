"""The viewer: what it answers, what it refuses, and what a visitor sees in a browser."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient
from PIL import Image
from playwright.sync_api import sync_playwright

from sustain.errors import RasterError
from sustain.maps.geotiff import create_geotiff
from sustain.viewer import MapLayers, make_app
from tests.report.test_browser import ARGUMENTS, CHROMIUM

BANDS = ("wealth", "wealth_raw", "wealth_se", "support")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A published folder: wealth rises from west to east, one corner has no imagery."""
    folder = tmp_path_factory.mktemp("published")
    rows, cols = 60, 80
    raw = np.broadcast_to(np.linspace(-1, 1, cols), (rows, cols)).astype(np.float32)
    bands = np.stack([1.5 * raw, raw, np.full_like(raw, 0.3), np.zeros_like(raw)])
    bands[:, :10, :10] = [[[np.nan]], [[np.nan]], [[np.nan]], [[2]]]
    with create_geotiff(
        folder / "wealth.tif",
        shape=(rows, cols),
        transform=rasterio.Affine(1000, 0, 800_000, 0, -1000, 900_000),
        crs="EPSG:3857",
        bands=BANDS,
        units=("index", "index", "index", "1"),
        tags={"SUSTAIN_METHOD": "linear", "SUSTAIN_TARGET": "asset_index", "SUSTAIN_CARD_SHA256": "ab" * 32},
    ) as target:
        target.write(bands)
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
    values = client.get("/at", params=place(folder, 30, 60)).json()
    with rasterio.open(folder / "wealth.tif") as source:
        expected = source.read()[:, 30, 60]
    assert list(values.values()) == pytest.approx(expected.tolist())
    assert client.get("/at", params=place(folder, 3, 3)).json()["wealth"] is None


def test_a_region_s_mean_is_the_mean_of_its_cells(client, folder):
    corners = [(20, 20), (20, 40), (50, 40), (50, 20)]
    drawn = [tuple(place(folder, row - 0.5, col - 0.5).values()) for row, col in corners]
    means = client.post("/region", json={"corners": drawn}).json()
    with rasterio.open(folder / "wealth.tif") as source:
        expected = source.read(1)[20:50, 20:40].mean()
    assert means["wealth"] == pytest.approx(float(expected), abs=2e-3)
    assert means["imagery_share"] == pytest.approx(1, abs=1e-3)


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
        ("/wealth.tif", 404),
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


def test_a_missing_map_is_one_message(tmp_path):
    with pytest.raises(RasterError, match="no such raster"):
        MapLayers(tmp_path / "absent.tif")


@pytest.fixture(scope="module")
def address(folder):
    """Address of ``sustain serve`` in a process of its own."""
    code = "from sustain.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process.stdout.readline().split(" at ")[1].split()[0]
    process.terminate()
    assert process.wait(20) is not None


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_a_visitor_sees_the_map_clicks_it_and_draws_a_region(address):
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing. Install it: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = chromium.new_page(viewport={"width": 1000, "height": 700})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector(".leaflet-tile-loaded")
        assert page.inner_text("h1") == "asset index"
        box = page.locator("#map path").bounding_box()
        assert box["x"] + box["width"] <= page.locator("#panel").bounding_box()["x"]

        def inside(across, down):
            return box["x"] + across * box["width"], box["y"] + down * box["height"]

        page.mouse.click(*inside(0.75, 0.5))
        page.wait_for_selector("#values:not([hidden])")
        cells = page.locator("#values td").all_inner_texts()
        assert cells[::2] == ["corrected", "as predicted", "standard error", "within calibrated range"]
        assert float(cells[1]) == pytest.approx(1.5 * float(cells[3]), abs=2e-3)
        assert cells[7] == "yes"
        page.check("input[value=wealth_se]")
        page.click("#draw")
        for corner in ((0.5, 0.3), (0.9, 0.3), (0.9, 0.8)):
            page.mouse.click(*inside(*corner))
        page.mouse.dblclick(*inside(0.5, 0.8))
        page.wait_for_selector("caption:has-text('Mean of the region')")
        assert "95% interval, at most" in page.inner_text("#values")
        chromium.close()
    assert said == []
    assert all(url.startswith((address, "data:")) for url in asked)
