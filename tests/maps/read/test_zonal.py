from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.transform import from_origin
from shapely import box

from sustain.errors import DataError, DataWarning, RasterError, SupportWarning
from sustain.maps.read.zonal import buffer_mean, sample_points, zonal_mean
from tests.maps.fakes import write_raster

NAMES = ("wealth", "wealth_raw", "wealth_se", "support")
TO_LONLAT = Transformer.from_crs(3857, 4326, always_xy=True)
SHARED = Path(__file__).parents[4] / "shared/mirror/africa_poverty/data/predictions"


@pytest.fixture
def bands():
    wealth = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
    bands = np.stack([wealth, wealth / 2, np.full_like(wealth, 0.25), np.zeros_like(wealth)])
    bands[:3, 4, 5], bands[3, 4, 5] = np.nan, 2
    bands[3, 0, :] = 1
    return bands


@pytest.fixture
def corrected(tmp_path, bands):
    return write_raster(tmp_path / "corrected.tif", bands, NAMES, tiled=True, blockxsize=16, blockysize=16)


def centre(row, col):
    return TO_LONLAT.transform(-9600 + (col + 0.5) * 960, 9600 - (row + 0.5) * 960)


def test_every_cell_centre_gets_its_cell(corrected, bands):
    rows, cols = (axis.ravel() for axis in np.indices((20, 30)))
    order = np.random.default_rng(0).permutation(rows.size)
    lon, lat = centre(rows[order], cols[order])
    with pytest.warns(SupportWarning, match="of 600 points, 1 meet only cells without imagery"):
        table = sample_points(corrected, lon, lat)
    np.testing.assert_array_equal(table[list(NAMES)].to_numpy(), bands[:, rows[order], cols[order]].T)


@settings(deadline=None, max_examples=40)
@given(row=st.floats(0, 19.999), col=st.floats(0, 29.999))
def test_a_point_gets_the_cell_that_contains_it(tmp_path_factory, row, col):
    path = tmp_path_factory.getbasetemp() / "count.tif"
    if not path.exists():
        write_raster(path, np.arange(600.0).reshape(1, 20, 30), ("wealth",))
    lon, lat = TO_LONLAT.transform(-9600 + col * 960, 9600 - row * 960)
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    inside = int(np.floor((9600 - y) / 960)), int(np.floor((x + 9600) / 960))
    if 0 <= inside[0] < 20 and 0 <= inside[1] < 30:  # a hair outside after the way there and back
        assert sample_points(path, [lon], [lat])["wealth"].item() == inside[0] * 30 + inside[1]


def test_outside_is_nan_and_counted(corrected):
    lon, lat = centre(np.array([3, -1, 20, 3, 3]), np.array([3, 3, 3, -1, 30]))
    with pytest.warns(SupportWarning, match="of 5 points, 4 lie outside the raster; their values are NaN"):
        table = sample_points(corrected, lon, lat)
    assert table["wealth"].isna().tolist() == [False, True, True, True, True]
    assert table["support"].tolist() == [0, 2, 2, 2, 2]
    assert table["support"].dtype == np.int8


def test_rows_keep_their_index_and_none_is_fine(corrected):
    lon, lat = centre(np.array([1, 2]), np.array([3, 4]))
    table = sample_points(corrected, pd.Series(lon, index=["b", "a"]), pd.Series(lat, index=["b", "a"]))
    assert table.index.tolist() == ["b", "a"]
    none = sample_points(corrected, [], [])
    assert none.shape == (0, 4)
    assert list(none) == list(NAMES)


def test_raster_in_degrees_and_without_names(tmp_path):
    layout = {"crs": "EPSG:4326", "nodata": -9, "transform": from_origin(7, 9, 1, 1)}
    path = write_raster(tmp_path / "plain.tif", [[[1, -9], [3, 4]]], (None,), **layout)
    with pytest.warns(SupportWarning, match="1 meet only cells without imagery"):
        table = sample_points(path, [7.5, 8.5, 8.999], [8.5, 8.5, 7.001])
    np.testing.assert_array_equal(table["band_1"], [1, np.nan, 4])


@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        (
            [0.0, 95.0],
            [9.0, 100.0],
            "lat must lie between -90 and 90.*1 of 2 do not, the first at position 1: 100.0",
        ),
        ([9.0, 8.0], [-120.0, 8.0], "lat must lie.*look exchanged: the order is lon, lat"),
        ([0.0, np.nan], [0.0, 0.0], r"lon: 1 of 2 values are NaN or infinite \(first at row 1\)"),
        (["7,5"], ["8"], "lon: expected numbers, got"),
        ([0.0, 1.0], [0.0], "lat: has 1 values, but lon has 2"),
    ],
)
def test_bad_coordinates(corrected, lon, lat, message):
    with pytest.raises(DataError, match=message):
        sample_points(corrected, lon, lat)


def test_columns_in_different_orders_are_not_paired(corrected):
    table = pd.DataFrame({"lon": [0.0, 0.1], "lat": [0.0, 0.1]})
    with pytest.raises(DataError, match="lon and lat are pandas objects with different indexes"):
        sample_points(corrected, table["lon"], table["lat"].sort_index(ascending=False))


def test_exchanged_coordinates_in_range(tmp_path):
    path = write_raster(
        tmp_path / "far.tif",
        np.ones((1, 4, 4)),
        ("wealth",),
        crs="EPSG:4326",
        transform=from_origin(30, 5, 1, 1),
    )
    lon, lat = np.array([30.5, 31.5, 33.5]), np.array([4.5, 2.5, 1.5])
    assert sample_points(path, lon, lat)["wealth"].notna().all()
    for call in (lambda: sample_points(path, lat, lon), lambda: buffer_mean(path, lat, lon, 1000)):
        with pytest.raises(
            DataError, match=r"0 of 3 points lie inside .*far\.tif as given, 3 with the two exchanged"
        ):
            call()


def test_a_point_that_the_projection_cannot_hold_is_outside_like_others(tmp_path):
    path = write_raster(
        tmp_path / "laea.tif",
        np.ones((1, 4, 4)),
        ("wealth",),
        crs="+proj=laea +lat_0=1 +lon_0=38 +datum=WGS84 +units=m",
    )
    with pytest.warns(SupportWarning, match="of 3 points, 2 lie outside"):
        table = sample_points(path, [37.93, 38 - 180, 0], [1.07, -1, 80])
    np.testing.assert_array_equal(table["wealth"], [1, np.nan, np.nan])


def test_a_raster_whose_longitudes_go_from_0_to_360(tmp_path):
    path = write_raster(
        tmp_path / "world.tif",
        np.arange(36.0).reshape(1, 1, 36),
        ("wealth",),
        crs="EPSG:4326",
        transform=from_origin(0, 5, 10, 10),
    )
    table = sample_points(path, [5, 175, -175, -5, 180, -180], [0] * 6)
    np.testing.assert_array_equal(table["wealth"], [0, 17, 18, 35, 18, 18])


def test_no_coordinate_system(tmp_path):
    path = write_raster(tmp_path / "lost.tif", np.ones((1, 4, 4)), ("wealth",), crs=None)
    with pytest.raises(RasterError, match=r"lost\.tif: declares no coordinate system"):
        sample_points(path, [0.0], [0.0])


def test_zonal_mean_counts_cells_by_cover(tmp_path):
    bands = [[[1, 2], [3, np.nan]], [[0, 1], [0, 2]]]
    path = write_raster(
        tmp_path / "small.tif", bands, ("wealth", "support"), transform=from_origin(0, 2, 1, 1)
    )
    zones = gpd.GeoDataFrame(
        geometry=[box(0, 0, 2, 2), box(0.5, 1, 2, 2), box(-2, 1, 1, 2)], index=list("abc"), crs="EPSG:3857"
    )
    table = zonal_mean(path, zones)
    assert table.index.tolist() == ["a", "b", "c"]
    assert table["wealth"].tolist() == pytest.approx([2, (0.5 * 1 + 2) / 1.5, 1])
    assert table["imagery_share"].tolist() == pytest.approx([3 / 4, 1, 1 / 3])
    assert table["extrapolated_share"].tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert "support" not in table


def test_zonal_mean_with_weights(tmp_path):
    layout = {"transform": from_origin(0, 2, 1, 1)}
    path = write_raster(tmp_path / "small.tif", [[[1, 2], [3, np.nan]]], ("wealth",), **layout)
    people = write_raster(tmp_path / "people.tif", [[[10, 30], [np.nan, 40]]], ("people",), **layout)
    zones = gpd.GeoDataFrame(geometry=[box(0, 0, 2, 2), box(0, 0, 1, 1)], crs="EPSG:3857")
    with pytest.warns(SupportWarning, match="of 2 polygons, 1 meet only cells without imagery"):
        table = zonal_mean(path, zones, weights=people)
    assert table["wealth"].tolist() == pytest.approx([(10 + 60) / 40, np.nan], nan_ok=True)
    assert table["imagery_share"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)


def test_zones_are_reprojected(corrected, bands):
    lonlat = gpd.GeoDataFrame(geometry=[box(-9600 + 9600, 9600 - 9600, 960, 960)], crs="EPSG:3857").to_crs(
        4326
    )
    assert zonal_mean(corrected, lonlat)["wealth"].item() == pytest.approx(bands[0, 9, 10])


def test_bad_zones(corrected):
    zone = gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)])
    with pytest.raises(DataError, match="polygons have no coordinate system"):
        zonal_mean(corrected, zone)
    with pytest.raises(DataError, match="1 of 1 rows have no geometry: 'x'"):
        zonal_mean(corrected, gpd.GeoDataFrame(geometry=[None], index=["x"], crs="EPSG:3857"))


def test_circles_are_round_on_the_ground(tmp_path):
    # At 60 degrees north a metre of EPSG:3857 is half a metre on the ground.
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(10.0, 60.0)
    corner = from_origin(x - 5000, y + 5000, 100, 100)
    path = write_raster(tmp_path / "north.tif", np.ones((1, 100, 100)), ("wealth",), transform=corner)
    with rasterio.open(path, "r+") as raster:
        rows, cols = np.indices(raster.shape)
        xs, ys = raster.transform @ (cols + 0.5, rows + 0.5)
        lon, lat = TO_LONLAT.transform(xs, ys)
        _, _, distance = Geod(ellps="WGS84").inv(np.full_like(lon, 10.0), np.full_like(lat, 60.0), lon, lat)
        raster.write(distance.astype(np.float32), 1)
    # The mean distance from the centre of a disc is two thirds of its radius.
    assert buffer_mean(path, [10.0], [60.0], 2000)["wealth"].item() == pytest.approx(2000 * 2 / 3, rel=2e-3)


def test_tiny_circles_give_the_cell_itself(corrected):
    lon, lat = centre(np.array([3, 7]), np.array([3, 20]))
    small = buffer_mean(corrected, pd.Series(lon, index=[5, 9]), lat, 50.0)
    assert small.index.tolist() == [5, 9]
    np.testing.assert_allclose(small["wealth"], sample_points(corrected, lon, lat)["wealth"])
    with pytest.raises(DataError, match="radius_m must be a positive number of metres; the least is 0"):
        buffer_mean(corrected, lon, lat, 0)


@pytest.mark.skipif(not SHARED.exists(), reason=f"the published Nigeria rasters are not at {SHARED}")
def test_published_nigeria_raster_by_people(tmp_path):
    wealth, people = SHARED / "nigeria_2012_2014_ms_vals.tif", SHARED / "nigeria_pop.tif"
    with rasterio.open(wealth) as raster:
        values, everywhere = raster.read(1), box(*raster.bounds)
        _, y = raster.transform @ (0.0, np.arange(raster.height) + 0.5)
    with rasterio.open(people) as raster:
        weights = raster.read(1)
    zone = gpd.GeoDataFrame(geometry=[everywhere], crs="EPSG:3857")
    expected = np.nansum(values * weights, dtype=float) / np.nansum(
        np.where(np.isnan(values), 0, weights), dtype=float
    )
    assert zonal_mean(wealth, zone, weights=people)["wealthpooled_pred_mean"].item() == pytest.approx(
        expected, rel=1e-5
    )
    # A metre of Web Mercator is shorter on the ground the farther north: by the cosine of the latitude, nearly.
    ground = np.where(np.isnan(values), 0, 1 / np.cosh(y / 6378137)[:, None] ** 2)
    assert zonal_mean(wealth, zone)["wealthpooled_pred_mean"].item() == pytest.approx(
        np.nansum(values * ground) / ground.sum(), rel=1e-4
    )


def test_tables_say_what_they_hold(tmp_path):
    declared = {"units": ("index points", "1"), "tags": {"SUSTAIN_PREDICTOR": "m-1"}}
    path = write_raster(tmp_path / "map.tif", np.ones((2, 4, 4)), NAMES[:2], **declared)
    expected = {"unit": "index points", "predictor": "m-1"}
    lon, lat = centre(np.array([1]), np.array([1]))
    assert sample_points(path, lon, lat).attrs == expected
    assert buffer_mean(path, lon, lat, 500).attrs == expected


def test_places_at_zero_degrees_are_doubted(tmp_path):
    layout = {"crs": "EPSG:4326", "transform": from_origin(-5, 5, 1, 1)}
    path = write_raster(tmp_path / "gulf.tif", np.ones((1, 10, 10)), ("wealth",), **layout)
    for call in (sample_points, lambda *places: buffer_mean(*places, 1000)):
        with pytest.warns(
            DataWarning, match="2 of 3 points lie at longitude 0 and latitude 0, in the open sea"
        ):
            assert call(path, [0, 1.5, 0], [0, 0, 0])["wealth"].tolist() == pytest.approx([1, 1, 1])


def test_bands_of_one_name_are_told_apart(tmp_path):
    path = write_raster(
        tmp_path / "twice.tif", [[[1.0]], [[2.0]]], ("a", "a"), transform=from_origin(0, 960, 960, 960)
    )
    zone = gpd.GeoDataFrame(geometry=[box(0, 0, 960, 960)], crs=3857)
    assert zonal_mean(path, zone)[["a", "band_2"]].iloc[0].tolist() == [1, 2]
    assert sample_points(path, [0.004], [0.004])[["a", "band_2"]].iloc[0].tolist() == [1, 2]
    with pytest.raises(DataError, match="polygons: got list, expected a GeoDataFrame"):
        zonal_mean(path, [box(0, 0, 1, 1)])
