"""SustainBench's DHS archives and label table as packed tiles with a spatial split: what the pipeline trains on."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd

from sustain.config import TilesParams
from sustain.data.sustainbench import dhs
from sustain.data.sustainbench.encoding import landsat_format
from sustain.data.sustainbench.packing import notes_of, pack_shards, places_of
from sustain.data.tiles.packed import INDEX_COLUMNS
from sustain.data.tiles.shards import shard_path
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError, DataWarning
from sustain.files import atomic_directory, write_json

__all__ = ["pack_dhs_tiles"]

_FIRST_VIIRS_YEAR = 2012

_NOTES = {
    "tiles_without_row": "tile(s) without a row in the label table were left out",
    "labels_without_tile": "site(s) with a label but without a tile were left out",
    "tiles_without_valid_pixel": "tile(s) without one valid pixel were left out",
    "tiles_with_nan": "tile(s) hold NaN or infinite values, which now count as missing",
    "tiles_limited": "tile(s) hold values beyond the range of a DN, which were set to its nearer end",
    "dmsp_sites": f"site(s) before {_FIRST_VIIRS_YEAR} have nightlights of another sensor (DMSP) than the rest (VIIRS)",
}
_PACKING_NOTES = {
    "tiles_without_row": "without_row",
    "tiles_without_valid_pixel": "without_pixel",
    "tiles_with_nan": "with_nan",
    "tiles_limited": "limited",
}


def pack_dhs_tiles(
    raw: str | Path, out: str | Path, params: TilesParams, seed: int, *, work: str | Path | None = None
) -> None:
    """Turn SustainBench's DHS archives and label table into packed tiles with a spatial split.

    Each archive is read once, front to back; memory holds one tile and the tables. Sites without a label (fewer than
    five observations, as SustainBench has it) are left out and counted in ``tiles.json``.

    Parameters
    ----------
    raw : str or Path
        Folder of ``dhs_final_labels.csv`` and ``dhs_*.tar.gz``.
    out : str or Path
        Folder to write: ``shard-0000.npy`` (uint16 ``(n, 8, H, W)``, north-up, of one archive each), ``index.parquet``,
        ``tiles.json``. It appears whole or not at all.
    params : TilesParams
        Label, pixel size, shard size, size of a spatial block, shares of the parts.
    seed : int
        Seed of the split.
    work : str or Path, optional
        Folder of finished shards, on the same disk as `out`: when a run is killed, the next one goes on from them. By
        default a hidden folder beside `out`.

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
    work = out.with_name(f".packing-{out.name}") if work is None else Path(work)
    labels = dhs.read_labels(raw / dhs.LABELS_FILE, params.label)
    sites = labels[labels["label"].notna()]
    wanted = sorted(sites["id"])
    shards = pack_shards(
        dhs.archives(raw),
        wanted,
        work,
        plan={"sites": hashlib.sha256("\n".join(wanted).encode()).hexdigest()},
        known=set(labels["id"]),
        shard_tiles=params.shard_size,
        pixel_m=params.pixel_m,
    )
    places = places_of(shards)
    if places.empty:
        raise DataError(f"{raw}: none of the {len(sites)} sites with a {params.label} has a usable tile.")
    packing = notes_of(shards)
    noted = {what: packing.get(kind, []) for what, kind in _PACKING_NOTES.items()}
    found = sites["id"].isin(places["id"])
    noted["labels_without_tile"] = sorted(set(sites["id"][~found]) - set(noted["tiles_without_valid_pixel"]))
    index = _index(sites.merge(places, on="id"), params, seed)
    dmsp = index["year"] < _FIRST_VIIRS_YEAR
    noted["dmsp_sites"] = index["id"][dmsp].tolist() if dmsp.nunique() == 2 else []
    limited: Counter[str] = Counter()
    for shard in shards:
        limited.update(shard.limited)
    description = landsat_format(shards[0].side, params.pixel_m).model_dump() | {
        "label": {"name": params.label, "unit": dhs.LABELS[params.label].unit},
        "counts": {
            "sites": len(index),
            "rows_without_label": len(labels) - len(sites),
            "values_limited": dict(limited),
            **{what: len(noted[what]) for what in _NOTES},
        },
    }
    with atomic_directory(out) as folder:
        for number in places["shard"].unique():
            shutil.move(shard_path(work, number), shard_path(folder, number))
        index.to_parquet(folder / "index.parquet", index=False)
        write_json(folder / "tiles.json", description)
    shutil.rmtree(work)
    for what, ids in noted.items():
        if ids:
            more = ", ..." if len(ids) > 3 else ""
            warnings.warn(
                f"{raw}: {len(ids)} {_NOTES[what]}: {', '.join(ids[:3])}{more}", DataWarning, stacklevel=2
            )


def _index(sites: pd.DataFrame, params: TilesParams, seed: int) -> pd.DataFrame:
    index = sites.sort_values("id", ignore_index=True).astype(dict.fromkeys(("n", "shard", "row"), "int32"))
    index["block"] = spatial_block(index["lat"], index["lon"], params.block_km)
    index["split"] = assign_splits(index["block"], params.shares, seed)
    return index[list(INDEX_COLUMNS)]
