import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.transform import from_origin
from shapely import box

from sustain.errors import DataWarning, GridWarning, RasterError
from sustain.maps.geotiff import open_raster
from sustain.maps.read import buffer_mean, zonal_mean
from sustain.maps.read.people import People
from tests.maps.fakes import write_raster

MAP = {"crs": "EPSG:32631", "transform": from_origin(500_000, 10_000, 1000, 1000)}
RAMP = (np.arange(100).reshape(10, 10) / 50 - 1).astype(np.float32)
ZONE = gpd.GeoDataFrame(geometry=[box(500_000, 5000, 502_000, 10_000)], crs="EPSG:32631")


@pytest.fixture
def ramp(tmp_path):
    return write_raster(tmp_path / "ramp.tif", [RAMP], ("a",), **MAP)


def people(path, counts, transform, **layout):
    return write_raster(path, [counts], ("people",), **MAP | {"transform": transform} | layout)


def shared_out(counts, theirs, height=10, width=10, ours=MAP["transform"], to_ours=None):
    """Counts on the map's cells by the area in which outlines of cells meet."""
    down, across = (axis.ravel() for axis in np.indices(counts.shape))
    cells = shapely.segmentize(shapely.box(across, down, across + 1, down + 1), 0.25)

    def onto_map(xy):
        x, y = theirs @ (xy[:, 0], xy[:, 1])
        return np.column_stack(~ours @ ((x, y) if to_ours is None else to_ours.transform(x, y)))

    cells = shapely.transform(cells, onto_map)
    row, col = (axis.ravel() for axis in np.indices((height, width)))
    parts = shapely.area(shapely.intersection(cells[:, None], shapely.box(col, row, col + 1, row + 1)))
    return (counts.ravel() / shapely.area(cells) @ parts).reshape(height, width)


def on_map(map_path, people_path, **how):
    with open_raster(map_path) as source, open_raster(people_path) as other:
        known = People(source, other, **how)
        across, down = known.parts
        counts = np.nan_to_num(known.counts(0, 0, source.height, source.width))
        return counts.reshape(source.height, down, source.width, across).sum(axis=(1, 3))


GRIDS = {
    "half a cell to the east": from_origin(500_500, 10_000, 1000, 1000),
    "300 m": from_origin(500_300, 9700, 1000, 1000),
    "480 m cells, offset by 200 m": from_origin(499_800, 10_200, 480, 480),
    "cells of 2.5 km": from_origin(499_000, 11_000, 2500, 2500),
    "tall cells, south-up": Affine(700, 0, 499_900, 0, 1300, -2000),
    "rotated": Affine.translation(505_000, 12_500) @ Affine.rotation(-40) @ Affine.scale(600, -800),
    "columns that go north": Affine(0, 900, 499_500, 1100, 0, -1000),
    "huge cells, rotated": Affine.translation(490_000, 20_000)
    @ Affine.rotation(-20)
    @ Affine.scale(9000, -9000),
}


@pytest.mark.parametrize("name", GRIDS)
def test_counts_are_shared_out_by_area(ramp, tmp_path, name):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (24, 25)).astype(float)
    path = people(tmp_path / "people.tif", counts, GRIDS[name])
    expected = shared_out(counts, GRIDS[name])
    found = on_map(ramp, path)
    exact = GRIDS[name].b == 0 or name == "columns that go north"
    np.testing.assert_allclose(
        found, expected, rtol=1e-6 if exact else 0, atol=(1e-6 if exact else 0.03) * expected.max()
    )
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-6 if exact else 1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with pytest.warns(
            GridWarning, match=r"people\.tif: weights lie on other cells than .*no count is lost"
        ):
            table = zonal_mean(ramp, ZONE, path)
    weight = expected[:5, :2]
    assert table["a"].item() == pytest.approx(
        (RAMP[:5, :2] * weight).sum() / weight.sum(), abs=1e-6 if exact else 0.003
    )


def test_half_a_cell_to_the_east(ramp, tmp_path):
    """The right mean is -0.665, by hand: each cell has half of the people of its own column and of the one before."""
    counts = np.random.default_rng(0).integers(0, 50, (10, 10)).astype("f4")
    path = people(tmp_path / "w.tif", counts, GRIDS["half a cell to the east"])
    before = np.concatenate([np.zeros((10, 1)), counts[:, :-1]], axis=1)
    weight = (counts + before)[:5, :2] / 2
    right = (RAMP[:5, :2] * weight).sum() / weight.sum()
    assert right == pytest.approx(-0.665, abs=5e-4)
    with pytest.warns(GridWarning, match="shifted by 0.5 of a cell across and 0 down"):
        assert zonal_mean(ramp, ZONE, path)["a"].item() == pytest.approx(right, abs=1e-6)


def test_no_count_is_lost_or_made(ramp, tmp_path):
    counts = np.random.default_rng(1).uniform(0, 9, (7, 7))
    for name, transform in {
        "shifted": from_origin(501_130, 8770, 900, 900),
        "rotated": Affine.translation(505_000, 9000) @ Affine.rotation(-40) @ Affine.scale(500, -500),
    }.items():
        path = people(tmp_path / f"{name}.tif", counts, transform)
        assert on_map(ramp, path).sum() == pytest.approx(counts.sum(), rel=1e-6), name


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        (MAP["transform"], (10, 10)),
        (from_origin(500_000, 10_000, 250, 200), (50, 40)),
        (from_origin(498_000, 14_000, 2000, 2000), (9, 9)),
        (from_origin(497_000, 12_000, 1000, 1000), (20, 20)),
        (from_origin(500_000.01, 10_000, 1000 + 1e-7, 1000), (10, 10)),
    ],
)
def test_cells_that_fit_are_taken_as_they_are(ramp, tmp_path, transform, shape):
    counts = np.random.default_rng(2).integers(1, 50, shape).astype(float)
    path = people(tmp_path / "people.tif", counts, transform)
    weight = shared_out(counts, transform)[:5, :2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        found = zonal_mean(ramp, ZONE, path)["a"].item()
    assert found == pytest.approx((RAMP[:5, :2] * weight).sum() / weight.sum(), abs=2e-6)


def test_people_in_degrees_on_a_map_in_metres(ramp, tmp_path):
    transform = from_origin(2.99, 0.1, 1 / 120, 1 / 120)
    counts = np.random.default_rng(3).uniform(0, 50, (14, 14))
    path = people(tmp_path / "people.tif", counts, transform, crs="EPSG:4326")
    expected = shared_out(counts, transform, to_ours=Transformer.from_crs(4326, 32631, always_xy=True))
    np.testing.assert_allclose(on_map(ramp, path), expected, atol=0.005 * expected.max())
    with pytest.warns(GridWarning, match="in another coordinate system"):
        found = zonal_mean(ramp, ZONE, path)
    weight = expected[:5, :2]
    assert found["a"].item() == pytest.approx((RAMP[:5, :2] * weight).sum() / weight.sum(), abs=0.003)


@pytest.mark.parametrize("odd", [-200.0, -99999.0, np.nan, np.inf, -np.inf, -3.4e38, 3.4e38])
def test_what_is_no_count_is_nobody(ramp, tmp_path, odd):
    counts = np.random.default_rng(0).integers(1, 50, (10, 10)).astype("f4")
    nobody = counts.copy()
    counts[0, 0], nobody[0, 0] = odd, 0
    path = people(tmp_path / "odd.tif", counts, MAP["transform"], nodata=None)
    right = zonal_mean(ramp, ZONE, people(tmp_path / "nobody.tif", nobody, MAP["transform"]))
    if np.isfinite(odd):
        with pytest.warns(DataWarning, match=r"odd\.tif: 1 of the numbers read are no weights \(such as"):
            found = zonal_mean(ramp, ZONE, path)
    else:
        found = zonal_mean(ramp, ZONE, path)
    assert found.equals(right)
    assert found["imagery_share"].item() == 1


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "uint32"])
def test_the_largest_number_of_a_type_is_no_count(ramp, tmp_path, kind):
    counts = np.full((10, 10), 50)
    counts[0, 0] = np.iinfo(kind).max
    right = zonal_mean(
        ramp, ZONE, people(tmp_path / "nobody.tif", np.where(counts == 50, 50, 0), MAP["transform"])
    )
    path = people(tmp_path / "top.tif", counts, MAP["transform"], dtype=kind, nodata=None)
    with pytest.warns(DataWarning, match=r"top\.tif: 1 of the numbers read are no weights"):
        found = zonal_mean(ramp, ZONE, path)
    assert found.equals(right)


def test_where_people_are_not_known_is_said(ramp, tmp_path):
    path = people(tmp_path / "part.tif", np.ones((3, 10)), MAP["transform"])
    with pytest.warns(DataWarning, match=r"part\.tif: weights do not reach everywhere; 40.0% of the cells"):
        found = zonal_mean(ramp, ZONE, path)
    assert found["a"].item() == pytest.approx(RAMP[:3, :2].mean())


def test_densities_become_counts(tmp_path):
    """A density of one everywhere weighs cells by their ground, on the same cells, on others and in degrees."""
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(10, 70)
    values = np.repeat(np.arange(60.0)[:, None], 60, axis=1)
    path = write_raster(tmp_path / "north.tif", [values], ("a",), transform=from_origin(x, y, 50_000, 50_000))
    zone = gpd.GeoDataFrame(geometry=[box(x, y - 3e6, x + 3e6, y)], crs=3857)
    by_ground = zonal_mean(path, zone)["a"].item()
    grids = {
        "same": ("EPSG:3857", from_origin(x, y, 50_000, 50_000), (60, 60)),
        "other": ("EPSG:3857", from_origin(x - 1e5, y + 1e5, 33_000, 33_000), (120, 120)),
        "degrees": ("EPSG:4326", from_origin(5, 75, 0.25, 0.25), (240, 240)),
    }
    for name, (crs, transform, shape) in grids.items():
        even = write_raster(tmp_path / f"{name}.tif", [np.ones(shape)], ("d",), crs=crs, transform=transform)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GridWarning)
            found = zonal_mean(path, zone, even, weights_per_km2=True)["a"].item()
            if name == "same":
                assert zonal_mean(path, zone, even)["a"].item() == pytest.approx(29.5)
        assert found == pytest.approx(by_ground, abs=0.02), name


def test_people_of_a_world_that_begins_at_greenwich(tmp_path):
    """Longitudes from 0 to 360, on a map across Greenwich in degrees and on one in metres."""
    world = np.random.default_rng(4).uniform(0, 9, (180, 360))
    usual = np.roll(world, 180, axis=1)
    zero = write_raster(
        tmp_path / "0.tif", [world], ("p",), crs="EPSG:4326", transform=from_origin(0, 90, 1, 1)
    )
    west = write_raster(
        tmp_path / "w.tif", [usual], ("p",), crs="EPSG:4326", transform=from_origin(-180, 90, 1, 1)
    )
    values = np.random.default_rng(5).uniform(size=(1, 20, 20))
    maps = [
        write_raster(
            tmp_path / "d.tif", values, ("a",), crs="EPSG:4326", transform=from_origin(-10, 50, 1, 1)
        ),
        write_raster(
            tmp_path / "m.tif", values, ("a",), crs="EPSG:3035", transform=from_origin(3e6, 3e6, 1e5, 1e5)
        ),
        write_raster(
            tmp_path / "e.tif", values, ("a",), crs="EPSG:4326", transform=from_origin(170, 50, 1, 1)
        ),
    ]
    for path in maps:
        np.testing.assert_allclose(on_map(path, zero), on_map(path, west), rtol=1e-6)
    np.testing.assert_allclose(on_map(maps[0], zero), usual[40:60, 170:190], rtol=1e-5)
    np.testing.assert_allclose(on_map(maps[2], west), world[40:60, 170:190], rtol=1e-5)


def test_circles_are_weighed_too_and_several_bands_refused(ramp, tmp_path):
    counts = np.zeros((10, 10))
    counts[4, 4] = 5
    path = people(tmp_path / "people.tif", counts, MAP["transform"])
    lon, lat = Transformer.from_crs(32631, 4326, always_xy=True).transform(504_500, 5500)
    assert buffer_mean(ramp, [lon], [lat], 3000, path)["a"].item() == pytest.approx(RAMP[4, 4], abs=1e-6)
    two = write_raster(tmp_path / "two.tif", np.ones((2, 10, 10)), ("men", "women"), **MAP)
    with pytest.raises(RasterError, match="weights are one band, and this raster has 2"):
        zonal_mean(ramp, ZONE, two)


def test_memory_does_not_grow_with_the_raster_of_people(ramp, tmp_path, monkeypatch):
    """No more than some blocks are read at a time, of whatever size both rasters are."""
    import sustain.maps.read.people as module

    largest = []
    read = module.read_values

    def watched(dataset, bands, window, **how):
        largest.append(window.width * window.height)
        return read(dataset, bands, window, **how)

    monkeypatch.setattr(module, "read_values", watched)
    big = {"crs": "EPSG:32631", "transform": from_origin(500_000, 10_000, 10, 10)}
    path = write_raster(tmp_path / "big.tif", np.ones((1, 1500, 1500)), ("a",), **big)
    fine = people(tmp_path / "fine.tif", np.ones((2000, 2000)), from_origin(500_003, 10_000, 7, 7))
    zone = gpd.GeoDataFrame(geometry=[box(501_000, -3000, 513_000, 9000)], crs="EPSG:32631")
    with pytest.warns(GridWarning):
        assert zonal_mean(path, zone, fine)["a"].item() == 1
    assert len(largest) > 4
    assert max(largest) < 1.2e6
    with rasterio.open(path) as source:
        assert source.width * source.height > max(largest)


def test_people_beyond_the_map_have_no_imagery(ramp, tmp_path):
    """A zone lies half off the map, where three live in a cell and not one: a quarter of its people is seen."""
    counts = np.ones((10, 20))
    counts[:, :10] = 3
    for west, by_hand in ((490_000, 5 / (5 + 15)), (489_500, 5 / (5 + 3 * 4.5 + 0.5))):
        path = people(tmp_path / f"{west}.tif", counts, from_origin(west, 10_000, 1000, 1000))
        zone = gpd.GeoDataFrame(geometry=[box(495_000, 0, 505_000, 10_000)], crs="EPSG:32631")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GridWarning)
            found = zonal_mean(ramp, zone, path)["imagery_share"].item()
        assert found == pytest.approx(by_hand, rel=1e-6)


def test_people_of_a_projection_that_has_no_corners(tmp_path):
    """The corners of a world in Mollweide's projection lie off the Earth; nothing is said of them by numpy."""
    counts = np.random.default_rng(6).uniform(0, 9, (180, 360))
    layout = {"crs": "ESRI:54009", "transform": from_origin(-18_040_095, 9_020_047, 100_223, 100_223)}
    path = write_raster(tmp_path / "mollweide.tif", [counts], ("p",), **layout)
    values = np.random.default_rng(7).uniform(size=(1, 60, 120))
    degrees = {"crs": "EPSG:4326", "transform": from_origin(-180, 90, 3, 3)}
    world = write_raster(tmp_path / "degrees.tif", values, ("a",), **degrees)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = on_map(world, path)
    to_degrees = Transformer.from_crs("ESRI:54009", 4326, always_xy=True)
    rows, cols = np.indices(counts.shape) + 0.5
    lon, lat = to_degrees.transform(*(layout["transform"] @ (cols, rows)))
    on_earth = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) < 85)
    inner = found[2:-2].sum()  # away from the poles, where cells of people lie across the edge of the world
    assert inner == pytest.approx(counts[on_earth & (np.abs(lat) < 84)].sum(), rel=0.02)
