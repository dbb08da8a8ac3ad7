"""Packed tiles: uint16 shards mapped into memory, an index table, and a page that says what the numbers mean.

A compressed npz of 8 x 255 x 255 floats takes 8.5 ms to read, a mapped uint16 tile 0.2 ms in half the bytes. Values
stay physical (`TileFormat`); nothing normalised is ever stored.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError
from tqdm import tqdm

from sustain.config import TilesParams
from sustain.data.shards import Place, ShardWriter, TileFormat, shard_path
from sustain.data.splits import assign_splits, spatial_block
from sustain.data.sustainbench import dhs
from sustain.errors import DataError, DataWarning, FileFormatError
from sustain.files import atomic_directory, read_json, write_json

__all__ = [
    "INDEX_COLUMNS",
    "LANDSAT_ENCODING",
    "EncodedTile",
    "TileFormat",
    "TileStore",
    "encode_landsat",
    "landsat_format",
    "pack_dhs_tiles",
]

INDEX_COLUMNS = (
    *("id", "shard", "row", "lat", "lon", "year", "country", "urban", "n", "label", "split", "block"),
)

LANDSAT_ENCODING = dict.fromkeys(dhs.BANDS, (2.75e-5, -0.2)) | {
    "TEMP1": (0.00341802, 149.0),
    "NIGHTLIGHTS": (0.01, -0.01),
}
"""Scale and offset of each band's DN: Landsat Collection 2's own for reflectance and kelvin; hundredths for lights,
up to 655 (nW cm-2 sr-1 from VIIRS, DN from DMSP)."""

_FIRST_VIIRS_YEAR = 2012

_NOTES = {
    "tiles_without_row": "tile(s) without a row in the label table were left out",
    "labels_without_tile": "site(s) with a label but without a tile were left out",
    "tiles_without_valid_pixel": "tile(s) without one valid pixel were left out",
    "tiles_with_nan": "tile(s) hold NaN or infinite values, which now count as missing",
    "tiles_limited": "tile(s) hold values beyond the range of a DN, which were set to its nearer end",
    "dmsp_sites": f"site(s) before {_FIRST_VIIRS_YEAR} have nightlights of another sensor (DMSP) than the rest (VIIRS)",
}


class TileStore:
    """A folder of packed tiles, read by position in its index.

    Attributes
    ----------
    index : DataFrame
        One row a site, sorted by id, with the columns of `INDEX_COLUMNS`.
    format : TileFormat
        Bands, scale, offset, nodata, pixel and tile size; each is also an attribute of the store.
    label_name, label_unit : str
        What the column ``label`` is.
    """

    def __init__(self, folder: Path, index: pd.DataFrame, description: dict[str, Any]) -> None:
        self.folder = folder
        self.index = index
        self.format = TileFormat.model_validate(description)
        self.label_name = str(description["label"]["name"])
        self.label_unit = str(description["label"]["unit"])
        self._shard = index["shard"].to_numpy()
        self._row = index["row"].to_numpy()
        self._open: dict[int, NDArray[np.uint16]] = {}

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in channel order."""
        return self.format.bands

    @property
    def scale(self) -> tuple[float, ...]:
        """``value = scale * DN + offset``, a number a band."""
        return self.format.scale

    @property
    def offset(self) -> tuple[float, ...]:
        """``value = scale * DN + offset``, a number a band."""
        return self.format.offset

    @property
    def nodata(self) -> int:
        """DN of a missing value."""
        return self.format.nodata

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, in metres."""
        return self.format.pixel_m

    @property
    def tile_px(self) -> int:
        """Side of a tile, in pixels."""
        return self.format.tile_px

    @classmethod
    def open(cls, folder: str | Path) -> TileStore:
        """Open a folder of packed tiles; every shard is checked now and read when asked for.

        Raises
        ------
        FileNotFoundError
            When the folder or one of its files is missing.
        FileFormatError
            When a file is damaged, or the index points to tiles that are not there.
        """
        folder = Path(folder)
        description = read_json(folder / "tiles.json")
        index = _read_index(folder / "index.parquet")
        try:
            store = cls(folder, index, description)
        except (ValidationError, KeyError, TypeError) as error:
            raise FileFormatError(f"{folder / 'tiles.json'}: wrong or missing entries: {error}") from error
        for shard, rows in index.groupby("shard")["row"]:
            n_tiles = len(store._mapped(int(str(shard))))
            if rows.min() < 0 or rows.max() >= n_tiles:
                raise FileFormatError(
                    f"{shard_path(folder, int(str(shard)))}: holds {n_tiles} tiles, but the index asks for row "
                    f"{rows.max()}. Run the tiles stage again."
                )
        return store

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a mapped array would copy it whole to a worker process; the worker maps the file itself.
        return self.__dict__ | {"_open": {}}

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the positions in `index` of one part of the split.

        Raises
        ------
        DataError
            When the part is empty.
        """
        rows = np.flatnonzero(self.index["split"].to_numpy() == split)
        if not rows.size:
            parts = ", ".join(sorted(self.index["split"].unique()))
            raise DataError(f"{self.folder}: no site in split {split!r}; the splits are {parts}.")
        return rows

    def read(self, rows: ArrayLike) -> NDArray[np.uint16]:
        """Return tiles as DN ``(n, C, H, W)``, north-up, in the order of `rows` (positions in `index`)."""
        rows = np.asarray(rows, dtype=np.int64)
        tiles = np.empty((len(rows), *self.format.shape), dtype=np.uint16)
        # Tile by tile, straight from the map: an array of indices would copy everything twice.
        for tile, shard, place in zip(tiles, self._shard[rows], self._row[rows], strict=True):
            tile[...] = self._mapped(int(shard))[place]
        return tiles

    def _mapped(self, shard: int) -> NDArray[np.uint16]:
        if shard not in self._open:
            path = shard_path(self.folder, shard)
            try:
                mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise FileFormatError(
                    f"{path}: damaged or truncated ({error}). Run the tiles stage again."
                ) from error
            if mapped.dtype != np.uint16 or mapped.shape[1:] != self.format.shape:
                raise FileFormatError(
                    f"{path}: holds {mapped.dtype} {mapped.shape}; expected uint16 (n, {self.format.shape})."
                )
            self._open[shard] = mapped
        return self._open[shard]


def _read_index(path: Path) -> pd.DataFrame:
    try:
        index = pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise FileFormatError(
            f"{path}: not a readable Parquet table ({error}). Run the tiles stage again."
        ) from error
    if missing := [column for column in INDEX_COLUMNS if column not in index.columns]:
        raise FileFormatError(f"{path}: missing column {', '.join(missing)}. Run the tiles stage again.")
    if not index["label"].notna().all():
        raise DataError(
            f"{path}: {int(index['label'].isna().sum())} NaN label(s); every packed site needs a label."
        )
    return index


def pack_dhs_tiles(raw: str | Path, out: str | Path, params: TilesParams, seed: int) -> None:
    """Turn SustainBench's DHS archives and label table into packed tiles with a spatial split.

    Each archive is read once, front to back; memory holds one tile and the tables. Sites without a label (fewer than
    five observations, as SustainBench has it) are left out and counted in ``tiles.json``.

    Parameters
    ----------
    raw : str or Path
        Folder of ``dhs_final_labels.csv`` and ``dhs_*.tar.gz``.
    out : str or Path
        Folder to write: ``shard-0000.npy`` (uint16 ``(n, 8, H, W)``, north-up), ``index.parquet``, ``tiles.json``.
        It appears whole or not at all.
    params : TilesParams
        Label, pixel size, shard size, size of a spatial block, shares of the parts.
    seed : int
        Seed of the split.

    Raises
    ------
    FileNotFoundError
        When the label table or the archives are missing.
    FileFormatError
        When a file is damaged, or tiles differ in size. The message names the file and the member.
    DataError
        When an id repeats, no site has both label and tile, or a part of the split would be empty.
    DiskSpaceError
        When the shards do not fit on the disk.

    Warns
    -----
    DataWarning
        For tiles without rows and labels without tiles, tiles without a valid pixel or with NaN, values beyond the
        range of a DN, and nightlights of two sensors in one channel: how many, and the first of them.
    """
    raw, out = Path(raw), Path(out)
    labels = dhs.read_labels(raw / dhs.LABELS_FILE, params.label)
    sites = labels[labels["label"].notna()]
    noted: defaultdict[str, list[str]] = defaultdict(list)
    limited: Counter[str] = Counter()
    with atomic_directory(out) as folder:
        places = _write_shards(raw, folder, params, labels, noted, limited)
        found = sites["id"].isin(places)
        noted["labels_without_tile"] = sorted(
            set(sites["id"][~found]) - set(noted["tiles_without_valid_pixel"])
        )
        index = _index(sites[found], places, params, seed)
        if index["year"].lt(_FIRST_VIIRS_YEAR).nunique() == 2:
            noted["dmsp_sites"] = index["id"][index["year"] < _FIRST_VIIRS_YEAR].tolist()
        index.to_parquet(folder / "index.parquet", index=False)
        first = np.load(shard_path(folder, 0), mmap_mode="r", allow_pickle=False)
        write_json(
            folder / "tiles.json",
            landsat_format(first.shape[-1], params.pixel_m).model_dump()
            | {
                "label": {"name": params.label, "unit": dhs.LABELS[params.label].unit},
                "counts": {
                    "sites": len(index),
                    "rows_without_label": len(labels) - len(sites),
                    "values_limited": dict(limited),
                    **{what: len(noted[what]) for what in _NOTES},
                },
            },
        )
    for what, ids in noted.items():
        if ids:
            more = ", ..." if len(ids) > 3 else ""
            warnings.warn(
                f"{raw}: {len(ids)} {_NOTES[what]}: {', '.join(ids[:3])}{more}", DataWarning, stacklevel=2
            )


def landsat_format(tile_px: int, pixel_m: float = 30) -> TileFormat:
    """Return the format of packed Landsat tiles of a size."""
    scale, offset = zip(*(LANDSAT_ENCODING[band] for band in dhs.BANDS), strict=True)
    return TileFormat(bands=dhs.BANDS, scale=scale, offset=offset, nodata=0, pixel_m=pixel_m, tile_px=tile_px)


def _write_shards(
    raw: Path,
    folder: Path,
    params: TilesParams,
    labels: pd.DataFrame,
    noted: defaultdict[str, list[str]],
    limited: Counter[str],
) -> dict[str, Place]:
    """Stream the labelled tiles into shards; return the place of each, by id."""
    known, wanted = set(labels["id"]), set(labels["id"][labels["label"].notna()])
    places: dict[str, Place] = {}
    seen: set[str] = set()
    with (
        ShardWriter(folder, params.shard_size) as shards,
        tqdm(total=len(wanted), desc="pack tiles", unit="tile", disable=None) as bar,
    ):
        for name, x in _all_tiles(raw):
            if name not in known:
                noted["tiles_without_row"].append(name)
            if name not in wanted:
                continue
            if name in seen:
                raise DataError(f"{raw}: tile {name} comes twice in the archives. Keep one of them.")
            seen.add(name)
            tile = _encode(x, name, params.pixel_m, noted, limited)
            if tile is not None:
                places[name] = shards.append(tile)
                bar.update()
    if not places:
        raise DataError(f"{raw}: none of the {len(wanted)} sites with a {params.label} has a usable tile.")
    return places


def _all_tiles(raw: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    side: int | None = None
    for archive in dhs.archives(raw):
        for name, x in dhs.iter_tiles(archive):
            side = side or x.shape[1]
            dhs.require_square(x, side, f"{archive}: tile {name}")
            yield name, x


class EncodedTile(NamedTuple):
    """A raw tile as DN.

    Attributes
    ----------
    tile : ndarray of uint16, shape (8, H, W), or None
        North-up, missing 0; None when no pixel of the tile is valid.
    limited : ndarray of int, shape (8,)
        Values of each band that lay beyond the range of a DN and were set to its nearer end.
    with_nan : bool
        Whether the raw tile held NaN or infinite values, which count as missing.
    """

    tile: NDArray[np.uint16] | None
    limited: NDArray[np.int64]
    with_nan: bool


def encode_landsat(x: NDArray[np.float32], pixel_m: float = 30) -> EncodedTile:
    """Turn a published tile, ``(8, H, W)`` with row 0 in the south and missing values 0, into DN, north-up."""
    # No land is at 0 K, so TEMP1 tells a missing observation from a dark one; lights come from another sensor, and are
    # missing with it only where they are 0 too.
    missing = np.repeat(x[[dhs.BANDS.index("TEMP1")]] == 0, len(dhs.BANDS), axis=0)
    missing[-1] &= x[-1] == 0
    broken = ~np.isfinite(x)
    with_nan = bool(broken.any())
    if with_nan:
        missing |= broken
    if missing[:-1].all():
        return EncodedTile(None, np.zeros(len(x), dtype=np.int64), with_nan)
    tile, limited = landsat_format(x.shape[1], pixel_m).encode(x, missing)
    return EncodedTile(tile[:, ::-1], limited, with_nan)


def _encode(
    x: NDArray[np.float32],
    name: str,
    pixel_m: float,
    noted: defaultdict[str, list[str]],
    limited: Counter[str],
) -> NDArray[np.uint16] | None:
    encoded = encode_landsat(x, pixel_m)
    if encoded.with_nan:
        noted["tiles_with_nan"].append(name)
    if encoded.tile is None:
        noted["tiles_without_valid_pixel"].append(name)
    if encoded.limited.any():
        noted["tiles_limited"].append(name)
        limited.update(dict(zip(dhs.BANDS, encoded.limited.tolist(), strict=True)))
    return encoded.tile


def _index(sites: pd.DataFrame, places: dict[str, Place], params: TilesParams, seed: int) -> pd.DataFrame:
    index = sites.sort_values("id", ignore_index=True).astype({"n": "int32"})
    found = np.array([places[name] for name in index["id"]], dtype=np.int32)
    index["shard"], index["row"] = found[:, 0], found[:, 1]
    index["block"] = spatial_block(index["lat"], index["lon"], params.block_km)
    index["split"] = assign_splits(index["block"], params.shares, seed)
    return index[list(INDEX_COLUMNS)]
