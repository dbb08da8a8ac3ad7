import numpy as np
import pytest

from tests.maps.fakes import MeanPredictor, write_scene


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(1, 30_000, size=(3, 75, 101), dtype=np.uint16)


@pytest.fixture
def scene_path(tmp_path, pixels):
    return write_scene(tmp_path / "scene.tif", pixels)


@pytest.fixture
def predictor():
    return MeanPredictor()
