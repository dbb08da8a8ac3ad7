"""Makes a page of every notebook, with what its cells show; mkdocs calls `on_files`."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks to the documentation: a page, the pictures on it, and the notebook to fetch."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, pictures = page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        files.append(File.generated(config, f"notebooks/{path.name}", content=path.read_bytes()))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook, and its pictures by file name."""
    notebook = nbformat.read(path, as_version=4)
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace("](../docs/", "](../"))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        shown = [_shown(output, path.stem, pictures) for output in cell.outputs]
        parts.extend(f'<div class="shown" markdown="1">\n\n{part}\n\n</div>' for part in shown if part)
    parts.append(f"[Fetch this notebook]({path.name}).")
    return "\n\n".join(parts) + "\n", pictures


def _shown(output: Any, stem: str, pictures: dict[str, bytes]) -> str:
    """What a cell's output is on the page; empty where it has none of the known kinds."""
    if output.output_type == "stream":
        return _as_text(output.text)
    data = output.get("data", {})
    if "image/png" in data:
        name = f"{stem}-{len(pictures) + 1}.png"
        pictures[name] = base64.b64decode(data["image/png"])
        return f"![what the cell draws]({name})"
    if "text/html" in data:
        # The page's own look: without pandas' style and classes. Blank lines would end the block of HTML.
        html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        html = re.sub(r'<table border="1" class="dataframe">', "<table>", html)
        return "\n".join(line.strip() for line in html.splitlines() if line.strip())
    return _as_text(data["text/plain"]) if "text/plain" in data else ""


def _as_text(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
