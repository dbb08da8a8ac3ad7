"""A household survey of the embedded world, in SustainBench's DHS format.

Sites are drawn where people live, more of them in towns; a label is the mean of a few households; the published
coordinates are displaced as the DHS displaces them, and tiles are cut around the displaced place.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window
from tqdm import tqdm

from sustain.config import SyntheticWorldParams
from sustain.data.sustainbench.dhs import COLUMNS
from sustain.data.synthetic.fields import Streams
from sustain.data.synthetic.render import LEFT_M, YEAR, from_numbers
from sustain.data.synthetic.trials import to_lonlat
from sustain.data.synthetic.world import URBAN, Landscape, tile_means
from sustain.errors import ConfigError

__all__ = [
    "COUNTRY",
    "draw_sites",
    "label_table",
    "max_displacement_m",
    "site_truth",
    "write_tiles",
]

COUNTRY = "XA"  # a user-assigned code of ISO 3166: no country

# Burgert et al. (2013), DHS Spatial Analysis Reports 7: up to 2 km in towns, 5 km in the country, and 10 km for 1% of
# the country; SustainBench's tile is 6.72 km wide, and what counts is the distance in tile widths.
DHS_KM = {"urban": 2.0, "rural": 5.0, "rural far": 10.0}
DHS_TILE_KM = 6.72
FAR_SHARE = 0.01

MAX_ROUNDS = 50  # of drawing places, before the scene counts as too small
THREADS = 2  # that compress tiles; the bytes do not depend on how many


def max_displacement_m(params: SyntheticWorldParams) -> dict[str, float]:
    """Longest displacement in metres of ``urban``, ``rural`` and ``rural far`` sites of this world."""
    tile_km = params.tile_px * params.pixel_m / 1000
    return {kind: 1000 * km * tile_km / DHS_TILE_KM for kind, km in DHS_KM.items()}


def draw_sites(landscape: Landscape, params: SyntheticWorldParams, streams: Streams) -> pd.DataFrame:
    """Draw places, displace them, and interview households.

    Returns
    -------
    DataFrame
        One row a site: ``DHSID_EA``, ``urban`` (bool), ``label``, ``wealth_true`` (mean wealth of the tile-sized
        neighbourhood of the true place), ``x_true``, ``y_true``, ``x``, ``y`` (map coordinates, the latter pair
        displaced), ``row``, ``column`` (upper-left pixel of the tile around the displaced place).
    """
    rng = streams.rng("sites")
    n_urban = round(params.urban_share * params.n_sites)
    in_town = landscape.town >= URBAN
    dry = 1 - landscape.water
    people = {
        "urban": in_town * dry,
        "rural": ~in_town * dry * np.exp(np.float32(0.5) * landscape.people),
    }
    sites = pd.concat(
        [
            _draw_places(people["urban"], n_urban, True, landscape, params, rng),
            _draw_places(people["rural"], params.n_sites - n_urban, False, landscape, params, rng),
        ]
    )
    sites = sites.sample(frac=1, random_state=rng).reset_index(drop=True)
    households = streams.rng("households").normal(0, params.household_sd, (params.n_sites, params.households))
    sites["label"] = sites["wealth_true"] + households.mean(axis=1)
    survey = f"{COUNTRY}-{YEAR['baseline']}-9#"
    sites.insert(0, "DHSID_EA", [f"{survey}-{i:08d}" for i in range(1, params.n_sites + 1)])
    return sites


def _draw_places(
    people: NDArray[np.float32],
    n: int,
    urban: bool,
    landscape: Landscape,
    params: SyntheticWorldParams,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw `n` places by population; those whose neighbourhood or tile leaves the scene are drawn again."""
    size, tile, pixel = landscape.size, landscape.tile, params.pixel_m
    cumulated = np.cumsum(people.ravel(), dtype=np.float64)
    neighbourhood = tile_means(landscape.wealth, tile)
    limit = max_displacement_m(params)
    kept: list[pd.DataFrame] = []
    for _ in range(MAX_ROUNDS):
        cell = np.searchsorted(cumulated, rng.random(2 * n) * cumulated[-1], side="right")
        row, column = np.divmod(cell, size) + rng.random((2, 2 * n))
        angle, share = rng.uniform(0, 2 * np.pi, 2 * n), rng.random(2 * n)
        far = rng.random(2 * n) < FAR_SHARE
        longest = limit["urban"] if urban else np.where(far, limit["rural far"], limit["rural"])
        distance = share * longest / pixel
        shifted_row, shifted_column = row - distance * np.sin(angle), column + distance * np.cos(angle)
        corners = np.rint(np.stack([row, column, shifted_row, shifted_column]) - tile / 2).astype(int)
        inside = ((corners >= 0) & (corners <= size - tile)).all(axis=0)
        top, left = corners[:2, inside]
        kept.append(
            pd.DataFrame({
                "urban": urban,
                "wealth_true": neighbourhood[top, left],
                "x_true": LEFT_M + column[inside] * pixel,
                "y_true": (size // 2 - row[inside]) * pixel,
                "x": LEFT_M + shifted_column[inside] * pixel,
                "y": (size // 2 - shifted_row[inside]) * pixel,
                "row": corners[2, inside],
                "column": corners[3, inside],
            }).astype({"urban": bool})
        )  # fmt: skip
        if sum(map(len, kept)) >= n:
            return pd.concat(kept).iloc[:n]
    raise ConfigError(
        f"scene_px={size} with tile_px={tile}: hardly any {'urban' if urban else 'rural'} place has its tile inside "
        "the scene. Make scene_px larger, or change the seed."
    )


def label_table(sites: pd.DataFrame, params: SyntheticWorldParams) -> pd.DataFrame:
    """Return the public table in SustainBench's columns: coordinates displaced, every label but wealth empty."""
    lon, lat = to_lonlat(sites["x"], sites["y"])
    known = pd.DataFrame({
        "DHSID_EA": sites["DHSID_EA"],
        "cname": COUNTRY,
        "year": YEAR["baseline"],
        "lat": lat,
        "lon": lon,
        "n_asset": params.households,
        "asset_index": sites["label"],
        "cluster_id": np.arange(1, len(sites) + 1),
        "urban": np.where(sites["urban"], "U", "R"),
    })  # fmt: skip
    return known.reindex(columns=list(COLUMNS))


def site_truth(sites: pd.DataFrame) -> pd.DataFrame:
    """Return what the public table hides: id, wealth_true, lat_true, lon_true."""
    lon, lat = to_lonlat(sites["x_true"], sites["y_true"])
    return pd.DataFrame(
        {"id": sites["DHSID_EA"], "wealth_true": sites["wealth_true"], "lat_true": lat, "lon_true": lon}
    )


def write_tiles(scene_path: Path, archive: Path, sites: pd.DataFrame, tile: int, bar: tqdm[Any]) -> None:
    """Cut the sites' tiles out of a scene into a ``.tar.gz`` of SustainBench's ``.npz`` files.

    Arrays are float32 of shape (8, tile, tile) under the key ``x``, with row 0 at the south edge, as Earth Engine
    exports them. The scene's digital numbers are read back, so that a tile and its window agree exactly.
    """
    with (
        rasterio.open(scene_path) as scene,
        open(archive, "wb") as raw,
        # No name and no time in the headers, and no compression: what goes in is compressed already.
        gzip.GzipFile("", "wb", compresslevel=0, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        places = zip(sites["DHSID_EA"], sites["row"], sites["column"], strict=True)
        while batch := list(islice(places, 64)):
            windows = [scene.read(window=Window(column, row, tile, tile)) for _, row, column in batch]
            contents = pool.map(lambda numbers: _npz(from_numbers(numbers)[:, ::-1]), windows)
            for (name, _, _), content in zip(batch, contents, strict=True):
                member = tarfile.TarInfo(f"{name[:10]}/{name}.npz")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                bar.update()


def _npz(x: NDArray[np.float32]) -> bytes:
    """Bytes of a compressed npz with one key, ``x`` (`numpy.savez_compressed` has no choice of level: too slow)."""
    stream = io.BytesIO()
    array = io.BytesIO()
    np.save(array, x, allow_pickle=False)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x.npy"), array.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)
    return stream.getvalue()
