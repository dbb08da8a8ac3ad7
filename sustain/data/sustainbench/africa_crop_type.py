"""Crop types in Ghana and South Sudan: series of Sentinel-1, Sentinel-2 and Planet over 64-pixel tiles.

- series differ in length from tile to tile and satellite to satellite: they are stored as runs of frames, and a sample
  comes with its own length unless `length` is asked for;
- some ``.npz`` of the archive are damaged. They are left out by name and counted; dates that do not match the
  frames are left out too;
- labels above 4 are other crops and 0 is unlabelled: neither counts;
- Planet frames have 212 or more pixels a side and are cut to 212, as the authors' loader does;
- a frame that is 0 in every band of a pixel has no observation there.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.csvtable import read_csv, refuse_duplicates, whole_numbers
from sustain.data.fetch.archive import iter_members
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.arrays import ArraySpec, read_npz
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.source import Scheme, Source, SourceWriter, StackSpec, write_source
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BANDS", "CROPS", "IGNORE", "AfricaCropType", "ingest"]

ARCHIVE = "archive.tar.gz"
TABLE = "list_eval_partition.csv"
BANDS = {
    "s1": ("VV", "VH", "RATIO"),
    "s2": ("BLUE", "GREEN", "RED", "RDED1", "RDED2", "RDED3", "NIR", "RDED4", "SWIR1", "SWIR2"),
    "planet": ("BLUE", "GREEN", "RED", "NIR"),
}
CROPS = {
    "ghana": ("groundnut", "maize", "rice", "soya bean"),
    "southsudan": ("sorghum", "maize", "rice", "groundnut"),
}
IGNORE = 255
_SIDE, _PLANET_SIDE = 64, 212
_SIDES = {"s1": _SIDE, "s2": _SIDE, "planet": _PLANET_SIDE}
_DTYPES = {"s1": "f4", "s2": "u2", "planet": "u2"}
_PARTS = {0: "train", 1: "val", 2: "test"}
_MEMBER = re.compile(
    r"(?:^|/)(?P<country>ghana|southsudan)/(?:(?P<kind>npy|truth)/(?P=country)_(?P<tile>[0-9]+)\.npz"
    r"|(?P<satellite>s1|s2|planet)/(?P=satellite)_(?P=country)_(?P<dated>[0-9]+)\.json"
    rf"|(?P<table>{re.escape(TABLE)}))$"
)
_MAX_FRAMES = 1024
_MAX_NPZ = 1 << 31
_MAX_TEXT = 1 << 24
SCHEMES = {
    "official": Scheme(
        True,
        "The authors' tiles. Neighbours may be on both sides; the files hold no coordinates to keep them apart.",
    )
}


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn ``archive.tar.gz`` into stacks of frames, in one pass and without unpacking it to disk.

    Parameters
    ----------
    raw : str or Path
        Folder of the archive.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When the archive is missing.
    FileFormatError
        When the archive is damaged, or a table or truth is. A damaged series is left out and counted.
    """
    archive = Path(raw) / ARCHIVE
    stacks = {
        name: StackSpec(_DTYPES[name], (len(bands), _SIDES[name], _SIDES[name]), ragged=True)
        for name, bands in BANDS.items()
    } | {"mask": StackSpec("u1", (_SIDE, _SIDE), channel_axis=None)}
    truths: dict[str, NDArray[np.uint8]] = {}
    dates: dict[tuple[str, str], list[str]] = {}
    parts: dict[str, str] = {}
    damaged: dict[str, str] = {}
    with write_source(out, stacks) as store, tqdm(desc="ingest crop types", unit="tile", disable=None) as bar:
        for name, file in iter_members(archive):
            if (match := _MEMBER.search(name)) is None:
                continue
            country, where = match["country"], f"{archive}: member {name}"
            if match["table"]:
                parts |= _read_parts(file, country, where)
            elif match["satellite"]:
                dates[_tile_id(country, match["dated"]), match["satellite"]] = _read_dates(file, where)
            elif match["kind"] == "truth":
                truths[_tile_id(country, match["tile"])] = _read_truth(file, where)
            else:
                tile = _tile_id(country, match["tile"])
                try:
                    _add_series(store, tile, country, _bounded(file, _MAX_NPZ, where), where)
                except FileFormatError as error:
                    damaged[tile] = str(error).removeprefix(f"{archive}: ")
                bar.update()
        if not store.rows:
            raise FileFormatError(
                f"{archive}: no series (COUNTRY/npy/COUNTRY_ID.npz) to read; {len(damaged)} are damaged. Get it again."
            )
        _complete(store, truths, dates, parts, damaged)


def _tile_id(country: str, number: str) -> str:
    return f"{country}_{int(number):06d}"


def _bounded(file: BinaryIO, most: int, where: str) -> bytes:
    content = file.read(most + 1)
    if len(content) > most:
        raise FileFormatError(f"{where}: more than {most} bytes.")
    return content


def _read_parts(file: BinaryIO, country: str, where: str) -> dict[str, str]:
    table = read_csv(io.BytesIO(_bounded(file, _MAX_TEXT, where)), {"id", "partition"}, where)
    refuse_duplicates(table["id"], where, "id")
    number, part = (whole_numbers(table, column, where) for column in ("id", "partition"))
    if (wrong := ~part.isin(_PARTS)).any():
        raise DataError(f"{where}: partition is {part[wrong].iloc[0]}; expected 0, 1 or 2.")
    return {_tile_id(country, str(n)): _PARTS[p] for n, p in zip(number.tolist(), part.tolist(), strict=True)}


def _read_dates(file: BinaryIO, where: str) -> list[str]:
    try:
        dates = json.loads(_bounded(file, _MAX_TEXT, where))["dates"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise FileFormatError(f"{where}: not a table of dates ({error}). Get the archive again.") from error
    if not isinstance(dates, list) or not all(isinstance(date, str) for date in dates):
        raise FileFormatError(f"{where}: dates must be a list of text.")
    return dates


def _read_truth(file: BinaryIO, where: str) -> NDArray[np.uint8]:
    spec = {"truth": ArraySpec("iuf", (_SIDE, _SIDE))}
    truth = read_npz(_bounded(file, _MAX_NPZ, where), spec, where)["truth"]
    return np.where(np.isin(truth, (1, 2, 3, 4)), truth - 1, IGNORE).astype(np.uint8)


def _add_series(store: SourceWriter, tile: str, country: str, content: bytes, where: str) -> None:
    specs = {
        name: ArraySpec(
            "iuf", (len(bands), *([_SIDE] * 2 if name != "planet" else [None] * 2), None), _MAX_NPZ
        )
        for name, bands in BANDS.items()
    }
    frames = {}
    for name, cube in read_npz(content, specs, where).items():
        side = _SIDES[name]
        if min(cube.shape[1:3]) < side or cube.shape[3] > _MAX_FRAMES:
            raise FileFormatError(
                f"{where}: {name} has shape {cube.shape}; expected at least {side} pixels a side and at most "
                f"{_MAX_FRAMES} frames."
            )
        values = np.moveaxis(cube[:, :side, :side], -1, 0)
        if _DTYPES[name] == "u2" and values.dtype != np.uint16:
            if not ((values >= 0) & (values <= 65535) & (values % 1 == 0)).all():
                raise FileFormatError(f"{where}: {name} must hold whole numbers from 0 to 65535.")
            values = values.astype(np.uint16)
        frames[name] = values
    if not any((np.isfinite(values) & (values != 0)).any() for values in frames.values()):
        raise FileFormatError(f"{where}: no satellite observed anything (0 or NaN everywhere).")
    store.start(
        {"id": tile, "group": tile, "country": country} | {f"{name}_dates": None for name in BANDS},
        {name: len(values) for name, values in frames.items()},
    )
    for name, values in frames.items():
        store.append(name, values, tile, physical=_observed(values))


def _observed(frames: NDArray[Any]) -> NDArray[np.float32]:
    """Frames as float32, NaN where every band is 0."""
    values = frames.astype(np.float32)
    empty = (frames == 0).all(axis=1, keepdims=True)
    values[np.broadcast_to(empty, values.shape)] = np.nan
    return values


def _complete(
    store: SourceWriter,
    truths: dict[str, NDArray[np.uint8]],
    dates: dict[tuple[str, str], list[str]],
    parts: dict[str, str],
    damaged: dict[str, str],
) -> None:
    """Join the rows with what came in other members, in whatever order."""
    undated = []
    for row in store.rows:
        tile = row["id"]
        for name in BANDS:
            row[f"{name}_dates"] = dates.get((tile, name))
            if row[f"{name}_dates"] is not None and len(row[f"{name}_dates"]) != row[f"{name}_length"]:
                undated.append(f"{tile} {name}")
                row[f"{name}_dates"] = None
        known = tile in truths
        store.append("mask", truths.get(tile, np.full((_SIDE, _SIDE), IGNORE, np.uint8)), tile)
        row["split:official"] = parts.get(tile) if known else None
    read = {row["id"] for row in store.rows}
    counts = {
        "damaged": damaged,
        "dates_not_matching": undated,
        "series_without_truth": sorted(read - set(truths)),
        "truth_without_series": sorted(set(truths) - read - set(damaged)),
        "part_without_series": sorted(set(parts) - read - set(damaged)),
    }
    store.finish({"bands": BANDS, "counts": counts}, SCHEMES)


class AfricaCropType(TaskDataset):
    """Crop type, pixel by pixel.

    ``image``: float32 ``(T, C, 64, 64)`` of the first of `satellites`, NaN where nothing was observed; the others come
    under their own names. ``mask``: int ``(64, 64)``, place in ``classes``, 255 where no crop of the four is labelled.

    Parameters
    ----------
    country : {"ghana", "southsudan"}
    satellites : tuple of str
        Which of ``"s1"``, ``"s2"``, ``"planet"``; Planet's frames have 212 pixels a side.
    length : int, optional
        Make all series so long: frames are chosen evenly from longer ones, and shorter ones are filled up with NaN.
        Without it a batch of several samples needs a collate function of its own.
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "segmentation"
    ignore_index: ClassVar[int | None] = IGNORE

    def __init__(
        self,
        source: Source,
        *,
        country: str,
        satellites: tuple[str, ...] = ("s2",),
        length: int | None = None,
        **options: Any,
    ) -> None:
        if country not in CROPS:
            raise DataError(f"country is {country!r}; expected one of {', '.join(CROPS)}.")
        if not satellites or not set(satellites) <= set(BANDS):
            raise DataError(f"satellites is {satellites!r}; expected some of {', '.join(BANDS)}.")
        if length is not None and length < 1:
            raise DataError(f"length is {length}; expected a positive number of frames.")
        self.country, self.satellites, self.length = country, tuple(satellites), length
        self.classes = CROPS[country]
        self.stack = satellites[0]
        super().__init__(source, **options)

    def _rows(self, split: str) -> NDArray[np.int64]:
        rows = super()._rows(split)
        here = (self.source.samples["country"] == self.country).to_numpy(dtype=bool)
        rows = rows[here[rows]]
        if not rows.size:
            raise DataError(f"no tile of {self.country} in part {split!r}.")
        return rows

    def _image(self, row: int) -> NDArray[np.float32]:
        return self._series(row, self.stack)

    def _series(self, row: int, satellite: str) -> NDArray[np.float32]:
        frames = _observed(self.source.item(satellite, row))
        if self.length is None:
            return frames
        if len(frames) >= self.length:
            chosen: NDArray[np.float32] = frames[
                np.linspace(0, len(frames) - 1, self.length).round().astype(int)
            ]
            return chosen
        padded = np.full((self.length, *frames.shape[1:]), np.nan, dtype=np.float32)
        padded[: len(frames)] = frames
        return padded

    def _target(self, row: int) -> Sample:
        others = {name: self._series(row, name) for name in self.satellites[1:]}
        return others | {"mask": self.source.item("mask", row).astype(np.int64)}

    def mask(self, i: int) -> NDArray[np.int64]:
        """Return the mask of a sample."""
        return self.source.item("mask", int(self.rows[i])).astype(np.int64)

    def dates(self, i: int, satellite: str | None = None) -> list[str] | None:
        """Return the dates of a sample's frames, as published; None where they are not known."""
        found = self.source.samples[f"{satellite or self.stack}_dates"].iloc[int(self.rows[i])]
        return None if found is None else list(found)

    def _standardise(self, image: NDArray[np.float32], channel_axis: int = 1) -> NDArray[np.float32]:
        return super()._standardise(image, channel_axis)

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the median picture of the series and the mask."""
        image, mask = np.asarray(sample["image"]), np.asarray(sample["mask"])
        frame = image[int(np.argmax(np.isfinite(image).sum(axis=(1, 2, 3))))]
        shown = [0, 1, 1] if self.stack == "s1" else [2, 1, 0]
        panels = [
            ("fullest frame", figures.picture(frame, shown)),
            ("crop", np.where(mask == IGNORE, np.nan, mask)),
        ]
        return figures.pictures(panels, title or str(sample["id"]), self.classes)
