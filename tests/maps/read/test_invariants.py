"""What must not change a mean, and what must add up."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from shapely import Point, box

from sustain.errors import SupportWarning
from sustain.maps.read import buffer_mean, sample_points, zonal_mean
from tests.maps.fakes import write_raster

CRS = "EPSG:32631"
TOP_LEFT = from_origin(500_000, 10_000, 1000, 1000)
CELLS = np.random.default_rng(0).normal(size=(12, 9))
PEOPLE = np.random.default_rng(1).uniform(1, 9, size=(12, 9))
PLACES = st.tuples(*[st.floats(min_value=0.3, max_value=high) for high in (8.7, 11.7, 3.5)])


def on_ground(shape):
    return shapely.transform(
        shape, lambda xy: np.column_stack([500_000 + 1000 * xy[:, 0], 10_000 - 1000 * xy[:, 1]])
    )


def zone(*shapes):
    return gpd.GeoDataFrame(geometry=[on_ground(shape) for shape in shapes], crs=CRS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The same ground in rasters that are turned, mirrored and tiled otherwise, with people."""
    folder = tmp_path_factory.mktemp("invariants")
    ways = {
        "as it is": (CELLS, TOP_LEFT, {}),
        "south-up": (CELLS[::-1], TOP_LEFT @ Affine(1, 0, 0, 0, -1, 12), {}),
        "east to west": (CELLS[:, ::-1], TOP_LEFT @ Affine(-1, 0, 9, 0, 1, 0), {}),
        "transposed": (CELLS.T, TOP_LEFT @ Affine(0, 1, 0, 1, 0, 0), {}),
        "turned": (np.rot90(CELLS), TOP_LEFT @ Affine(0, -1, 9, 1, 0, 0), {}),
        "tiled": (
            CELLS,
            TOP_LEFT,
            {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        ),
    }
    paths = {
        name: write_raster(folder / f"{name}.tif", [cells], ("a",), crs=CRS, transform=transform, **layout)
        for name, (cells, transform, layout) in ways.items()
    }
    for factor in (1, 256):
        paths[factor] = write_raster(
            folder / f"{factor}.tif", [PEOPLE * factor], ("p",), crs=CRS, transform=TOP_LEFT
        )
    return paths


@settings(deadline=None, max_examples=8)
@given(place=PLACES)
@pytest.mark.parametrize("weights", [None, 1])
def test_the_way_a_raster_lies_changes_nothing(world, place, weights):
    shape = zone(Point(*place[:2]).buffer(place[2]))
    found = [
        zonal_mean(path, shape, None if weights is None else world[weights])
        for name, path in world.items()
        if isinstance(name, str)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(place=PLACES)
def test_only_ratios_of_weights_matter(world, place):
    shape = zone(Point(*place[:2]).buffer(place[2]))
    once, more = (zonal_mean(world["as it is"], shape, world[factor]) for factor in (1, 256))
    np.testing.assert_allclose(more, once, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(place=PLACES, cut=st.floats(min_value=-0.9, max_value=0.9), slope=st.floats(min_value=-1, max_value=1))
def test_the_parts_of_a_polygon_make_the_whole(world, place, cut, slope):
    """Parts weigh the ground that they cover."""
    x, y, r = place
    whole = Point(x, y).buffer(r)
    left = shapely.Polygon(
        [(-99, -99), (x + cut * r - 99 * slope, -99), (x + cut * r + 99 * slope, 99), (-99, 99)]
    )
    on_map = box(0, 0, 9, 12)
    parts = [part for part in (whole & left, whole - left) if (part & on_map).area > 1e-6]
    # The system is nearly one of equal areas here, so areas on the map will do for a tolerance of one in ten thousand.
    areas = np.array([(part & on_map).area for part in parts])
    found = zonal_mean(world["as it is"], zone(*parts))["a"].to_numpy()
    assert np.average(found, weights=areas) == pytest.approx(
        zonal_mean(world["as it is"], zone(whole))["a"].item(), abs=1e-3
    )


@settings(deadline=None, max_examples=20)
@given(angle=st.floats(min_value=0, max_value=360), place=PLACES)
def test_turning_raster_and_polygon_together_changes_nothing(tmp_path_factory, world, angle, place):
    """In an equal-area system, about the middle of the map."""
    layout = {"crs": "EPSG:6933"}
    path = tmp_path_factory.getbasetemp() / "turned.tif"
    turn = Affine.rotation(angle, (504_500, 4000))
    straight = write_raster(path.with_name("straight.tif"), [CELLS], ("a",), transform=TOP_LEFT, **layout)
    turned = write_raster(path, [CELLS], ("a",), transform=turn @ TOP_LEFT, **layout)
    shape = on_ground(Point(*place[:2]).buffer(place[2]))
    moved = shapely.transform(shape, lambda xy: np.column_stack(turn @ (xy[:, 0], xy[:, 1])))
    before, after = (
        zonal_mean(raster, gpd.GeoDataFrame(geometry=[one], crs=layout["crs"]))
        for raster, one in ((straight, shape), (turned, moved))
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float64"])
def test_numbers_of_any_type(tmp_path, dtype):
    values = np.arange(108, dtype=dtype).reshape(12, 9)
    path = tmp_path / "map.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=12,
        width=9,
        count=1,
        dtype=dtype,
        crs=CRS,
        transform=TOP_LEFT,
        nodata=0,
    ) as raster:
        raster.write(values, 1)
        raster.scales, raster.offsets = [0.5], [-3.0]
    found = zonal_mean(path, zone(box(0, 0, 2, 2)))
    assert found["band_1"].item() == pytest.approx((1 + 9 + 10) / 3 / 2 - 3, rel=1e-6)
    assert found["imagery_share"].item() == pytest.approx(3 / 4, rel=1e-4)


@pytest.mark.parametrize("how", ["mask", "mask beside it", "alpha", "nodata"])
def test_cells_under_a_mask_have_no_value(tmp_path, how):
    """What lies under a mask is a number like any other, here 1000, and counts for nothing at points and in zones."""
    values, mask = CELLS.astype("f4").copy(), np.full((12, 9), 255, np.uint8)
    values[:2, :2], mask[:2, :2] = 1000, 0
    path = tmp_path / "map.tif"
    bands = 2 if how == "alpha" else 1
    layout = {
        "driver": "GTiff",
        "height": 12,
        "width": 9,
        "dtype": "float32",
        "crs": CRS,
        "transform": TOP_LEFT,
    }
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how == "mask"),
        rasterio.open(path, "w", count=bands, nodata=1000 if how == "nodata" else None, **layout) as raster,
    ):
        raster.write(values, 1)
        if how == "alpha":
            raster.write(mask.astype("f4"), 2)
            raster.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        elif how != "nodata":
            raster.write_mask(mask)
    assert path.with_name("map.tif.msk").exists() == (how == "mask beside it")
    found = zonal_mean(path, zone(box(0, 0, 3, 2)))
    assert list(found) == ["band_1", "imagery_share"]
    assert found["band_1"].item() == pytest.approx(CELLS[:2, 2].mean(), abs=1e-5)
    assert found["imagery_share"].item() == pytest.approx(1 / 3, rel=1e-4)
    places = gpd.GeoSeries([on_ground(Point(0.5, 0.5)), on_ground(Point(2.5, 0.5))], crs=CRS).to_crs(4326)
    with pytest.warns(SupportWarning, match="of 2 points, 1 meet only cells without imagery"):
        sampled = sample_points(path, places.x, places.y)
    np.testing.assert_allclose(sampled["band_1"], [np.nan, CELLS[0, 2]], rtol=1e-5)
    around = buffer_mean(path, places.x[1:], places.y[1:], 900)
    assert around["band_1"].abs().item() < 10
