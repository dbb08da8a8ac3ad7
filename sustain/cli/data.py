"""``sustain data``: what there is, what of it is here, and getting it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sustain.data.catalogue.manifest import Manifest

app = typer.Typer(help="Published data: list, fetch, add and verify.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a task or of a source; the path of a manifest.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The source's folder; by default data/raw/sustainbench/SOURCE (others: data/raw/SOURCE/SOURCE)."
    ),
]
Raw = Annotated[Path, typer.Option(help="Folder of all raw data.")]
Root = Annotated[Path, typer.Option(help="Folder of ingested sources.")]


@app.command("list")
def list_tasks(raw: Raw = Path("data/raw"), root: Root = Path("data/sustainbench")) -> None:
    """Every task and every other source: size, licence, how to get it, what is on this machine."""
    from rich.console import Console
    from rich.table import Table

    from sustain.data.catalogue.manifest import load_manifest, manifest_names
    from sustain.data.catalogue.registry import load_tasks
    from sustain.data.fetch.inventory import holding, how_to_get, raw_folder, size_of

    tasks = load_tasks()
    used = {task.source for task in tasks.values()}
    rows = [(str(task.sdg), task.name, task.source) for task in tasks.values()]
    rows += [("", "", name) for name in manifest_names() if name not in used]
    table = Table(
        "SDG", "task", "source", "size", "licence", "how to get it", "here", box=None, pad_edge=False
    )
    for sdg, name, source in rows:
        manifest = load_manifest(source)
        ingested = ", ingested" if (root / source).is_dir() else ""
        here = f"{holding(manifest, raw_folder(manifest, raw))}{ingested}"
        licence = manifest.licence or "not stated"
        table.add_row(sdg, name, source, size_of(manifest), licence, how_to_get(manifest), here)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console = Console(width=160)
    console.print(table)


@app.command()
def info(name: Name, raw: Raw = Path("data/raw")) -> None:
    """Show the card of a task or a source."""
    from rich.console import Console
    from rich.markdown import Markdown

    from sustain.data.catalogue.manifest import load_manifest, manifest_names
    from sustain.data.catalogue.registry import find_task
    from sustain.data.fetch.inventory import holding, manifest_of, raw_folder
    from sustain.data.sustainbench.card import source_card, task_card

    manifest = manifest_of(name)
    if name in manifest_names() or name.endswith((".yaml", ".yml")):
        card = source_card(manifest)
    else:
        task = find_task(name)
        card = task_card(task, load_manifest(task.source))
    console = Console()
    console.print(
        Markdown(card) if console.is_terminal else card, soft_wrap=not console.is_terminal, markup=False
    )
    folder = raw_folder(manifest, raw)
    console.print(f"On this machine: {holding(manifest, folder)} ({folder})", markup=False, soft_wrap=True)


@app.command()
def fetch(
    name: Name,
    out: Out = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="SUSTAIN_MIRROR", help="Folder or URL to take the files from instead; same checks."
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help="Pattern of the paths wanted, such as 'dhs_AL_*'.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Files at one time.")] = 4,
) -> None:
    """Fetch the files of a task or source and verify size and sha256; files already there and right are kept."""
    from sustain.data.fetch.inventory import manifest_of, raw_folder
    from sustain.data.fetch.lock import read_lock
    from sustain.data.fetch.published import fetch as fetch_files

    manifest = manifest_of(name)
    folder = out or raw_folder(manifest)
    locked = set(read_lock(manifest, folder).files)
    paths = fetch_files(manifest, folder, mirror=mirror, only=only, workers=workers)
    typer.echo(
        f"{len(paths)} file(s) of {manifest.name} in {folder}, {_checked(manifest, folder, paths, locked)}."
    )


def _checked(manifest: Manifest, folder: Path, paths: Sequence[Path], locked: Collection[str]) -> str:
    """Say how many files were compared with a checksum, and how many are first copies with nothing to compare."""
    published = {file.path for file in manifest.files if file.sha256 is not None}
    names = [path.relative_to(folder).as_posix() for path in paths]
    first = sum(name not in published and name not in locked for name in names)
    if not first:
        return "verified"
    recorded = "recorded (first copy; the publisher states no checksum)"
    return recorded if first == len(names) else f"{len(names) - first} verified, {first} {recorded}"


@app.command()
def add(
    name: Name,
    source: Annotated[Path, typer.Option("--from", help="File or folder that was got by hand.")],
    out: Out = None,
) -> None:
    """Verify files that were got by hand, put copies in place, and remember their checksums."""
    from sustain.data.fetch.inventory import manifest_of, raw_folder
    from sustain.data.fetch.lock import read_lock
    from sustain.data.fetch.manual import add as add_files

    manifest = manifest_of(name)
    folder = out or raw_folder(manifest)
    locked = set(read_lock(manifest, folder).files)
    placed, missing = add_files(manifest, source, folder)
    typer.echo(
        f"{len(placed)} file(s) of {manifest.name} in {folder}, {_checked(manifest, folder, placed, locked)}."
    )
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        typer.echo(f"Still missing: {', '.join(missing[:8])}{more}.")


@app.command()
def verify(name: Name, out: Out = None) -> None:
    """Compare size and sha256 of every file with the manifest and with the first copy; status 1 when one is wrong."""
    from sustain.data.catalogue.manifest import verify as verify_files
    from sustain.data.fetch.inventory import manifest_of, raw_folder
    from sustain.data.fetch.lock import read_lock, way_out, with_lock

    manifest = manifest_of(name)
    folder = out or raw_folder(manifest)
    known = with_lock(manifest, read_lock(manifest, folder))
    problems = verify_files(known, folder)
    for path, problem in problems.items():
        typer.echo(f"{folder / path} {problem}")
    if any((folder / path).is_file() for path in problems):
        typer.echo(way_out(manifest, folder))
    unknown = [file.path for file in known.files if file.sha256 is None and file.path not in problems]
    if unknown:
        typer.echo(
            f"{len(unknown)} file(s) with no checksum to compare with, such as {unknown[0]}. Record the present ones: "
            f"sustain data add {manifest.name} --from {folder}"
        )
    good = len(known.files) - len(problems) - len(unknown)
    typer.echo(
        f"{good} of {len(known.files)} file(s) of {manifest.name} are "
        + ("as published or " if any(file.sha256 for file in manifest.files) else "")
        + "as they first came."
    )
    if problems or not known.files:
        raise typer.Exit(1)


@app.command()
def ingest(name: Name, out: Out = None, root: Root = Path("data/sustainbench")) -> None:
    """Turn the published files of a task or source into safe, fast ones; changed files (`verify`) are refused.

    Sizes are compared always, sha256 for files of up to 4 GB.
    """
    from sustain.data.fetch.inventory import manifest_of, raw_folder
    from sustain.data.fetch.lock import require_unchanged
    from sustain.data.sustainbench.tasks import ingest as ingest_files
    from sustain.errors import DataError

    manifest = manifest_of(name)
    folder = out or raw_folder(manifest)
    require_unchanged(manifest, folder)
    try:
        ready = ingest_files(manifest.name, folder, root)
    except FileNotFoundError as error:
        raise DataError(
            f"{error.filename or error}: not there. Get it first (sustain data fetch {manifest.name}), or say "
            "with --out where the files are."
        ) from error
    typer.echo(f"{manifest.name} is ready in {ready}.")
