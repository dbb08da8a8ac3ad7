"""A corrected map that other tools went over is published with the same values, or refused."""

import json

import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from sustain.config import PublishParams
from sustain.errors import RasterError
from sustain.maps.correct.raster import BANDS, correct_raster
from sustain.maps.publish.publish import publish_map
from sustain.maps.read import sample_points
from tests.maps.fakes import make_card, write_raster

ABOUT = PublishParams(title="A map", licence="CC0-1.0", start="2016-01-01", end="2016-12-31")
HOLES = np.s_[:5, :7]


def corrected(folder, **layout):
    raw = np.random.default_rng(2).uniform(-0.9, 0.9, size=(40, 30))
    raw[HOLES] = np.nan
    card = make_card().save(folder / "card.json")
    write_raster(folder / "raw.tif", [raw], ("wealth_raw",), units=("index points",), **layout)
    return correct_raster(folder / "raw.tif", folder / "corrected.tif", card)


def rewritten(source, target, *, keep_holes=False, **changes):
    """The same map by somebody's script: other numbers, and holes that only a mask tells."""
    with rasterio.open(source) as raster:
        values, profile, tags = raster.read(), raster.profile, raster.tags()
        units, names = raster.units, raster.descriptions
    scale, dtype = changes.pop("scale", 1.0), changes.get("dtype", "float32")
    seen = np.isfinite(values[0])
    stored = np.where(seen, values / scale, changes.get("nodata") or 0)
    stored = np.rint(stored) if np.issubdtype(dtype, np.integer) else stored
    plain = {key: profile[key] for key in ("count", "height", "width", "crs", "transform", "dtype")} | changes
    with rasterio.open(target, "w", driver="GTiff", **plain) as raster:
        raster.write(stored.astype(dtype))
        raster.descriptions, raster.units = names, units
        raster.scales = [scale] * 4
        raster.update_tags(**tags)
        if keep_holes:
            raster.write_mask(seen)
    return target


def check(folder, out, tolerance):
    with rasterio.open(folder / "corrected.tif") as before, rasterio.open(out / "wealth.tif") as after:
        assert after.dtypes == ("float32",) * 4
        assert after.descriptions == BANDS
        assert after.units == before.units
        assert after.tags()["SUSTAIN_METHOD"] == "linear"
        assert cog_validate(out / "wealth.tif", strict=True)[0]
        np.testing.assert_allclose(after.read()[:3], before.read()[:3], atol=tolerance)
        np.testing.assert_array_equal(after.read(4), before.read(4))
    bands = json.loads((out / "item.json").read_text())["assets"]["map"]["bands"]
    assert {(band["data_type"], band["nodata"]) for band in bands} == {("float32", "nan")}
    assert len(pd.read_csv(out / "cells.csv")) == 40 * 30 - 35


def test_whole_numbers_with_a_scale(tmp_path):
    rewritten(corrected(tmp_path), tmp_path / "int16.tif", dtype="int16", nodata=-32768, scale=0.0001)
    out = publish_map(tmp_path / "int16.tif", tmp_path / "card.json", tmp_path / "out", ABOUT)
    check(tmp_path, out, 0.00006)


def test_numbers_that_a_tool_changed_without_declaring_it_are_refused(tmp_path):
    """As ``gdal_translate -ot Int16 -scale`` leaves them."""
    rewritten(corrected(tmp_path), tmp_path / "int16.tif", dtype="int16", nodata=-32768, scale=0.0001)
    with rasterio.open(tmp_path / "int16.tif", "r+") as raster:
        raster.scales = [1.0] * 4
    with pytest.raises(RasterError, match=r"its band wealth is off by .* A tool changed numbers"):
        publish_map(tmp_path / "int16.tif", tmp_path / "card.json", tmp_path / "out", ABOUT)
    assert not (tmp_path / "out").exists()


def test_holes_that_only_a_mask_tells_stay_holes(tmp_path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        rewritten(corrected(tmp_path), tmp_path / "masked.tif", keep_holes=True)
    assert (tmp_path / "masked.tif.msk").exists()
    out = publish_map(tmp_path / "masked.tif", tmp_path / "card.json", tmp_path / "out", ABOUT)
    check(tmp_path, out, 1e-6)


def test_a_geotiff_that_is_not_cloud_optimised_becomes_one(tmp_path):
    rasterio.shutil.copy(corrected(tmp_path), tmp_path / "plain.tif", driver="GTiff")
    out = publish_map(tmp_path / "plain.tif", tmp_path / "card.json", tmp_path / "out", ABOUT)
    check(tmp_path, out, 0)


def test_a_band_without_values_where_the_map_has_some_is_refused(tmp_path):
    source = corrected(tmp_path)
    with rasterio.open(source) as raster:
        values, profile, tags = raster.read(), raster.profile, raster.tags()
    values[2, 20, 20] = np.nan
    with rasterio.open(tmp_path / "spoilt.tif", "w", **profile | {"driver": "GTiff"}) as raster:
        raster.write(values)
        raster.descriptions = BANDS
        raster.update_tags(**tags)
    with pytest.raises(RasterError, match=r"cells have a value in the band wealth, but none in another"):
        publish_map(tmp_path / "spoilt.tif", tmp_path / "card.json", tmp_path / "out", ABOUT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", Affine(960, 0, -9600, 0, 960, -20_000)),  # south-up
        ("EPSG:4326", from_origin(3.0, 14.0, 0.05, 0.05)),
        ("EPSG:4326", from_origin(359.0, 14.0, 0.05, 0.05)),  # longitudes from 0 to 360, across Greenwich
        ("EPSG:3857", Affine.translation(8e5, 1e6) @ Affine.rotation(30) @ Affine.scale(960, -960)),
    ],
    ids=["south-up", "degrees", "0-360", "turned"],
)
def test_cells_and_map_meet_whatever_the_rows_and_longitudes(tmp_path, crs, transform):
    corrected(tmp_path, crs=crs, transform=transform)
    out = publish_map(tmp_path / "corrected.tif", tmp_path / "card.json", tmp_path / "out", ABOUT)
    cells = pd.read_csv(out / "cells.csv")
    assert cells["lon"].between(-180, 180).all()
    found = sample_points(out / "wealth.tif", cells["lon"], cells["lat"])
    for name in ("wealth", "wealth_raw", "wealth_se", "support"):
        np.testing.assert_allclose(found[name], cells[name], rtol=1e-6)
    item = json.loads((out / "item.json").read_text())
    left, bottom, right, top = item["properties"]["proj:bbox"]
    assert left < right
    assert bottom < top
    west, south, east, north = item["bbox"]
    assert west <= cells["lon"].min() < cells["lon"].max() <= east
    assert south <= cells["lat"].min() < cells["lat"].max() <= north
    if transform.a == 0.05 and transform.c == 359.0:
        assert (west, east) == pytest.approx((-1.0, 0.5))


def test_an_alpha_band_is_no_band_of_a_corrected_map(tmp_path):
    source = corrected(tmp_path)
    with rasterio.open(source) as raster:
        values, profile, tags = raster.read(), raster.profile, raster.tags()
    with rasterio.open(tmp_path / "rgba.tif", "w", **profile | {"driver": "GTiff", "count": 5}) as raster:
        raster.write(np.concatenate([values, np.ones_like(values[:1])]))
        raster.descriptions = (*BANDS, "alpha")
        raster.colorinterp = [ColorInterp.gray] * 4 + [ColorInterp.alpha]
        raster.update_tags(**tags)
    with pytest.raises(RasterError, match="expected the bands wealth, wealth_raw, wealth_se, support; got"):
        publish_map(tmp_path / "rgba.tif", tmp_path / "card.json", tmp_path / "out", ABOUT)
