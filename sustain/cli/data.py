"""``sustain data``: what can be fetched, and fetching it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Published data: list, fetch and verify.", no_args_is_help=True)

Manifests = Annotated[Path, typer.Option(help="Folder of the manifests.")]


@app.command("list")
def list_sources(manifests: Manifests = Path("data_manifests")) -> None:
    """Every manifest: title, number of files, size, licence."""
    from rich.console import Console
    from rich.table import Table

    from sustain.data.manifest import TASKS_FILE, load_manifest

    table = Table("name", "title", "files", "size", "licence")
    for path in sorted(path for path in manifests.glob("*.yaml") if path.name != TASKS_FILE):
        manifest = load_manifest(path)
        sizes = [file.size for file in manifest.files]
        known = [size for size in sizes if size is not None]
        size = f"{sum(known) / 1e6:.1f} MB" + ("" if len(known) == len(sizes) else " and more")
        table.add_row(manifest.name, manifest.title, str(len(sizes)), size, manifest.licence or "not stated")
    Console().print(table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of a manifest, or its path.")],
    out: Annotated[Path, typer.Option(help="Folder to fetch into.")],
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="SUSTAIN_MIRROR", help="Folder or URL to take the files from instead; same checks."
        ),
    ] = None,
) -> None:
    """Fetch the files of a manifest and verify size and sha256; files already there and right are kept."""
    from sustain.data.fetch import fetch as fetch_files
    from sustain.data.manifest import load_manifest

    fetch_files(load_manifest(name), out, mirror=mirror)
