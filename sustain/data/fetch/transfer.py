"""Several files on their way into one folder at one time: one bar, one run a folder, parts kept when it is ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import Any

from tqdm import tqdm

from sustain.data.catalogue.manifest import ManifestFile
from sustain.data.fetch.download import Arrived, Attempts, Download, NotHad, Place
from sustain.errors import DownloadError
from sustain.files import only_run, require_free_space

__all__ = ["transfer"]


def transfer(
    name: str,
    files: Sequence[ManifestFile],
    places: Mapping[str, Sequence[Place]],
    out: Path,
    attempts: Attempts,
    workers: int,
) -> tuple[list[Arrived], list[tuple[ManifestFile, list[str]]]]:
    """Bring several files at a time into a folder.

    Parameters
    ----------
    name : str
        Name of the source, for the bar and messages.
    files : sequence of ManifestFile
    places : mapping of str to sequence of places
        Where to ask for the file of each path, one after the other.
    out : Path
        The folder. What has arrived so far waits in ``.partial-<folder>`` beside it.
    attempts : Attempts
    workers : int
        Files at one time.

    Returns
    -------
    arrived : list of Arrived
    failed : list of (ManifestFile, list of str)
        Files that no place gave, with the reason of each place.

    Raises
    ------
    DownloadError
        When another run is at work in the folder.
    DiskSpaceError
        When there is no room. The other files stop, too; their parts are kept.
    """
    if not files:
        return [], []
    place = out.resolve()
    parts = place.with_name(f".partial-{place.name}")
    still = sum(max((file.size or 0) - _size_of(parts / file.path), 0) for file in files)
    require_free_space(out, still, f"fetching {name}")
    arrived: dict[str, Arrived] = {}
    failed: dict[str, list[str]] = {}
    stop = Event()
    total = sum(file.size or 0 for file in files)
    with (
        _parts_alone(parts),
        tqdm(total=total or None, desc=name, unit="B", unit_scale=True, disable=None) as bar,
        ThreadPoolExecutor(min(workers, len(files))) as pool,
    ):
        show = _Positions(bar)
        running: dict[Future[Arrived], ManifestFile] = {}
        for file in files:
            download = Download(file, out / file.path, parts / file.path, attempts, show.of(file.path), stop)
            running[pool.submit(download.run, places[file.path])] = file
        try:
            for future in as_completed(running):
                path = running[future].path
                try:
                    arrived[path] = future.result()
                except NotHad as error:
                    failed[path] = error.failures
        except BaseException:  # no room, or the user's interrupt
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return (
        [arrived[file.path] for file in files if file.path in arrived],
        [(file, failed[file.path]) for file in files if file.path in failed],
    )


@contextmanager
def _parts_alone(parts: Path) -> Iterator[None]:
    """Keep other runs out of the folder of parts; leave nothing empty behind."""
    busy = DownloadError(f"{parts}: another run is fetching into this folder. Wait for it, or stop it.")
    with only_run(parts, busy):
        try:
            yield
        finally:
            _tidy(parts)


class _Positions:
    """Moves one bar by what several files have reached, backwards too."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar, self._lock, self._at = bar, Lock(), dict[str, int]()

    def of(self, path: str) -> Callable[[int], None]:
        def show(position: int) -> None:
            with self._lock:
                self._bar.update(position - self._at.get(path, 0))
                self._at[path] = position

        return show


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tidy(parts: Path) -> None:
    """Remove what holds nothing, the notes of what is gone, and the folder itself last."""
    for path in parts.rglob("*"):
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
    for note in parts.rglob(".from-*.json"):
        if not note.with_name(note.name.removeprefix(".from-").removesuffix(".json")).exists():
            note.unlink()
    for path in [*sorted(parts.rglob("*"), reverse=True), parts]:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
