"""Raw survey files in SustainBench's exact format, and worlds that can be learned."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = [
    *("DHSID_EA", "cname", "year", "lat", "lon", "n_asset", "asset_index", "n_water", "water_index"),
    *("n_sanitation", "sanitation_index", "under5_mort", "n_under5_mort", "women_edu", "women_bmi"),
    *("n_women_edu", "n_women_bmi", "cluster_id", "adm1fips", "adm1dhs", "urban"),
]
# A plain pixel: reflectances, 298.5 K in TEMP1 (sixth), 3.4 nW cm-2 sr-1 in NIGHTLIGHTS (last).
PIXEL = np.array([0.065, 0.095, 0.107, 0.229, 0.156, 298.5, 0.254, 3.4], dtype=np.float32)


def plain_tile(side: int = 8) -> np.ndarray:
    return np.broadcast_to(PIXEL[:, None, None], (8, side, side)).copy()


def site_id(number: int) -> str:
    return f"XA-2016-9#-{number:08d}"


def label_table(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(index=range(n), columns=COLUMNS, dtype=object)
    table["DHSID_EA"] = [site_id(i) for i in range(n)]
    table["cname"], table["year"], table["cluster_id"], table["adm1dhs"] = "XA", 2016, range(n), 1
    table["lat"], table["lon"] = rng.uniform(-0.3, 0.3, n), rng.uniform(-0.3, 0.3, n)
    table["n_asset"], table["asset_index"] = 22, rng.normal(size=n)
    table["urban"] = rng.choice(["U", "R"], n)
    return table


def npz_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def write_archive(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def member_name(name: str) -> str:
    return f"{name[:10]}/{name}.npz"


def write_raw(folder: Path, tiles: Mapping[str, np.ndarray], table: pd.DataFrame | None = None) -> Path:
    """Write a raw folder: tiles by id, and the label table, by default one row a tile."""
    write_archive(folder / "dhs_XA.tar.gz", {member_name(name): npz_bytes(x=x) for name, x in tiles.items()})
    if table is None:
        table = label_table(len(tiles))
        table["DHSID_EA"] = list(tiles)
    table.to_csv(folder / "dhs_final_labels.csv", index=False)
    return folder


def write_learnable_raw(folder: Path, n: int = 200, side: int = 16, seed: int = 3) -> Path:
    """Write a raw folder whose labels show in colour and texture, and a little in the lights."""
    rng = np.random.default_rng(seed)
    table = label_table(n, seed)
    tiles = {}
    for name, wealth in zip(table["DHSID_EA"], table["asset_index"], strict=True):
        built = rng.random((side, side)) < 1 / (1 + np.exp(-wealth))
        x = plain_tile(side) * rng.normal(1, 0.02, (8, side, side))
        x[:5] += 0.1 * built
        x[7] = np.exp(0.4 * wealth + rng.normal())
        tiles[name] = x.astype(np.float32)
    return write_raw(folder, tiles, table)
