"""One file on its way: asked of one place after the other, resumed after a break, verified while it streams.

What has arrived waits as a part beside the target folder. A part is gone on with when the file's checksum is known (it
will show whether the pieces fit), or when the place says that it still has the version from which the part came; a note
beside the part keeps what it said.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import BinaryIO

from sustain.data.catalogue.manifest import ManifestFile
from sustain.data.fetch.complete import problem_of_end
from sustain.data.fetch.drive import DriveFile, open_drive
from sustain.data.fetch.transport import (
    Interrupted,
    Refused,
    Stream,
    open_stream,
    refuse_html,
    refuse_other_kind,
)
from sustain.errors import DiskSpaceError
from sustain.files import read_json, require_free_space, write_json

__all__ = ["Arrived", "Attempts", "Download", "NotHad", "Place", "Stopped"]

Place = str | Path | DriveFile


@dataclass(frozen=True)
class Attempts:
    """How patient a download is.

    Attributes
    ----------
    limit : int
        Attempts in a row without a new byte, after which a place is given up.
    pause : float
        Seconds before the second attempt; doubled before each further one.
    timeout : float
        Seconds of silence that end an attempt.
    """

    limit: int = 5
    pause: float = 1.0
    timeout: float = 30.0


class NotHad(Exception):
    """No place gave the file; `failures` says why, one line a place."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("\n".join(failures))
        self.failures = failures


class Stopped(Exception):
    """Another file's failure, or the user, ended the run."""


@dataclass(frozen=True)
class Arrived:
    """A file that is in place.

    Attributes
    ----------
    file : ManifestFile
    size, sha256
        What came.
    place : str, Path or DriveFile
        Where it came from.
    failures : list of str
        What went wrong at the places asked before.
    """

    file: ManifestFile
    size: int
    sha256: str
    place: Place
    failures: list[str]


@dataclass
class Download:
    """One file on its way to `final`, by way of `part`.

    Attributes
    ----------
    file : ManifestFile
    final, part : Path
    attempts : Attempts
    show : callable
        Told the position in the file as it grows, and as it falls back.
    stop : Event
        Ends the work between two chunks.
    """

    file: ManifestFile
    final: Path
    part: Path
    attempts: Attempts
    show: Callable[[int], None]
    stop: Event = field(default_factory=Event)
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, init=False)
    _hashed: int = field(default=0, init=False)

    def run(self, places: Sequence[Place]) -> Arrived:
        """Ask one place after the other until one gives the file.

        Raises
        ------
        NotHad
            When none does.
        Stopped
            When `stop` is set.
        DiskSpaceError
            When there is no room.
        """
        failures: list[str] = []
        for place in places:
            try:
                self._from(place)
            except Refused as error:
                failures.append(f"  - {place}: {error}.")
                continue
            return Arrived(self.file, self._hashed, self._digest.hexdigest(), place, failures)
        raise NotHad(failures)

    def _from(self, place: Place) -> None:
        """Ask one place until the file is whole, or until it fails too often without a new byte."""
        self.part.parent.mkdir(parents=True, exist_ok=True)
        furthest = self.part.stat().st_size if self.part.exists() else 0
        failed = 0
        while True:
            try:
                self._receive(place)
                break
            except Interrupted as error:
                # Progress counts from the furthest point reached: a server that gives no ranges and breaks off at the
                # same byte every time makes none.
                failed = 1 if self._hashed > furthest else failed + 1
                furthest = max(furthest, self._hashed)
                if failed >= self.attempts.limit:
                    raise Refused(f"{error}; given up after {failed} attempts in a row") from error
                if self.stop.wait(max(self.attempts.pause * 2 ** (failed - 1), error.wait)):
                    raise Stopped from error
            except OSError as error:
                if error.errno != errno.ENOSPC or isinstance(error, DiskSpaceError):
                    raise
                raise DiskSpaceError(
                    f"{self.final}: the disk filled up while fetching; nothing was put in place. What arrived is "
                    f"kept in {self.part}: free some space and run again to go on from there."
                ) from error
        self.final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.part, self.final)
        self._note.unlink(missing_ok=True)

    def _receive(self, place: Place) -> None:
        with self.part.open("ab") as target:
            if not self._may_go_on(place, target.tell()):
                self._start_over(target)
            resumed = self._hash(target.tell())
            self.show(resumed)
            if self.file.size is None or resumed < self.file.size:
                with self._opened(place, resumed) as stream:
                    if resumed and not self._continues(stream, resumed):
                        self._start_over(target)
                        if stream.start:
                            raise Interrupted("it has another version of the file by now")
                    self._write(stream, target, place)
            target.flush()
            os.fsync(target.fileno())
            if self.file.sha256 is not None and self._digest.hexdigest() != self.file.sha256:
                found = self._digest.hexdigest()
                self._start_over(target)
                if resumed:  # perhaps the earlier part was of something else
                    raise Interrupted("what had arrived before did not fit the rest")
                raise Refused(f"wrong checksum: sha256 {found} instead of {self.file.sha256}")
            unstated = self.file.sha256 is None and self.file.size is None
            if unstated and (problem := problem_of_end(self.part, self.file.path)) is not None:
                self._start_over(target)
                raise Refused(problem)

    def _opened(self, place: Place, start: int) -> AbstractContextManager[Stream]:
        if isinstance(place, DriveFile):
            return open_drive(place, start, self.attempts.timeout)
        return open_stream(place, start, self.attempts.timeout)

    # ---- the part, and what it came from

    @property
    def _note(self) -> Path:
        return self.part.with_name(f".from-{self.part.name}.json")

    def _may_go_on(self, place: Place, arrived: int) -> bool:
        if self.file.size is not None and arrived > self.file.size:
            return False
        return self.file.sha256 is not None or (self._noted() or {}).get("place") == str(place)

    def _continues(self, stream: Stream, resumed: int) -> bool:
        if stream.start != resumed:
            return False
        noted = self._noted() or {}
        return self.file.sha256 is not None or noted.get("version") == [stream.total, stream.version]

    def _noted(self) -> dict[str, object] | None:
        if not self._note.exists():
            return None
        noted = read_json(self._note)
        return noted if isinstance(noted, dict) else None

    def _start_over(self, target: BinaryIO) -> None:
        target.truncate(0)
        self._digest, self._hashed = hashlib.sha256(), 0
        self._note.unlink(missing_ok=True)

    def _hash(self, arrived: int) -> int:
        """Make the digest that of the part; it is read only where that is not known already."""
        if self._hashed != arrived:
            self._digest, self._hashed = hashlib.sha256(), 0
            with self.part.open("rb") as content:
                while block := content.read(1 << 20):
                    self._digest.update(block)
                    self._hashed += len(block)
        return self._hashed

    def _write(self, stream: Stream, target: BinaryIO, place: Place) -> None:
        expected = self.file.size
        if not stream.html and None not in (expected, stream.total) and stream.total != expected:
            if stream.start == 0:  # a page that says why is better named than measured
                refuse_html(next(stream.chunks, b""), False, self.file.path)
            raise Refused(f"wrong size: it offers {stream.total:,} bytes instead of {expected:,}")
        if expected is None and stream.total is not None:
            require_free_space(target.name, stream.total - stream.start, self.file.path)
        # Drive may name no version; its ids belong to one upload, so that an equal size is enough there.
        named = stream.version is not None or isinstance(place, DriveFile)
        if stream.start == 0 and self.file.sha256 is None and stream.total is not None and named:
            write_json(self._note, {"place": str(place), "version": [stream.total, stream.version]})
        for chunk in stream.chunks:
            if self.stop.is_set():
                raise Stopped
            if self._hashed == 0:
                refuse_html(chunk, stream.html, self.file.path)
                if self.file.sha256 is None:
                    refuse_other_kind(chunk, self.file.path)
            if expected is not None and self._hashed + len(chunk) > expected:
                self._start_over(target)
                raise Refused(f"wrong size: more came than the {expected:,} bytes expected")
            target.write(chunk)
            self._digest.update(chunk)
            self._hashed += len(chunk)
            self.show(self._hashed)
        whole = expected if expected is not None else stream.total
        if whole is not None and self._hashed < whole:
            raise Interrupted(f"it broke off after {self._hashed:,} of {whole:,} bytes")
        if self._hashed == 0 and expected is None and self.file.sha256 is None:
            raise Refused("an empty file came")
