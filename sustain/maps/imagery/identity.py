"""Telling the files of imagery from others, and from themselves after a change."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sustain.maps.remote import ON_THE_WEB, remote_identity

__all__ = ["identity_of"]

_PROBE = 1 << 20  # bytes at either end of a file that its identity covers


def identity_of(files: Sequence[str | Path]) -> list[list[Any]]:
    """Tell files apart without reading them whole: name, size, times of change, and a hash of both ends.

    Imagery is too large to hash on every start. A file that was written to has another time of change, and one whose
    time was set back has another time of the change of its entry. Files on the web are asked for size and entity tag.

    Raises
    ------
    DownloadError
        When an address does not answer.
    """
    found: list[list[Any]] = []
    for file in sorted(str(file) for file in files):
        if file.startswith(ON_THE_WEB):
            found.append(remote_identity(file.removeprefix(ON_THE_WEB)))
            continue
        path = Path(file)
        if not path.is_file():  # what GDAL finds by other means stands for itself
            found.append([file, None, None, None])
            continue
        about = path.stat()
        with path.open("rb") as stream:
            ends = stream.read(_PROBE)
            stream.seek(max(0, about.st_size - _PROBE))
            ends += stream.read(_PROBE)
        times = [about.st_mtime_ns, about.st_ctime_ns]
        found.append([path.name, about.st_size, times, hashlib.sha256(ends).hexdigest()])
    return found
