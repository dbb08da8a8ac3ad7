"""Packed tiles: uint16 shards mapped into memory, an index table, and a page that says what the numbers mean.

A compressed npz of 8 x 255 x 255 floats takes 8.5 ms to read, a mapped uint16 tile 0.2 ms in half the bytes. Values
stay physical (`TileFormat`); nothing normalised is ever stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from sustain.data.tiles.shards import HasTileFormat, TileFormat, shard_path
from sustain.errors import DataError, FileFormatError
from sustain.files import read_json

__all__ = ["INDEX_COLUMNS", "TileFormat", "TileStore"]

INDEX_COLUMNS = (
    *("id", "shard", "row", "lat", "lon", "year", "country", "urban", "n", "label", "split", "block"),
)


class TileStore(HasTileFormat):
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
