"""Archives from outside, read and unpacked without trusting them.

An archive may hold names that point elsewhere, links, devices, a few kilobytes that swell to terabytes, or simply end
too early. Here a member is a plain file with a plain relative name, or the archive is refused; what comes out is
counted against `Limits`; and damage is one typed error that names the archive and the member. No member is passed over
in silence: behind the last member of a tar only zeros may lie, and a zip must hold as many as its end mark counts.

`iter_members` reads strictly forward, one member at a time, so that 100 GB can be read without being unpacked first.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from tqdm import tqdm

from sustain.errors import ArchiveError, FileFormatError
from sustain.files import atomic_directory, require_free_space

__all__ = ["Limits", "iter_members", "unpack"]

CHUNK = 1 << 18
# Names and extended headers between two members of a tar are read into memory; honest ones are far smaller.
_MAX_HEADERS = 1 << 16  # tarfile searches them in quadratic time
_MAX_PADDING = 1 << 24  # behind the last member
_BLOCK = 512  # of a tar
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    OSError,
    NotImplementedError,
    RecursionError,  # a header of a header of a header
    ValueError,  # a number that is none
    OverflowError,
    LookupError,  # struct, and names of encodings
)
_END_MARK = struct.Struct("<4s4H2LH")  # of a zip


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    Attributes
    ----------
    total_bytes : int
        Bytes of all members together.
    files : int
        Number of members.
    ratio : float
        Bytes unpacked per byte of the archive. Published arrays and photographs give 1 to 20.
    ratio_from : int
        Bytes up to which the ratio is not looked at: a small archive of constants does no harm.
    """

    total_bytes: int = 1 << 40
    files: int = 5_000_000
    ratio: float = 200.0
    ratio_from: int = 1 << 26


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


def iter_members(path: str | Path, limits: Limits | None = None) -> Iterator[tuple[str, BinaryIO]]:
    """Read a tar, tar.gz or zip archive from front to back; nothing is written to disk.

    Parameters
    ----------
    path : str or Path
        The archive. Its kind is taken from its content, not from its name.
    limits : Limits, optional
        How much it may hold.

    Yields
    ------
    name : str
        The member's path with forward slashes, without a leading ``./``; other characters, ``#`` among them, as they
        are. Folders are passed over.
    file : binary file
        Its content, to be read before the next member is asked for. It cannot seek.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ArchiveError
        When a name leads out of the archive, a member is a link, a device, sparse or encrypted, or `limits` are
        passed; also while reading a member. The message names it.
    FileFormatError
        When the archive is empty, truncated, damaged or of another kind; also while reading a member.
    """
    path, limits = Path(path), limits or Limits()
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _zip_members(path, limits)
    elif head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        yield from _tar_members(path, limits, packed=head.startswith(b"\x1f\x8b"))
    else:
        kind = "empty" if not head else "an HTML page" if b"<html" in head.lower() else "of another kind"
        raise FileFormatError(f"{path}: no tar, tar.gz or zip archive; the file is {kind}. Get it again.")


def unpack(path: str | Path, folder: str | Path, limits: Limits | None = None) -> list[Path]:
    """Unpack an archive into a folder, which appears whole or not at all.

    Parameters
    ----------
    path : str or Path
        A tar, tar.gz or zip archive.
    folder : str or Path
        Folder to make. One that is there is replaced.
    limits : Limits, optional
        How much the archive may hold.

    Returns
    -------
    list of Path
        The files written, in the archive's order. Owners, modes and times of the archive are not taken over.

    Raises
    ------
    ArchiveError, FileFormatError
        As `iter_members`; `ArchiveError` also when two members claim one place.
    DiskSpaceError
        When there is no room.
    """
    path, folder = Path(path), Path(folder)
    require_free_space(folder, path.stat().st_size, f"unpacking {path.name}")
    written = []
    with (
        atomic_directory(folder) as partial,
        tqdm(desc=f"unpack {path.name}", unit="B", unit_scale=True, disable=None) as bar,
    ):
        for name, member in iter_members(path, limits):
            place = partial / name
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                target = place.open("xb")
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise ArchiveError(f"{path}: member {name} claims a place that is taken. Refused.") from error
            with target:
                while block := member.read(CHUNK):
                    target.write(block)
                    bar.update(len(block))
            written.append(folder / name)
    return written


class _Budget:
    """Counts what comes out of one archive."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.packed = path.stat().st_size
        self.files = self.bytes = 0

    def admit(self, name: str, size: int) -> None:
        """Count a member by the size that it states."""
        self.files += 1
        self.bytes += size
        allowed = self.limits
        if self.files > allowed.files:
            raise ArchiveError(f"{self.path}: more than {allowed.files:,} files, at member {name}. Refused.")
        if self.bytes > allowed.total_bytes:
            raise ArchiveError(
                f"{self.path}: more than {allowed.total_bytes:,} bytes when unpacked, at member {name}. Refused."
            )
        if self.bytes > max(allowed.ratio_from, allowed.ratio * self.packed):
            raise ArchiveError(
                f"{self.path}: unpacks to more than {allowed.ratio:g} times its size, at member {name}. That is how "
                "archive bombs look. Refused."
            )


def _plain_name(path: Path, name: str) -> str:
    pure = PurePosixPath(name)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise ArchiveError(f"{path}: member {name!r} would be written outside the target folder. Refused.")
    return str(pure)


class _Member(io.RawIOBase):
    """A member's content; what goes wrong while it is read is named."""

    def __init__(self, source: _Readable, where: str) -> None:
        super().__init__()
        self._source, self._where = source, where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        try:
            content = self._source.read(len(view))
        except (FileFormatError, ArchiveError):
            raise
        except _DAMAGE as error:
            raise _damaged(self._where, error) from error
        view[: len(content)] = content
        return len(content)


def _damaged(where: str, error: Exception) -> FileFormatError:
    return FileFormatError(f"{where}: truncated, damaged or unreadable ({error}). Get the archive again.")


def _opened(source: _Readable, where: str) -> BinaryIO:
    return io.BufferedReader(_Member(source, where), 1 << 16)


def _zip_members(path: Path, limits: Limits) -> Iterator[tuple[str, BinaryIO]]:
    budget = _Budget(path, limits)
    try:
        archive = zipfile.ZipFile(path)
    except (*_DAMAGE, struct.error) as error:
        raise _damaged(str(path), error) from error
    with archive:
        if (stated := _stated_members(path)) not in {None, len(archive.infolist())}:
            raise FileFormatError(
                f"{path}: its end mark counts {stated} members, its directory lists {len(archive.infolist())}. "
                "Get the archive again."
            )
        # The directory tells all sizes beforehand, and no member gives more than it states: zipfile cuts there.
        for info in archive.infolist():
            name, kind = _plain_name(path, info.filename), stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1:
                raise ArchiveError(f"{path}: member {name} is encrypted. Refused.")
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise ArchiveError(f"{path}: member {name} is a link or a device. Refused.")
            budget.admit(name, info.file_size)
        for info in archive.infolist():
            where = f"{path}: member {info.filename}"
            try:
                source = archive.open(info)  # compares the name with the one beside the content
            except (*_DAMAGE, RuntimeError) as error:
                raise _damaged(where, error) from error
            with source, _opened(source, where) as member:
                if info.is_dir():
                    if info.file_size:
                        raise FileFormatError(f"{where}: a folder with content. Get the archive again.")
                    continue
                yield str(PurePosixPath(info.filename)), member


def _stated_members(path: Path) -> int | None:
    """Members that the end mark of a zip counts; None where it cannot say (from 65,535)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_MARK.size - 0xFFFF))
        rest = file.read()
    start = rest.rfind(b"PK\x05\x06")
    if start < 0 or len(rest) - start < _END_MARK.size:
        return None
    total: int = _END_MARK.unpack_from(rest, start)[4]
    return None if total == 0xFFFF else total


class _Forward:
    """A stream that tarfile may read up to a mark, and whose end shows whether the archive was whole."""

    def __init__(self, source: BinaryIO, path: Path) -> None:
        self._source, self._path = source, path
        self._position, self._mark = 0, _MAX_HEADERS
        self._last_byte = self._end = 0
        self.tail = b""

    def read(self, size: int) -> bytes:
        block = self._source.read(size)
        if kept := len(block.rstrip(b"\0")):
            self._last_byte = self._position + kept
        self._position += len(block)
        if self._position > self._mark:
            raise ArchiveError(
                f"{self._path}: more than {_MAX_HEADERS:,} bytes of headers at one place. Refused."
            )
        self.tail = (block if len(block) >= 512 else self.tail + block)[-512:]
        return block

    def allow(self, member: tarfile.TarInfo) -> None:
        self._end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
        self._mark = self._end + _MAX_HEADERS

    def drain(self) -> bool:
        """Read to the end, where gzip compares its checksum; say whether only zeros follow the last member.

        tarfile takes a header that it cannot read for the end.
        """
        self._mark = self._position + _MAX_PADDING
        while self.read(CHUNK):
            pass
        return self._last_byte <= self._end


def _tar_members(path: Path, limits: Limits, packed: bool) -> Iterator[tuple[str, BinaryIO]]:
    budget = _Budget(path, limits)
    last = "its start"
    # gzip's own reader: tarfile's takes a stream that breaks off between two members for a whole one.
    with gzip.open(path) if packed else path.open("rb") as source:
        stream = _Forward(source, path)  # type: ignore[arg-type]  # GzipFile reads as a BinaryIO does
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
                for info in archive:
                    name = _plain_name(path, info.name)
                    last = f"member {name}"
                    if not (info.isreg() or info.isdir()) or info.issparse():
                        raise ArchiveError(f"{path}: {last} is a link, a device or sparse. Refused.")
                    budget.admit(name, info.size)
                    stream.allow(info)
                    content = archive.extractfile(info)
                    if content is not None:
                        with _opened(content, f"{path}: {last}") as member:
                            yield name, member
                    archive.members.clear()  # else every header stays in memory
            clean = stream.drain()
        except (FileFormatError, ArchiveError):
            raise
        except _DAMAGE as error:
            raise _damaged(f"{path}: at or after {last}", error) from error
        if not clean:
            raise FileFormatError(
                f"{path}: what follows {last} is no member and no end: damaged. Get the archive again."
            )
        if not packed and stream.tail.strip(b"\0"):
            raise FileFormatError(f"{path}: breaks off after {last}: no end mark. Get the archive again.")
