"""Every notebook runs from a fresh clone, top to bottom, and is stored with what its cells show today."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SPEC = importlib.util.spec_from_file_location("run_notebooks", FOLDER / "run.py")
runner = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(runner)


def shown(notebook):
    """What the cells show, by cell: kinds and texts. Figures are left out, which differ a little between machines."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            text = re.sub(
                r"[-+\N{MINUS SIGN}]?[\d.,]+(e[-+]?\d+)?|\b[0-9a-f]{12}\b|\s+",
                " ",
                data.get("text/plain", ""),
            )
            found.setdefault(cell.id, []).append((sorted(data), " ".join(text.split())))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_what_is_stored(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder, so that it needs nothing but the package."""
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    shutil.copy(path, tmp_path)
    now = runner.run(path, tmp_path)
    left = sorted(file.name for file in tmp_path.iterdir() if file.name != path.name)
    assert not [name for name in left if name.endswith((".json", ".csv"))], f"it leaves {left} behind"
    stored = nbformat.read(path, as_version=4)
    assert shown(now) == shown(stored), f"its outputs are old: python notebooks/run.py notebooks/{path.name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_says_nothing_of_when_and_where_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert cell.execution_count is None
        assert "execution" not in cell.metadata
        assert not [output for output in cell.outputs if output.output_type == "error"]
    # But for pictures, in which any letters may stand together.
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    assert re.findall(r"/tmp/\w*|/home/\w*|/work/\w*|0x[0-9a-f]{6,}", text) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_has_pictures_and_they_are_stored(path: Path) -> None:
    outputs = [
        output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])
    ]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_notebooks() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS][:2] == ["01", "02"]
