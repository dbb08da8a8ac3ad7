"""What can be had, how, and what of it is on this machine; sizes are compared, checksums are left to `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sustain.data.catalogue.manifest import Manifest, load_manifest, manifest_names
from sustain.data.catalogue.registry import find_task, load_tasks
from sustain.data.fetch.lock import read_lock, with_lock
from sustain.errors import DataError

__all__ = ["RAW", "Holding", "holding", "how_to_get", "manifest_of", "raw_folder", "size_of"]

RAW = Path("data/raw")


class Holding(NamedTuple):
    """Files of a source on this machine.

    Attributes
    ----------
    present : int
        Files that are there with the size expected.
    expected : int or None
        Files of the source; None where nobody has seen the publisher's list.
    """

    present: int
    expected: int | None

    def __str__(self) -> str:
        if not self.present:
            return "-"
        if self.present == self.expected:
            return "all"
        return f"{self.present} of {self.expected}" if self.expected is not None else f"{self.present} files"


def manifest_of(name: str) -> Manifest:
    """Return the manifest of a source, or of a task's source.

    Raises
    ------
    DataError
        When no task and no manifest is called so.
    """
    if name in manifest_names() or name.endswith((".yaml", ".yml")):
        return load_manifest(name)
    if not any(name in {task.name, *task.variants} for task in load_tasks().values()):
        raise DataError(
            f"no task and no source is called {name!r}. Tasks: {', '.join(load_tasks())}. "
            f"Sources: {', '.join(manifest_names())}."
        )
    return load_manifest(find_task(name).source)


def raw_folder(manifest: Manifest, raw: str | Path = RAW) -> Path:
    """Return where a source's published files lie: below ``sustainbench`` for the benchmark's sources."""
    tasks = load_tasks().values()
    of_benchmark = {source for task in tasks for source in (task.source, task.optional_source)}
    return Path(raw) / ("sustainbench" if manifest.name in of_benchmark else manifest.name) / manifest.name


def holding(manifest: Manifest, folder: str | Path) -> Holding:
    """Count the files of a source that are in its folder with the size expected."""
    known = with_lock(manifest, read_lock(manifest, folder))
    places = [(file, Path(folder) / file.path) for file in known.files]
    present = sum(p.is_file() and file.size in {None, p.stat().st_size} for file, p in places)
    return Holding(present, len(manifest.files) or None)


def how_to_get(manifest: Manifest) -> str:
    """Name the ways by which its files come, in a word or two."""
    ways = {
        "https" if file.url is not None else "Google Drive" if file.drive_id is not None else "by hand"
        for file in manifest.files
    } or {"by hand"}
    return ", ".join(way for way in ("https", "Google Drive", "by hand") if way in ways)


def size_of(manifest: Manifest) -> str:
    """Return the size of a source for people; what is not known is said."""
    known = [file.size for file in manifest.files if file.size is not None]
    if not known:
        return "not known"
    total = float(sum(known))
    for unit in ("B", "kB", "MB", "GB"):
        if total < 1000 or unit == "GB":
            break
        total /= 1000
    return f"{total:.3g} {unit}" + ("" if len(known) == len(manifest.files) else " and more")
