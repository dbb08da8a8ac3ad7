"""What the files were when they first came: sizes and checksums where the publisher states none.

The lock of a source is one JSON file beside its folder of raw data. A file without a published checksum is taken as it
comes the first time; from then on it has to be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sustain.data.catalogue.manifest import Manifest, ManifestFile, RelativePath
from sustain.data.fetch.complete import problem_of_end
from sustain.data.fetch.download import Arrived
from sustain.data.fetch.transport import Refused, refuse_html, refuse_other_kind
from sustain.errors import DataError, FileFormatError
from sustain.files import read_json, sha256_of, write_json

__all__ = [
    "Lock",
    "Locked",
    "lock_path",
    "read_lock",
    "record",
    "require_unchanged",
    "way_out",
    "with_lock",
    "write_lock",
]

HASHED_UP_TO = (
    4_000_000_000  # bytes of a file; above, ingesting compares sizes alone and leaves sha256 to `verify`
)


class Locked(BaseModel):
    """One file as it first came."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Lock(BaseModel):
    """The files of one source whose checksums the manifest does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    files: dict[RelativePath, Locked] = {}


def lock_path(folder: str | Path) -> Path:
    """Return the place of the lock of a source's folder: beside it, so that the folder holds published bytes only."""
    place = Path(folder)
    return place.with_name(f"{place.name}.lock.json")


def read_lock(manifest: Manifest, folder: str | Path) -> Lock:
    """Read the lock of a source; an empty one where there is none.

    Raises
    ------
    FileFormatError
        When the file is damaged, or is another source's.
    """
    path = lock_path(folder)
    if not path.exists():
        return Lock(source=manifest.name)
    try:
        lock = Lock.model_validate(read_json(path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise FileFormatError(
            f"{path}: not a lock of checksums: {problems}. Restore it, or delete it to take the files as they are."
        ) from error
    if lock.source != manifest.name:
        raise FileFormatError(f"{path}: the lock of {lock.source!r}, not of {manifest.name!r}.")
    return lock


def write_lock(lock: Lock, folder: str | Path) -> None:
    """Write a lock; one without files is not written."""
    if lock.files:
        write_json(lock_path(folder), lock.model_dump())


def with_lock(manifest: Manifest, lock: Lock) -> Manifest:
    """Return the manifest with the sizes and checksums that the lock knows.

    What the manifest states goes first. Where it lists no files, because nobody has seen the publisher's list, the
    lock's are listed.
    """
    if not manifest.files:
        files = tuple(ManifestFile(path=path, **known.model_dump()) for path, known in lock.files.items())
    else:
        files = tuple(
            file.model_copy(update={"sha256": file.sha256 or known.sha256, "size": known.size})
            if (known := lock.files.get(file.path)) is not None and file.sha256 is None
            else file
            for file in manifest.files
        )
    return manifest.model_copy(update={"files": files})


def require_unchanged(manifest: Manifest, folder: str | Path) -> None:
    """Refuse files that are not the published ones, or not those that first came.

    Sizes are compared always, sha256 for files of up to 4 GB. Files that are not there are passed over.

    Parameters
    ----------
    manifest : Manifest
    folder : str or Path
        The source's folder.

    Raises
    ------
    DataError
        When a file differs from the manifest or the lock. The message names each.
    """
    folder = Path(folder)
    wrong = []
    for file in with_lock(manifest, read_lock(manifest, folder)).files:
        place = folder / file.path
        if not place.is_file():
            continue
        if place.stat().st_size > HASHED_UP_TO:
            file = file.model_copy(update={"sha256": None})
        if (problem := file.problem_of(place)) is not None:
            wrong.append(f"{place} {problem}")
    if wrong:
        raise DataError("\n".join(wrong) + f"\nNothing was ingested. {way_out(manifest, folder)}")


def way_out(manifest: Manifest, folder: str | Path) -> str:
    """Say what to do about a file that differs from the manifest or the lock."""
    lock = lock_path(folder)
    again = f"delete the file and get it again (sustain data fetch {manifest.name}, or sustain data add)"
    if not lock.is_file():
        return f"What to do: {again}."
    return (
        f"What to do: {again}. Where the publisher states no checksum, the first copy's is kept in {lock}: if that "
        "copy was the wrong one, or the publisher has replaced the file, delete its entry there too."
    )


def record(lock: Lock, out: Path, files: Sequence[ManifestFile], arrived: Sequence[Arrived]) -> None:
    """Write down the size and checksum of every file in place whose checksum nobody has stated.

    Parameters
    ----------
    lock : Lock
        What is known already; it is kept.
    out : Path
        The source's folder.
    files : sequence of ManifestFile
        The files in question.
    arrived : sequence of Arrived
        Those that came in this run, whose checksums were computed on the way.

    Raises
    ------
    FileFormatError
        When a file that somebody has put there is an HTML page, not of the kind that its name says, or truncated.
    """
    new = {came.file.path: Locked(size=came.size, sha256=came.sha256) for came in arrived}
    recorded = dict(lock.files)
    for file in files:
        place = out / file.path
        if file.sha256 is not None or file.path in recorded or not place.is_file():
            continue
        if file.path not in new:  # put there by hand before this run
            _check_kind(place, ends=file.size is None)
        recorded[file.path] = new.get(file.path) or Locked(size=place.stat().st_size, sha256=sha256_of(place))
    if recorded != lock.files:
        write_lock(lock.model_copy(update={"files": recorded}), out)


def _check_kind(place: Path, ends: bool) -> None:
    with place.open("rb") as content:
        head = content.read(1 << 12)
    try:
        refuse_html(head, False, place.name)
        refuse_other_kind(head, place.name)
        if ends and (problem := problem_of_end(place, place.name)) is not None:
            raise Refused(problem)
    except Refused as error:
        raise FileFormatError(f"{place}: {error}. Remove it and get it again.") from error
