"""Fixtures that more than one room uses."""

from pathlib import Path

import pytest
from hypothesis import settings

from sustain.config import TilesParams
from sustain.data.sustainbench.dhs_tiles import pack_dhs_tiles
from tests.dhs_files import write_learnable_raw

# No test asserts how long something takes: a busy machine would fail it.
settings.register_profile("sustain", deadline=None)
settings.load_profile("sustain")


@pytest.fixture(scope="session")
def packed_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 240 packed tiles of 16 pixels whose labels can be learned. Do not change it."""
    folder = tmp_path_factory.mktemp("learnable")
    raw = write_learnable_raw(folder / "raw", n=240)
    pack_dhs_tiles(raw, folder / "tiles", TilesParams(shard_size=100), seed=1)
    return folder / "tiles"
