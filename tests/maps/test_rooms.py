"""Within the maps, too, arrows point one way, and reading a map needs no model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.test_imports import imports, modules

# Folders from below; what lies beside them is the ground of all.
FOLDERS = ("imagery", "predict", "correct", "read", "publish")
MODULES = sorted(name for name in modules() if name.startswith("maps."))


def floor(name):
    """Place of a module's folder among FOLDERS, -1 for the ground."""
    folder = name.split(".")[1]
    return FOLDERS.index(folder) if folder in FOLDERS else -1


@pytest.mark.parametrize("name", MODULES)
def test_a_folder_imports_only_what_lies_below_it(name):
    targets = {target for target in imports(name, modules()[name]) if target.startswith("maps.")}
    assert not {target for target in targets if floor(target) > floor(name)}


def test_every_folder_is_known():
    assert {name.split(".")[1] for name in MODULES if name.count(".") > 1} == set(FOLDERS)


@pytest.mark.parametrize(
    ("room", "absent"),
    [
        ("maps.read", ("torch", "lightning", "dask", "odc")),
        ("maps.publish", ("torch", "lightning", "dask", "odc")),
        ("maps.predict", ("torch", "lightning", "distributed", "odc.stac")),
    ],
)
def test_a_room_loads_no_more_than_it_needs(room, absent):
    code = f"import json, sys, sustain.{room}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert not set(absent) & set(json.loads(ran.stdout))
