"""Your own tiles: a folder of GeoTIFFs and a table of sites, packed like the published ones."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from tqdm import tqdm

from sustain.config import LocalParams, TilesParams
from sustain.data.csvtable import numbers, read_csv, refuse_duplicates
from sustain.data.tiles.packed import INDEX_COLUMNS
from sustain.data.tiles.shards import TileFormat, write_shard
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError, DataWarning, FileFormatError
from sustain.files import atomic_directory, write_json

__all__ = ["TABLE_FILE", "TILES_FOLDER", "copy_local", "copy_trials", "pack_local_tiles"]

TABLE_FILE = "sites.csv"
TILES_FOLDER = "tiles"

_FEW_BLOCKS = 10
_DEFAULTS: dict[str, Any] = {"year": 0, "country": "", "urban": False, "n": 1}
_URBAN = {
    "1": True,
    "0": False,
    "true": True,
    "false": False,
    "urban": True,
    "rural": False,
    "u": True,
    "r": False,
}
_SUFFIXES = (".tif", ".tiff")


def copy_local(params: LocalParams, out: str | Path) -> None:
    """Copy tiles and table as they are, so that the later stages depend on nothing outside the project.

    Parameters
    ----------
    params : LocalParams
        Where tiles and table are.
    out : str or Path
        Folder to write: ``sites.csv`` and ``tiles/``.

    Raises
    ------
    FileNotFoundError
        When the table is missing, or the folder holds no GeoTIFF.
    """
    table, tiles = Path(params.table), Path(params.tiles)
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such table. Mend acquire.table.")
    found = sorted(path for path in tiles.glob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise FileNotFoundError(f"{tiles}: no GeoTIFF (.tif) in this folder. Mend acquire.tiles.")
    with atomic_directory(out) as folder:
        shutil.copyfile(table, folder / TABLE_FILE)
        (folder / TILES_FOLDER).mkdir()
        for path in tqdm(found, desc="copy tiles", unit="tile", disable=None):
            shutil.copyfile(path, folder / TILES_FOLDER / path.name)


def copy_trials(trials: str | None, out: str | Path) -> None:
    """Copy the folder of your trials; without one, an older copy goes.

    Parameters
    ----------
    trials : str or None
        Folder of ``trials.json`` and the tables that it names.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When the folder holds no ``trials.json``.
    """
    if trials is None:
        shutil.rmtree(out, ignore_errors=True)
        return
    if not (Path(trials) / "trials.json").is_file():
        raise FileNotFoundError(
            f"{trials}: no trials.json in this folder. Mend acquire.trials, or set it to null."
        )
    with atomic_directory(out) as folder:
        shutil.copytree(trials, folder, dirs_exist_ok=True)


def pack_local_tiles(raw: str | Path, out: str | Path, params: TilesParams, seed: int) -> None:
    """Pack GeoTIFF tiles and their labels, with a spatial split.

    Tiles are north-up, all of one size, with named bands of uint16 DN, 0 for missing, and scale and offset tags that
    are the same in all. The table has a row a tile: ``id`` (the file's name), ``lat``, ``lon``, the label, and
    optionally ``year``, ``country``, ``urban``, ``n`` (observations) and ``block`` (never divided by the split);
    `params.columns` says which of your columns is which.

    Parameters
    ----------
    raw : str or Path
        Folder of ``sites.csv`` and ``tiles/``.
    out : str or Path
        Folder to write, as `sustain.data.sustainbench.dhs_tiles.pack_dhs_tiles` does.
    params : TilesParams
        Label, its unit, columns, pixel size, shard size, size of a spatial block, shares of the parts.
    seed : int
        Seed of the split.

    Raises
    ------
    FileNotFoundError
        When the table or a tile is missing.
    FileFormatError
        When a tile cannot be read or is not like the first, or the table lacks a column.
    DataError
        When ids repeat, or labels or coordinates are not numbers.

    Warns
    -----
    DataWarning
        When the calibration part has fewer than ten blocks.
    """
    raw = Path(raw)
    sites = _read_sites(raw / TABLE_FILE, params)
    tiles = _LocalTiles(raw / TILES_FOLDER, sites["id"].tolist(), params.pixel_m)
    with atomic_directory(out) as folder:
        stream = iter(tiles)
        for shard in count():
            if write_shard(folder, shard, stream, params.shard_size) < params.shard_size:
                break
        sites["shard"], sites["row"] = np.divmod(np.arange(len(sites), dtype=np.int32), params.shard_size)
        if "block" not in sites:
            sites["block"] = spatial_block(sites["lat"], sites["lon"], params.block_km)
        sites["split"] = assign_splits(sites["block"], params.shares, seed)
        _say_few_blocks(sites)
        sites[list(INDEX_COLUMNS)].to_parquet(folder / "index.parquet", index=False)
        content = {} if tiles.form is None else tiles.form.model_dump()
        label = {"name": params.label, "unit": params.label_unit}
        write_json(folder / "tiles.json", content | {"label": label, "counts": {"sites": len(sites)}})


class _LocalTiles:
    """Tiles by the names of their files, one after the other; `form` is that of the first, and all must have it."""

    def __init__(self, folder: Path, names: Sequence[str], pixel_m: float) -> None:
        self.folder, self.names, self.pixel_m = folder, names, pixel_m
        self.form: TileFormat | None = None

    def __iter__(self) -> Iterator[NDArray[np.uint16]]:
        for name in tqdm(self.names, desc="pack tiles", unit="tile", disable=None):
            path = self.folder / name
            tile, found = _read_tile(path, self.pixel_m)
            if self.form is not None and (wrong := self.form.differences(found)):
                raise FileFormatError(f"{path}: is not like the first tile: {wrong}.")
            self.form = found
            yield tile


def _say_few_blocks(sites: pd.DataFrame) -> None:
    """Warn now, before hours of training, of what the calibration would stumble over."""
    blocks = sites.groupby("split")["block"].nunique()
    if blocks["calibration"] < _FEW_BLOCKS:
        each = ", ".join(f"{part} {n}" for part, n in blocks.items())
        warnings.warn(
            f"{len(sites)} sites lie in {blocks.sum()} blocks ({each}): the calibration's standard errors go by block, "
            f"and want {_FEW_BLOCKS} or more, better dozens. Choose a smaller tiles.block_km, as long as neighbouring "
            "blocks' tiles do not look alike, or gather sites from further apart.",
            DataWarning,
            stacklevel=3,
        )


def _read_sites(path: Path, params: TilesParams) -> pd.DataFrame:
    names = {"label": params.label, **params.columns}
    wanted = {name: names.get(name, name) for name in ("id", "lat", "lon", "label", *_DEFAULTS, "block")}
    table = read_csv(path, ())
    needed = [wanted[name] for name in ("id", "lat", "lon", "label")] + list(params.columns.values())
    if missing := sorted({column for column in needed if column not in table}):
        raise FileFormatError(
            f"{path}: missing column {', '.join(missing)}; found {', '.join(map(str, table.columns))}. Say in "
            "tiles.columns which of your columns is id, lat, lon, and in tiles.label which is the label."
        )
    sites = pd.DataFrame(index=table.index)
    for name, column in wanted.items():
        if column not in table:
            if name in _DEFAULTS:
                sites[name] = _DEFAULTS[name]
        elif name in ("id", "country", "block"):
            sites[name] = _given(table[column], path)
        elif name == "urban":
            sites[name] = _is_urban(table[column], path)
        else:
            sites[name] = _finite(numbers(table, column, str(path), whole=name in ("year", "n")), path)
    sites = sites.astype({"year": "int32", "n": "int32"})
    refuse_duplicates(sites["id"], str(path), f"id {wanted['id']}")
    return sites.sort_values("id", ignore_index=True)


def _given(values: pd.Series[str], path: Path) -> pd.Series[str]:
    if (empty := values.isna()).any():
        raise DataError(
            f"{path}: column {values.name} is empty in {int(empty.sum())} row(s). Fill it, or leave them out."
        )
    return values


def _finite(values: pd.Series[float], path: Path) -> pd.Series[float]:
    if (wrong := ~np.isfinite(values)).any():
        raise DataError(
            f"{path}: column {values.name} holds {int(wrong.sum())} value(s) that are not finite numbers. Leave these "
            "rows out."
        )
    return values


def _is_urban(values: pd.Series[str], path: Path) -> pd.Series[bool]:
    found = values.str.lower().map(_URBAN)
    if (wrong := found.isna()).any():
        raise DataError(
            f"{path}: column {values.name} holds {values[wrong].iloc[0]!r}; expected one of {', '.join(_URBAN)}."
        )
    return found.astype(bool)


def _read_tile(path: Path, pixel_m: float) -> tuple[NDArray[np.uint16], TileFormat]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such tile, but the table has a row for it.")
    try:
        with rasterio.open(path) as source:
            tile = source.read()
            names, scale, offset = source.descriptions, source.scales, source.offsets
            nodata, north_up = source.nodata, source.transform.e < 0
    except RasterioIOError as error:
        raise FileFormatError(f"{path}: not a readable GeoTIFF ({error}).") from error
    if tile.dtype != np.uint16 or nodata not in (0, None):
        raise FileFormatError(
            f"{path}: holds {tile.dtype} with nodata {nodata}; expected uint16 DN with nodata 0, and scale and offset "
            "tags that give their meaning."
        )
    if not all(names) or tile.shape[1] != tile.shape[2] or not north_up:
        raise FileFormatError(
            f"{path}: expected a square, north-up tile whose bands have names; got {tile.shape[1:]} pixels, bands "
            f"{names}, {'north' if north_up else 'south'}-up."
        )
    form = TileFormat(
        bands=names, scale=scale, offset=offset, nodata=0, pixel_m=pixel_m, tile_px=tile.shape[1]
    )
    return tile, form
