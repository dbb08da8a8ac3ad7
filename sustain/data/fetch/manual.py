"""Files that a person got by hand: found, verified like fetched ones, copied into place, their checksums recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sustain.data.catalogue.manifest import Manifest, ManifestFile
from sustain.data.fetch.download import Attempts, Place
from sustain.data.fetch.lock import lock_path, read_lock, record, with_lock
from sustain.data.fetch.published import by_hand, with_all_below
from sustain.data.fetch.transfer import transfer
from sustain.errors import DataError, DownloadError

__all__ = ["add"]


def add(
    manifest: Manifest, source: str | Path, out: str | Path, *, attempts: Attempts | None = None
) -> tuple[list[Path], list[str]]:
    """Take files that were got by hand, verify them like fetched ones, and put copies in place.

    Parameters
    ----------
    manifest : Manifest
    source : str or Path
        A file, or a folder that holds files at their paths or by their names. May be `out` itself: then the files
        are verified and recorded where they are.
    out : str or Path
        The source's folder.
    attempts : Attempts, optional

    Returns
    -------
    placed : list of Path
        The files that were found, in place and verified. For a manifest that lists no files, all files of `source`.
    missing : list of str
        Paths of the manifest that are neither in `source` nor in `out`.

    Raises
    ------
    FileNotFoundError
        When there is no `source`.
    DataError
        When no file of the manifest is in it, or one is there twice.
    DownloadError
        When a file is not what the manifest (or the lock) describes.
    DiskSpaceError
        When there is no room.
    """
    source, out = Path(source).expanduser(), Path(out)
    if not source.exists():
        raise FileNotFoundError(f"--from {source}: no such file or folder.")
    lock = read_lock(manifest, out)
    known = with_lock(manifest, lock)
    if not manifest.files:
        known = _with_one(known, source) if source.is_file() else with_all_below(known, source)
    found = {file.path: place for file in known.files if (place := _find(manifest, file, source)) is not None}
    if not found:
        raise DataError(
            f"--from {source}: holds no file of {manifest.name!r}; expected {known.some_names()}."
        )
    there = [file for file in known.files if file.path in found]
    to_copy = [file for file in there if not _same(found[file.path], out / file.path)]
    for file in there:
        if file not in to_copy and (problem := file.problem_of(out / file.path)) is not None:
            raise DownloadError(f"{out / file.path} {problem}. Get it again. {by_hand(known, file)}")
    places: dict[str, Sequence[Place]] = {path: [place] for path, place in found.items()}
    arrived, failed = transfer(known.name, to_copy, places, out, attempts or Attempts(), workers=1)
    record(lock, out, there, arrived)
    if failed:
        lines = [line for _, why in failed for line in why]
        if any(file.path in lock.files for file, _ in failed):
            lines.append(
                f"What came first is recorded in {lock_path(out)}. If the publisher has replaced the file, delete its "
                "entry there and run again."
            )
        raise DownloadError(
            f"{out}: not the files of {manifest.name!r} ({manifest.title}):\n" + "\n".join(lines)
        )
    missing = [file.path for file in known.files if not (out / file.path).is_file()]
    return [out / file.path for file in there], missing


def _with_one(manifest: Manifest, file: Path) -> Manifest:
    known = {listed.path: listed for listed in manifest.files}
    files = known if file.name in known else known | {file.name: ManifestFile(path=file.name)}
    return manifest.model_copy(update={"files": tuple(files.values())})


def _find(manifest: Manifest, file: ManifestFile, source: Path) -> Path | None:
    name = Path(file.path).name
    if source.is_file():
        # Drive may give another name to a download; where only one file is expected, this is it.
        return source if source.name == name or len(manifest.files) == 1 else None
    for place in (source / file.path, source / manifest.mirror_folder / file.path):
        if place.is_file():
            return place
    inside = sorted(path for path in source.rglob("*") if path.name == name and path.is_file())
    if len(inside) > 1:
        raise DataError(f"--from {source}: {name} is there more than once: {', '.join(map(str, inside))}.")
    return inside[0] if inside else _copy_of_browser(name, source)


def _copy_of_browser(name: str, source: Path) -> Path | None:
    """Find a download that a browser named apart from an earlier one: ``name (1).zip`` for ``name.zip``."""
    endings = {Path(name).suffix} | ({".tar.gz"} if name.endswith(".tar.gz") else set())
    forms = [rf"{re.escape(name.removesuffix(end))} ?\(\d+\){re.escape(end)}" for end in sorted(endings)]
    pattern = re.compile("|".join(forms))
    inside = sorted(path for path in source.rglob("*") if pattern.fullmatch(path.name) and path.is_file())
    if len(inside) > 1:
        raise DataError(
            f"--from {source}: no {name}, but {len(inside)} copies of that name: {', '.join(map(str, inside))}. "
            f"Rename the right one to {name}."
        )
    return inside[0] if inside else None


def _same(place: Path, final: Path) -> bool:
    return final.exists() and place.samefile(final)
