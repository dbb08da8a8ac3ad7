"""Tiny archives in the exact on-disk formats of SustainBench; values are made up, containers are real."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tests.dhs_files import COLUMNS, member_name, npz_bytes, plain_tile, write_archive
from tests.hdf5_files import write_hdf5

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


def cropland_patch(seed: int, crop_rows: int = 25) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patch = rng.uniform(0.02, 0.4, (50, 50, 18))
    patch[..., 17] = 121e-4  # developed
    patch[:crop_rows, :, 17] = 1e-4  # maize
    patch[0, 0] = np.nan
    mask = np.zeros((50, 50))
    mask[7, 30] = 1
    return patch, mask


def write_cropland(folder: Path, n: int = 3) -> None:
    for part in ("train", "val", "test"):
        (folder / part).mkdir(parents=True)
        for number in range(n):
            patch, mask = cropland_patch(number, crop_rows=10 + 15 * number)
            np.save(folder / part / f"patch{number}.npy", patch)
            np.save(folder / part / f"mask_patch{number}.npy", mask)


def africa_members(country: str, numbers: range, frames: int = 3) -> dict[str, bytes]:
    base, members = f"africa_crop_type_mapping_v1.0/{country}", {}
    parts = ["id,partition"]
    for number in numbers:
        name, rng = f"{country}_{number:06d}", np.random.default_rng(number)
        length = frames + number % 2
        for satellite in ("s1", "s2", "planet"):
            dates = {"dates": [f"2016-0{month + 1}-05" for month in range(length)]}
            members[f"{base}/{satellite}/{satellite}_{name}.json"] = json.dumps(dates).encode()
        s2 = rng.integers(1, 5000, (10, 64, 64, length)).astype("u2")
        s2[:, 0, 0] = 0
        members[f"{base}/npy/{name}.npz"] = npz_bytes(
            s1=rng.normal(-10, 2, (3, 64, 64, length)).astype("f4"),
            s2=s2,
            planet=np.full((4, 220, 213, length), 1200, "u2"),
        )
        truth = np.zeros((64, 64), "u1")
        truth[:8], truth[8:16], truth[16:20], truth[20:22] = 1, 2, 4, 7
        members[f"{base}/truth/{name}.npz"] = npz_bytes(truth=truth)
        parts.append(f"{number},{number % 3}")
    members[f"{base}/list_eval_partition.csv"] = "\n".join(parts).encode()
    return members


def write_africa(folder: Path) -> None:
    members = africa_members("ghana", range(1, 7)) | africa_members("southsudan", range(1, 4))
    members["africa_crop_type_mapping_v1.0/ghana/npy/ghana_000002.npz"] = b"PK\x03\x04 truncated"
    write_archive(folder / "archive.tar.gz", members)


def yield_members(n: int = 5) -> dict[str, bytes]:
    members = {}
    for c, country in enumerate(("usa", "argentina", "brazil")):
        for p, part in enumerate(("train", "dev", "test")):
            rng = np.random.default_rng([c, p])
            hists = rng.uniform(0, 1, (n, 32, 32, 9))
            arrays = {
                "hists": hists / hists.sum(axis=1, keepdims=True),
                "ndvi": np.full((n, 32), 0.5),
                "yields": rng.uniform(1, 4, n),
                "years": np.array([str(2010 + (i + p) % 6) for i in range(n)]),
                "keys": np.array([f"dep {i % 4}_{country} st_{2010 + (i + p) % 6}" for i in range(n)]),
            }
            members |= {f"soybeans/{country}/{part}_{k}.npz": npz_bytes(data=v) for k, v in arrays.items()}
    return members


def write_yield(folder: Path, members: dict[str, bytes] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "soybeans_updated.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (yield_members() if members is None else members).items():
            archive.writestr(name, content)


def write_fields(folder: Path, n: int = 9) -> None:
    for place in ("imgs", "masks", "masks_filled"):
        (folder / place).mkdir(parents=True)
    rows = []
    for i in range(n):
        index, rng = 100 + 7 * i, np.random.default_rng(i)
        picture = np.kron(rng.integers(0, 255, (7, 7, 3)), np.ones((32, 32, 1))).astype("u1")
        boundary = np.zeros((224, 224), "u1")
        boundary[::32] = 255
        Image.fromarray(picture).save(folder / "imgs" / f"{index}.jpeg", quality=80)
        Image.fromarray(boundary).convert("RGB").save(folder / "masks" / f"{index}.png")
        Image.fromarray(255 - boundary).save(folder / "masks_filled" / f"{index}.png")
        lat, lon = 44.0 + 0.5 * i, 1.0 + 0.3 * i
        rows.append(
            [i, index, ("train", "val", "test")[i % 3], lat + 0.01, lon + 0.01, lat - 0.01, lon - 0.01]
        )
    columns = ["ids", "indices", "split", "max_lat", "max_lon", "min_lat", "min_lon"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "clean_data.csv", index=False)


KILN_COLUMNS = [
    *("y", "partition", "hdf5_file", "hdf5_idx", "lon_top_left", "lat_top_left", "lon_bottom_right"),
    *("lat_bottom_right", "indice_offset_num", "indice_x", "indice_y"),
]


def kiln_table(n: int = 12) -> pd.DataFrame:
    """Two files; pictures 0-3 of each are one kiln at four offsets, in different parts of the official split."""
    rows = []
    for number in range(n):
        file, place = divmod(number, 6)
        label = int(place < 4)
        row, column, offset = (10 + file, 20, place) if label else (10 + file, 60 + place, 0)
        west, south = 89.0 + 0.3 * file + 0.002 * column, 23.0 + 0.002 * offset
        bounds = [west, south, west + 0.006, south + 0.006]
        rows.append([label, (0, 0, 2, 1, 0, 2)[place], file, place, *bounds, row, column, offset])
    return pd.DataFrame(rows, columns=KILN_COLUMNS)


def kiln_images(file: int, n: int = 6) -> np.ndarray:
    means = [575, 674, 886, 815, 1129, 1934, 2046, 2013, 1609, 1130, 83, 91, 69]
    rng = np.random.default_rng(file)
    return np.array(means).reshape(1, 13, 1, 1) + rng.normal(0, 5, (n, 13, 64, 64))


def write_kilns(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = kiln_table()
    for file, rows in table.groupby("hdf5_file"):
        write_hdf5(
            folder / f"examples_{file}.hdf5",
            images=kiln_images(int(file)),
            labels=rows[["y"]].to_numpy(np.int64),
            bounds=rows[KILN_COLUMNS[4:8]].to_numpy(float),
            indices=rows[KILN_COLUMNS[8:]].to_numpy(np.int64),
        )
    none = {"images": np.zeros((0, 13, 64, 64)), "labels": np.zeros((0, 1), np.int64)}
    write_hdf5(folder / "examples_2.hdf5", **none)
    table.to_csv(folder / "list_eval_partition.csv", index=False)


def write_naip(folder: Path, n: int = 12) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        np.savez_compressed(
            folder / f"tile_{i}.npz", x=rng.integers(0, 255, (100, 100, 4 + i % 2)).astype("u1")
        )
        rows.append([f"tile_{i}.npz", (36, 69, 24)[i % 3], "train" if i < 6 else "val" if i < 9 else "test"])
    pd.DataFrame(rows, columns=["fileName", "landCover", "split"]).to_csv(
        folder / "metadata.csv", index=False
    )


def write_ood(folder: Path, n: int = 9) -> None:
    folder.mkdir(parents=True)
    rows = []
    for box in range(n):
        rng = np.random.default_rng(box)
        series = rng.normal(0.3, 0.05, (40, 8, 46)).astype("f4")
        series[0] = np.nan
        np.savez_compressed(
            folder / f"box_{box}.npz",
            x=series,
            y=np.repeat([1, 4, 12, 16], 10),
            lat=np.full(40, -40.0 + 10 * box),
            lon=np.full(40, -100.0 + 20 * box),
        )
        rows.append([box, ("train", "val", "test")[box % 3]])
    pd.DataFrame(rows, columns=["box", "split"]).to_csv(folder / "splits.csv", index=False)


WRITERS = {
    "dhs": write_dhs,
    "lsms": write_lsms,
    "cropland": write_cropland,
    "africa_crop_type": write_africa,
    "kenya": write_kenya,
    "cropyield": write_yield,
    "fields": write_fields,
    "brickkiln": write_kilns,
    "naip": write_naip,
    "ood": write_ood,
}
