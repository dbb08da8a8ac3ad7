"""Getting the files of a manifest: resumed after a break, verified on the way, in place only when whole.

Files come from a mirror (a folder, or an address) where one is given, else from their publisher. Whatever the place,
size and sha256 are those of the manifest. What has arrived of a file so far waits in ``.partial-<folder>`` beside
the target folder, so that a run that was killed goes on where it stopped and the target never holds a fragment.

`pooch` would fetch and verify, but starts anew after a break; so the loop over attempts is here, on `requests`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from tqdm import tqdm

from sustain.data.manifest import Manifest, ManifestFile
from sustain.data.transport import Interrupted, Refused, Stream, open_stream, refuse_html
from sustain.errors import DiskSpaceError, DownloadError, MirrorWarning
from sustain.files import require_free_space

__all__ = ["MIRROR_VARIABLE", "Attempts", "fetch"]

MIRROR_VARIABLE = "SUSTAIN_MIRROR"


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


def fetch(
    manifest: Manifest,
    out: str | Path,
    mirror: str | Path | None = None,
    *,
    attempts: Attempts | None = None,
) -> list[Path]:
    """Bring the files of a manifest into a folder, verified.

    Files that are there and right are left alone. A file is moved into place when its size and checksum are right,
    and not before.

    Parameters
    ----------
    manifest : Manifest
    out : str or Path
        The source's folder; files get the paths that the manifest gives them.
    mirror : str or Path, optional
        A folder, or an http(s) address, with the layout ``<manifest.mirror_folder>/<path>``. Asked first; the
        publisher is asked for what it lacks (`MirrorWarning`). By default what ``SUSTAIN_MIRROR`` says.
    attempts : Attempts, optional
        How patient to be.

    Returns
    -------
    list of Path
        The files, in the manifest's order.

    Raises
    ------
    DownloadError
        When a file cannot be had, or what comes is not what the manifest describes.
    DiskSpaceError
        When there is no room.
    """
    out = Path(out)
    base = _mirror_base(mirror or os.environ.get(MIRROR_VARIABLE) or None)
    missing = [file for file in manifest.files if file.problem_of(out / file.path) is not None]
    if missing:
        place = out.resolve()
        _fetch_missing(
            manifest, missing, out, place.with_name(f".partial-{place.name}"), base, attempts or Attempts()
        )
    return [out / file.path for file in manifest.files]


def _fetch_missing(
    manifest: Manifest,
    missing: list[ManifestFile],
    out: Path,
    parts: Path,
    base: str | Path | None,
    attempts: Attempts,
) -> None:
    still = sum(max((file.size or 0) - _size_of(parts / file.path), 0) for file in missing)
    require_free_space(out, still, f"fetching {manifest.name}")
    total = sum(file.size or 0 for file in missing)
    with (
        _only_run(parts),
        tqdm(total=total, desc=manifest.name, unit="B", unit_scale=True, disable=None) as bar,
    ):
        for file in missing:
            _Download(manifest, file, out, parts, attempts, _position(bar)).run(base)


@dataclass(frozen=True)
class _Download:
    """One file on its way."""

    manifest: Manifest
    file: ManifestFile
    out: Path
    parts: Path
    attempts: Attempts
    show: Callable[[int], None]

    def run(self, mirror: str | Path | None) -> None:
        """Try the mirror, then the publisher, then the publisher's mirrors."""
        places = self._places(mirror)
        failures = []
        for place in places:
            try:
                self._from(place)
            except Refused as error:
                failures.append(f"  - {place}: {error}.")
                continue
            if failures:
                warnings.warn(
                    f"{self.file.path} was fetched from {place}, because:\n" + "\n".join(failures),
                    MirrorWarning,
                    stacklevel=3,
                )
            return
        raise DownloadError(self._advice(failures, mirror))

    def _places(self, mirror: str | Path | None) -> list[str | Path]:
        below = f"{self.manifest.mirror_folder}/{self.file.path}"
        first: list[str | Path] = []
        if isinstance(mirror, Path):
            first = [mirror / below]
        elif mirror is not None:
            first = [f"{mirror.rstrip('/')}/{quote(below)}"]
        published = [self.file.url] if self.file.url is not None else []
        return [*first, *published, *self.file.mirrors]

    def _from(self, place: str | Path) -> None:
        """Ask one place until the file is whole, or until it fails too often without a new byte."""
        part = self.parts / self.file.path
        part.parent.mkdir(parents=True, exist_ok=True)
        furthest = _size_of(part)
        failed = 0
        while True:
            try:
                self._receive(place, part)
                break
            except Interrupted as error:
                # Progress counts from the furthest point reached: a server that gives no ranges and breaks off at the
                # same byte every time makes none.
                failed = 1 if _size_of(part) > furthest else failed + 1
                furthest = max(furthest, _size_of(part))
                if failed >= self.attempts.limit:
                    raise Refused(f"{error}; given up after {failed} attempts in a row") from error
                time.sleep(self.attempts.pause * 2 ** (failed - 1))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise DiskSpaceError(
                    f"{self.out / self.file.path}: the disk filled up while fetching; nothing was put in place. What "
                    f"arrived is kept in {self.parts}: free some space and run again to go on from there."
                ) from error
        final = self.out / self.file.path
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, final)

    def _receive(self, place: str | Path, part: Path) -> None:
        with part.open("ab") as target:
            # Without a checksum nothing would show that the rest belongs to another version of the file.
            if self.file.sha256 is None or (self.file.size is not None and target.tell() > self.file.size):
                target.truncate(0)
            digest = hashlib.sha256()
            resumed = _add_to(digest, part)
            self.show(resumed)
            if self.file.size is None or resumed < self.file.size:
                with open_stream(place, resumed, self.attempts.timeout) as stream:
                    if stream.start == 0 and resumed:
                        target.truncate(0)
                        digest, resumed = hashlib.sha256(), 0
                    self._write(stream, target, digest)
            target.flush()
            os.fsync(target.fileno())
            if self.file.sha256 is not None and digest.hexdigest() != self.file.sha256:
                target.truncate(0)
                if resumed:  # perhaps the earlier part was of something else
                    raise Interrupted("what had arrived before did not fit the rest")
                raise Refused(f"wrong checksum: sha256 {digest.hexdigest()} instead of {self.file.sha256}")

    def _write(self, stream: Stream, target: BinaryIO, digest: hashlib._Hash) -> None:
        expected = self.file.size
        if not stream.html and None not in (expected, stream.total) and stream.total != expected:
            raise Refused(f"wrong size: it offers {stream.total:,} bytes instead of {expected:,}")
        if expected is None and stream.total is not None:
            require_free_space(target.name, stream.total - stream.start, self.file.path)
        position = stream.start
        for chunk in stream.chunks:
            if position == 0:
                refuse_html(chunk, stream.html, self.file.path)
            position += len(chunk)
            if expected is not None and position > expected:
                target.truncate(0)
                raise Refused(f"wrong size: more came than the {expected:,} bytes expected")
            target.write(chunk)
            digest.update(chunk)
            self.show(position)
        whole = expected if expected is not None else stream.total
        if whole is not None and position < whole:
            raise Interrupted(f"it broke off after {position:,} of {whole:,} bytes")

    def _advice(self, failures: list[str], mirror: str | Path | None) -> str:
        file, place = self.file, self.out / self.file.path
        below = f"{self.manifest.mirror_folder}/{file.path}"
        marks = ", ".join(
            ([f"{file.size:,} bytes"] if file.size is not None else [])
            + ([f"sha256 {file.sha256}"] if file.sha256 is not None else [])
        )
        lines = [f"{place} could not be fetched ({self.manifest.title}).", *failures, "What can be done:"]
        if mirror is None:
            lines.append(
                f"  - without internet: set {MIRROR_VARIABLE}, or pass --mirror, to a folder or address "
                f"that holds {below};"
            )
        else:
            lines.append(f"  - put the file into the mirror as {below};")
        how = (
            self.manifest.by_hand
            or f"get it by hand from {file.url or self.manifest.homepage or 'its publisher'}"
        )
        lines.append(f"  - {how} and put it at {place}{f' ({marks})' if marks else ''}; then run again.")
        return "\n".join(lines)


def _mirror_base(mirror: str | Path | None) -> str | Path | None:
    if mirror is None or str(mirror).startswith(("http://", "https://")):
        return mirror if mirror is None else str(mirror)
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        raise DownloadError(
            f"mirror {mirror}: no such folder. {MIRROR_VARIABLE} and --mirror take a folder or an http(s) address."
        )
    return folder


@contextmanager
def _only_run(parts: Path) -> Iterator[None]:
    """Keep other runs out of the folder of parts; leave nothing empty behind."""
    parts.mkdir(parents=True, exist_ok=True)
    folder = os.open(parts, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(
                f"{parts}: another run is fetching into this folder. Wait for it, or stop it."
            ) from error
        except OSError:
            pass  # some network file systems have no locks; checksums still guard what is put in place
        try:
            yield
        finally:
            _tidy(parts)
    finally:
        os.close(folder)


def _add_to(digest: hashlib._Hash, part: Path) -> int:
    with part.open("rb") as arrived:
        while block := arrived.read(1 << 20):
            digest.update(block)
        return arrived.tell()


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _position(bar: tqdm[Any]) -> Callable[[int], None]:
    """Return a function that moves the bar to a position in the file now beginning, backwards too."""
    before = bar.n

    def show(position: int) -> None:
        bar.update(before + position - bar.n)

    return show


def _tidy(parts: Path) -> None:
    """Remove what holds nothing, the folder itself last."""
    for path in [*sorted(parts.rglob("*"), reverse=True), parts]:
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
