from __future__ import annotations

import pytest

from .project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project whose pipeline ran once, undisturbed. Tests must leave it as they found it."""
    project = Project(tmp_path_factory.mktemp("finished"))
    done = project.dvc("repro")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return project
