"""The offset of Sentinel-2's reflectances is subtracted once, whoever passes the files on."""

import json
import warnings

import numpy as np
import pytest
from rasterio.transform import from_origin

from sustain.config import MapParams
from sustain.errors import DataWarning, RasterError
from sustain.maps.grid import Span
from sustain.maps.imagery.open import open_imagery
from tests.maps.fakes import MeanPredictor
from tests.maps.stac_fakes import asset, collection, item, write_asset

RED = MeanPredictor(bands=("red",), scale=(0.0001,), offset=(-0.1,), band=0)
REFLECTANCE = np.linspace(0.01, 0.5, 16 * 16).reshape(1, 16, 16)
PLAIN, SHIFTED = (np.rint(REFLECTANCE / 0.0001 + add).astype(np.uint16) for add in (0, 1000))

APPLIED = {"earthsearch:boa_offset_applied": True}
NOT_APPLIED = {"earthsearch:boa_offset_applied": False}
STATED = {"scale": 0.0001, "offset": -0.1, "nodata": 0}
EARTH_SEARCH = {"constellation": "sentinel-2"}


def sentinel_item(folder, stored, key, stated, properties, *, name="S2B_33UXP_20230302_0_L2A", suffix=".tif"):
    path = write_asset(folder / f"{key}{suffix}", stored, transform=from_origin(0, 480, 30, 30))
    about = asset(path, [stated], names=["B04"])
    about["eo:bands"][0]["common_name"] = "red"
    if not stated:
        del about["raster:bands"]
    if suffix == ".jp2":
        about["type"] = "image/jp2"
    feature = item(name, {key: about}, **properties)
    return collection(folder / "items.json", [feature])


def read(place, model=RED):
    with open_imagery(place, model, MapParams()) as source:
        stored = source.read(Span(0, 0, *source.geobox.shape))
    return stored * model.scale[0] + model.offset[0]


def product(baseline):
    return f"S2A_MSIL2A_20230130T000000_{baseline}_R001_T33UXP_20230130T000000"


# Whose item, what its file holds, key of the asset, what raster:bands states, properties, what else.
CASES = {
    "Earth Search v0": (
        PLAIN,
        "B04",
        {},
        {"sentinel:processing_baseline": "04.00", "sentinel:boa_offset_applied": True},
    ),
    "Earth Search v0, not yet harmonised": (
        SHIFTED,
        "B04",
        {"nodata": 0},
        {"sentinel:product_id": product("N0400")},
    ),
    "Earth Search v0, before the offset": (PLAIN, "B04", {}, {"sentinel:product_id": product("N0214")}),
    "Earth Search v1, applied": (
        PLAIN,
        "red",
        STATED,
        EARTH_SEARCH | APPLIED | {"s2:processing_baseline": "05.09"},
    ),
    "Earth Search v1, applied and stated": (
        PLAIN,
        "red",
        STATED | {"offset": 0},
        EARTH_SEARCH | APPLIED | {"s2:processing_baseline": "05.09"},
    ),
    "Earth Search v1, not applied": (
        SHIFTED,
        "red",
        STATED,
        EARTH_SEARCH | NOT_APPLIED | {"s2:processing_baseline": "04.00"},
    ),
    "Earth Search v1, before the offset": (
        PLAIN,
        "red",
        STATED | {"offset": 0},
        EARTH_SEARCH | NOT_APPLIED | {"s2:processing_baseline": "03.01"},
    ),
    "Earth Search v1, Collection 1": (
        SHIFTED,
        "red",
        STATED,
        EARTH_SEARCH | {"s2:processing_baseline": "05.00"},
    ),
    "Planetary Computer": (SHIFTED, "B04", {}, {"s2:processing_baseline": "05.11"}),
    "Planetary Computer, before the offset": (PLAIN, "B04", {}, {"s2:processing_baseline": "02.12"}),
    "Copernicus Data Space": (SHIFTED, "B04_10m", STATED, EARTH_SEARCH | {"processing:version": "05.11"}),
    "Sinergise L2A": (
        SHIFTED,
        "B04",
        {},
        {"constellation": "sentinel-2", "s2:product_uri": product("N0509")},
    ),
    "Sinergise L1C": (SHIFTED, "B04", {}, {"constellation": "sentinel-2", "s2:processing_baseline": "N0500"}),
    "Sinergise L1C, before the offset": (
        PLAIN,
        "B04",
        {},
        {"constellation": "sentinel-2", "s2:processing_baseline": "0208"},
    ),
    "another mission's flag-free item": (SHIFTED, "red", STATED, {"constellation": "landsat"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Sentinel-2 items of processing baseline")
def test_reflectances_are_right_whoever_passes_them_on(tmp_path, case):
    stored, key, stated, properties = CASES[case]
    name = "LC08_1" if "another" in case else "S2B_33UXP_20230302_0_L2A"
    np.testing.assert_allclose(
        read(sentinel_item(tmp_path, stored, key, stated, properties, name=name)), REFLECTANCE, atol=5.1e-5
    )


def test_the_flag_is_of_the_geotiffs_and_not_of_esa_s_own_files(tmp_path):
    """Earth Search lists ESA's JPEG 2000 beside its GeoTIFFs; only these are without the offset."""
    properties = EARTH_SEARCH | APPLIED | {"s2:processing_baseline": "05.09"}
    place = sentinel_item(tmp_path, SHIFTED, "red-jp2", STATED, properties, suffix=".jp2")
    np.testing.assert_allclose(read(place, RED), REFLECTANCE, atol=5.1e-5)


@pytest.mark.parametrize(
    ("baseline", "offset", "right"),
    [
        ("05.09", 0, r"reflectance = 0\.0001 \* number -0\.1"),
        ("03.01", -0.1, r"reflectance = 0\.0001 \* number \+0"),
    ],
)
def test_a_contradiction_is_refused_and_the_way_out_works(tmp_path, baseline, offset, right):
    properties = EARTH_SEARCH | {"s2:processing_baseline": baseline}
    place = sentinel_item(tmp_path, PLAIN, "red", STATED | {"offset": offset}, properties)
    with pytest.raises(RasterError, match=f"baseline is {baseline}.*{right}.*boa_offset_applied: true"):
        read(place)
    document = json.loads(place.read_text())
    document["features"][0]["properties"] |= APPLIED
    place.write_text(json.dumps(document))
    np.testing.assert_allclose(read(place), REFLECTANCE, atol=5.1e-5)


def test_numbers_that_follow_from_the_baseline_are_told(tmp_path):
    place = sentinel_item(tmp_path, SHIFTED, "B04", {}, {"s2:processing_baseline": "05.11"})
    with pytest.warns(
        DataWarning, match=r"baseline 05\.11 state neither .* ESA's numbers .* 0\.0001 \* number -0\.1"
    ):
        read(place)


def test_nothing_is_guessed_without_a_baseline(tmp_path):
    place = sentinel_item(tmp_path, SHIFTED, "B04", {}, EARTH_SEARCH)
    with pytest.raises(RasterError, match="states neither scale nor offset"):
        read(place)


def test_classes_and_aerosols_have_no_offset(tmp_path):
    """Water vapour is 0.001 * number, in whatever baseline."""
    model = MeanPredictor(bands=("wvp",), scale=(0.001,), offset=(0.0,), band=0)
    path = write_asset(tmp_path / "wvp.tif", PLAIN)
    about = {"wvp": asset(path, [{"scale": 0.001, "offset": 0, "nodata": 0}])}
    place = collection(
        tmp_path / "items.json", [item("S2B_1", about, **{"s2:processing_baseline": "05.09"} | EARTH_SEARCH)]
    )
    np.testing.assert_allclose(read(place, model), PLAIN * 0.001)


def test_a_flag_that_the_pixels_belie_is_told(tmp_path):
    """Of 2022 and 2025 Earth Search has files without the offset whose items say that it was not subtracted."""
    dark = np.full((1, 40, 40), 300, dtype=np.uint16)
    model = MeanPredictor(bands=("red",), scale=(0.0001,), offset=(-0.2,), band=0)
    properties = EARTH_SEARCH | NOT_APPLIED | {"s2:processing_baseline": "05.11"}
    place = sentinel_item(tmp_path, dark, "red", STATED, properties)
    with pytest.warns(
        DataWarning, match="band red are negative .* subtracted from the file's numbers already"
    ):
        read(place, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        read(sentinel_item(tmp_path, dark + np.uint16(1000), "red", STATED, properties), model)


@pytest.mark.parametrize(("shape", "pixel"), [([8, 8], 30), ([16, 16], 15), ([32, 32], 30), ([16, 16], 3000)])
def test_a_stale_shape_or_transform_does_not_move_or_cut_the_scene(tmp_path, shape, pixel):
    """Of an asset of another resolution: a quarter of the scene was mapped, without a word."""
    place = sentinel_item(tmp_path, PLAIN, "red", STATED | {"offset": 0}, {"s2:processing_baseline": "03.01"})
    document = json.loads(place.read_text())
    document["features"][0]["assets"]["red"] |= {
        "proj:shape": shape, "proj:transform": [pixel, 0, 0, 0, -pixel, 480]
    }  # fmt: skip
    place.write_text(json.dumps(document))
    np.testing.assert_allclose(read(place), REFLECTANCE, atol=5.1e-5)
