"""Files that are either whole or absent: written aside, then moved into place.

A process killed in the middle leaves a temporary file (removed on the next write), never half a result.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from sustain.errors import DataError, DiskSpaceError, FileFormatError

fcntl: Any = None
with suppress(ImportError):  # Windows has none
    fcntl = import_module("fcntl")

__all__ = [
    "atomic_directory",
    "atomic_path",
    "only_run",
    "read_json",
    "require_free_space",
    "require_replaceable",
    "sha256_of",
    "write_json",
    "write_text",
]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_COUNT = count()
_PARTIAL = re.compile(
    r"(?:\.partial-)+([0-9a-f]{8})-(\d+)-\d+-.+", re.DOTALL
)  # also what lies beside a partial
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy's words, without the system's number


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends without error.

    Of several runs that write one file at the same time, the last to end wins, and the file is whole.

    Parameters
    ----------
    path : str or Path
        Final place. Missing parent folders are made; a symbolic link stays, and what it points to is replaced.

    Yields
    ------
    Path
        Where to write. The name keeps the final suffix, because GDAL and others choose a format by it.

    Raises
    ------
    DiskSpaceError
        When the disk fills up while writing, or a quota or file-size limit is met.
    """
    final = _behind_links(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(final)
    try:
        with _full_disk_named(final):
            yield partial
            os.replace(partial, final)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; swap it in for `path` when the block succeeds.

    The folder in place is whole or, for the moment between two renames, absent; a run that is killed there is healed by
    the next. Of several runs at the same time, the last to end wins. Where `path` is a symbolic link, such as to a
    larger disk, it stays, and the folder it points to is replaced.

    Raises
    ------
    DataError
        When there is a file in its place.
    DiskSpaceError
        When the disk fills up while writing, or a quota or file-size limit is met.
    """
    final = _behind_links(path)
    if final.is_file():
        raise DataError(f"{path}: is a file. Name a folder.")
    final.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _beside(final), _beside(final)
    partial.mkdir()
    try:
        with _full_disk_named(final):
            yield partial
            _swap(partial, final, old)
    finally:
        for rest in (partial, old):
            shutil.rmtree(rest, ignore_errors=True)


def _swap(partial: Path, final: Path, old: Path) -> None:
    while True:
        with suppress(FileNotFoundError):
            os.replace(final, old)
        try:
            os.replace(partial, final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with suppress(OSError):
                    os.replace(old, final)
                raise
            shutil.rmtree(old, ignore_errors=True)  # another run was quicker
        else:
            return


def _behind_links(path: str | Path) -> Path:
    """Where a path leads in the end, so that the move into place stays on one disk."""
    return Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)


def _beside(final: Path) -> Path:
    """Temporary name beside `final` that no other run has: it says which machine and process it belongs to."""
    _sweep(final.parent)
    return final.with_name(f".partial-{_machine()}-{os.getpid()}-{next(_COUNT)}-{final.name}")


@cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@cache
def _sweep(folder: Path) -> None:
    """Remove, once a process, what killed runs of this machine left in a folder."""
    for rest in folder.glob(".partial-*"):
        owner = _PARTIAL.fullmatch(rest.name)
        if owner is None or owner[1] != _machine() or _runs(int(owner[2])):
            continue
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            rest.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    if os.name != "posix":
        return True  # nothing there asks without ending it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError, IndexError):  # killed, and only not yet taken note of by its parent
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    return True


@contextmanager
def _full_disk_named(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL or _SHORT_WRITE.fullmatch(str(error))
        if not full or isinstance(error, DiskSpaceError):
            raise
        raise DiskSpaceError(
            f"{final}: the disk filled up while writing, or a quota or file-size limit was met; nothing was put in "
            f"place. Free some space on {final.parent} and run again."
        ) from error


@contextmanager
def only_run(folder: Path, busy: Exception) -> Iterator[None]:
    """Keep other runs out of a folder while a block runs; the lock ends with the process.

    On a system without file locks (Windows, some network file systems) nothing keeps them out.

    Parameters
    ----------
    folder : Path
        Made if need be. Whoever holds it may remove it.
    busy : Exception
        What is raised when another run holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    held = _hold(folder, busy)
    try:
        yield
    finally:
        os.close(held)


def _hold(folder: Path, busy: Exception) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(held)
            raise busy from error
        except OSError:
            return held  # some network file systems have no locks
        # Another run may have ended in between, and removed the folder.
        if folder.exists() and os.path.samestat(os.fstat(held), folder.stat()):
            return held
        os.close(held)


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically and return the path."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as JSON with sorted keys, atomically; non-finite numbers become ``null``."""
    return write_text(path, json_text(value) + "\n")


def json_text(value: Any) -> str:
    """JSON with sorted keys; non-finite numbers become ``null``, for which JSON has no word."""
    return json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    FileFormatError
        When the file is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: not a JSON file ({error}). Make it again, or restore it.") from error


def sha256_of(path: str | Path, chunk: int = 1 << 20) -> str:
    """Hexadecimal sha256 of a file, read in chunks of `chunk` bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(chunk):
            digest.update(block)
    return digest.hexdigest()


def require_replaceable(folder: str | Path, mark: str) -> None:
    """Raise `DataError` where `folder` holds something else than what is about to replace it, which would be lost.

    Parameters
    ----------
    folder : str or Path
        Folder to be written whole (`atomic_directory`). It may be missing or empty.
    mark : str
        A file that every earlier result in its place has.
    """
    place = Path(folder)
    if place.is_dir() and any(place.iterdir()) and not (place / mark).is_file():
        raise DataError(
            f"{folder}: holds other files (no {mark} among them), which would be lost. Name a new or empty folder."
        )
    if place.is_file():
        raise DataError(f"{folder}: is a file. Name a folder.")


def require_free_space(folder: str | Path, n_bytes: int, what: str) -> None:
    """Raise `DiskSpaceError` unless `n_bytes` bytes are free where `folder` is (or will be)."""
    place = Path(folder).resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < n_bytes:
        raise DiskSpaceError(
            f"{folder}: {what} needs {_size(n_bytes)}, but {_size(free)} are free on that disk. "
            "Free some space, or choose a folder on another disk."
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.2f} MB"
