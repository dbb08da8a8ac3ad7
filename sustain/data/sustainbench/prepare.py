"""From published bytes to a readable source: archives unpacked where a reader needs files, then ingested."""

from __future__ import annotations

import shutil
from pathlib import Path

from sustain.data.archive import Limits, unpack
from sustain.data.manifest import Manifest
from sustain.data.sustainbench.tasks import ingest

__all__ = ["prepare"]

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def prepare(manifest: Manifest, raw: str | Path, root: str | Path, limits: Limits | None = None) -> Path:
    """Ingest a source from its published files.

    Parameters
    ----------
    manifest : Manifest
        The source's. Where it says `unpack`, archives are unpacked beside the target first, and that is removed
        afterwards; the other readers read their archives as they are.
    raw : str or Path
        Folder of the published files.
    root : str or Path
        Folder of ingested sources; this one goes to ``root/<name>``.
    limits : Limits, optional
        How much an archive may hold.

    Returns
    -------
    Path
        ``root/<name>``. It appears whole, or not at all.

    Raises
    ------
    FileNotFoundError, FileFormatError, DataError
        As `sustain.data.sustainbench.tasks.ingest` and `sustain.data.archive.unpack`.
    """
    raw, root = Path(raw), Path(root)
    archives = [path for path in sorted(raw.rglob("*")) if path.name.lower().endswith(_SUFFIXES)]
    if not manifest.unpack or not archives:
        return ingest(manifest.name, raw, root)
    unpacked = root / f".unpacked-{manifest.name}"
    try:
        for archive in archives:
            unpack(archive, unpacked / archive.name.split(".")[0], limits)
        return ingest(manifest.name, _inner(unpacked), root)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _inner(folder: Path) -> Path:
    """Step into folders that hold one folder and nothing else."""
    inside = list(folder.iterdir())
    return _inner(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder
