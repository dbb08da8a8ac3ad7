import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.transform import from_origin
from shapely import box

from sustain.maps.correct import correct_raster
from sustain.maps.read import area_means, buffer_mean, zonal_mean
from sustain.maps.read.ground import CellAreas, ground_km2
from tests.maps.fakes import make_card, write_raster

GEOD = Geod(ellps="WGS84")
MERCATOR_35, MERCATOR_70 = (
    Transformer.from_crs(4326, 3857, always_xy=True).transform(0, lat)[1] for lat in (35, 70)
)


def ellipsoid_km2(transform, crs, row, col, n_edge=8):
    """Ground of one cell by its outline on the ellipsoid, with corners along its edges."""
    ring = shapely.segmentize(box(col, row, col + 1, row + 1), 1 / n_edge)
    x, y = transform @ shapely.get_coordinates(ring).T
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    return abs(GEOD.polygon_area_perimeter(lon, lat)[0]) / 1e6


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", from_origin(1e6, 11e6, 1000, 1000)),
        ("EPSG:3857", from_origin(-1e5, 11e6, 40, 90)),
        ("EPSG:4326", from_origin(20, 70.1, 0.01, 0.02)),
        ("EPSG:4326", from_origin(-180, 90, 1.0, 1.0)),
        ("EPSG:4326", Affine.translation(20, 50) @ Affine.rotation(30) @ Affine.scale(0.02)),
        ("EPSG:32637", from_origin(1.2e6, 5e6, 2000, 2000)),
        ("EPSG:2263", from_origin(9e5, 3e5, 3000, 3000)),  # in feet
        ("EPSG:3832", from_origin(3.1e6, -1.8e6, 5000, 5000)),  # around 180 degrees
        ("ESRI:54009", from_origin(2e6, 6e6, 20_000, 20_000)),
        ("+proj=laea +lat_0=1 +lon_0=38 +datum=WGS84", from_origin(-3e6, 2e6, 7000, 7000)),
        ("EPSG:3832", Affine(0, 3000, 3.1e6, -3000, 0, -1.8e6)),  # columns go north
    ],
)  # fmt: skip
def test_cells_weigh_their_ground_in_any_system(tmp_path, crs, transform):
    path = write_raster(tmp_path / "map.tif", np.zeros((1, 150, 140)), ("a",), crs=crs, transform=transform)
    rng = np.random.default_rng(0)
    with rasterio.open(path) as source:
        areas = CellAreas(source)
        km2 = areas(0, 0, 150, 140)
        np.testing.assert_allclose(areas(31, 47, 70, 90), km2[31:101, 47:137], rtol=1e-9)
        rows, cols = rng.integers(0, 150, 12), rng.integers(0, 140, 12)
        expected = [
            ellipsoid_km2(source.transform, crs, row, col) for row, col in zip(rows, cols, strict=True)
        ]
    np.testing.assert_allclose(km2[rows, cols], expected, rtol=2e-4)


def test_an_equal_area_system_stays_as_it_was(tmp_path):
    layout = {"crs": "EPSG:6933", "transform": from_origin(2e6, 6e6, 1000, 1000)}
    values = np.random.default_rng(1).normal(size=(1, 60, 60))
    path = write_raster(tmp_path / "map.tif", values, ("a",), **layout)
    zone = gpd.GeoDataFrame(
        geometry=[box(2e6 + 3500, 6e6 - 40_250, 2e6 + 50_000, 6e6 - 1000)], crs="EPSG:6933"
    )
    cover_row = np.clip(np.minimum(np.arange(60) + 1, 40.25) - np.maximum(np.arange(60), 1), 0, 1)
    cover_col = np.clip(np.minimum(np.arange(60) + 1, 50) - np.maximum(np.arange(60), 3.5), 0, 1)
    weight = np.outer(cover_row, cover_col)
    expected = (weight * values[0]).sum() / weight.sum()
    assert zonal_mean(path, zone)["a"].item() == pytest.approx(expected, abs=1e-6)


def test_web_mercator_from_35_to_70_north(tmp_path):
    """The map falls in even steps of Web Mercator from 1 to -1: 0 by its own cells, about 0.28 by the ground."""
    side = (MERCATOR_70 - MERCATOR_35) / 64
    raw = np.repeat(np.linspace(-1, 1, 64)[:, None], 40, axis=1)
    layout = {"transform": from_origin(0, MERCATOR_70, side, side)}
    path = write_raster(tmp_path / "raw.tif", [raw], ("wealth_raw",), units=("index points",), **layout)
    zone = gpd.GeoDataFrame(geometry=[box(0, MERCATOR_35, 40 * side, MERCATOR_70)], crs="EPSG:3857")
    with rasterio.open(path) as source:
        km2 = np.array([ellipsoid_km2(source.transform, 3857, row, 0) for row in range(64)])
    right = (raw[:, 0] * km2).sum() / km2.sum()
    assert 0.27 < right < 0.28  # it depends on the number of rows
    assert zonal_mean(path, zone)["wealth_raw"].item() == pytest.approx(right, abs=1e-4)
    assert zonal_mean(path, zone.to_crs(4326))["wealth_raw"].item() == pytest.approx(right, abs=1e-4)
    card = make_card(low=-1.5, high=1.5)
    corrected = correct_raster(path, tmp_path / "map.tif", card)
    with pytest.warns(UserWarning, match="built without lon and lat"):
        found = area_means(corrected, zone, card)
    assert found["wealth_raw"].item() == pytest.approx(right, abs=1e-4)
    assert found["imagery_share"].item() == pytest.approx(1)


def test_degrees_weigh_by_the_cosine_of_their_latitude(tmp_path):
    values = np.arange(70.0, 35, -1)[:, None] * np.ones((1, 20))
    layout = {"crs": "EPSG:4326", "transform": from_origin(10, 70, 1, 1)}
    path = write_raster(tmp_path / "map.tif", [values], ("a",), **layout)
    zone = gpd.GeoDataFrame(geometry=[box(10, 35, 30, 70)], crs="EPSG:4326")
    km2 = np.array([ellipsoid_km2(layout["transform"], 4326, row, 0, n_edge=200) for row in range(35)])
    assert zonal_mean(path, zone)["a"].item() == pytest.approx(
        (values[:, 0] * km2).sum() / km2.sum(), rel=1e-6
    )


def test_the_share_of_a_zone_beyond_the_map_is_of_its_ground(tmp_path):
    layout = {"crs": "EPSG:4326", "transform": from_origin(10, 70, 1, 1)}
    path = write_raster(tmp_path / "map.tif", np.ones((1, 10, 10)), ("a",), **layout)
    zone = box(10, 50, 20, 70)
    inside, whole = (
        abs(GEOD.geometry_area_perimeter(shapely.segmentize(z, 0.01))[0]) for z in (box(10, 60, 20, 70), zone)
    )
    share = zonal_mean(path, gpd.GeoDataFrame(geometry=[zone], crs=4326))["imagery_share"].item()
    assert share == pytest.approx(inside / whole, rel=1e-4)
    np.testing.assert_allclose(ground_km2(np.array([zone])), whole / 1e6, rtol=1e-4)


def test_a_circle_weighs_by_the_ground_too(tmp_path):
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(10.0, 60.0)
    values = np.repeat(np.arange(400.0)[:, None], 400, axis=1)
    path = write_raster(
        tmp_path / "map.tif", [values], ("a",), transform=from_origin(x - 4e5, y + 4e5, 2000, 2000)
    )
    rng = np.random.default_rng(2)
    # Places evenly on the ground: bearings even, distances by the root.
    lon, lat, _ = GEOD.fwd(
        *np.full((2, 400_000), [[10.0], [60.0]]),
        rng.uniform(0, 360, 400_000),
        1.5e5 * rng.uniform(size=400_000) ** 0.5,
    )
    _, ys = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    rows = np.floor((y + 4e5 - ys) / 2000)
    assert buffer_mean(path, [10.0], [60.0], 1.5e5)["a"].item() == pytest.approx(
        rows.mean(), abs=4 * rows.std() / 400_000**0.5
    )


def test_a_system_of_its_own_has_cells_that_weigh_the_same(tmp_path):
    local = 'LOCAL_CS["a field",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    path = write_raster(
        tmp_path / "map.tif", [[[1, 2], [3, 5]]], ("a",), crs=local, transform=from_origin(0, 2, 1, 1)
    )
    with rasterio.open(path) as source:
        zone = gpd.GeoDataFrame(geometry=[box(0, 0, 2, 2), box(1, 0, 3, 1)], crs=source.crs.to_wkt())
    found = zonal_mean(path, zone)
    assert found["a"].tolist() == [2.75, 5]
    assert found["imagery_share"].tolist() == [1, 0.5]
