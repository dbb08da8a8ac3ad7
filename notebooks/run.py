"""Runs the notebooks and stores what their cells show: ``python notebooks/run.py [NOTEBOOK ...]``.

The same machine stores the same bytes: nothing of when and where it ran is kept.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder, from top to bottom, and return it as it is stored."""
    notebook = nbformat.read(path, as_version=4)
    # What a cell prints comes in pieces, by the clock; together they are the same every time.
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, resources=where, coalesce_streams=True).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        # Progress bars and warnings go to stderr.
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = None
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _plain(output.data["image/png"])
                output.data.pop("text/plain", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def _plain(picture: str) -> str:
    """Drop from a PNG which version of Matplotlib drew it."""
    content = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def main() -> None:
    """Run the notebooks that are named, or all."""
    for path in map(Path, sys.argv[1:] or sorted(map(str, FOLDER.glob("*.ipynb")))):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(path, folder)
            nbformat.write(run(path, Path(folder)), path)


if __name__ == "__main__":
    main()
