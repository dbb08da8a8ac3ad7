"""``sustain map`` as a user types it."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from sustain.config import TrainParams
from tests.cli.test_debias import sustain
from tests.maps.fakes import write_scene


@pytest.fixture(scope="module")
def model(packed_tiles, tmp_path_factory):
    """Folder of a barely trained model, with a scene of its kind of imagery beside it."""
    from sustain.models.predictor import TilePredictor
    from sustain.models.train import train

    folder = tmp_path_factory.mktemp("mapping") / "model"
    train(packed_tiles, folder, TrainParams(epochs=1, batch_size=32, threads=1), seed=5)
    predictor = TilePredictor.load(folder)
    pixels = np.random.default_rng(0).integers(1, 30_000, (len(predictor.bands), 75, 101), dtype=np.uint16)
    write_scene(
        folder.with_name("scene.tif"),
        pixels,
        bands=predictor.bands,
        scale=predictor.scale,
        offset=predictor.offset,
        nodata=predictor.nodata,
    )
    return folder


def test_two_local_workers_write_what_one_process_writes(model, tmp_path):
    scene = model.with_name("scene.tif")
    options = ("--model", model, "--spacing-px", 16, "--block-cells", 2)
    alone = sustain("map", scene, tmp_path / "alone.tif", *options)
    assert alone.returncode == 0, alone.stderr
    with rasterio.open(tmp_path / "alone.tif") as raster:
        assert np.isfinite(raster.read(1)).all()
    together = sustain("map", scene, tmp_path / "together.tif", *options, "--workers", 2)
    assert together.returncode == 0, together.stderr
    assert (tmp_path / "together.tif").read_bytes() == (tmp_path / "alone.tif").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheduler", "tcp://127.0.0.1:9", "--workers", 2), "pass one of them"),
        (("--model", "absent"), "absent/model.json: no such file"),
    ],
)
def test_bad_options_are_one_message(model, tmp_path, options, message):
    arguments = ("--model", model, *options)
    done = sustain("map", model.with_name("scene.tif"), tmp_path / "out.tif", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.tif").exists()
