import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import ColorInterp

from sustain.config import MapParams
from sustain.errors import DataWarning, FileFormatError, RasterError
from sustain.maps.grid import Span
from sustain.maps.imagery.scene import Scene
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import BANDS, OFFSET, SCALE, MeanPredictor, write_scene


def test_reads_windows_in_the_models_band_order(tmp_path, pixels):
    order = [2, 0, 1]
    path = write_scene(
        tmp_path / "shuffled.tif",
        np.concatenate([pixels[order], pixels[:1] // 2]),
        bands=(*(BANDS[i] for i in order), "EXTRA"),
        scale=(*(SCALE[i] for i in order), 1.0),
        offset=(*(OFFSET[i] for i in order), 0.0),
    )
    with Scene(path, MeanPredictor()) as scene:
        assert scene.geobox.shape == (75, 101)
        window = scene.read(Span(row=10, col=20, height=7, width=9))
    assert window.dtype == np.uint16
    np.testing.assert_array_equal(window, pixels[:, 10:17, 20:29])


def test_reads_a_vrt(tmp_path, scene_path, pixels):
    vrt = tmp_path / "scene.vrt"
    rasterio.shutil.copy(scene_path, vrt, driver="VRT")
    with Scene(vrt, MeanPredictor()) as scene:
        np.testing.assert_array_equal(scene.read(Span(0, 0, 75, 101)), pixels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("BLUE", "RED", "TEMP1")}, "NIR is missing.*descriptions.*BLUE, RED, TEMP1"),
        ({"bands": ("BLUE", "NIR", "NIR")}, "TEMP1 is missing; NIR appears 2 times"),
        (
            {"scale": (2.75e-5, 1, SCALE[2]), "offset": (-0.2, 0, 149)},
            r"band NIR is uint16 and states neither scale nor offset, but the model's is 2.75e-05 \* number -0.2",
        ),
        ({"scale": (2.75e-5, 0, SCALE[2])}, "band NIR has scale 0.0 and offset -0.2; they must be finite"),
        ({"offset": (-0.2, -0.2, np.inf)}, "band TEMP1 has scale .* and offset inf; they must be finite"),
        ({"nodata": None}, "band BLUE has neither a nodata number nor a mask"),
        ({"dtype": "complex64"}, "band BLUE has type complex64; whole or floating numbers"),
        ({"crs": "EPSG:4326"}, "EPSG:4326; a projected one in metres"),
        ({"crs": None}, "coordinate system is not set"),
        ({"crs": "EPSG:2263"}, "EPSG:2263; a projected one in metres"),  # US survey feet
        ({"transform": Affine(10, 0, 0, 0, -10, 0)}, r"a pixel is 10.0 x 10.0 m, .* 30.0 x 30.0 m"),
        ({"transform": Affine(30, 0, 0, 0, -60, 0)}, r"a pixel is 30.0 x 60.0 m"),
        ({"transform": Affine(30, 0, 0, 0, 30, 0)}, "not north-up"),
        ({"transform": Affine(30, 1, 0, 1, -30, 0)}, "rotated"),
    ],
)
def test_refuses_another_kind_of_imagery(tmp_path, pixels, changes, message):
    path = write_scene(tmp_path / "other.tif", pixels, **changes)
    with pytest.raises(RasterError, match=message) as caught:
        Scene(path, MeanPredictor())
    assert str(path) in str(caught.value)


def encoded(path, pixels, how):
    """The same imagery in other numbers, or with missing pixels told in another way."""
    holes = (pixels == 0).all(axis=0)
    values = pixels * np.array(SCALE)[:, None, None] + np.array(OFFSET)[:, None, None]
    plain = {"scale": (1, 1, 1), "offset": (0, 0, 0)}
    if how == "float32 values, NaN":
        floats = np.where(pixels == 0, np.nan, values).astype(np.float32)
        return write_scene(path, floats, nodata=np.nan, **plain)
    if how == "float64 values, -9999":
        return write_scene(path, np.where(pixels == 0, -9999, values), nodata=-9999, **plain)
    if how == "twice the numbers, -1":
        doubled = np.where(pixels == 0, -1, 2 * pixels.astype(np.int32))
        return write_scene(path, doubled, nodata=-1, scale=tuple(s / 2 for s in SCALE))
    if how == "another missing number":
        return write_scene(path, np.where(pixels == 0, 65535, pixels), nodata=65535)
    noise = np.where(holes, 777, pixels).astype(np.uint16)  # below the mask stands anything
    if how.startswith("alpha band"):
        opaque = np.where(holes, 0, 65535).astype(np.uint16)
        write_scene(
            path, np.concatenate([noise, opaque[None]]), bands=(*BANDS, "alpha"), scale=(*SCALE, 1),
            offset=(*OFFSET, 0), nodata=0 if how.endswith("too") else None,
        )  # fmt: skip
        with rasterio.open(path, "r+") as scene:
            scene.colorinterp = (ColorInterp.gray, *[ColorInterp.undefined] * 2, ColorInterp.alpha)
        return path
    write_scene(path, noise, nodata=0 if how.endswith("too") else None)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=how.startswith("internal")),
        rasterio.open(path, "r+") as scene,
    ):
        scene.write_mask(np.where(holes, 0, 255).astype(np.uint8))
    return path


@pytest.mark.parametrize("crs", [None, "EPSG:32631"])
@pytest.mark.parametrize(
    "how",
    [
        *("float32 values, NaN", "float64 values, -9999", "twice the numbers, -1", "another missing number"),
        *("internal mask", "internal mask, a number too", "mask beside the file"),
        *("alpha band", "alpha band, a number too"),
    ],
)
def test_the_same_imagery_in_another_encoding_makes_the_same_map(tmp_path, pixels, how, crs):
    pixels[:, 5:30, 40:70] = 0
    params = MapParams(spacing_px=8, block_cells=3, crs=crs, resampling="nearest")
    maps = []
    for path in (
        write_scene(tmp_path / "scene.tif", pixels),
        encoded(tmp_path / "other.tif", pixels, how),
    ):
        out = predict_map(path, MeanPredictor(), path.with_suffix(".map.tif"), params=params)
        with rasterio.open(out) as raster:
            maps.append((raster.read(), raster.transform))
    assert np.isnan(maps[0][0]).any()
    np.testing.assert_array_equal(maps[1][0], maps[0][0])
    assert maps[1][1] == maps[0][1]


def test_values_that_the_models_numbers_cannot_hold_are_missing_with_a_warning(tmp_path, pixels):
    values = pixels * np.array(SCALE)[:, None, None] + np.array(OFFSET)[:, None, None]
    values[1, 3, 4:9] = [2.0, -0.21, np.inf, -0.2, -9999]  # -0.2 would be the missing number, 0
    path = write_scene(tmp_path / "s.tif", values, nodata=np.nan, scale=(1, 1, 1), offset=(0, 0, 0))
    with (
        Scene(path, MeanPredictor()) as scene,
        pytest.warns(DataWarning, match=r"s\.tif: some .* NIR .*-0\.2"),
    ):
        read = scene.read(Span(0, 0, 75, 101))
    assert (read[1, 3, 4:9] == 0).all()
    read[1, 3, 4:9] = pixels[1, 3, 4:9]
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Celsius for kelvins; per cent for shares; plain numbers as floats; an unstated number of missing pixels.
        ({"band": 2, "factor": 1, "term": -273.15}, "TEMP1 .* from 149 to 373; they go from -124"),
        ({"band": 1, "factor": 100, "term": 0}, r"NIR .* from -0\.2 to 1\.6"),
        ({"band": 0, "factor": 1 / SCALE[0], "term": 0}, r"BLUE .* from -0\.2 to 1\.6"),
        ({"band": 0, "factor": 0, "term": -9999}, "unstated|does not state"),
    ],
)
def test_imagery_in_other_units_is_refused(tmp_path, pixels, changes, message):
    values = pixels * np.array(SCALE)[:, None, None] + np.array(OFFSET)[:, None, None]
    values[changes["band"]] = values[changes["band"]] * changes["factor"] + changes["term"]
    path = write_scene(tmp_path / "s.tif", values, nodata=np.nan, scale=(1, 1, 1), offset=(0, 0, 0))
    out = tmp_path / "wealth.tif"
    with pytest.raises(RasterError, match=message) as caught:
        predict_map(path, MeanPredictor(), out, params=MapParams(spacing_px=8, block_cells=3))
    assert str(path) in str(caught.value)
    assert not out.exists()


def test_units_are_not_judged_by_a_few_pixels(tmp_path, pixels):
    """Of a scene of a mosaic a strip may be needed, in which all is cloud or snow."""
    values = pixels * np.array(SCALE)[:, None, None] + np.array(OFFSET)[:, None, None]
    values[0, :9] = 2.0
    path = write_scene(tmp_path / "s.tif", values, nodata=np.nan, scale=(1, 1, 1), offset=(0, 0, 0))
    with Scene(path, MeanPredictor()) as scene, pytest.warns(DataWarning, match="some values of band BLUE"):
        strip = scene.read(Span(0, 0, 9, 101))
    assert (strip[0] == 0).all()
    np.testing.assert_array_equal(strip[1:], pixels[1:, :9])


def test_missing_file(tmp_path):
    with pytest.raises(RasterError, match=r"nowhere\.tif: no such raster"):
        Scene(tmp_path / "nowhere.tif", MeanPredictor())


def test_not_a_raster(tmp_path):
    path = tmp_path / "table.tif"
    path.write_text("lon,lat\n1,2\n")
    with pytest.raises(FileFormatError, match=r"table\.tif: GDAL cannot open"):
        Scene(path, MeanPredictor())


def test_truncated_file_names_itself(scene_path):
    scene_path.write_bytes(scene_path.read_bytes()[:-2000])
    with (
        pytest.raises(FileFormatError, match=r"scene\.tif.*truncated"),
        Scene(scene_path, MeanPredictor()) as scene,
    ):
        scene.read(Span(0, 0, 75, 101))


def test_a_mask_of_each_band_is_refused(tmp_path, pixels):
    """GDAL warps as if there were none; with a nodata number beside it, masked pixels counted as imagery."""
    path = write_scene(tmp_path / "scene.tif", pixels)
    masks = np.full(pixels.shape, 255, dtype=np.uint8)
    masks[1, :8] = 0
    count, height, width = masks.shape
    shape = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif.msk", "w", driver="GTiff", **shape) as target:
        target.write(masks)
        target.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": "0" for band in range(1, count + 1)})
    with pytest.raises(RasterError, match=r"scene\.tif: its bands have a mask each\. Write missing pixels"):
        Scene(path, MeanPredictor())
