from pathlib import Path

import pytest

from sustain.config import TrainParams

# One thread: the tests share a machine.
SMALL = TrainParams(epochs=8, batch_size=32, threads=1)


@pytest.fixture(scope="session")
def small_params() -> TrainParams:
    return SMALL


@pytest.fixture(scope="session")
def trained(packed_tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model trained on `packed_tiles`. Do not change it."""
    from sustain.models.training.model import train

    out = tmp_path_factory.mktemp("trained") / "model"
    train(packed_tiles, out, SMALL, seed=5)
    return out
