"""What a stage depends on by its plan: the rooms that its script calls, and those below that decide its numbers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from .project import ROOT

PLANS = {"dvc.yaml": ROOT, "pipelines/yeh2020/dvc.yaml": ROOT}
# What stands below a room and decides its numbers too.
BELOW = {
    "debias": {"stats"},
    "causal": {"debias", "stats"},
}
# Rooms of the ground that decide numbers or colours: a stage lists those that its rooms use.
GROUND = ("tables", "masks", "palettes")
# The report reads results; these make them.
ESTIMATE = ("effects", "trials")
# Rooms and folders that read parameters and files, fetch and describe; no number depends on them.
HANDS = ("stage", "config", "errors", "files", "data/catalogue", "data/fetch")
STAGES = [(plan, name) for plan in PLANS for name in yaml.safe_load((ROOT / plan).read_text())["stages"]]


def stage_of(plan: str, name: str) -> tuple[Path, list[str]]:
    """Return a stage's script and what it depends on."""
    stage = yaml.safe_load((ROOT / plan).read_text())["stages"][name]
    return ROOT / re.search(r"python (\S+\.py)", stage["cmd"])[1], stage["deps"]


def called(script: Path) -> set[str]:
    """Return the modules of `sustain` that a script imports, as paths."""
    tree = ast.parse(script.read_text())
    return {
        node.module.removeprefix("sustain.").replace(".", "/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sustain.")
    }


@pytest.mark.parametrize(("plan", "name"), STAGES)
def test_a_stage_depends_on_its_script_and_on_code_that_is_there(plan, name):
    script, deps = stage_of(plan, name)
    assert str(script.relative_to(ROOT)) in deps
    code = [dep for dep in deps if dep.startswith(("sustain", "pipelines", "data_manifests"))]
    assert [dep for dep in code if not (ROOT / dep).exists()] == []


@pytest.mark.parametrize(
    ("plan", "name"),
    # Downloads alone need none of the worlds and tables that the same script can make.
    [stage for stage in STAGES if stage != ("pipelines/yeh2020/dvc.yaml", "acquire")],
)
def test_a_stage_depends_on_the_rooms_that_it_calls(plan, name):
    script, deps = stage_of(plan, name)
    ours = [dep.removeprefix("sustain/").removesuffix(".py") for dep in deps if dep.startswith("sustain/")]
    for module in called(script):
        if module.startswith(HANDS):
            continue
        # A folder of deps holds the module, or the module's package hands on what some of its deps define.
        assert any(f"{module}/".startswith(f"{dep}/") or dep.startswith(f"{module}/") for dep in ours), module
    rooms = {dep.split("/")[0] for dep in ours}
    for room in rooms & set(BELOW):
        assert BELOW[room] <= rooms, room
    if name in ESTIMATE:
        assert {"trials", "causal"} <= rooms


@pytest.mark.parametrize(("plan", "name"), STAGES)
def test_a_stage_depends_on_the_ground_that_its_rooms_use(plan, name):
    _, deps = stage_of(plan, name)
    code = [ROOT / dep for dep in deps if dep.startswith(("sustain", "pipelines"))]
    files = [file for place in code for file in ([place] if place.suffix else place.rglob("*.py"))]
    used = {module.split("/")[0] for file in files for module in called(file)} & set(GROUND)
    listed = {Path(dep).stem for dep in deps if dep.count("/") == 1}
    assert used <= listed
