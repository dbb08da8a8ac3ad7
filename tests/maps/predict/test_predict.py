import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from sustain.config import MapParams
from sustain.errors import DataWarning, FileFormatError, ModelError, RasterError
from sustain.maps.grid import Grid
from sustain.maps.imagery.scene import Scene
from sustain.maps.predict.exact import cut_tiles, tile_coverage
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import BANDS, OFFSET, SCALE, MeanPredictor, write_scene

PARAMS = MapParams(spacing_px=8, block_cells=3, batch_size=4, min_coverage=0.5)


def flat(height, width):
    """Pixels that lie nowhere in particular."""
    return GeoBox((height, width), rasterio.Affine.identity(), None)


def per_tile(pixels, predictor, spacing):
    """Predict every tile alone: what a map must equal."""
    grid = Grid(flat(*pixels.shape[1:]), predictor.tile_px, spacing)
    wealth = np.empty(grid.shape, dtype=np.float32)
    for row, col in np.ndindex(*grid.shape):
        tile = grid.tile(row, col)
        cut = pixels[:, tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        wealth[row, col] = predictor.predict(cut[None])[0]
    return wealth


@pytest.mark.parametrize(
    ("spacing", "block", "batch"), [(8, 3, 4), (16, 1, 1), (5, 100, 7), (32, 2, 256), (1, 20, 64)]
)
def test_map_equals_the_prediction_of_every_tile_alone(
    tmp_path, scene_path, pixels, predictor, spacing, block, batch
):
    out = tmp_path / "wealth.tif"
    params = MapParams(spacing_px=spacing, block_cells=block, batch_size=batch)
    assert predict_map(scene_path, predictor, out, params=params) == out
    with rasterio.open(out) as raster:
        np.testing.assert_array_equal(raster.read(1), per_tile(pixels, predictor, spacing))
        np.testing.assert_array_equal(raster.read(2), 1)
    assert predictor.largest_batch <= batch


def test_what_the_file_says_of_itself(tmp_path, scene_path, predictor):
    out = predict_map(scene_path, predictor, tmp_path / "wealth.tif", params=PARAMS)
    with rasterio.open(out) as raster:
        assert raster.descriptions == ("wealth_raw", "coverage")
        assert raster.units == ("index points", "1")
        assert raster.dtypes == ("float32", "float32")
        assert np.isnan(raster.nodata)
        assert raster.crs.to_epsg() == 3857
        assert raster.transform == rasterio.Affine(240, 0, -3000 + 120, 0, -240, 2400 - 120)
        tags = raster.tags()
    assert tags["SUSTAIN_PREDICTOR"] == "mean-0123456789ab"
    assert tags["SUSTAIN_TARGET"] == "asset_index"
    assert tags["SUSTAIN_TILE_PX"] == "16"
    assert not any(str(tmp_path) in value for value in tags.values())


def test_cells_without_enough_imagery_are_nan(tmp_path, pixels, predictor):
    pixels[:, :, :16] = 0  # the first column of cells, and half of the second, see nothing
    pixels[0, 40:, :] = 0  # one missing band makes a pixel incomplete
    path = write_scene(tmp_path / "scene.tif", pixels)
    with rasterio.open(predict_map(path, predictor, tmp_path / "half.tif", params=PARAMS)) as raster:
        wealth, coverage = raster.read()
    assert coverage[0, :3].tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(wealth[0, :3]).tolist() == [True, False, False]
    assert coverage[-1].max() == 0
    np.testing.assert_array_equal(np.isnan(wealth), coverage < 0.5)


def test_without_a_threshold_only_empty_tiles_are_nan(tmp_path, pixels, predictor):
    pixels[:, :16, 1:16] = 0
    path = write_scene(tmp_path / "scene.tif", pixels)
    params = MapParams(spacing_px=8, min_coverage=0)
    with rasterio.open(predict_map(path, predictor, tmp_path / "any.tif", params=params)) as raster:
        wealth, coverage = raster.read()
    assert coverage[0, 0] == np.float32(1 / 16)
    assert np.isfinite(wealth).all()
    pixels[:, :16, 0] = 0
    path = write_scene(tmp_path / "scene.tif", pixels)
    with rasterio.open(predict_map(path, predictor, tmp_path / "any.tif", params=params)) as raster:
        wealth, coverage = raster.read()
    assert (coverage[0, 0], np.isnan(wealth).sum(), np.isnan(wealth[0, 0])) == (0, 1, True)


def test_a_scene_without_any_imagery_never_reaches_the_model(tmp_path, pixels, predictor):
    """And it is said: one band that is missing everywhere is enough."""
    path = write_scene(tmp_path / "scene.tif", pixels * np.array([1, 0, 1], np.uint16)[:, None, None])
    with pytest.warns(
        DataWarning, match=r"none\.tif: no cell has a value, because no tile has imagery in every band"
    ):
        out = predict_map(path, predictor, tmp_path / "none.tif", params=PARAMS)
    with rasterio.open(out) as raster:
        assert np.isnan(raster.read(1)).all()
        assert (raster.read(2) == 0).all()
    assert predictor.largest_batch == 0


def test_same_bytes_every_time_and_for_any_batch(tmp_path, scene_path, predictor):
    first = predict_map(scene_path, predictor, tmp_path / "a" / "wealth.tif", params=PARAMS)
    again = predict_map(
        scene_path,
        predictor,
        tmp_path / "b" / "wealth.tif",
        params=PARAMS.model_copy(update={"batch_size": 9}),
    )
    assert first.read_bytes() == again.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["wealth.tif"]


@settings(deadline=None, max_examples=50)
@given(
    height=st.integers(3, 30), width=st.integers(3, 30), tile=st.integers(1, 8), spacing=st.integers(1, 9),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_tiles_and_coverage_agree_with_slicing(height, width, tile, spacing, seed):
    height, width = max(height, tile), max(width, tile)
    pixels = np.random.default_rng(seed).integers(0, 2, size=(2, height, width), dtype=np.uint16)
    tiles = cut_tiles(pixels, tile, spacing)
    coverage = tile_coverage(pixels[0] > 0, tile, spacing)
    grid = Grid(flat(height, width), tile, spacing)
    assert tiles.shape == (*grid.shape, 2, tile, tile)
    assert np.shares_memory(tiles, pixels)
    for row, col in np.ndindex(*grid.shape):
        span = grid.tile(row, col)
        cut = pixels[:, span.row : span.row + tile, span.col : span.col + tile]
        np.testing.assert_array_equal(tiles[row, col], cut)
        assert coverage[row, col] == np.float32((cut[0] > 0).mean())


def test_every_block_is_read_once(tmp_path, scene_path, predictor, monkeypatch):
    read = []
    original = Scene.read
    monkeypatch.setattr(Scene, "read", lambda self, window: read.append(window) or original(self, window))
    predict_map(scene_path, predictor, tmp_path / "wealth.tif", params=PARAMS)
    grid = Grid(flat(75, 101), 16, 8)
    assert read == [block.window for block in grid.blocks(PARAMS.block_cells)]


def test_scene_smaller_than_a_tile(tmp_path, pixels):
    path = write_scene(tmp_path / "small.tif", pixels[:, :10])
    with pytest.raises(RasterError, match=r"small\.tif: the scene has 10 x 101 pixels"):
        predict_map(path, MeanPredictor(), tmp_path / "wealth.tif", params=PARAMS)


@pytest.mark.parametrize(
    "wrong", [lambda tiles: np.zeros((len(tiles), 1)), lambda tiles: np.full(len(tiles), np.nan)]
)
def test_a_broken_model_is_named_and_leaves_no_map(tmp_path, scene_path, predictor, wrong):
    predictor.predict = wrong
    out = tmp_path / "maps" / "wealth.tif"
    with pytest.raises(ModelError, match="mean-0123456789ab: expected 4 finite predictions"):
        predict_map(scene_path, predictor, out, params=PARAMS)
    assert not [path for path in out.parent.rglob("*") if path.is_file()]


def test_truncated_scene_leaves_the_old_map_alone(tmp_path, scene_path, predictor):
    out = tmp_path / "maps" / "wealth.tif"
    predict_map(scene_path, predictor, out, params=PARAMS)
    before = out.read_bytes()
    scene_path.write_bytes(scene_path.read_bytes()[:-2000])
    with pytest.raises(FileFormatError, match=r"scene\.tif"):
        predict_map(scene_path, predictor, out, params=PARAMS)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.rglob("*") if path.suffix == ".tif"] == ["wealth.tif"]


def test_real_write_failure_leaves_the_old_map_alone(tmp_path, scene_path):
    """A file-size limit makes the operating system refuse the bytes."""
    out = tmp_path / "maps" / "wealth.tif"
    limit = (
        predict_map(scene_path, MeanPredictor(), out, params=MapParams(spacing_px=1)).stat().st_size * 2 // 3
    )
    out.write_bytes(b"old")
    script = (
        "import sys; from sustain.config import MapParams; from sustain.maps.predict.predict import predict_map\n"
        "from tests.maps.fakes import MeanPredictor\n"
        "predict_map(sys.argv[1], MeanPredictor(), sys.argv[2], params=MapParams(spacing_px=1))"
    )

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", script, scene_path, out],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_file_size,
    )
    assert done.returncode == 1
    assert f"RasterError: {out}: GDAL could not write this raster" in done.stderr
    assert out.read_bytes() == b"old"
    assert [path.name for path in out.parent.rglob("*") if path.suffix == ".tif"] == ["wealth.tif"]


def test_a_trained_network_maps_what_it_predicts_tile_by_tile(tmp_path, scene_path, pixels):
    """With a real network the batch may change the last bits of a sum, and nothing more."""
    torch = pytest.importorskip("torch")
    from sustain.models.predictor import ModelDescription, TilePredictor

    torch.manual_seed(0)
    description = ModelDescription(
        bands=BANDS,
        scale=SCALE,
        offset=OFFSET,
        nodata=0,
        pixel_m=30,
        tile_px=32,
        backbone="resnet_narrow",
        statistics={"mean": (0.2, 0.2, 200.0), "std": (0.1, 0.1, 30.0)},
        label={"mean": 0.1, "std": 0.8},
        target={"name": "asset_index", "unit": "index points"},
        weights_sha256="0" * 64,
        params={},
        seed=0,
        versions={},
    )
    predictor = TilePredictor(description.build(), description, device="cpu")
    out = predict_map(
        scene_path, predictor, tmp_path / "wealth.tif", params=MapParams(spacing_px=8, batch_size=5)
    )
    with rasterio.open(out) as raster:
        np.testing.assert_allclose(raster.read(1), per_tile(pixels, predictor, 8), rtol=0, atol=1e-5)
        assert raster.tags()["SUSTAIN_PREDICTOR"] == "resnet_narrow-000000000000"
        assert raster.units[0] == "index points"
        assert raster.read(1).std() > 0.001


@pytest.mark.parametrize(
    "crs", ["EPSG:32637", "ESRI:54009", "+proj=laea +lat_0=1 +lon_0=38 +datum=WGS84 +units=m"]
)
def test_the_map_names_its_coordinate_system_as_the_scene_does(tmp_path, pixels, predictor, crs):
    scene = write_scene(tmp_path / "scene.tif", pixels, crs=crs)
    out = predict_map(scene, predictor, tmp_path / "wealth.tif", params=PARAMS)
    with rasterio.open(scene) as before, rasterio.open(out) as after:
        assert after.crs.to_wkt() == before.crs.to_wkt()
