"""Imagery of STAC items makes the map that the same pixels make as a raster; or says which item and asset is wrong."""

import json
import pickle
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from sustain.config import MapParams
from sustain.errors import ConfigError, DataWarning, DownloadError, FileFormatError, RasterError
from sustain.maps import remote
from sustain.maps.grid import Span
from sustain.maps.imagery.open import open_imagery
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import BANDS, OFFSET, SCALE, MeanPredictor, write_scene
from tests.maps.stac_fakes import (
    asset,
    collection,
    half_numbers,
    item,
    numbers,
    piece_item,
    serving,
    silence,
    write_asset,
)  # fmt: skip

PARAMS = MapParams(spacing_px=8, block_cells=3, batch_size=4)
PREDICTOR = MeanPredictor()


@dataclass
class CountingPredictor(MeanPredictor):
    n_tiles: int = 0

    def predict(self, tiles):
        self.n_tiles += len(tiles)
        return super().predict(tiles)


def whole(place, params=PARAMS, predictor=PREDICTOR):
    with open_imagery(place, predictor, params) as source:
        return source.read(Span(0, 0, *source.geobox.shape))


@pytest.fixture
def expected(tmp_path, scene_path):
    return predict_map(scene_path, PREDICTOR, tmp_path / "expected.tif", params=PARAMS).read_bytes()


@pytest.fixture
def items(tmp_path, pixels):
    """Three overlapping pieces of the scene, the first not at its corner."""
    return [
        piece_item(tmp_path, "east", pixels, 0, 40, 75, 61),
        piece_item(tmp_path, "north", pixels, 0, 0, 50, 60),
        piece_item(tmp_path, "south", pixels, 30, 0, 45, 60),
    ]


def one_item(tmp_path, pixels, raster_bands=None, *, names=BANDS, nodata=0, **fields):
    """A collection of one item of one asset with all bands."""
    path = write_asset(tmp_path / "all.tif", pixels, nodata=nodata)
    about = asset(path, numbers() if raster_bands is None else raster_bands, names=names)
    return collection(tmp_path / "items.json", [item("scene", {"image": about | fields})])


def test_items_on_disk_make_the_map_of_the_whole_scene(tmp_path, items, expected):
    path = collection(tmp_path / "items.json", items)
    out = predict_map(path, PREDICTOR, tmp_path / "wealth.tif", params=PARAMS)
    assert out.read_bytes() == expected
    assert not list(tmp_path.glob(".blocks*"))
    single = []
    for i, one in enumerate(items):
        single.append(tmp_path / f"{i}.json")
        single[-1].write_text(json.dumps(one))
    assert predict_map(single, PREDICTOR, tmp_path / "w.tif", params=PARAMS).read_bytes() == expected


def test_items_without_projection_fields_are_looked_at(tmp_path, items, expected):
    for one in items:
        del one["properties"]["proj:epsg"]
        one["stac_extensions"] = one["stac_extensions"][:2]
        for about in one["assets"].values():
            del about["proj:shape"], about["proj:transform"]
    path = collection(tmp_path / "items.json", items)
    assert predict_map(path, PREDICTOR, tmp_path / "wealth.tif", params=PARAMS).read_bytes() == expected


def test_reading_holds_no_file_open_and_goes_to_other_processes(tmp_path, items, pixels):
    with open_imagery(collection(tmp_path / "items.json", items), PREDICTOR, PARAMS) as source:
        sent = pickle.loads(pickle.dumps(source))
    with open_imagery(sent, PREDICTOR, PARAMS) as source:
        np.testing.assert_array_equal(source.read(Span(45, 35, 12, 30)), pixels[:, 45:57, 35:65])


def test_items_of_another_system_and_resolution_are_reprojected(tmp_path):
    """A linear field at 15 m in zone 31 is the same linear field at 30 m in zone 32."""
    rows, cols = np.mgrid[:160, :200]
    pixels = np.stack([9000 + 20 * cols, 5000 + 30 * rows, 20000 - 10 * rows]).astype(np.uint16)
    path = write_asset(
        tmp_path / "all.tif", pixels, crs="EPSG:32631", transform=from_origin(770_000, 221_000, 15, 15)
    )
    about = asset(path, numbers(), names=BANDS)
    place = collection(tmp_path / "items.json", [item("scene", {"image": about}, crs="EPSG:32631")])
    with open_imagery(place, PREDICTOR, PARAMS) as source:
        assert (source.geobox.crs.epsg, source.geobox.affine.a) == (32631, 30)
    params = PARAMS.model_copy(update={"crs": "EPSG:32632"})
    with open_imagery(place, PREDICTOR, params) as source:
        assert source.geobox.crs.epsg == 32632
        found, place = source.read(Span(0, 0, *source.geobox.shape)), source.geobox.affine
    height, width = found.shape[1:]
    xs, ys = place @ (np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5)
    x, y = rasterio.warp.transform("EPSG:32632", "EPSG:32631", np.ravel(xs), np.ravel(ys))
    col, row = (np.reshape(x, xs.shape) - 770_000) / 15 - 0.5, (221_000 - np.reshape(y, xs.shape)) / 15 - 0.5
    inner = (col > 3) & (col < 196) & (row > 3) & (row < 156)
    field = np.stack([9000 + 20 * col, 5000 + 30 * row, 20000 - 10 * row])
    np.testing.assert_allclose(found[:, inner], field[:, inner], rtol=0, atol=1.5)
    assert (found[:, (col < -1) | (row < -1) | (col > 200) | (row > 160)] == 0).all()


def test_items_of_two_zones_are_put_on_one_grid_of_the_middle(tmp_path, pixels):
    assets = []
    for zone, left in ((31, 830_000), (32, 166_500)):
        path = write_asset(
            tmp_path / f"{zone}.tif",
            pixels,
            crs=f"EPSG:326{zone}",
            transform=from_origin(left, 221_000, 30, 30),
        )
        assets.append(item(f"z{zone}", {"image": asset(path, numbers(), names=BANDS)}, crs=f"EPSG:326{zone}"))
    place = collection(tmp_path / "items.json", assets)
    with open_imagery(place, PREDICTOR, PARAMS) as source:
        assert source.geobox.crs.epsg in (32631, 32632)
        found = source.read(Span(0, 0, *source.geobox.shape))
        boxes = [
            transform_bounds(
                source.geobox.crs,
                "EPSG:4326",
                *rasterio.transform.array_bounds(
                    source.geobox.height, source.geobox.width, source.geobox.affine
                ),
            )
        ]
    for zone in (31, 32):
        with rasterio.open(tmp_path / f"{zone}.tif") as raster:
            boxes.append(transform_bounds(raster.crs, "EPSG:4326", *raster.bounds))
    assert boxes[0][0] <= min(box[0] for box in boxes[1:]) + 1e-6
    assert boxes[0][2] >= max(box[2] for box in boxes[1:]) - 1e-6
    n_found, n_stored = (found[0] != 0).sum(), 2 * pixels[0].size
    assert 0.9 * n_stored < n_found <= 1.02 * n_stored


@pytest.mark.parametrize(
    "describe",
    [
        lambda path: asset(path, numbers(), names=BANDS),
        lambda path: asset(path, numbers()) | {"eo:bands": [
            {"name": f"B{i}", "common_name": band.lower()} for i, band in enumerate(BANDS)
        ]},
        lambda path: asset(path, None) | {"bands": [
            {"name": band, "raster:scale": s, "raster:offset": o, "nodata": 0}
            for band, s, o in zip(BANDS, SCALE, OFFSET, strict=True)
        ]},
    ],
)  # fmt: skip
def test_bands_are_found_by_whatever_names_them(tmp_path, pixels, describe):
    about = describe(write_asset(tmp_path / "all.tif", pixels))
    place = collection(tmp_path / "items.json", [item("scene", {"image": about})])
    np.testing.assert_array_equal(whole(place), pixels)


def test_bands_come_in_the_model_s_order_and_others_are_left_alone(tmp_path, pixels):
    order = [2, 0, 1]
    stored = np.concatenate([pixels[:1] // 2, pixels[order]])
    about = [{"scale": 1, "nodata": 0}, *(numbers()[i] for i in order)]
    place = one_item(tmp_path, stored, about, names=["EXTRA", *(BANDS[i] for i in order)])
    np.testing.assert_array_equal(whole(place), pixels)


def test_a_picture_beside_the_bands_is_no_ambiguity(tmp_path, pixels, items):
    scene = piece_item(tmp_path, "scene", pixels)
    picture = write_asset(tmp_path / "visual.tif", pixels * 0 + 255)
    scene["assets"] = {"visual": asset(picture, numbers(), names=BANDS)} | scene["assets"]
    np.testing.assert_array_equal(whole(collection(tmp_path / "i.json", [scene])), pixels)


def test_other_names_are_told(tmp_path, pixels):
    place = one_item(tmp_path, pixels, names=["blue", "nir08", "lwir11"])
    with pytest.raises(
        RasterError, match=r"item scene: band NIR is missing.*bands are .*nir08.*--band NIR=NAME"
    ):
        whole(place)
    params = PARAMS.model_copy(update={"stac_bands": {"NIR": "nir08", "TEMP1": "image.3"}})
    np.testing.assert_array_equal(whole(place, params), pixels)


def test_a_band_in_two_places_is_refused(tmp_path, pixels):
    place = one_item(tmp_path, pixels, names=["BLUE", "NIR", "nir"])
    params = PARAMS.model_copy(update={"stac_bands": {"NIR": "Nir", "TEMP1": "image.3"}})
    with pytest.raises(
        RasterError, match=r"band NIR is in 2 places \(asset image, band 2, asset image, band 3\)"
    ):
        whole(place, params)


def test_values_in_other_numbers_are_brought_into_the_model_s(tmp_path, pixels):
    """Float reflectances, or integers of another scale, offset and nodata number: the same pixels."""
    pixels[:, 5:9, 7:20] = 0
    place = one_item(tmp_path, half_numbers(pixels), numbers((1, 1, 1), (0, 0, 0), "nan"), nodata=None)
    np.testing.assert_array_equal(whole(place), pixels)
    shifted = np.where(pixels == 0, 65535, pixels + 100).astype(np.uint16)
    offset = [o - 100 * s for s, o in zip(SCALE, OFFSET, strict=True)]
    place = one_item(tmp_path, shifted, numbers(offset=offset, nodata=65535), nodata=None)
    np.testing.assert_array_equal(whole(place), pixels)


def test_values_that_the_model_s_numbers_cannot_hold_are_missing_with_a_warning(tmp_path, pixels):
    values = half_numbers(pixels)
    values[1, 3, 4:6] = [-0.3, 5.0]
    values[2, 8, 9] = 149.0  # would be written as the missing number
    place = one_item(tmp_path, values, numbers((1, 1, 1), (0, 0, 0), "nan"), nodata=None)
    with pytest.warns(DataWarning, match="item scene, asset image.*band NIR.*from -0.2 to 1.60"):
        found = whole(place)
    pixels[1, 3, 4:6] = pixels[2, 8, 9] = 0
    np.testing.assert_array_equal(found, pixels)


def test_a_file_s_own_nodata_number_counts_where_the_item_has_none(tmp_path, pixels):
    about = [{"scale": s, "offset": o} for s, o in zip(SCALE, OFFSET, strict=True)]
    np.testing.assert_array_equal(whole(one_item(tmp_path, pixels, about)), pixels)
    with pytest.raises(
        RasterError, match=r"item scene, asset image .*states the number of a missing pixel of band BLUE"
    ):
        whole(one_item(tmp_path, pixels, about, nodata=None))


def test_a_file_s_mask_counts_beside_and_without_a_nodata_number(tmp_path, pixels):
    about = [{"scale": s, "offset": o} for s, o in zip(SCALE, OFFSET, strict=True)]
    holes = np.zeros((75, 101), dtype=bool)
    holes[5:9, 7:20] = True
    for nodata in (0, None):
        place = one_item(tmp_path, pixels, about, nodata=nodata)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "all.tif", "r+") as raster:
            raster.write_mask(np.where(holes, 0, 255).astype(np.uint8))
        np.testing.assert_array_equal(whole(place), np.where(holes, 0, pixels))


def test_unstated_numbers_are_refused_where_the_model_s_are_scaled(tmp_path, pixels):
    place = one_item(tmp_path, pixels, [{"nodata": 0}] * 3)
    with pytest.raises(RasterError, match="states neither scale nor offset, but the model's BLUE is"):
        whole(place)
    plain = MeanPredictor(scale=(1, 1, 1), offset=(0, 0, 0))
    np.testing.assert_array_equal(whole(place, predictor=plain), pixels)


@pytest.mark.parametrize("scale", [0, "a lot", float("nan")])
def test_senseless_numbers_are_refused(tmp_path, pixels, scale):
    place = one_item(tmp_path, pixels, numbers(scale=(SCALE[0], scale, SCALE[2])))
    with pytest.raises(
        RasterError, match=r"item scene, asset image: scale and offset of its band 2 must be numbers"
    ):
        whole(place)


def test_the_item_listed_first_has_precedence_pixel_by_pixel(tmp_path, pixels):
    def holes(cut):
        cut[:, 0, 0] = 0
        cut[1, 0, 1:3] = 0
        return cut

    def other(cut):
        cut = cut + 1
        cut[2, 0, 2] = 0
        return cut

    first = piece_item(tmp_path, "a", pixels, 0, 0, 20, 20, edit=holes)
    second = piece_item(tmp_path, "b", pixels, 0, 0, 20, 20, edit=other)
    expected = pixels[:, :20, :20].copy()
    expected[:, 0, :2] += 1
    expected[1, 0, 2] = 0
    np.testing.assert_array_equal(whole(collection(tmp_path / "ab.json", [first, second])), expected)
    assert (whole(collection(tmp_path / "ba.json", [second, first]))[0, 5:] == pixels[0, 5:20, :20] + 1).all()


def test_served_items_make_the_same_map_and_pages_are_followed(tmp_path, items, expected):
    with serving(tmp_path) as server:
        following = [{"rel": "next", "href": server.address("page2.json")}]
        collection(tmp_path / "page1.json", items[:1], links=following)
        collection(tmp_path / "page2.json", items[1:])
        place = server.address("page1.json?token=secret")
        out = predict_map(place, PREDICTOR, tmp_path / "wealth.tif", params=PARAMS)
        assert out.read_bytes() == expected
        paths = {path for path, _ in server.asked}
        assert {"/page1.json?token=secret", "/page2.json", "/south-NIR.tif"} <= paths
        reads = [asked for path, asked in server.asked if path == "/south-NIR.tif" and asked]
        assert all(asked != "bytes=0-" for asked in reads)  # parts, not whole files


@pytest.mark.parametrize("scheme", ["file://", "/vsizip/"])  # a plain path is one of the server
@pytest.mark.parametrize("own", [[], [{"rel": "self", "href": "/here/items.json"}]])
def test_a_document_from_the_web_may_not_name_files_of_this_machine(tmp_path, items, scheme, own):
    items[0]["assets"]["NIR"]["href"] = f"{scheme}{tmp_path / 'north-NIR.tif'}"
    items[0]["links"] = own
    collection(tmp_path / "items.json", items)
    with (
        serving(tmp_path) as server,
        pytest.raises(FileFormatError, match="item east, asset NIR, names a file of this machine"),
    ):
        predict_map(server.address("items.json"), PREDICTOR, tmp_path / "wealth.tif", params=PARAMS)


@pytest.fixture
def no_patience(monkeypatch):
    """No retries, and a second to answer."""
    for name, value in {"MAX_RETRY": "0", "TIMEOUT": "1", "CONNECTTIMEOUT": "1"}.items():
        monkeypatch.setenv(f"GDAL_HTTP_{name}", value)


@pytest.mark.parametrize("failure", [lambda path, asked: 503, silence])
def test_an_href_that_stops_answering_is_named_and_the_run_goes_on_later(
    tmp_path, items, expected, no_patience, failure
):
    place = collection(tmp_path / "items.json", items)
    with serving(tmp_path) as server:
        for one in items:
            for about in one["assets"].values():
                about["href"] = server.address(about["href"][2:]) + "?signature=secret"
        collection(tmp_path / "items.json", items)
        # The southern item is needed by later blocks only; its existence can be asked for.
        server.fails = lambda path, asked: (
            failure(path, asked) if path.startswith("/south-NIR") and asked != "bytes=0-0" else None
        )
        first = CountingPredictor()
        with pytest.raises(
            DownloadError, match=r"item south, asset NIR .*south-NIR\.tif\): does not answer"
        ) as caught:
            predict_map(place, first, tmp_path / "wealth.tif", params=PARAMS)
        assert "Finished blocks are kept" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "in the block at cell row" in caught.value.__notes__[0]
        assert not (tmp_path / "wealth.tif").exists()
        n_kept = len(list((tmp_path / ".blocks-wealth").rglob("*.npy")))
        assert n_kept > 0

        server.fails = lambda path, asked: None
        for one in items:  # signed anew
            for about in one["assets"].values():
                about["href"] = about["href"].replace("secret", "another")
        collection(tmp_path / "items.json", items)
        second = CountingPredictor()
        out = predict_map(place, second, tmp_path / "wealth.tif", params=PARAMS)
        assert out.read_bytes() == expected
        assert second.n_tiles + first.n_tiles == 8 * 11
        assert first.n_tiles > 0


def test_an_address_where_nobody_is(tmp_path, items):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(
            DownloadError, match=r"items\.json: does not answer with a document \(ConnectionError\)"
        ):
            whole(f"{address}/items.json?key=secret")
        items[1]["assets"]["TEMP1"]["href"] = f"{address}/t.tif"
        place = collection(tmp_path / "items.json", items)
        with pytest.raises(DownloadError, match=r"item north, asset TEMP1: http.*t\.tif does not answer"):
            predict_map(place, PREDICTOR, tmp_path / "wealth.tif", params=PARAMS)


@pytest.mark.parametrize("changed", ["file", "order", "scale", "etag"])
def test_changed_items_never_reuse_a_block(tmp_path, items, changed):
    with serving(tmp_path) as server:
        href = server.address("south-BLUE.tif")
        items[2]["assets"]["BLUE"]["href"] = href
        place = collection(tmp_path / "items.json", items)
        identities = []
        for _ in range(2):
            with open_imagery(place, PREDICTOR, PARAMS) as source:
                identities.append(source.identity())
        assert identities[0] == identities[1]
        if changed == "order":
            items = items[::-1]
        elif changed == "scale":
            items[0]["assets"]["NIR"]["raster:bands"][0]["scale"] *= 2
        else:
            path = tmp_path / {"file": "east-NIR.tif", "etag": "south-BLUE.tif"}[changed]
            path.write_bytes(path.read_bytes())
        collection(tmp_path / "items.json", items)
        with open_imagery(place, PREDICTOR, PARAMS) as source:
            assert source.identity() != identities[0]


def test_a_missing_file_is_named_with_item_and_asset(tmp_path, items):
    place = collection(tmp_path / "items.json", items)
    (tmp_path / "south-NIR.tif").unlink()
    with pytest.raises(FileFormatError, match=r"item south, asset NIR .*south-NIR\.tif\): cannot be opened"):
        predict_map(place, PREDICTOR, tmp_path / "wealth.tif", params=PARAMS)


@pytest.mark.parametrize(
    ("document", "error", "message"),
    [
        (
            {"type": "Catalog", "id": "c"},
            FileFormatError,
            "expected a STAC item or item collection.*type Catalog",
        ),
        ([1, 2], FileFormatError, "expected a STAC item or item collection.*type list"),
        ({"type": "FeatureCollection", "features": []}, ConfigError, "holds no STAC item"),
        ({"type": "FeatureCollection"}, FileFormatError, "without a list of features"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature"}]}, FileFormatError, "no STAC item"),
        (
            {
                "type": "FeatureCollection",
                "features": [],
                "links": [{"rel": "next", "href": "https://a.b/?page=2"}],
            },
            FileFormatError,
            "one page of a longer result",
        ),
    ],
)
def test_other_documents_are_refused(tmp_path, document, error, message):
    path = tmp_path / "items.json"
    path.write_text(json.dumps(document))
    with pytest.raises(error, match=message):
        whole(path)


def test_what_is_no_json_or_not_there(tmp_path, scene_path):
    with pytest.raises(RasterError, match=r"absent\.json: no such STAC file"):
        whole(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"broken\.json: not a JSON file"):
        whole(tmp_path / "broken.json")
    with serving(tmp_path) as server:
        with pytest.raises(FileFormatError, match=r"scene\.tif: what came is not JSON"):
            whole(server.address("scene.tif"))
        with pytest.raises(DownloadError, match=r"absent\.json: .*HTTP status 404"):
            whole(server.address("absent.json"))
        server.breaks_off = True
        with pytest.raises(DownloadError, match=r"broken\.json: does not answer .*\(ChunkedEncodingError"):
            whole(server.address("broken.json"))


def test_imagery_at_an_address_is_not_fetched_to_its_end(tmp_path, monkeypatch):
    (tmp_path / "scene.tif").write_bytes(b"II*\0" + bytes(5 << 20))
    monkeypatch.setattr(remote, "_MOST_BYTES", 3 << 20)
    with (
        serving(tmp_path) as server,
        pytest.raises(FileFormatError, match=r"scene\.tif: what came is not JSON .*as an asset of an item"),
    ):
        whole(server.address("scene.tif"))


def test_the_documentation_s_item_is_read_as_it_says(tmp_path, pixels):
    text = Path(__file__).parents[3].joinpath("docs", "maps.md").read_text()
    (tmp_path / "items.json").write_text(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    names = dict(re.findall(r"--band (\w+)=(\w+)", text))
    assert names == {"NIR": "nir08", "TEMP1": "lwir11"}
    place = from_origin(300_000, 100_000, 30, 30)
    write_asset(tmp_path / "blue.tif", pixels[:1], crs="EPSG:32637", transform=place)
    write_asset(tmp_path / "thermal.tif", pixels[1:], crs="EPSG:32637", transform=place)
    params = PARAMS.model_copy(update={"stac_bands": names})
    np.testing.assert_array_equal(whole(tmp_path / "items.json", params), pixels)


def test_rasters_and_items_are_not_mixed(tmp_path, scene_path, items):
    place = collection(tmp_path / "items.json", items)
    with pytest.raises(ConfigError, match=r"rasters and STAC items .* are mixed"):
        whole([scene_path, place])


def test_every_raster_of_a_list_may_have_its_own_folder_of_items(tmp_path, pixels):
    """Relative hrefs count from the document that names them."""
    (tmp_path / "sub").mkdir()
    piece = piece_item(tmp_path / "sub", "scene", pixels)
    place = collection(tmp_path / "sub" / "items.json", [piece])
    np.testing.assert_array_equal(whole(place), pixels)
    write_scene(tmp_path / "unused.tif", pixels)
