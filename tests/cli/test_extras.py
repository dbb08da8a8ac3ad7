"""A command whose packages are not installed names what to install, and shows no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A base install has none of these.
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from sustain.cli import main
sys.argv = ["sustain", *sys.argv[1:]]
main()
"""
TRAIN = {"torch", "torchvision", "torchgeo", "timm", "lightning", "safetensors", "torchmetrics"}
PIPELINE = {"dvc", "jinja2", "distributed", "odc_stac", "fastapi", "uvicorn"}


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["map", "scene.tif", "out.tif", "--model", "model"], "train"),
        (["serve", "folder"], "pipeline"),
    ],
)
def test_a_base_install_names_the_extra(arguments: list[str], extra: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=TRAIN | PIPELINE), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"pip install 'sustain[{extra}]'" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_another_missing_module_is_a_bug_and_keeps_its_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden={"rich"}), "data", "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in done.stderr
