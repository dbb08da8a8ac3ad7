"""Archives of Landsat tiles into shards, streamed and resumable.

Each archive is read once, front to back, and never unpacked to disk. Every finished shard stands on its own beside a
record of what it holds, so that a run that was killed goes on after the last of them. Memory holds one tile and the
records.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.npy import save_npy
from sustain.data.sustainbench import dhs
from sustain.data.sustainbench.encoding import LANDSAT_ENCODING, encode_landsat
from sustain.data.tiles.shards import shard_path, write_shard
from sustain.errors import DataError
from sustain.files import read_json, write_json

__all__ = ["PackedShard", "moments_path", "notes_of", "pack_shards", "places_of", "record_path"]


@dataclass
class PackedShard:
    """What one shard holds; the last one of an archive says so, and may hold nothing.

    Attributes
    ----------
    archive : str
        Name of the archive; a shard holds tiles of one.
    last : bool
        Whether the archive is done with it.
    side : int
        Side of a tile in pixels; 0 before the first tile.
    ids : list of str
        Tiles in the shard's order.
    notes : dict of list of str
        ``without_row``, ``without_pixel``, ``with_nan``, ``limited`` -> ids.
    limited : dict of int
        Values beyond the range of a DN, by band.
    """

    archive: str
    last: bool = False
    side: int = 0
    ids: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    limited: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> list[str]:
        """Ids that need not be looked at again."""
        return [*self.ids, *self.notes.get("without_pixel", [])]


def record_path(work: Path, shard: int) -> Path:
    """Return the path of a shard's record."""
    return work / f"shard-{shard:04d}.json"


def moments_path(work: Path, shard: int) -> Path:
    """Return the path of the moments of a shard's tiles."""
    return work / f"shard-{shard:04d}.moments.npy"


def places_of(shards: Sequence[PackedShard]) -> pd.DataFrame:
    """Return where every packed tile lies: ``id``, ``shard`` and ``row``, by shard and row."""
    places = [(name, k, row) for k, shard in enumerate(shards) for row, name in enumerate(shard.ids)]
    return pd.DataFrame(places, columns=["id", "shard", "row"])


def notes_of(shards: Sequence[PackedShard]) -> dict[str, list[str]]:
    """Return what was noted of tiles, kind by kind, the ids sorted."""
    kinds = sorted({kind for shard in shards for kind in shard.notes})
    return {kind: sorted(name for shard in shards for name in shard.notes.get(kind, [])) for kind in kinds}


def pack_shards(
    archives: Sequence[Path],
    wanted: Collection[str],
    work: Path,
    *,
    plan: Mapping[str, Any],
    known: Collection[str] | None = None,
    member: re.Pattern[str] = dhs.MEMBER,
    shard_tiles: int,
    pixel_m: float = 30,
    moments: bool = False,
) -> list[PackedShard]:
    """Pack tiles into the shards of a work folder, going on from those that an earlier run finished there.

    Parameters
    ----------
    archives : sequence of Path
    wanted : collection of str
        Ids of the tiles to pack.
    work : Path
        Folder of shards, their records and, if asked for, their moments. When it was begun with another plan or other
        archives, it is emptied first.
    plan : mapping
        JSON values; what the result depends on beside the archives and the parameters below.
    known : collection of str, optional
        Ids that have a row in a table; a tile of no known id is noted. By default `wanted`.
    member : Pattern
        What the names of tiles look like in an archive; its group ``id`` is the tile's id.
    shard_tiles : int
        Most tiles of a shard.
    pixel_m : float
        Side of a pixel in metres.
    moments : bool
        Whether to write each tile's moments, ``(n, bands, 3)``: number of values, mean, sum of squared deviations.

    Returns
    -------
    list of PackedShard
        By number of the shard.

    Raises
    ------
    FileNotFoundError
        When an archive is missing.
    FileFormatError
        When an archive or a tile is damaged, or tiles differ in size.
    DataError
        When a tile comes twice.
    DiskSpaceError
        When there is no room for another shard.
    """
    begun_with = {
        **plan,
        "archives": {archive.name: archive.stat().st_size for archive in archives},
        "shard_tiles": shard_tiles,
        "pixel_m": pixel_m,
        "moments": moments,
    }
    shards = _finished(work, begun_with)
    source = _Tiles(frozenset(wanted), frozenset(wanted if known is None else known), member, pixel_m)
    source.seen.update(name for shard in shards for name in shard.done)
    source.side = next((shard.side for shard in shards if shard.side), 0)
    whole = {shard.archive for shard in shards if shard.last}
    progress = tqdm(
        total=len(source.wanted), initial=len(source.seen), desc="pack tiles", unit="tile", disable=None
    )
    with progress as bar:
        for archive in archives:
            if archive.name in whole:
                continue
            # Only what an earlier run did of this archive is passed over: a tile that comes twice must be noticed.
            done = frozenset(name for shard in shards if shard.archive == archive.name for name in shard.done)
            tiles = source.read(archive, done)
            last = False
            while not last:
                number = len(shards)
                ids = _write_shard(work, number, tiles, shard_tiles, moments)
                last = len(ids) < shard_tiles
                shard = PackedShard(archive.name, last, source.side, ids, *source.take_notes())
                write_json(record_path(work, number), asdict(shard))
                shards.append(shard)
                bar.update(len(ids))
    return shards


def _finished(work: Path, plan: Mapping[str, Any]) -> list[PackedShard]:
    """Return the shards that an earlier run with the same plan finished; with another plan, empty the folder."""
    if not (work / "plan.json").is_file() or read_json(work / "plan.json") != plan:
        shutil.rmtree(work, ignore_errors=True)
        write_json(work / "plan.json", plan)
    shards: list[PackedShard] = []
    while (path := record_path(work, len(shards))).is_file():
        shard = PackedShard(**read_json(path))
        if shard.ids and not shard_path(work, len(shards)).is_file():
            break
        shards.append(shard)
    return shards


class _Tiles:
    """Encoded tiles of archives, and what there was to note about them since it was last asked."""

    def __init__(
        self, wanted: frozenset[str], known: frozenset[str], member: re.Pattern[str], pixel_m: float
    ) -> None:
        self.wanted, self.known, self.member, self.pixel_m = wanted, known, member, pixel_m
        self.seen: set[str] = set()
        self.side = 0
        self._notes: defaultdict[str, list[str]] = defaultdict(list)
        self._limited: Counter[str] = Counter()

    def read(self, archive: Path, done: frozenset[str]) -> Iterator[tuple[str, NDArray[np.uint16]]]:
        """Yield id and tile of what is wanted and not done."""
        for name, x in dhs.iter_tiles(archive, self.member, done):
            self.side = self.side or x.shape[1]
            dhs.require_square(x, self.side, f"{archive}: tile {name}")
            if name not in self.known:
                self._notes["without_row"].append(name)
            if name not in self.wanted:
                continue
            if name in self.seen:
                raise DataError(f"{archive}: tile {name} comes twice. Keep one of them.")
            self.seen.add(name)
            encoded = encode_landsat(x, self.pixel_m)
            if encoded.with_nan:
                self._notes["with_nan"].append(name)
            if encoded.limited.any():
                self._notes["limited"].append(name)
                self._limited.update(dict(zip(dhs.BANDS, encoded.limited.tolist(), strict=True)))
            if encoded.tile is None:
                self._notes["without_pixel"].append(name)
            else:
                yield name, encoded.tile

    def take_notes(self) -> tuple[dict[str, list[str]], dict[str, int]]:
        """Return notes and numbers of limited values, and forget them."""
        taken = {kind: sorted(ids) for kind, ids in self._notes.items()}, dict(self._limited)
        self._notes.clear()
        self._limited.clear()
        return taken


def _write_shard(
    work: Path,
    number: int,
    tiles: Iterator[tuple[str, NDArray[np.uint16]]],
    shard_tiles: int,
    with_moments: bool,
) -> list[str]:
    """Write the tiles as one shard, or nothing if there is none; return their ids."""
    ids: list[str] = []
    moments: list[NDArray[np.float64]] = []

    def told() -> Iterator[NDArray[np.uint16]]:
        for name, tile in tiles:
            ids.append(name)
            if with_moments:
                moments.append(_moments(tile))
            yield tile

    if write_shard(work, number, told(), shard_tiles) and with_moments:
        save_npy(moments_path(work, number), np.stack(moments))
    return ids


def _moments(tile: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Moments of the packed values; sums of whole numbers below 2**53, hence exact."""
    n, total, squares = np.zeros((3, len(tile)))
    for k, band in enumerate(tile):  # band by band, so that the work stays in the processor's cache
        numbers = band.ravel().astype(np.float64)
        n[k] = np.count_nonzero(band)  # a missing value is 0 and adds to neither sum
        total[k], squares[k] = numbers.sum(), numbers @ numbers
    mean = np.divide(total, n, out=np.zeros_like(total), where=n > 0)
    scale, offset = np.array([LANDSAT_ENCODING[band] for band in dhs.BANDS]).T
    return np.stack(
        [n, np.where(n > 0, scale * mean + offset, 0), scale**2 * np.maximum(squares - total * mean, 0)],
        axis=1,
    )
