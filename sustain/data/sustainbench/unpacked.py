"""Published files of a source, whether they lie in a folder or still in their archive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sustain.data.fetch.archive import unpack

__all__ = ["unpacked"]

_ARCHIVES = ("*.zip", "*.tar.gz", "*.tgz", "*.tar")


@contextmanager
def unpacked(raw: str | Path, out: str | Path, pattern: str) -> Iterator[Path]:
    """Yield the folder that holds a file like `pattern`; archives are unpacked beside `out` while the block runs.

    Parameters
    ----------
    raw : str or Path
        Folder of a source as published.
    out : str or Path
        Where the source is being ingested to.
    pattern : str
        Glob of a file name that tells the folder.

    Yields
    ------
    Path
        The folder nearest to `raw` with such a file in it; a file below a folder ``train``, ``val`` or ``test`` tells
        the folder above.

    Raises
    ------
    FileNotFoundError
        When neither the folder nor its archives hold such a file.
    ArchiveError, FileFormatError
        When an archive is damaged, or would write outside its folder.
    """
    raw, out = Path(raw), Path(out)
    folder = _find(raw, pattern)
    if folder is not None:
        yield folder
        return
    aside = out.with_name(f".unpacked-{out.name}")
    try:
        for archive in sorted(path for kind in _ARCHIVES for path in raw.glob(kind)):
            unpack(archive, aside / archive.name)
        if (folder := _find(aside, pattern)) is None:
            raise FileNotFoundError(
                f"{raw}: no {pattern} here, nor in an archive here. Fetch or add the source's published files first."
            )
        yield folder
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _find(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.rglob(pattern), key=lambda path: (len(path.parts), path))
    if not found:
        return None
    place = found[0].parent
    return place.parent if place.name in {"train", "val", "test"} else place
