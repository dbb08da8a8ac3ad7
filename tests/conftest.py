"""Fixtures that more than one room uses, and how tests are spread over processes."""

import os

# Before anything heavy is imported. Tests run side by side, so each process keeps to one core; and the programs that
# they start must find Python's bytecode, or each compiles torch and its kin anew, some ten seconds each time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from sustain.config import TilesParams
from sustain.data.sustainbench.dhs_tiles import pack_dhs_tiles
from tests.dhs_files import write_learnable_raw

# No test asserts how long something takes: a busy machine would fail it.
settings.register_profile("sustain", deadline=None)
settings.load_profile("sustain")

# Whole pipelines take longest, so they are begun first; two files share one run.
_FIRST = ("test_repro.py", "test_bad_input.py", "test_sustainbench.py", "test_local.py")
_SHARE_A_RUN = ("tests/pipeline/test_repro.py", "tests/pipeline/test_bad_input.py")


class ByFile(LoadScopeScheduling):
    """Keeps a file's tests in one process, which sets up what they share once; begins with those that come first."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # xdist would begin with files of many tests
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "a pipeline" if file in _SHARE_A_RUN else file


# Marks of groups would do the same, but pytest-xdist 3.8 silently passes over them with pytest 9.2.
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Spread tests over processes by file."""
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes, put whole pipelines first, then files with slow tests."""
    if not hasattr(config, "workerinput"):
        return
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def turn(item: pytest.Item) -> int:
        if item.path.parent.name == "pipeline" and item.path.name in _FIRST:
            return _FIRST.index(item.path.name)
        return len(_FIRST) + (item.path not in slow)

    items.sort(key=turn)


@pytest.fixture(scope="session")
def packed_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 240 packed tiles of 16 pixels whose labels can be learned. Do not change it."""
    folder = tmp_path_factory.mktemp("learnable")
    raw = write_learnable_raw(folder / "raw", n=240)
    pack_dhs_tiles(raw, folder / "tiles", TilesParams(shard_size=100), seed=1)
    return folder / "tiles"
