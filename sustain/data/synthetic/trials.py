"""Three trials with a known effect on wealth.

Units are catchments: squares of the size of a tile on a lattice, so that no two overlap and the middle of each is the
middle of a map cell. Treated wealth is the baseline's plus a constant; imagery changes through wealth alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rasterio.warp import transform as transform_points

from sustain.config import SyntheticWorldParams
from sustain.data.synthetic.fields import FloatField, Streams
from sustain.data.synthetic.render import CRS, LEFT_M
from sustain.data.synthetic.world import URBAN, Landscape, tile_means
from sustain.errors import ConfigError

__all__ = ["PUBLIC_COLUMNS", "TRIALS", "design_trials", "to_lonlat", "treat", "trial_truth"]

PUBLIC_COLUMNS = ["unit", "lon", "lat", "treated", "district", "urban"]
MAX_WATER = 0.3  # a catchment with more water is no unit of any trial
COUNTRY, TOWN = 0.05, 0.4  # mean town-ness below and above which a catchment is country or town

TRIALS: list[dict[str, Any]] = [
    {
        "name": "villages",
        "title": "A programme randomised over villages",
        "question": "By how much does the programme raise the wealth of a village?",
        "table": "trials/villages.csv",
        "treatment": "treated",
        "map": "endline",
        "baseline_map": True,
        "estimator": "ols",
        "covariates": [],
        "vcov": "HC1",
        "assumption": "measurement",
        "why": "Treatment was drawn by lot and the imagery shows it only as far as it changes wealth, so the map "
        "errs on treated villages as it errs on others of the same wealth: its shrinkage can be undone.",
    },
    {
        "name": "districts",
        "title": "A reform randomised over districts",
        "question": "By how much does the reform raise the wealth of a neighbourhood in the district?",
        "table": "trials/districts.csv",
        "treatment": "treated",
        "map": "endline",
        "baseline_map": True,
        "estimator": "ols",
        "covariates": [],
        "vcov": {"CRV1": "district"},
        "assumption": "measurement",
        "why": "Whole districts were drawn by lot; the imagery shows the reform only as far as it changes wealth. "
        "Neighbourhoods of one district share their errors, hence the clusters.",
    },
    {
        "name": "towns",
        "title": "Town against country",
        "question": "By how much are towns wealthier than the country?",
        "table": "trials/towns.csv",
        "treatment": "treated",
        "map": "baseline",
        "baseline_map": False,
        "estimator": "difference",
        "covariates": [],
        "vcov": "HC1",
        "assumption": "outcome",
        "why": "The image shows by itself what is town and what is country, and the model learned how wealthy each "
        "is: predictions differ between them by as much as wealth does, and a correction would overshoot.",
    },
]


def to_lonlat(x: Any, y: Any, crs: str = CRS) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude (EPSG:4326, degrees) of map coordinates."""
    lon, lat = transform_points(crs, "EPSG:4326", np.asarray(x), np.asarray(y))
    return np.asarray(lon), np.asarray(lat)


def design_trials(
    landscape: Landscape, params: SyntheticWorldParams, streams: Streams
) -> dict[str, pd.DataFrame]:
    """Choose the units of each trial and draw who is treated.

    Returns
    -------
    dict of str to DataFrame
        One table a trial, with `PUBLIC_COLUMNS` and ``row`` and ``column``: the catchment's upper-left pixel.

    Raises
    ------
    ConfigError
        When the scene has room for fewer than two treated or two other units of a trial.
    """
    catchments = _catchments(landscape, params.pixel_m)
    half = catchments["lattice_column"].max() // 2 + 1
    dry = catchments["water"] <= MAX_WATER
    west, east = catchments["lattice_column"] < half, catchments["lattice_column"] >= half
    country, town = catchments["town"] < COUNTRY, catchments["town"] >= TOWN

    villages = catchments[west & dry & country].copy()
    villages["treated"] = _half(streams.rng("villages"), len(villages))
    districts = catchments[east & dry].copy()
    names = np.unique(districts["district"])
    lot = dict(zip(names, _half(streams.rng("districts"), len(names)), strict=True))
    districts["treated"] = districts["district"].map(lot)
    towns = catchments[dry & (country | town)].copy()
    towns["treated"] = town[towns.index].astype(int)

    tables = {"villages": villages, "districts": districts, "towns": towns}
    for name, table in tables.items():
        treated = int(table["treated"].sum())
        if min(treated, len(table) - treated) < 2:
            raise ConfigError(
                f"scene_px={params.scene_px} with tile_px={params.tile_px}: the trial {name!r} has {treated} treated "
                f"and {len(table) - treated} other units, and needs at least 2 of each. Make scene_px larger, or "
                "change the seed."
            )
        table["unit"] = [f"{name[:-1]}-{i:04d}" for i in range(1, len(table) + 1)]
    return {
        name: table[[*PUBLIC_COLUMNS, "row", "column"]].reset_index(drop=True)
        for name, table in tables.items()
    }


def treat(wealth: FloatField, table: pd.DataFrame, effect: float, tile: int) -> FloatField:
    """Wealth after treatment: `effect` index points more in every pixel of every treated catchment."""
    after = wealth.copy()
    for row, column in table.loc[table["treated"] == 1, ["row", "column"]].to_numpy():
        after[row : row + tile, column : column + tile] += np.float32(effect)
    return after


def trial_truth(name: str, table: pd.DataFrame, wealth: FloatField, tile: int) -> pd.DataFrame:
    """Return the true mean wealth of every unit: columns trial, unit, wealth_true."""
    means = tile_means(wealth, tile)[table["row"], table["column"]]
    return pd.DataFrame({"trial": name, "unit": table["unit"], "wealth_true": means})


def _catchments(landscape: Landscape, pixel_m: float) -> pd.DataFrame:
    """All catchments of the lattice, row by row from the north-west."""
    size, tile = landscape.size, landscape.tile
    row, column = (index.ravel() for index in np.mgrid[: size // tile, : size // tile])
    town, water = (
        tile_means(field, tile)[::tile, ::tile].ravel() for field in (landscape.town, landscape.water)
    )
    x = LEFT_M + (column + 0.5) * tile * pixel_m
    y = (size // 2 - (row + 0.5) * tile) * pixel_m
    lon, lat = to_lonlat(x, y)
    return pd.DataFrame({
        "lattice_column": column, "row": row * tile, "column": column * tile, "lon": lon, "lat": lat,
        "district": [f"district-{i:02d}-{j:02d}" for i, j in zip(row // 2, column // 2, strict=True)],
        "town": town, "water": water, "urban": (town >= URBAN).astype(int),
    })  # fmt: skip


def _half(rng: np.random.Generator, n: int) -> np.ndarray:
    """Zeros and ones in random order, as many of each as can be."""
    return rng.permutation(np.arange(n) % 2)
