"""Imagery on both sides of 180 degrees: one map in a system that is whole there, told rightly; or refused."""

import json

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
from pystac.validation import RegisteredValidator
from rasterio.transform import from_origin
from rasterio.warp import transform
from shapely.geometry import Point, shape

from sustain.config import MapParams, PublishParams
from sustain.errors import RasterError
from sustain.maps.correct.raster import correct_raster
from sustain.maps.grid import Span
from sustain.maps.imagery.open import open_imagery
from sustain.maps.places import cells_of
from sustain.maps.predict.predict import predict_map
from sustain.maps.publish.publish import publish_map
from sustain.viewer import MapLayers
from tests.maps.fakes import MeanPredictor, make_card, write_scene
from tests.maps.stac_fakes import asset, collection, item, numbers

AUTO = MapParams(spacing_px=8, block_cells=3, batch_size=4, crs="auto")
DEGREE = 0.00027  # about 30 m in Fiji's latitude
PDC = from_origin(3_338_000, -1_900_000, 30, 30)  # EPSG:3832, where 180 degrees is x = 3,339,584.7


@pytest.fixture
def sides(tmp_path, pixels):
    """Two scenes in degrees, one ending and one beginning at 180."""
    west = write_scene(
        tmp_path / "w.tif",
        pixels,
        crs="EPSG:4326",
        transform=from_origin(180 - 101 * DEGREE, -17, DEGREE, DEGREE),
    )
    east = write_scene(
        tmp_path / "e.tif", pixels, crs="EPSG:4326", transform=from_origin(-180, -17, DEGREE, DEGREE)
    )
    return [west, east]


def test_both_sides_are_one_map_in_the_zone_of_the_middle(sides, pixels):
    with open_imagery(sides, MeanPredictor(), AUTO) as source:
        assert source.geobox.crs.epsg in (32760, 32701)
        assert source.geobox.width < 2.2 * 101  # side by side, not round the world
        found, place = source.read(Span(0, 0, *source.geobox.shape)), source.geobox.affine
        x, y = transform("EPSG:4326", source.geobox.crs, [179.9999, -179.9999], [-17.01, -17.01])
    cols, rows = ~place @ (np.array(x), np.array(y))
    assert abs(cols[1] - cols[0]) < 2
    seam = found[0, int(rows[0]), int(cols[0]) - 5 : int(cols[0]) + 5]
    assert (seam != 0).all()
    share = (found[0] != 0).sum() * (30 / 111_320) ** 2 / (DEGREE**2 * np.cos(np.radians(17)))
    assert share / (2 * 75 * 101) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    "transform_of_scene",
    [
        from_origin(180 - 50 * DEGREE, -17, DEGREE, DEGREE),
        from_origin(-180 - 50 * DEGREE, -17, DEGREE, DEGREE),
    ],
)
def test_a_scene_that_counts_degrees_beyond_180_is_the_same(tmp_path, pixels, transform_of_scene):
    path = write_scene(tmp_path / "over.tif", pixels, crs="EPSG:4326", transform=transform_of_scene)
    with open_imagery(path, MeanPredictor(), AUTO) as source:
        assert source.geobox.crs.epsg in (32760, 32701)
        assert source.geobox.width < 130
        over = source.read(Span(0, 0, *source.geobox.shape))
    assert (over[0] != 0).mean() > 0.9
    parts = []  # the same, cut at 180 degrees
    for first, last, west in ((0, 50, 180 - 50 * DEGREE), (50, 101, -180)):
        parts.append(tmp_path / f"{first}.tif")
        place = from_origin(west, -17, DEGREE, DEGREE)
        write_scene(parts[-1], pixels[:, :, first:last], crs="EPSG:4326", transform=place)
    nearest = AUTO.model_copy(update={"resampling": "nearest"})
    with (
        open_imagery(path, MeanPredictor(), nearest) as source,
        open_imagery(parts, MeanPredictor(), nearest) as cut,
    ):
        assert cut.geobox == source.geobox
        window = Span(0, 0, *source.geobox.shape)
        assert (cut.read(window) != source.read(window)).mean() < 1e-3


def test_a_system_that_is_torn_there_is_refused_with_one_that_is_not(tmp_path, sides, pixels):
    torn = AUTO.model_copy(update={"crs": "EPSG:3857"})
    with pytest.raises(
        RasterError, match=r"crosses 180 degrees, where EPSG:3857 is torn.*crs EPSG:32(760|701) \(UTM\)"
    ):
        predict_map(sides, MeanPredictor(), tmp_path / "w.tif", params=torn)
    about = [
        item(path.stem, {"image": asset(path, numbers(), names=MeanPredictor.bands)}, crs="EPSG:4326")
        for path in sides
    ]
    place = collection(tmp_path / "items.json", about)
    with pytest.raises(RasterError, match="crosses 180 degrees"):
        predict_map(place, MeanPredictor(), tmp_path / "w.tif", params=torn)
    whole = AUTO.model_copy(update={"crs": "EPSG:3832"})
    for scenes in (sides, place):
        with open_imagery(scenes, MeanPredictor(), whole) as source:
            assert source.geobox.width < 2.5 * 101


@pytest.fixture
def published(tmp_path, pixels):
    """A map across 180 degrees, from a scene in a projected system that is whole there."""
    path = write_scene(tmp_path / "scene.tif", pixels, crs="EPSG:3832", transform=PDC)
    params = AUTO.model_copy(update={"crs": None})
    raw = predict_map(path, MeanPredictor(), tmp_path / "raw.tif", params=params)
    card = make_card().save(tmp_path / "card.json")
    correct_raster(raw, tmp_path / "corrected.tif", card)
    about = PublishParams(title="Fiji", licence="CC0-1.0", start="2016-01-01", end="2016-12-31")
    return publish_map(tmp_path / "corrected.tif", card, tmp_path / "out", about)


def test_the_item_s_box_and_outline_are_cut_at_180_degrees(published):
    content = json.loads((published / "item.json").read_text())
    RegisteredValidator.get_validator().validate_core(content, pystac.STACObjectType.ITEM, "1.1.0")
    west, south, east, north = content["bbox"]
    assert 179.9 < west < 180
    assert -180 < east < -179.9
    assert south < north
    outline = shape(content["geometry"])
    assert outline.geom_type == "MultiPolygon"
    assert outline.is_valid
    first, second = outline.geoms
    assert first.bounds == pytest.approx((west, south, 180, north))
    assert second.bounds == pytest.approx((-180, south, east, north))
    assert all(part.exterior.is_ccw for part in outline.geoms)
    with rasterio.open(published / "wealth.tif") as raster:
        x, y = transform(raster.crs, "EPSG:4326", [raster.bounds.left + 500], [raster.bounds.top - 500])
        assert outline.contains(Point(x[0], y[0]))
    extent = json.loads((published / "collection.json").read_text())["extent"]["spatial"]["bbox"]
    assert extent == [content["bbox"]]


def test_cells_have_longitudes_of_both_signs_and_are_found_again(published):
    cells = pd.read_csv(published / "cells.csv")
    assert (cells["lon"].abs() <= 180).all()
    assert {-1.0, 1.0} == set(np.sign(cells["lon"]))
    with rasterio.open(published / "wealth.tif") as raster:
        rows, cols = cells_of(raster, cells["lon"].to_numpy(), cells["lat"].to_numpy())
        values = raster.read(1)
        assert len(cells) == np.isfinite(values).sum() == len(set(zip(rows, cols, strict=True)))
        np.testing.assert_array_equal(values[rows, cols], cells["wealth"].to_numpy().astype(np.float32))


def test_the_viewer_looks_at_the_map_and_not_at_the_world(published):
    layers = MapLayers(published)
    west, _, east, north = layers.bounds
    assert 179.9 < west < 180 < east < 180.1
    z = 12
    y = int((1 - np.arcsinh(np.tan(np.radians(north - 0.001))) / np.pi) / 2 * 2**z)
    for x in (2**z - 1, 0):
        assert layers.tile("wealth", z, x, y).startswith(b"\x89PNG")
