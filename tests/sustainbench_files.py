"""Tiny archives in the exact on-disk formats of SustainBench; values are made up, containers are real."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from dhs_files import COLUMNS, member_name, npz_bytes, plain_tile, write_archive

SHARED = Path(__file__).resolve().parents[2] / "shared"

DHS_SITES = {  # id -> country, year, asset index, under-5 mortality
    "AL-2008-5#-00000001": ("AL", 2008, 1.2, np.nan),
    "AL-2008-5#-00000002": ("AL", 2008, -0.3, 0.0),
    "KE-2014-7#-00000001": ("KE", 2014, 0.5, 33.0),
    "KE-2014-7#-00000002": ("KE", 2014, -0.9, 81.0),
    "BF-2003-4#-00000001": ("BF", 2003, np.nan, 120.0),
    "TZ-2015-7#-00000001": ("TZ", 2015, -1.0, 70.0),
    "AO-2015-7#-00000001": ("AO", 2015, 0.4, 45.2),
    "RW-2014-7#-00000001": ("RW", 2014, -1.3, 62.0),
    "EG-2014-6#-00000001": ("EG", 2014, 1.9, 21.0),
}


def dhs_table() -> pd.DataFrame:
    table = pd.DataFrame(index=range(len(DHS_SITES)), columns=COLUMNS, dtype=object)
    for row, (name, (country, year, asset, deaths)) in enumerate(DHS_SITES.items()):
        table.loc[row, ["DHSID_EA", "cname", "year", "urban"]] = [name, country, year, "UR"[row % 2]]
        table.loc[row, ["lat", "lon"]] = [1.0 + row, 30.0 + row]
        table.loc[row, ["asset_index", "n_asset"]] = [asset, np.nan if np.isnan(asset) else 24]
        table.loc[row, ["under5_mort", "n_under5_mort"]] = [deaths, np.nan if np.isnan(deaths) else 22]
        for label in ("water", "sanitation"):
            table.loc[row, [f"{label}_index", f"n_{label}"]] = [1.0 + row % 5, 20]
        for label in ("edu", "bmi"):
            table.loc[row, [f"women_{label}", f"n_women_{label}"]] = [5.0 + row, 19]
    return table


def dhs_tile(number: int, side: int = 12) -> np.ndarray:
    """A tile whose south edge (row 0) is bright in BLUE, with one missing pixel in the north-east corner."""
    x = plain_tile(side)
    x[7] = 1.0 + number
    x[0, 0] = 0.5
    x[:, -1, -1] = 0
    return x


def write_dhs(folder: Path) -> None:
    tiles = {name: dhs_tile(i) for i, name in enumerate(DHS_SITES)}
    half = list(tiles)[: len(tiles) // 2]
    for archive, names in (("dhs_AL_DR", half), ("dhs_EG_HT", [n for n in tiles if n not in half])):
        write_archive(
            folder / f"{archive}.tar.gz", {member_name(name): npz_bytes(x=tiles[name]) for name in names}
        )
    dhs_table().to_csv(folder / "dhs_final_labels.csv", index=False)


def lsms_table() -> pd.DataFrame:
    years = {
        "et": (2011, 2015),
        "mw": (2010, 2016),
        "ng": (2010, 2015),
        "tz": (2008, 2012),
        "ug": (2005, 2009, 2013),
    }
    rows = []
    for number, (country, visited) in enumerate(years.items()):
        for cluster in (f"010{number}", f"11{number}"):
            for year in visited:
                index = 0.1 * number + 0.05 * (year - 2010) * (1 if cluster[0] == "1" else -1)
                rows.append(
                    [
                        f"{country}_{cluster}_{year}",
                        country,
                        cluster,
                        year,
                        number + len(cluster) / 9,
                        30.0,
                        index,
                        5,
                    ]
                )
    return pd.DataFrame(
        rows, columns=["lsms_id", "country", "cluster_id", "year", "lat", "lon", "asset_index", "n"]
    )


def write_lsms(folder: Path) -> None:
    table = lsms_table()
    members = {
        f"lsms/{name[:2]}_all/{name}.npz": npz_bytes(x=dhs_tile(i)) for i, name in enumerate(table["lsms_id"])
    }
    write_archive(folder / "lsms.tar.gz", members)
    table.to_csv(folder / "lsms_asset_indices.csv", index=False)


def kenya_series(seed: int = 0, observed: int = 9) -> np.ma.MaskedArray:
    rng = np.random.default_rng(seed)
    series = np.ma.array(np.full((14, 365), 1e20), mask=True)
    series[:13, ::observed] = rng.uniform(500, 4000, (13, len(range(0, 365, observed))))
    series[13] = series[7] / series[2] - 1
    return series


def kenya_pickle(series: np.ma.MaskedArray) -> bytes:
    """A series as the release has it: pickle protocol 2 under NumPy 1's names."""
    content = pickle.dumps(series, 2).replace(b"cnumpy.ma\nMaskedArray\n", b"cnumpy.ma.core\nMaskedArray\n")
    return content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def kenya_table(n: int = 12) -> pd.DataFrame:
    regions = ["pilot", "Busia", "Bungoma", "Siaya"]
    crops = ["Maize", "Sugar Cane", "Cassava"]
    table = pd.DataFrame(
        {
            "fileName": [f"kenya_2017_sentinel2_timeseries_{i}.npy" for i in range(n)],
            "cropType": [crops[i % 3] if i else "" for i in range(n)],
            "fieldID": [100 + i for i in range(n)],
            "region": [regions[i % 4] for i in range(n)],
            "fold_random": ["test" if i % 4 == 3 else "train" for i in range(n)],
        }
    )
    for region in ("busia", "bungoma", "siaya"):
        table[f"fold_{region}_test"] = np.where(table["region"].str.lower() == region, "test", "train")
    return table


def write_kenya(
    folder: Path, series: dict[str, bytes] | None = None, table: pd.DataFrame | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = kenya_table() if table is None else table
    if series is None:
        series = {name: kenya_pickle(kenya_series(i)) for i, name in enumerate(table["fileName"])}
    with zipfile.ZipFile(folder / "crop_type_kenya.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("crop_type_kenya/crop_type_kenya_2017_metadata.csv", table.to_csv(index=False))
        for name, content in series.items():
            archive.writestr(f"crop_type_kenya/timeseries/{name}", content)


WRITERS = {"dhs": write_dhs, "lsms": write_lsms, "kenya": write_kenya}
