"""Regions as they are drawn on the page, on maps anywhere in the world."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient
from pyproj import Proj
from rasterio.transform import from_origin

from sustain.errors import DataError
from sustain.maps.correct.raster import correct_values
from sustain.viewer import MapLayers, make_app
from sustain.viewer.regions import region_on_map
from tests.maps.fakes import make_card, write_raster

FIJI = (179.8, -17.7, 180.6, -17.1)


def corners(west, south, east, north):
    return [(west, south), (east, south), (east, north), (west, north)]


@pytest.mark.parametrize("turn", [-720, -360, 0, 360])
def test_whichever_copy_of_the_world_it_is_drawn_on(turn):
    part, share = region_on_map(corners(179.9 + turn, -17.5, 180.1 + turn, -17.3), FIJI)
    assert part.bounds == pytest.approx((179.9, -17.5, 180.1, -17.3))
    assert share == pytest.approx(1)


def test_a_map_of_the_whole_world_has_a_region_across_180_degrees_at_both_ends():
    part, share = region_on_map(corners(170, 10, 200, 20), (-180, -90, 180, 90))
    ends = sorted(piece.bounds for piece in part.geoms)
    np.testing.assert_allclose(ends, [(-180, 10, -160, 20), (170, 10, 180, 20)], atol=0.5)
    assert share == pytest.approx(1, abs=0.05)  # and a little beyond the edge


def test_what_lies_beside_the_map_is_cut_off_and_counted():
    part, share = region_on_map(corners(0, -10, 20, 10), (10, 0, 11, 1))
    assert part.bounds == pytest.approx((10, 0, 11, 1), abs=2e-3)
    # On the sphere: longitudes times the difference of sines of latitudes.
    expected = np.sin(np.radians(1)) / (20 * 2 * np.sin(np.radians(10)))
    assert share == pytest.approx(expected, rel=5e-3)
    nothing, share = region_on_map(corners(50, 50, 51, 51), (10, 0, 11, 1))
    assert nothing.is_empty
    assert share == 0


def test_the_whole_world_around_a_map():
    for bounds in (FIJI, (33, -5, 42, 5)):
        part, share = region_on_map(corners(-180, -90, 180, 90), bounds)
        assert part.bounds == pytest.approx(bounds, abs=0.02)
        assert 0 < share < 0.01


def test_sides_are_straight_on_the_page():
    """A side along a parallel stays on it, and a slanting one is straight in Mercator's projection."""
    part, _ = region_on_map(corners(0, 50, 40, 60), (0, 50, 40, 60))
    lat = np.array(part.geoms[0].exterior.coords)[:, 1]
    assert len(lat) > 400
    assert np.isin(np.round(lat, 9), [50, 60]).sum() > 200
    triangle, _ = region_on_map([(0, 50), (40, 60), (0, 60)], (0, 40, 40, 70))
    side = gpd.GeoSeries(list(triangle.geoms), crs=4326).to_crs(3857).get_coordinates().to_numpy()
    ends = gpd.GeoSeries.from_xy([0, 40], [50, 60], crs=4326).to_crs(3857)
    slope = (ends[1].y - ends[0].y) / (ends[1].x - ends[0].x)
    inner = side[(side[:, 0] > 1e5) & (side[:, 1] < ends[1].y - 1e4)]
    assert len(inner) > 50
    np.testing.assert_allclose(inner[:, 1], ends[0].y + slope * inner[:, 0], atol=1)


@pytest.mark.parametrize(
    "wrong",
    [
        corners(0, 0, 0, 1),
        [(0, 0), (1, 1), (1, 0), (0, 1)],  # a bow tie
        [(0, 0), (2, 0), (1, 0)],
        [(0, 0), (1, 1)],
    ],
)
def test_corners_that_make_no_area_are_refused(wrong):
    with pytest.raises(DataError, match="enclose no area, or its sides cross"):
        region_on_map(wrong, (0, 0, 1, 1))


def published(folder, crs, left, top, rows=60, cols=80):
    """A published folder whose wealth rises from west to east, cells of 1 km."""
    card = make_card()
    raw = np.broadcast_to(np.linspace(-1, 1, cols), (rows, cols))
    tags = {"SUSTAIN_METHOD": "linear", "SUSTAIN_TARGET": "asset_index", "SUSTAIN_CARD_SHA256": card.sha256}
    write_raster(
        folder / "wealth.tif", correct_values(raw, card, "linear"), ("wealth", "wealth_raw", "wealth_se", "support"),
        tags=tags, crs=crs, transform=from_origin(left, top, 1000, 1000),
    )  # fmt: skip
    card.save(folder / "card.json")
    return folder


# Across 180 degrees from either side, a map of the equator's middle, and one that a projection's far side knows not.
PLACES = [
    ("EPSG:32760", 800_000, 8_100_000),
    ("EPSG:32701", 160_000, 8_100_000),
    ("EPSG:32637", 300_000, 500_000),
    ("+proj=laea +lat_0=1 +lon_0=38 +datum=WGS84 +units=m", 0, 0),
]


@pytest.fixture(params=PLACES, ids=lambda place: place[0][:11])
def layers(request, tmp_path):
    return MapLayers(published(tmp_path, *request.param))


def test_every_region_is_answered(layers):
    client = TestClient(make_app(layers, hosts=("testserver",)))
    west, south, east, north = layers.bounds
    middle = (west + east) / 2, (south + north) / 2

    def ask(shape):
        return client.post("/region", json={"corners": [list(corner) for corner in shape]})

    inner = corners(middle[0] - 0.1, middle[1] - 0.1, middle[0] + 0.1, middle[1] + 0.1)
    means = ask(inner).json()
    assert means["wealth_raw"] == pytest.approx(0, abs=0.03)
    assert means["imagery_share"] == pytest.approx(1)
    for turn in (-360, 360):
        moved = ask([(lon + turn, lat) for lon, lat in inner]).json()
        assert moved == pytest.approx(means, abs=1e-6)
    for large in (corners(west - 5, south - 5, east + 5, north + 5), corners(-180, -90, 180, 90)):
        means = ask(large).json()
        assert means["cells"] == pytest.approx(60 * 80)
        assert means["wealth_raw"] == pytest.approx(0, abs=1e-3)
        assert means["imagery_share"] < 0.01
    tiny = ask(corners(middle[0], middle[1], middle[0] + 1e-6, middle[1] + 1e-6)).json()
    assert 1 <= tiny["cells"] <= 2
    assert tiny["imagery_share"] == pytest.approx(1)
    answer = ask(corners(west + 20, south, east + 20, north))
    assert answer.status_code == 400
    assert "outside the map" in answer.json()["detail"]
    assert ask(corners(west, south, 1e9, north)).status_code == 422


def test_every_click_is_answered(layers):
    """Also where the projection knows no place, and where the map has it with longitude and latitude exchanged."""
    client = TestClient(make_app(layers, hosts=("testserver",)))
    west, south, east, north = layers.bounds
    middle = ((west + east) / 2 + 180) % 360 - 180, (south + north) / 2
    values = client.get("/at", params={"lon": middle[0], "lat": middle[1]}).json()["values"]
    assert values["wealth_raw"] == pytest.approx(0, abs=0.03)
    swapped = (middle[1], middle[0]) if abs(middle[0]) <= 90 else (middle[1], 90)
    opposite = (middle[0] + 360) % 360 - 180, -middle[1]
    for lon, lat in ((0, 80), (0, 90), (-180, -90), (80, 0), swapped, opposite):
        answer = client.get("/at", params={"lon": lon, "lat": lat})
        assert answer.status_code == 200, (lon, lat)
        assert set(answer.json()["values"].values()) == {None}
        assert answer.json()["cell"] is None


def test_a_region_is_that_of_the_polygon_as_drawn(tmp_path):
    """Against NumPy: the cells whose centres lie in the drawn shape, each by its ground."""
    folder = published(tmp_path, "EPSG:32637", 300_000, 500_000, rows=400, cols=500)
    layers = MapLayers(folder)
    west, south, east, north = layers.bounds
    drawn = corners(west + 0.2, south + 0.2, east - 0.2, north - 0.2)
    found = layers.region(drawn)
    with rasterio.open(folder / "wealth.tif") as source:
        rows, cols = (axis.ravel() for axis in np.indices(source.shape))
        xs, ys = source.transform @ (cols + 0.5, rows + 0.5)
        lon, lat = (np.array(v) for v in rasterio.warp.transform(source.crs, "EPSG:4326", xs, ys))
        values = source.read(2).ravel()
    (left, bottom), (right, top) = drawn[0], drawn[2]
    inside = (lon > left) & (lat > bottom) & (lon < right) & (lat < top)
    assert found["cells"] == pytest.approx(inside.sum(), rel=0.02)
    ground = 1 / Proj("EPSG:32637").get_factors(lon[inside], lat[inside]).areal_scale
    assert found["wealth_raw"] == pytest.approx(float(np.average(values[inside], weights=ground)), abs=1e-4)
