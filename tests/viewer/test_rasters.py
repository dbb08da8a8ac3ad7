"""Rasters as others make them are drawn, clicked and added up as they are: any type, mask, scale, orientation."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio import Affine

from sustain.errors import DataError, FileFormatError, RasterError
from sustain.palettes import ERROR, SUPPORT_KINDS, WEALTH, scale_of
from sustain.viewer import MapLayers
from tests.maps.fakes import write_raster

VALUES = np.arange(12.0).reshape(3, 4)
NORTH_UP = Affine(1, 0, 10, 0, -1, 5)
DEGREES = {"crs": "EPSG:4326", "dtype": "float64"}


def raster(path, values=VALUES, transform=NORTH_UP, **changes):
    """One band of cells of a degree, the upper left corner at 10 E, 5 N."""
    profile = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1]} | DEGREES
    with rasterio.open(path, "w", transform=transform, **profile | changes) as target:
        target.write(values.astype(target.dtypes[0]), 1)
    return path


def colour_at(layers, lon, lat, name="band_1", z=8):
    """What is drawn at a place; None where nothing is."""
    across = (lon % 360 + 180) % 360 / 360 * 2**z
    down = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**z
    content = layers.tile(name, z, int(across), int(down))
    if not content:
        return None
    picture = np.array(Image.open(io.BytesIO(content)))
    pixel = picture[int(down % 1 * 256), int(across % 1 * 256)]
    return tuple(int(part) for part in pixel[:3]) if pixel[3] else None


def expected(value, low=0.0, high=11.0):
    return tuple(int(part) for part in WEALTH.rgb()[round((value - low) / (high - low) * 255)])


def test_a_cell_is_drawn_in_its_colour_and_clicked_with_its_corners(tmp_path):
    layers = MapLayers(raster(tmp_path / "map.tif"))
    assert colour_at(layers, 12.5, 3.5) == expected(6)
    answer = layers.at(12.5, 3.5)
    assert answer["values"] == {"band_1": 6.0}
    np.testing.assert_allclose(answer["cell"], [(12, 4), (13, 4), (13, 3), (12, 3)])
    assert colour_at(layers, 20.5, 3.5) is None


def test_south_up(tmp_path):
    layers = MapLayers(raster(tmp_path / "map.tif", VALUES[::-1], Affine(1, 0, 10, 0, 1, 2)))
    np.testing.assert_allclose(layers.bounds, (10, 2, 14, 5))
    for lon, lat, value in ((12.5, 3.5, 6), (10.5, 4.5, 0), (13.5, 2.5, 11)):
        assert layers.at(lon, lat)["values"] == {"band_1": value}
        assert colour_at(layers, lon, lat) == expected(value)


def test_rotated(tmp_path):
    turned = Affine.translation(10, 5) @ Affine.rotation(30) @ Affine.scale(1, -1)
    layers = MapLayers(raster(tmp_path / "map.tif", transform=turned))
    for row, col in ((0, 0), (1, 2), (2, 3)):
        lon, lat = turned @ (col + 0.5, row + 0.5)
        assert layers.at(lon, lat)["values"] == {"band_1": VALUES[row, col]}
        assert colour_at(layers, lon, lat) == expected(VALUES[row, col])
    corners = [turned @ corner for corner in ((2, 1), (3, 1), (3, 2), (2, 2))]
    np.testing.assert_allclose(layers.at(*turned @ (2.5, 1.5))["cell"], corners)


@pytest.mark.parametrize("left", [0, -180])
def test_the_world_counted_from_0_or_from_minus_180(tmp_path, left):
    world = np.broadcast_to(np.arange(36.0), (18, 36))
    layers = MapLayers(raster(tmp_path / "map.tif", world, Affine(10, 0, left, 0, -10, 90)))
    for lon in (-175, -5, 5, 175):
        value = (lon - left) % 360 // 10
        answer = layers.at(lon, 5)
        assert answer["values"] == {"band_1": value}
        assert abs(np.mean([corner[0] for corner in answer["cell"]]) - lon) < 1e-9
        assert colour_at(layers, lon, 5, z=2) == expected(value, high=35)


@pytest.mark.parametrize("turn", [0, -360])
def test_a_region_of_a_raster_that_goes_on_counting_beyond_180(tmp_path, turn):
    layers = MapLayers(raster(tmp_path / "map.tif", np.arange(4.0)[None], Affine(1, 0, 178, 0, -1, 1)))
    assert layers.bounds == (178, 0, 182, 1)
    drawn = [(181 + turn, 0), (182 + turn, 0), (182 + turn, 1), (181 + turn, 1)]
    assert layers.region(drawn)["band_1"] == pytest.approx(3, abs=1e-6)


def test_whole_numbers_with_scale_and_offset(tmp_path):
    path = raster(
        tmp_path / "map.tif", np.where(VALUES == 5, -32768, VALUES * 100), dtype="int16", nodata=-32768
    )
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (0.01,), (-3.0,)
    layers = MapLayers(path)
    (layer,) = layers.describe()["layers"]
    assert (layer["low"], layer["high"]) == pytest.approx((-3, 8))
    assert layer["ends"] == ["\N{MINUS SIGN}3", "8"]
    assert layers.at(12.5, 3.5)["values"] == {"band_1": pytest.approx(3)}
    assert colour_at(layers, 12.5, 3.5) == expected(6)
    assert layers.at(11.5, 3.5)["values"] == {"band_1": None}
    assert colour_at(layers, 11.5, 3.5) is None


def test_a_mask_beside_the_file_and_an_alpha_band_hide_cells(tmp_path):
    hidden = (VALUES != 5).astype("uint8") * 255
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        masked = raster(tmp_path / "masked.tif")
        with rasterio.open(masked, "r+") as target:
            target.write_mask(hidden)
    assert (tmp_path / "masked.tif.msk").exists()
    alpha = raster(tmp_path / "alpha.tif", count=2)
    with rasterio.open(alpha, "r+") as target:
        target.colorinterp = [rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha]
        target.write(hidden.astype(float), 2)
    for path in (masked, alpha):
        layers = MapLayers(path)
        assert layers.names == ["band_1"]
        assert layers.at(11.5, 3.5)["values"] == {"band_1": None}
        assert colour_at(layers, 11.5, 3.5) is None
        assert colour_at(layers, 12.5, 3.5) == expected(6)


def test_kinds_are_not_averaged_where_the_map_is_small(tmp_path, monkeypatch):
    """Overviews of a published map are averages: of no imagery (2) and within range (0) they make extrapolated (1)."""
    monkeypatch.setattr("sustain.viewer.tiles._FINE_PX", 64)
    kinds = np.broadcast_to(np.arange(512) % 2 * 2.0, (512, 512))
    path = write_raster(tmp_path / "map.tif", kinds[None], ("support",), crs="EPSG:3857")
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)
    layers = MapLayers(path)
    lon, lat = (layers.bounds[0] + layers.bounds[2]) / 2, (layers.bounds[1] + layers.bounds[3]) / 2
    x, y = int((lon + 180) / 360 * 32), int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 32)
    picture = np.array(Image.open(io.BytesIO(layers.tile("support", 5, x, y))))
    drawn = {tuple(int(part) for part in colour) for colour in picture[picture[..., 3] > 0][:, :3]}
    assert {"#{:02x}{:02x}{:02x}".format(*colour) for colour in drawn} == {
        SUPPORT_KINDS[0].colour,
        SUPPORT_KINDS[2].colour,
    }


def test_a_raster_of_alpha_alone_is_refused(tmp_path):
    path = raster(tmp_path / "alpha.tif", dtype="uint8")
    with rasterio.open(path, "r+") as target:
        target.colorinterp = [rasterio.enums.ColorInterp.alpha]
    with pytest.raises(RasterError, match="no value to show"):
        MapLayers(path)


def test_bands_of_one_name_are_told_apart(tmp_path):
    bands = np.stack([np.zeros((4, 4)), np.ones((4, 4))])
    layers = MapLayers(write_raster(tmp_path / "map.tif", bands, ("mean", "mean")))
    assert layers.names == ["mean (1)", "mean (2)"]
    with pytest.raises(DataError, match=r"'mean' is not in this map; it has mean \(1\), mean \(2\)"):
        layers.tile("mean", 8, 1, 1)


def test_scales_end_where_values_end_and_wealth_and_error_have_their_palettes(tmp_path):
    raw = np.linspace(-1, 1, 64).reshape(8, 8)
    bands = np.stack([2 * raw, raw, 0.1 + 0.01 * raw])
    layers = MapLayers(write_raster(tmp_path / "map.tif", bands, ("wealth", "wealth_raw", "wealth_se")))
    told = {layer["name"]: layer for layer in layers.describe()["layers"]}
    for name, palette, low, high in (
        ("wealth", WEALTH, -2, 2),
        ("wealth_raw", WEALTH, -2, 2),
        ("wealth_se", ERROR, 0, 0.11),
    ):
        assert (told[name]["low"], told[name]["high"]) == pytest.approx((low, high))
        assert (told[name]["colours"][0], told[name]["colours"][-1]) == (palette.stops[0], palette.stops[-1])


def test_a_scale_of_some_of_the_cells_says_that_values_may_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("sustain.viewer.layers._LOOK_PX", 16)
    values = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    (layer,) = MapLayers(raster(tmp_path / "map.tif", values)).describe()["layers"]
    assert scale_of(values).labels() == ("0", "1")
    assert [end[0] for end in layer["ends"]] == ["≤", "≥"]


def test_a_band_without_values_and_a_raster_without_system_are_refused(tmp_path):
    with pytest.raises(RasterError, match="the band 'band_1' holds no value"):
        MapLayers(raster(tmp_path / "empty.tif", np.full((3, 4), np.nan)))
    with pytest.raises(RasterError, match="no coordinate system"):
        MapLayers(raster(tmp_path / "nowhere.tif", crs=None))


def published(folder, properties):
    write_raster(folder / "wealth.tif", np.arange(16.0).reshape(1, 4, 4), ("wealth",))
    text = properties if isinstance(properties, str) else json.dumps({"properties": properties})
    (folder / "item.json").write_text(text, encoding="utf-8")
    return MapLayers(folder)


@pytest.mark.parametrize(
    ("start", "end", "period"),
    [
        ("2012-01-01T00:00:00Z", "2014-12-31T23:59:59Z", "2012 to 2014"),
        ("2016-01-01T00:00:00Z", "2016-12-31T23:59:59Z", "2016"),
        ("2016-03-01T00:00:00Z", "2016-05-31T23:59:59Z", "2016-03-01 to 2016-05-31"),
    ],
)
def test_title_period_and_licence_are_those_of_the_folder_s_item(tmp_path, start, end, period):
    item = {"title": "Wealth of Kenya", "license": "CC-BY-4.0", "datetime": None}
    told = published(tmp_path, item | {"start_datetime": start, "end_datetime": end}).describe()
    assert [told[name] for name in ("title", "period", "licence")] == ["Wealth of Kenya", period, "CC-BY-4.0"]


def test_a_licence_that_has_no_short_name_is_the_link_s_and_providers_are_named(tmp_path):
    link = {"rel": "license", "href": "./README.md", "title": "Open Government Licence v3.0"}
    item = {"properties": {"license": "other", "providers": [{"name": "A"}, {"name": "B"}]}, "links": [link]}
    told = published(tmp_path, json.dumps(item)).describe()
    assert (told["licence"], told["providers"]) == ("Open Government Licence v3.0", "A, B")


def test_a_folder_that_says_nothing_is_given_nothing(tmp_path):
    told = published(tmp_path, {}).describe()
    assert [told[name] for name in ("title", "period", "licence", "citation")] == ["wealth", "", "", ""]


@pytest.mark.parametrize("broken", ["{", "[1]", '{"properties": {"datetime": "yesterday"}}'])
def test_a_broken_item_is_named(tmp_path, broken):
    with pytest.raises(FileFormatError, match=r"item\.json"):
        published(tmp_path, broken)
