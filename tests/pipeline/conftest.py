from __future__ import annotations

import os

import pytest

from .project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project whose pipeline ran once, undisturbed. Tests must leave it as they found it."""
    folder = tmp_path_factory.mktemp("finished")
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Made by one process only: a second one means that the tests are spread wrongly (see tests/conftest.py).
        (folder.parents[1] / "the only finished project").mkdir()
    project = Project(folder)
    project.repro()
    return project
