"""Whether an archive reaches its end: asked of a first copy for which nobody states a size or checksum."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

__all__ = ["problem_of_end"]

_CHUNK = 1 << 20
_END = bytes(1024)  # two blocks of zeros end a tar


def problem_of_end(place: Path, name: str) -> str | None:
    """Say how an archive breaks off, or return None when it is whole, or of a kind that has no end mark.

    A zip is whole when its directory, which comes last, can be read; a gzip when it can
    be read to its end; a tar when it is a number of whole blocks, of which the last two are its end mark.

    Parameters
    ----------
    place : Path
        The file as it lies here.
    name : str
        The name that it is to have; its ending tells the kind.
    """
    kind = Path(name).suffix.lower()
    try:
        if kind == ".zip":
            with zipfile.ZipFile(place) as archive:
                archive.infolist()
        elif kind in {".gz", ".tgz"}:
            with gzip.open(place) as packed:
                while packed.read(_CHUNK):
                    pass
        elif kind == ".tar":
            size = place.stat().st_size
            with place.open("rb") as content:
                content.seek(max(0, size - len(_END)))
                if size % 512 or content.read() != _END:
                    return "it is truncated: it has no end mark"
    except (zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        return f"it is truncated or damaged ({error})"
    return None
