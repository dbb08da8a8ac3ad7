import numpy as np
import pytest
import rasterio.shutil
from affine import Affine

from sustain.errors import FileFormatError, RasterError
from sustain.maps.grid import Span
from sustain.maps.scene import Scene

from .fakes import BANDS, OFFSET, SCALE, MeanPredictor, write_scene


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
        assert (scene.height, scene.width) == (75, 101)
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
        ({"scale": (2.75e-5, 1e-4, SCALE[2])}, "band NIR has scale 0.0001, but .* scale 2.75e-05"),
        ({"offset": (-0.2, -0.2, 0.0)}, "band TEMP1 has offset 0.0, but .* offset 149.0"),
        ({"nodata": None}, "band BLUE has nodata number None, but .* nodata number 0"),
        ({"nodata": 65535}, "band BLUE has nodata number 65535.0, but .* nodata number 0"),
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


def test_refuses_floats(tmp_path, pixels):
    path = write_scene(tmp_path / "float.tif", pixels.astype(np.float32))
    with pytest.raises(RasterError, match=r"band BLUE has type float32, but .* type uint16"):
        Scene(path, MeanPredictor())


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
