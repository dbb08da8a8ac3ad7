"""Imagery of other grids is brought onto one, the same whatever window is read; or refused with a way out."""

import warnings

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform

from sustain.config import MapParams
from sustain.errors import ConfigError, DataWarning, RasterError
from sustain.maps.grid import Grid, Span
from sustain.maps.imagery.lattice import Lattice, Outline, choose_lattice
from sustain.maps.imagery.open import open_imagery
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import MeanPredictor, write_scene

PARAMS = MapParams(spacing_px=8, block_cells=3, batch_size=4)
UTM = "EPSG:32631"
# A field that is smooth over pixels, so that resampling it is a small change.
ROWS, COLS = np.mgrid[:75, :101]
SMOOTH = np.stack([9000 + 40 * ROWS + 15 * COLS, 5000 + 30 * COLS, 20000 - 50 * ROWS]).astype(np.uint16)


def to(crs, **changes):
    return PARAMS.model_copy(update={"crs": crs} | changes)


def whole(source):
    return source.read(Span(0, 0, *source.geobox.shape))


def utm_scene(path, pixels=SMOOTH, **changes):
    """The scene's pixels on a UTM grid near 3 degrees east, 2 degrees north."""
    return write_scene(
        path, pixels, **({"crs": UTM, "transform": from_origin(500_010, 221_085, 30, 30)} | changes)
    )


def test_imagery_on_the_grid_already_is_not_touched(tmp_path, scene_path, predictor):
    """Also when it does not begin at a multiple of the pixel: the first scene's corner counts."""
    plain = predict_map(scene_path, predictor, tmp_path / "plain.tif", params=PARAMS)
    for crs in ("auto", "EPSG:3857"):
        asked = predict_map(scene_path, predictor, tmp_path / "asked.tif", params=to(crs))
        assert asked.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(
    "crs", ["EPSG:32632", "EPSG:3857", "+proj=laea +lat_0=2 +lon_0=3 +datum=WGS84 +units=m"]
)
def test_another_coordinate_system_shows_what_lies_there(tmp_path, crs):
    """Against PROJ: each pixel's centre looked up in the source; bilinear is off by rounding and by nothing else."""
    path = utm_scene(tmp_path / "utm.tif")
    with open_imagery(path, MeanPredictor(), to(crs, resampling="nearest")) as source:
        assert source.geobox.crs == crs
        assert (source.geobox.affine.a, source.geobox.affine.e) == (30, -30)
        nearest, place = whole(source), source.geobox.affine
    cols, rows = np.meshgrid(np.arange(nearest.shape[2]) + 0.5, np.arange(nearest.shape[1]) + 0.5)
    x, y = transform(crs, UTM, *(np.ravel(values) for values in place @ (cols, rows)))
    col, row = (np.asarray(x) - 500_010) / 30, (221_085 - np.asarray(y)) / 30
    inside = (row >= 0) & (row < 75) & (col >= 0) & (col < 101)
    expected = np.zeros((3, row.size), dtype=np.uint16)
    expected[:, inside] = SMOOTH[:, row[inside].astype(int), col[inside].astype(int)]
    np.testing.assert_array_equal(nearest.reshape(3, -1), expected)
    assert 0 < (~inside).mean() < 0.5

    with open_imagery(path, MeanPredictor(), to(crs)) as source:
        smooth = whole(source).reshape(3, -1)
    np.testing.assert_array_equal(smooth != 0, nearest.reshape(3, -1) != 0)
    inner = (row > 0.5) & (row < 74.5) & (col > 0.5) & (col < 100.5)
    down, right = row - 0.5, col - 0.5
    field = np.stack([9000 + 40 * down + 15 * right, 5000 + 30 * right, 20000 - 50 * down])
    np.testing.assert_allclose(smooth[:, inner], field[:, inner], rtol=0, atol=0.51)


def test_another_resolution_keeps_the_ground_where_it_is(tmp_path):
    """A linear field is linear after bilinear resampling, from 60 m as from 15 m."""
    for side in (60.0, 15.0):
        n = round(3000 / side)
        x = 500_010 + side * (np.arange(n) + 0.5)
        pixels = np.broadcast_to((x - 490_000) / 2, (3, n, n)).round().astype(np.uint16)
        path = utm_scene(tmp_path / "s.tif", pixels, transform=from_origin(500_010, 221_085, side, side))
        with open_imagery(path, MeanPredictor(), to("auto")) as source:
            assert (source.geobox.affine.a, source.geobox.crs.epsg) == (30, 32631)
            found = whole(source)
            centres = source.geobox.affine.c + 30 * (np.arange(source.geobox.width) + 0.5)
        inside = (centres > 500_070) & (centres < 502_950)
        expected = np.broadcast_to((centres - 490_000) / 2, found.shape)
        np.testing.assert_allclose(found[:, 4:-4, inside], expected[:, 4:-4, inside], atol=1.01)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
def test_missing_pixels_are_missing_where_the_nearest_is_and_tint_no_others(tmp_path, resampling):
    pixels = np.full((3, 75, 101), 7000, dtype=np.uint16)
    pixels[:, 20:40, 30:60] = 0
    pixels[1, 50:60, 70:80] = 0  # one band alone
    path = utm_scene(tmp_path / "utm.tif", pixels)
    with open_imagery(path, MeanPredictor(), to("EPSG:3857", resampling="nearest")) as source:
        nearest = whole(source)
    with open_imagery(path, MeanPredictor(), to("EPSG:3857", resampling=resampling)) as source:
        found = whole(source)
    assert set(np.unique(found)) == {0, 7000}
    np.testing.assert_array_equal(found, nearest)
    assert ((found[1] == 0) & (found[0] != 0)).any()


@settings(deadline=None, max_examples=40)
@given(
    row=st.integers(0, 60), col=st.integers(0, 90), height=st.integers(1, 40), width=st.integers(1, 40),
    resampling=st.sampled_from(["nearest", "bilinear", "cubic"]),
)  # fmt: skip
def test_a_pixel_is_the_same_in_whatever_window_it_is_read(
    tmp_path_factory, row, col, height, width, resampling
):
    path = tmp_path_factory.getbasetemp() / "windows.tif"
    if not path.exists():
        utm_scene(path, np.random.default_rng(3).integers(0, 60_000, (3, 75, 101), dtype=np.uint16))
    with open_imagery(path, MeanPredictor(), to("EPSG:3857", resampling=resampling)) as source:
        span = Span(row, col, min(height, source.geobox.height - row), min(width, source.geobox.width - col))
        cut = whole(source)[:, row : row + span.height, col : col + span.width]
        np.testing.assert_array_equal(source.read(span), cut)


def test_scenes_of_two_zones_make_one_map_with_every_cell_once(tmp_path, predictor):
    """Two halves of one field, one in zone 31 and one in zone 32, map as the field does."""
    east = 3000 * 30 + 500_010  # far enough from the zone's middle for the other zone to look turned
    west_half = utm_scene(tmp_path / "w.tif", SMOOTH[:, :, :60], transform=from_origin(east, 221_085, 30, 30))
    full = utm_scene(tmp_path / "full.tif", transform=from_origin(east, 221_085, 30, 30))
    target = "+proj=laea +lat_0=2 +lon_0=3.8 +datum=WGS84 +units=m"
    with open_imagery(full, MeanPredictor(), to("EPSG:32632")) as turned:
        pixels, transform = whole(turned), turned.geobox.affine
    other_zone = utm_scene(tmp_path / "e.tif", pixels, crs="EPSG:32632", transform=transform)
    maps = {}
    for name, scenes in {"one": full, "two": [west_half, other_zone]}.items():
        out = predict_map(scenes, predictor, tmp_path / f"{name}.tif", params=to(target))
        with rasterio.open(out) as raster:
            maps[name] = raster.read(), raster.transform, raster.crs
    assert maps["two"][2] == CRS.from_user_input(target)
    (one, first, _), (two, second, _) = maps["one"], maps["two"]
    col, row = ~first @ (second.c, second.f)
    assert max(abs(col), abs(row)) <= 2
    assert two.shape[1] * two.shape[2] >= one.shape[1] * one.shape[2]
    assert np.isfinite(two[0]).mean() > 0.8
    # The halves were resampled once more or less, and cells may lie up to a pixel apart.
    assert abs(np.nanmean(two[0]) - np.nanmean(one[0])) < 0.01


def test_the_map_does_not_depend_on_how_it_is_cut_into_blocks(tmp_path, predictor):
    path = utm_scene(
        tmp_path / "utm.tif", np.random.default_rng(3).integers(1, 60_000, (3, 75, 101), dtype=np.uint16)
    )
    maps = []
    for block in (1, 4, 100):
        out = predict_map(path, predictor, tmp_path / "w.tif", params=to("EPSG:3857", block_cells=block))
        with rasterio.open(out) as raster:
            maps.append(raster.read())
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


@pytest.mark.parametrize(
    "changes",
    [
        {"crs": "EPSG:4326", "transform": from_origin(3.0, 2.0, 0.00027, 0.00027)},
        {"transform": from_origin(500_010, 221_085, 10, 10)},
        {"transform": rasterio.Affine(30, 0, 500_010, 0, 30, 221_085)},
        {"transform": rasterio.Affine(29, 5, 500_010, 5, -29, 221_085)},
    ],
)
def test_what_is_refused_without_the_option_is_mapped_with_it(tmp_path, predictor, changes):
    path = utm_scene(tmp_path / "other.tif", np.tile(SMOOTH, (1, 3, 3)), **changes)
    with pytest.raises(RasterError, match=r"pass crs.*sustain map --crs auto"):
        predict_map(path, predictor, tmp_path / "w.tif", params=PARAMS)
    with rasterio.open(predict_map(path, predictor, tmp_path / "w.tif", params=to("auto"))) as raster:
        assert raster.crs.to_epsg() == 32631
        assert raster.transform.a == 30 * 8
        assert np.isfinite(raster.read(1)).any()


def test_a_resampled_scene_smaller_than_a_tile_is_named(tmp_path, predictor):
    path = utm_scene(tmp_path / "tiny.tif", transform=from_origin(500_010, 221_085, 3, 3))
    with pytest.raises(
        RasterError, match=r"tiny\.tif: the scene has \d+ x \d+ pixels .*smaller than one tile"
    ):
        predict_map(path, predictor, tmp_path / "w.tif", params=to("auto"))


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("EPSG:4326", "EPSG:4326 is not projected in metres"),
        ("EPSG:2263", "EPSG:2263 is not projected in metres"),
        ("the moon", "'the moon' is no coordinate system"),
    ],
)
def test_a_coordinate_system_that_cannot_be_had(tmp_path, scene_path, predictor, crs, message):
    with pytest.raises(ConfigError, match=message):
        predict_map(scene_path, predictor, tmp_path / "w.tif", params=to(crs))


def test_a_scene_without_coordinate_system_cannot_be_reprojected(tmp_path, pixels, predictor):
    path = write_scene(tmp_path / "nowhere.tif", pixels, crs=None)
    with pytest.raises(RasterError, match=r"nowhere\.tif: the coordinate system is not set"):
        predict_map(path, predictor, tmp_path / "w.tif", params=to("auto"))


def test_other_blocks_are_not_reused_after_a_change_of_grid(tmp_path, scene_path, predictor):
    maps = [
        predict_map(scene_path, predictor, tmp_path / "a.tif", params=to(crs))
        for crs in ("auto", "EPSG:32632")
    ]
    with rasterio.open(maps[-1]) as raster:
        assert raster.crs.to_epsg() == 32632


def outline(west, east, crs="EPSG:4326", lat=-17.0):
    return Outline("scene", GeoBox((100, 100), from_origin(west, lat + 0.5, (east - west) / 100, 0.01), crs))


@settings(deadline=None, max_examples=60)
@given(
    start=st.floats(-180, 179),
    widths=st.lists(st.floats(0.1, 20), min_size=1, max_size=4),
    lat=st.floats(-70, 70),
)
def test_the_chosen_zone_is_that_of_the_middle_wherever_on_the_globe(start, widths, lat):
    outlines, west = [], start
    for width in widths:
        outlines.append(outline((west + 180) % 360 - 180, (west + 180) % 360 - 180 + width, lat=lat))
        west += width
    lattice = choose_lattice(outlines, "auto", 30, "bilinear")
    middle = ((start + west) / 2 + 180) % 360
    zone = lattice.crs.to_epsg() % 100
    assert min(abs(middle - (zone - 1) * 6 - 3), 360 - abs(middle - (zone - 1) * 6 - 3)) <= 3 + 1e-6
    assert lattice.crs.to_epsg() // 100 == (326 if lat >= 0 else 327) or abs(lat) < 1e-9


@settings(deadline=None, max_examples=60)
@given(
    x=st.floats(-1000, 1000), y=st.floats(-1000, 1000), height=st.integers(1, 50), width=st.integers(1, 50)
)
def test_cover_holds_the_raster_with_less_than_a_pixel_to_spare(x, y, height, width):
    lattice = Lattice(GeoBox((1, 1), from_origin(7, -4, 30, 30), "EPSG:3857"), "bilinear")
    about = Outline("a", GeoBox((height, width), from_origin(x, y, 10, 10), "EPSG:3857"))
    found = lattice.cover(about)
    transform, (rows, cols) = found.affine, found.shape
    left, top = (x - transform.c) / 30, (transform.f - y) / 30
    assert -2e-3 <= min(left, top) <= max(left, top) < 1
    spare = cols - left - width / 3, rows - top - height / 3
    assert -2e-3 <= min(spare) <= max(spare) < 1 + 2e-3
    assert lattice.holds(found)
    assert not lattice.holds(about.geobox)


def test_a_grid_of_warped_imagery_is_the_same_plain_geometry(tmp_path):
    path = utm_scene(tmp_path / "utm.tif")
    with open_imagery(path, MeanPredictor(), to("EPSG:3857")) as source:
        grid = Grid(source.geobox, 16, 8)
        seen = np.zeros(grid.shape, dtype=int)
        for block in grid.blocks(3):
            cells = block.cells
            seen[cells.row : cells.row + cells.height, cells.col : cells.col + cells.width] += 1
            assert source.read(block.window).shape == (3, *block.window.shape)
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("crs", "x", "y", "expected"),
    [
        ("EPSG:3857", 0, 0, None),
        ("EPSG:3857", 4_000_000, 8_399_738, "cover 15 to 15 m of ground"),  # 60 degrees north, cosine a half
        ("EPSG:32637", 500_000, 500_000, None),
        ("EPSG:32631", 3_500_000, 500_000, "m of ground"),  # 27 degrees off its meridian
        ("ESRI:54034", 4_000_000, 6_000_000, None),  # squeezed, but of the same area
    ],
)
def test_pixels_that_cover_other_ground_than_they_say_are_told(tmp_path, pixels, crs, x, y, expected):
    path = write_scene(tmp_path / "scene.tif", pixels, crs=crs, transform=from_origin(x, y, 30, 30))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        predict_map(path, MeanPredictor(), tmp_path / "wealth.tif", params=MapParams(spacing_px=16))
    found = [str(one.message) for one in told if issubclass(one.category, DataWarning)]
    assert len(found) == (expected is not None)
    assert (expected or "") in "".join(found)
