"""Eight-band Landsat and nightlights tiles of DHS and LSMS: packed tiles with their tables, and samples out of them."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.data.csvtable import some_of
from sustain.data.npy import save_npy
from sustain.data.sustainbench import dhs, figures
from sustain.data.sustainbench.channels import ChannelStatistics, merge_moments
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.encoding import landsat_format
from sustain.data.sustainbench.packing import (
    PackedShard,
    moments_path,
    notes_of,
    pack_shards,
    places_of,
)
from sustain.data.sustainbench.source import Scheme, Source, write_tables
from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, DataWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CHANNELS", "LandsatDataset", "LandsatSource", "pack_archives"]

CHANNELS = (*dhs.BANDS[:-1], "DMSP", "VIIRS")
"""Channels of a sample: the nightlights band of the file is DMSP up to 2011 and VIIRS after, two sensors that do not
compare, so each has a channel and the other one is missing."""

LAST_DMSP_YEAR = 2011
SHARD_TILES = 512
_NOTES = {
    "without_row": "tile(s) without a row in the label table were left out",
    "without_pixel": "tile(s) without one valid pixel were left out",
    "with_nan": "tile(s) hold NaN or infinite values, which now count as missing",
    "limited": "tile(s) hold values beyond the range of a DN, which were set to its nearer end",
    "without_tile": "site(s) with a label have no tile",
}


def pack_archives(
    archives: Sequence[Path],
    sites: pd.DataFrame,
    out: str | Path,
    schemes: Mapping[str, Scheme],
    member: re.Pattern[str],
    shard_tiles: int = SHARD_TILES,
) -> None:
    """Pack the tiles of some sites, and write the tables beside them.

    Parameters
    ----------
    archives : sequence of Path
    sites : DataFrame
        One row a site: ``id``, ``group``, ``year``, labels, ``split:SCHEME`` columns. Those without a tile are left
        out.
    out : str or Path
        Folder to write. It appears when all is packed; until then finished shards wait in a hidden folder beside it,
        and the next call goes on from them.
    schemes : mapping
    member : Pattern
        What the names of tiles look like in an archive; its group ``id`` is the site's id.
    shard_tiles : int
        Tiles a shard; a shard holds tiles of one archive.

    Raises
    ------
    FileNotFoundError
        When an archive is missing.
    FileFormatError
        When an archive or a tile is damaged, or tiles differ in size.
    DataError
        When a tile comes twice, or no site has a usable tile.

    Warns
    -----
    DataWarning
        For each kind of thing left out or changed: how many, and the first of them.
    """
    out = Path(out)
    work = out.with_name(f".packing-{out.name}")
    shards = pack_shards(
        archives,
        set(sites["id"]),
        work,
        plan={"sites": len(sites)},
        member=member,
        shard_tiles=shard_tiles,
        moments=True,
    )
    _complete(work, shards, sites, schemes)
    if out.exists():
        shutil.rmtree(out)
    work.rename(out)


def _complete(
    work: Path, shards: Sequence[PackedShard], sites: pd.DataFrame, schemes: Mapping[str, Scheme]
) -> None:
    places = places_of(shards)
    if places.empty:
        raise DataError(f"{work}: none of the {len(sites)} sites has a usable tile.")
    samples = places.merge(sites, on="id", how="left", validate="one_to_one")
    notes = notes_of(shards)
    unusable = set(places["id"]) | set(notes.get("without_pixel", []))
    notes["without_tile"] = sorted(set(sites["id"]) - unusable)
    moments = [
        np.load(moments_path(work, number), allow_pickle=False)
        for number, shard in enumerate(shards)
        if shard.ids
    ]
    save_npy(work / "image.moments.npy", np.concatenate(moments))
    counts = {kind: {"n": len(names), "first": names[:10]} for kind, names in notes.items() if names}
    write_tables(
        work,
        samples,
        {
            "bands": {"image": CHANNELS},
            "format": landsat_format(shards[0].side).model_dump(),
            "counts": counts,
        },
        schemes,
    )
    for kind, names in notes.items():
        if names:
            warnings.warn(f"{some_of(names)}: {_NOTES[kind]}", DataWarning, stacklevel=3)


class LandsatSource(Source):
    """Packed tiles with their tables; ``item("image", row)`` is a tile in physical units, north-up."""

    def __init__(self, folder: Path, samples: pd.DataFrame, description: dict[str, Any]) -> None:
        super().__init__(folder, samples, description)
        self.tiles = TileStore(
            folder, samples, description["format"] | {"label": {"name": "several", "unit": "several"}}
        )
        self._dmsp = samples["year"].to_numpy() <= LAST_DMSP_YEAR
        self._scale = np.array(self.tiles.scale, dtype=np.float32)[:, None, None]
        self._offset = np.array(self.tiles.offset, dtype=np.float32)[:, None, None]

    def item(self, name: str, row: int) -> NDArray[np.float32]:
        """Return one tile, float32 ``(9, H, W)`` of `CHANNELS`, north-up; NaN where missing."""
        numbers = self.tiles.read([row])[0]
        tile = np.where(
            numbers == self.tiles.nodata, np.float32(np.nan), numbers * self._scale + self._offset
        )
        x = np.full((len(CHANNELS), *tile.shape[1:]), np.nan, dtype=np.float32)
        x[: len(tile) - 1] = tile[:-1]
        x[-2 if self._dmsp[row] else -1] = tile[-1]
        return x

    def moments(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the moments ``(n, 9, 3)`` of some tiles, nightlights by sensor."""
        packed = super().moments(name, rows)
        moments = np.zeros((len(rows), len(CHANNELS), 3))
        moments[:, : len(CHANNELS) - 2] = packed[:, :-1]
        sensor = np.where(self._dmsp[rows], len(CHANNELS) - 2, len(CHANNELS) - 1)
        moments[np.arange(len(rows)), sensor] = packed[:, -1]
        return moments


class LandsatDataset(TaskDataset):
    """Tiles with a label. ``image``: float32 ``(9, H, W)`` of `CHANNELS`, north-up, NaN where missing.

    Parameters
    ----------
    label : str
        Column of the label. Sites without one are in no part.
    unit : str
        Its unit.
    crop : int, optional
        Side of the central square to cut out (224 in the benchmark's own models).
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "regression"

    def __init__(
        self, source: Source, *, label: str, unit: str = "", crop: int | None = None, **options: Any
    ) -> None:
        self.label, self.unit, self.crop = label, unit, crop
        super().__init__(source, **options)
        self.samples["label"] = self.samples[label]

    def _rows(self, split: str) -> NDArray[np.int64]:
        rows = super()._rows(split)
        rows = rows[self.source.samples[self.label].notna().to_numpy()[rows]]
        if not rows.size:
            raise DataError(f"no sample of part {split!r} of split {self.scheme!r} has a {self.label}.")
        return rows

    def _image(self, row: int) -> NDArray[np.float32]:
        return centre_crop(self.source.item("image", row), self.crop)

    def _target(self, row: int) -> Sample:
        return {"label": np.asarray(self.source.samples[self.label].iloc[row], dtype=np.float32)}

    def _channel_statistics(self, rows: NDArray[np.int64]) -> ChannelStatistics:
        return merge_moments(self.source.moments("image", rows))

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the true-colour picture and the nightlights."""
        image = np.asarray(sample["image"])
        lights = np.fmax(image[-2], image[-1])
        panels = [("red, green, blue", figures.picture(image, [2, 1, 0])), ("nightlights", lights)]
        return figures.pictures(panels, title or figures.title_of(sample, unit=self.unit))


def centre_crop(image: NDArray[np.float32], side: int | None) -> NDArray[np.float32]:
    """Cut the central square out of ``(..., H, W)``."""
    if side is None:
        return image
    height, width = image.shape[-2:]
    if not 0 < side <= min(height, width):
        raise DataError(f"crop is {side}; a tile has {height} x {width} pixels.")
    top, left = (height - side) // 2, (width - side) // 2
    return image[..., top : top + side, left : left + side]
