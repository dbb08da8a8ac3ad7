"""Getting the files of a manifest: resumed after a break, verified on the way, in place only when whole.

Files come from a mirror (a folder, or an address) where one is given, else from their publisher, by https or from
Google Drive. Whatever the place, size and sha256 are those of the manifest, or, where the publisher states none, those
of the first copy (`sustain.data.fetch.lock`). What has arrived of a file waits in ``.partial-<folder>`` beside the
target folder: a run that was killed goes on where it stopped, and the target never holds a fragment.

`pooch` would fetch and verify, but starts anew after a break; so the loop over attempts is in
`sustain.data.fetch.download`, on `requests`.
"""

from __future__ import annotations

import os
import warnings
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import quote

from sustain.data.catalogue.manifest import Manifest, ManifestFile
from sustain.data.fetch.download import Attempts, Place
from sustain.data.fetch.drive import DriveFile
from sustain.data.fetch.lock import read_lock, record, way_out, with_lock
from sustain.data.fetch.transfer import transfer
from sustain.errors import DataError, DownloadError, MirrorWarning

__all__ = ["MIRROR_VARIABLE", "Attempts", "by_hand", "fetch"]

MIRROR_VARIABLE = "SUSTAIN_MIRROR"
# Notes, pages and half downloads that lie beside data.
STRAY = frozenset({".txt", ".md", ".pdf", ".html", ".htm", ".doc", ".docx", ".ini", ".part", ".crdownload"})


def fetch(
    manifest: Manifest,
    out: str | Path,
    mirror: str | Path | None = None,
    *,
    only: str | None = None,
    workers: int = 4,
    attempts: Attempts | None = None,
) -> list[Path]:
    """Bring the files of a manifest into a folder, verified.

    Files that are there and right are left alone. A file is moved into place when its size and checksum are right,
    and not before. Checksums that the manifest does not know are recorded beside the folder when a file first comes.

    Parameters
    ----------
    manifest : Manifest
    out : str or Path
        The source's folder; files get the paths that the manifest gives them.
    mirror : str or Path, optional
        A folder, or an http(s) address, with the layout ``<manifest.mirror_folder>/<path>``. Asked first; the
        publisher is asked for what it lacks (`MirrorWarning`). By default what ``SUSTAIN_MIRROR`` says.
    only : str, optional
        Pattern of the paths wanted, such as ``dhs_AL_*``.
    workers : int
        Files on their way at one time.
    attempts : Attempts, optional
        How patient to be.

    Returns
    -------
    list of Path
        The files, in the manifest's order.

    Raises
    ------
    DownloadError
        When a file cannot be had, or what comes is not what the manifest describes. The other files are in place.
    DataError
        When `only` fits no file.
    DiskSpaceError
        When there is no room.
    """
    out = Path(out)
    base = _mirror_base(mirror or os.environ.get(MIRROR_VARIABLE) or None)
    lock = read_lock(manifest, out)
    known = with_lock(manifest, lock)
    if not manifest.files and isinstance(base, Path) and (base / manifest.mirror_folder).is_dir():
        known = with_all_below(known, base / manifest.mirror_folder)
    if not known.files:
        raise DownloadError(
            f"{out}: what {manifest.name!r} ({manifest.title}) consists of is not known, so it cannot be fetched. "
            + by_hand(manifest, None)
        )
    wanted = [file for file in known.files if only is None or fnmatch(file.path, only)]
    if not wanted:
        raise DataError(f"--only {only}: no file of {manifest.name!r} fits; it has {known.some_names()}.")
    missing = [file for file in wanted if file.problem_of(out / file.path) is not None]
    tasks = {file.path: _places(manifest, file, base) for file in missing}
    arrived, failed = transfer(known.name, missing, tasks, out, attempts or Attempts(), workers)
    record(lock, out, wanted, arrived)
    for came in arrived:
        if came.failures:
            message = f"{came.file.path} was fetched from {came.place}, because:\n" + "\n".join(came.failures)
            warnings.warn(message, MirrorWarning, stacklevel=2)
    if failed:
        advice = [_advice(known, file, out, why, base) for file, why in failed]
        left = f"\n\nand {len(advice) - 3} more files of {manifest.name!r}" if len(advice) > 3 else ""
        if any(file.path in lock.files for file, _ in failed):
            left += f"\n\n{way_out(manifest, out)}"
        raise DownloadError("\n\n".join(advice[:3]) + left)
    return [out / file.path for file in wanted]


def with_all_below(manifest: Manifest, folder: Path) -> Manifest:
    """Add every file of data below a folder to a manifest whose publisher's list nobody has seen.

    Hidden files, and files for people (`STRAY`), are not the source's.
    """
    known = {file.path: file for file in manifest.files}
    inside = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    paths = [path.relative_to(folder).as_posix() for path in inside if not _is_stray(path)]
    here = {path: known.get(path) or ManifestFile(path=path) for path in paths}
    return manifest.model_copy(update={"files": tuple((known | here).values())})


def _is_stray(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix.lower() in STRAY


def _places(manifest: Manifest, file: ManifestFile, mirror: str | Path | None) -> list[Place]:
    below = f"{manifest.mirror_folder}/{file.path}"
    first: list[Place] = []
    if isinstance(mirror, Path):
        first = [mirror / below]
    elif mirror is not None:
        first = [f"{mirror.rstrip('/')}/{quote(below)}"]
    published: list[Place] = [file.url] if file.url is not None else []
    drive: list[Place] = [DriveFile(file.drive_id)] if file.drive_id is not None else []
    return [*first, *published, *drive, *file.mirrors]


def by_hand(manifest: Manifest, file: ManifestFile | None) -> str:
    """Say how a person gets the file, or the source."""
    drive = str(DriveFile(file.drive_id)) if file is not None and file.drive_id is not None else None
    address = drive or (file and file.url) or manifest.folder_address or manifest.homepage or "its publisher"
    how = manifest.by_hand or f"get it by hand from {address}"
    return f"What to do: {how}, then `sustain data add {manifest.name} --from PATH`."


def _advice(
    manifest: Manifest, file: ManifestFile, out: Path, failures: list[str], mirror: str | Path | None
) -> str:
    place = out / file.path
    below = f"{manifest.mirror_folder}/{file.path}"
    marks = ", ".join(
        ([f"{file.size:,} bytes"] if file.size is not None else [])
        + ([f"sha256 {file.sha256}"] if file.sha256 is not None else [])
    )
    lines = [f"{place} could not be fetched ({manifest.title}).", *failures]
    if not failures:
        lines.append("  - no address is known for it.")
    lines.append("What can be done:")
    if mirror is None:
        lines.append(
            f"  - without internet: set {MIRROR_VARIABLE}, or pass --mirror, to a folder or address "
            f"that holds {below};"
        )
    else:
        lines.append(f"  - put the file into the mirror as {below};")
    how = by_hand(manifest, file).removeprefix("What to do: ")
    lines.append(f"  - {how}{f' It has {marks}.' if marks else ''}")
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
