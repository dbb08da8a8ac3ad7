import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod, Transformer
from rasterio.transform import from_origin
from shapely import MultiPolygon, Polygon, box

from sustain.errors import DataError
from sustain.maps.read import buffer_mean, sample_points, zonal_mean
from sustain.maps.read.longitudes import whole_ring
from tests.maps.fakes import write_raster

GEOD = Geod(ellps="WGS84")
EAST = 0.05 * np.arange(140) + 176.025  # longitudes of Fiji's columns, counted on beyond 180


@pytest.fixture(params=["beyond 180", "from 0 to 360", "from -180 to 180", "EPSG:3832", "EPSG:32701"])
def fiji(request, tmp_path):
    """A map around 180 degrees whose values are degrees east of 179, as people have them."""
    path = tmp_path / "fiji.tif"
    if request.param == "beyond 180":
        return write_raster(
            path,
            [np.repeat((EAST - 179)[None], 100, 0)],
            ("a",),
            crs="EPSG:4326",
            transform=from_origin(176, -15, 0.05, 0.05),
        )
    if request.param.startswith("from"):
        lon = np.arange(7200) * 0.05 + 0.025
        values, west = lon - 179, 0
        if request.param == "from -180 to 180":
            values, west = np.roll(values, 3600), -180
        return write_raster(
            path,
            [np.repeat(values[None], 100, 0)],
            ("a",),
            crs="EPSG:4326",
            transform=from_origin(west, -15, 0.05, 0.05),
        )
    left, top = Transformer.from_crs(4326, request.param, always_xy=True).transform(176, -14.5)
    transform = from_origin(left, top, 4000, 4000)
    rows, cols = np.indices((150, 190))
    lon, _ = Transformer.from_crs(request.param, 4326, always_xy=True).transform(
        *(transform @ (cols + 0.5, rows + 0.5))
    )
    return write_raster(path, [lon % 360 - 179], ("a",), crs=request.param, transform=transform)


def in_fiji(*shapes, crs=4326):
    return gpd.GeoDataFrame(geometry=list(shapes), crs=crs)


@pytest.mark.parametrize("lon", [177.5, 179.99, 180.0, -180.0, -179.95, -179.0])
def test_circles_around_180_degrees(fiji, lon):
    found = buffer_mean(fiji, [lon], [-17.0], 10_000)
    assert found["imagery_share"].item() == pytest.approx(1)
    assert found["a"].item() == pytest.approx(lon % 360 - 179, abs=0.004)
    assert sample_points(fiji, [lon], [-17.0])["a"].item() == pytest.approx(lon % 360 - 179, abs=0.05)


def test_polygons_across_180_degrees_however_they_are_written(fiji):
    cut = MultiPolygon([box(179, -18, 180, -16), box(-180, -18, -178.5, -16)])  # as RFC 7946 wants it
    shapes = [cut, box(179, -18, 181.5, -16), box(-181, -18, -178.5, -16)]
    found = zonal_mean(fiji, in_fiji(*shapes))
    np.testing.assert_allclose(found["a"], 1.25, atol=0.01)
    np.testing.assert_allclose(found["imagery_share"], 1, rtol=1e-6)
    whole = in_fiji(box(179, -18, 181.5, -16).segmentize(0.1)).to_crs(3832)  # whole in a system of its own
    projected = zonal_mean(fiji, whole)
    assert projected["a"].item() == pytest.approx(found["a"][0], abs=1e-3)
    assert projected["imagery_share"].item() == pytest.approx(1)


def test_holes_go_round_with_their_shells(fiji):
    ring = box(179, -18, 181, -16).difference(box(180.2, -17.5, 180.8, -16.5))
    by_hand = (2 * 2 * 1.0 - 0.6 * 1 * 1.5) / (4 - 0.6)
    found = zonal_mean(fiji, in_fiji(ring, ring.segmentize(0.1)))
    np.testing.assert_allclose(found["a"], by_hand, atol=0.01)
    projected = zonal_mean(fiji, in_fiji(ring.segmentize(0.1)).to_crs(3832))
    assert projected["a"].item() == pytest.approx(found["a"][1], abs=1e-3)


def test_an_edge_that_may_go_either_way_is_refused(fiji):
    jump = Polygon([(179.5, -18), (-179.5, -18), (-179.5, -16), (179.5, -16)])
    with pytest.raises(
        DataError, match=r"1 rows have an edge of more than 180 degrees .*: 'x'\. Cut them at 180"
    ):
        zonal_mean(fiji, in_fiji(jump).set_index(np.array(["x"])))


@pytest.mark.parametrize("first", [0, -180, -30])
def test_polygons_across_greenwich_on_a_world_map(tmp_path, first):
    lon = (np.arange(360) + first + 0.5 + 180) % 360 - 180
    path = write_raster(
        tmp_path / "w.tif",
        [np.repeat(lon[None], 20, 0)],
        ("a",),
        crs="EPSG:4326",
        transform=from_origin(first, 10, 1, 1),
    )
    zones = in_fiji(box(-5, 0, 5, 5), box(-3, -5, 9, 5), box(355, 0, 365, 5), box(2, 0, 4, 2))
    found = zonal_mean(path, zones)
    np.testing.assert_allclose(found["a"], [0, 3, 0, 3], atol=1e-9)
    np.testing.assert_allclose(found["imagery_share"], 1)
    circles = buffer_mean(path, [0.0, 0.4], [1.0, 1.0], 2e5)
    np.testing.assert_allclose(circles["imagery_share"], 1)
    assert circles["a"].tolist() == pytest.approx([0, 0.4], abs=0.02)


def test_the_whole_world_is_one_polygon(tmp_path):
    values = np.random.default_rng(0).normal(size=(18, 36))
    path = write_raster(
        tmp_path / "w.tif", [values], ("a",), crs="EPSG:4326", transform=from_origin(0, 90, 10, 10)
    )
    sines = np.abs(np.diff(np.sin(np.radians(np.linspace(90, -90, 19)))))
    by_sphere = (values.mean(axis=1) * sines).sum() / sines.sum()
    for world in (box(-180, -90, 180, 90), box(0, -90, 360, 90)):
        found = zonal_mean(path, in_fiji(world))
        assert found["a"].item() == pytest.approx(by_sphere, abs=2e-3)
        assert found["imagery_share"].item() == pytest.approx(1)
    small = write_raster(
        tmp_path / "u.tif",
        np.ones((1, 9, 9)),
        ("a",),
        crs="EPSG:32637",
        transform=from_origin(4e5, 1e5, 1000, 1000),
    )
    found = zonal_mean(small, in_fiji(box(-180, -90, 180, 90)))
    assert found["a"].item() == 1
    assert found["imagery_share"].item() == pytest.approx(81 / 510.07e6, rel=2e-3)
    mercator = write_raster(
        tmp_path / "m.tif", np.ones((1, 9, 9)), ("a",), transform=from_origin(4e5, 1e5, 1000, 1000)
    )
    assert zonal_mean(mercator, in_fiji(box(-180, -90, 180, 90)))["a"].item() == 1


def test_a_torn_projection_has_both_sides(tmp_path):
    """Web Mercator of the whole world: a polygon across 180 degrees lies at both of its ends."""
    half = np.pi * 6378137
    values = np.where(np.arange(720) < 360, -1.0, 1.0)
    path = write_raster(
        tmp_path / "m.tif",
        [np.repeat(values[None], 100, 0)],
        ("a",),
        transform=from_origin(-half, 50 * half / 360, half / 360, half / 360),
    )
    cut = MultiPolygon([box(177, -5, 180, 5), box(-180, -5, -179, 5)])
    found = zonal_mean(path, in_fiji(cut, box(177, -5, 181, 5)))
    np.testing.assert_allclose(found["a"], 0.5, atol=1e-5)
    np.testing.assert_allclose(found["imagery_share"], 1, rtol=1e-5)
    assert buffer_mean(path, [180.0], [0.0], 1e5)["a"].item() == pytest.approx(0, abs=1e-3)


def test_a_ring_around_a_pole_holds_it():
    lon, lat, _ = GEOD.fwd(
        np.full(181, 20.0), np.full(181, 89.0), np.linspace(0, 360, 181), np.full(181, 3e5)
    )
    ring = shapely.Polygon(whole_ring(np.column_stack([lon, lat])))
    assert ring.bounds[3] == 90
    assert ring.bounds[2] - ring.bounds[0] == pytest.approx(360)


def test_lines_of_latitude_bend_in_a_projection(tmp_path):
    """A box in degrees is one between parallels, not between straight lines of the map."""
    crs = "EPSG:3035"
    transform = from_origin(2.5e6, 5e6, 10_000, 10_000)
    rows, cols = np.indices((250, 400))
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(
        *(transform @ (cols + 0.5, rows + 0.5))
    )
    path = write_raster(tmp_path / "e.tif", [lat], ("lat",), crs=crs, transform=transform)
    inside = (lon > -5) & (lon < 25) & (lat > 45) & (lat < 55)  # an equal-area system: cells count alike
    assert zonal_mean(path, in_fiji(box(-5, 45, 25, 55)))["lat"].item() == pytest.approx(
        lat[inside].mean(), abs=0.01
    )
