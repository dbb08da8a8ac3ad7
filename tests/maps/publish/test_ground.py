"""Cells have their size on the ground, and a map's outline is where it lies, however its rows run."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.transform import from_origin
from shapely.geometry import box, shape

from sustain.maps.publish.ground import cell_sizes, footprint, resolution_m, size_text
from tests.maps.fakes import write_raster


def opened(path, transform, crs="EPSG:4326", shape=(20, 30)):
    return rasterio.open(write_raster(path, np.zeros((1, *shape)), ("a",), crs=crs, transform=transform))


def test_metres_of_web_mercator_are_not_metres_on_the_ground(tmp_path):
    """At 60 degrees north a metre of Web Mercator is half a metre (on a sphere; 0.3 % off on the ellipsoid)."""
    at_60 = 8_399_737.9  # y of 60 degrees north
    with opened(tmp_path / "m.tif", from_origin(0, at_60 + 9600, 960, 960), "EPSG:3857") as raster:
        middle = cell_sizes(raster)[1]
        assert middle.width == pytest.approx(481, abs=1)
        assert middle.height == pytest.approx(480, abs=2)
        assert resolution_m(raster) == pytest.approx(480, abs=1.5)
        assert size_text(raster) == "481 m wide and 480 m high on the ground"


def test_cells_in_degrees_that_differ_in_width_have_both_ends(tmp_path):
    with opened(tmp_path / "d.tif", from_origin(3, 60, 1, 1)) as raster:
        assert size_text(raster) == "56.6 km to 84.8 km wide and 111 km high on the ground"
        assert cell_sizes(raster)[0].width == pytest.approx(111_320 * np.cos(np.deg2rad(59.5)), rel=0.004)


@pytest.mark.parametrize(
    "transform",
    [
        from_origin(3, 14, 0.1, 0.1),
        Affine(0.1, 0, 3, 0, 0.1, 12),  # south-up
        Affine(0, 0.1, 3, 0.1, 0, 12),  # a row for each longitude
        from_origin(363, 14, 0.1, 0.1),  # longitudes beyond 360
    ],
)
def test_the_outline_is_the_same_ground_and_anticlockwise(tmp_path, transform):
    size = (30, 20) if transform.b else (20, 30)
    with opened(tmp_path / "m.tif", transform, shape=size) as raster:
        geometry, bbox = footprint(raster)
    assert bbox == pytest.approx([3, 12, 6, 14])
    outline = shape(geometry)
    assert outline.exterior.is_ccw
    assert outline.symmetric_difference(box(*bbox)).area < 1e-9


def test_a_turned_raster_has_its_own_outline(tmp_path):
    with opened(
        tmp_path / "m.tif", Affine.translation(8, 10) @ Affine.rotation(30) @ Affine.scale(0.1, -0.1)
    ) as raster:
        geometry, bbox = footprint(raster)
    outline = shape(geometry)
    assert outline.exterior.is_ccw
    assert outline.area == pytest.approx(3 * 2)
    assert outline.bounds == pytest.approx(bbox, abs=1e-6)


@pytest.mark.parametrize(
    ("west", "columns", "expected", "parts"),
    [
        (170, 30, [170, -10, -160, 10], 2),  # across 180 degrees
        (-190, 30, [170, -10, -160, 10], 2),
        (350, 30, [-10, -10, 20, 10], 1),  # across Greenwich, counted to 380
        (0, 360, [-180, -10, 180, 10], 1),
        (-10, 200, [-10, -10, -170, 10], 2),
    ],
)
def test_longitudes_are_those_of_the_ground(tmp_path, west, columns, expected, parts):
    with opened(tmp_path / "m.tif", from_origin(west, 10, 1, 1), shape=(20, columns)) as raster:
        geometry, bbox = footprint(raster)
    assert bbox == pytest.approx(expected)
    outline = shape(geometry)
    pieces = list(getattr(outline, "geoms", [outline]))
    assert len(pieces) == parts
    assert sum(piece.area for piece in pieces) == pytest.approx(20 * columns)
    assert all(piece.bounds[0] >= -180 and piece.bounds[2] <= 180 for piece in pieces)
