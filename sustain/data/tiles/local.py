"""Your own tiles: a folder of GeoTIFFs and a table of sites, packed like the published ones."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.config import LocalParams, TilesParams
from sustain.data.tiles.packed import INDEX_COLUMNS
from sustain.data.tiles.raster import OwnTile, read_tile
from sustain.data.tiles.shards import TileFormat, write_shard
from sustain.data.tiles.sites import read_sites
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError, DataWarning
from sustain.files import atomic_directory, write_json
from sustain.sphere import arc_km, on_sphere
from sustain.tables import SUFFIXES as TABLES

__all__ = ["TABLE_STEM", "TILES_FOLDER", "copy_local", "copy_trials", "pack_local_tiles"]

TABLE_STEM = "sites"
TILES_FOLDER = "tiles"

_FEW_BLOCKS = 10
_STRETCHED = 0.05  # relative difference of a pixel's side on the ground from what it says
_DISPLACED_KM = 15.0  # surveys displace places by up to 10 km
_SUFFIXES = (".tif", ".tiff")
_SIDE_CARS = (".msk", ".aux.xml")  # masks, nodata numbers and scales are often kept beside a tile


def copy_local(params: LocalParams, out: str | Path) -> None:
    """Copy tiles and table as they are, so that the later stages depend on nothing outside the project.

    Parameters
    ----------
    params : LocalParams
        Where tiles and table are.
    out : str or Path
        Folder to write: the table as ``sites`` with the end of its name, and ``tiles/``.

    Raises
    ------
    FileNotFoundError
        When the table is missing, or the folder holds no GeoTIFF.
    DataError
        When the table's name is no table's (`sustain.tables.read_table`).
    """
    table, tiles = Path(params.table), Path(params.tiles)
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such table. Mend acquire.table.")
    if table.suffix.lower() not in TABLES:
        raise DataError(f"{table}: not a table by its name, which ends in one of {', '.join(TABLES)}.")
    found = sorted(path for path in tiles.glob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise FileNotFoundError(f"{tiles}: no GeoTIFF (.tif) in this folder. Mend acquire.tiles.")
    with atomic_directory(out) as folder:
        shutil.copyfile(table, folder / f"{TABLE_STEM}{table.suffix.lower()}")
        (folder / TILES_FOLDER).mkdir()
        for path in tqdm(found, desc="copy tiles", unit="tile", disable=None):
            for part in (path, *(path.with_name(path.name + suffix) for suffix in _SIDE_CARS)):
                if part.is_file():
                    shutil.copyfile(part, folder / TILES_FOLDER / part.name)


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

    Tiles are all of one size and one size of pixels, with named bands of uint16 DN, and scale and offset tags that are
    the same in all (`sustain.data.tiles.raster.read_tile`). The size of a pixel is read from them, unless
    `params.pixel_m` is given: then they must have it. Each may be in a system of its own, such as its UTM zone. The
    table has a row a tile: ``id`` (the file's name), ``lat``, ``lon``, the label, and
    optionally ``year``, ``country``, ``urban``, ``n`` (observations) and ``block`` (never divided by the split);
    `params.columns` says which of your columns is which.

    Parameters
    ----------
    raw : str or Path
        Folder of ``sites`` (.csv, .parquet, .dta, .sav, .xlsx, ...) and ``tiles/``.
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
    sites = read_sites(_table_in(raw), params)
    declared = params.pixel_m if "pixel_m" in params.model_fields_set else None
    tiles = _LocalTiles(raw / TILES_FOLDER, sites, declared)
    with atomic_directory(out) as folder:
        stream = iter(tiles)
        for shard in count():
            if write_shard(folder, shard, stream, params.shard_size) < params.shard_size:
                break
        tiles.say_ground()
        sites["shard"], sites["row"] = np.divmod(np.arange(len(sites), dtype=np.int32), params.shard_size)
        if "block" not in sites:
            sites["block"] = spatial_block(sites["lat"], sites["lon"], params.block_km)
        sites["split"] = assign_splits(sites["block"], params.shares, seed)
        _say_few_blocks(sites)
        sites[list(INDEX_COLUMNS)].to_parquet(folder / "index.parquet", index=False)
        content = {} if tiles.form is None else tiles.form.model_dump()
        label = {"name": params.label, "unit": params.label_unit}
        write_json(folder / "tiles.json", content | {"label": label, "counts": {"sites": len(sites)}})


def _table_in(raw: Path) -> Path:
    found = [path for path in sorted(raw.glob(f"{TABLE_STEM}.*")) if path.suffix in TABLES]
    if len(found) != 1:
        raise FileNotFoundError(
            f"{raw}: expected one table, {TABLE_STEM}.csv or the like; found {len(found)}. Run the acquire stage."
        )
    return found[0]


class _LocalTiles:
    """Tiles of sites, one after the other; `form` is that of the first, and all must have it."""

    def __init__(self, folder: Path, sites: pd.DataFrame, pixel_m: float | None) -> None:
        self.folder, self.sites, self.pixel_m = folder, sites, pixel_m
        self.form: TileFormat | None = None
        self._ground: list[float] = []

    def __iter__(self) -> Iterator[NDArray[np.uint16]]:
        places = self.sites[["id", "lat", "lon"]].itertuples(index=False, name=None)
        for name, lat, lon in tqdm(
            places, total=len(self.sites), desc="pack tiles", unit="tile", disable=None
        ):
            tile = read_tile(self.folder / name, self.pixel_m, self.form)
            self.form = self.form or tile.form
            if np.isfinite(tile.lat):
                _require_near(self.folder / name, tile, lat, lon)
                self._ground.append(tile.ground_m)
            yield tile.pixels

    def say_ground(self) -> None:
        """Warn where pixels cover another area of ground than they say."""
        if self.form is None or not self._ground:
            return
        size, low, high = self.form.pixel_m, min(self._ground), max(self._ground)
        if max(abs(low / size - 1), abs(high / size - 1)) > _STRETCHED:
            warnings.warn(
                f"{self.folder}: pixels of {size:g} m cover {low:.3g} to {high:.3g} m of ground in their coordinate "
                "system (Web Mercator's shrink towards the poles). A model of these tiles fits imagery of the same "
                "system and latitude only; tiles in UTM zones or an equal-area system have no such limit.",
                DataWarning,
                stacklevel=3,
            )


def _require_near(path: Path, tile: OwnTile, lat: float, lon: float) -> None:
    """Refuse a row that lies elsewhere than its tile: exchanged columns, a wrong sign, another row's tile."""

    def apart_km(there: float, here: float) -> float:
        ends = on_sphere([tile.lat, there], [tile.lon, here])
        return float(arc_km(np.linalg.norm(ends[0] - ends[1])))

    allowed = _DISPLACED_KM + tile.form.tile_px * tile.form.pixel_m / 1000
    if (found := apart_km(lat, lon)) > allowed:
        ways = {
            "lat and lon exchanged": (lon, lat),
            "the sign of lat": (-lat, lon),
            "the sign of lon": (lat, -lon),
        }
        meant = [way for way, place in ways.items() if apart_km(*place) <= allowed]
        hint = f" It fits with {meant[0]}: mend tiles.columns or the table." if meant else " Mend the table."
        raise DataError(
            f"{path}: the table places it at lat {lat:g}, lon {lon:g}, but the tile's middle is at lat {tile.lat:.4f}, "
            f"lon {tile.lon:.4f}, {found:,.0f} km away.{hint}"
        )


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
