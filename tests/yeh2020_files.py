"""Made-up files in the exact format of the published ones: tables, rasters of a country, aid projects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

# country: ISO codes, south-west corner of a box of four degrees, years of the surveys
COUNTRIES = {
    "nigeria": ("NGA", "NG", (6.0, 5.0), (2010, 2013)),
    "ghana": ("GHA", "GH", (6.0, -3.0), (2014,)),
    "kenya": ("KEN", "KE", (-3.0, 36.0), (2014, 2015)),
    "malawi": ("MWI", "MW", (-16.0, 33.0), (2010,)),
    "zambia": ("ZMB", "ZM", (-16.0, 25.0), (2013,)),
}
MODELS = {
    "Resnet-18 MS": 0.7,
    "Resnet-18 MS+NL concat": 0.75,
    "Resnet-18 NL": 0.65,
    "Ridge MS hist": 0.4,
}
CELL_M = 20_000.0


def write_published(folder: Path, places_per_survey: int = 120, seed: int = 3) -> Path:
    """Write both sources below `folder` (``yeh2020/`` and ``aid_projects/``) and return it.

    Predictions are ``slope * truth + noise``; projects lie at rich places. The rasters hold, in each cell, the first
    model's mean prediction at the Nigerian places nearby.
    """
    rng = np.random.default_rng(seed)
    survey = _places(rng, places_per_survey)
    for title, slope in MODELS.items():
        survey[title] = slope * survey["label"] + rng.normal(0, 0.4, len(survey))
    source = folder / "yeh2020"
    _write(
        source / "data/predictions/dhs_incountry_preds.csv", survey.drop(columns=["geolev", "iso3", "svyid"])
    )
    admin2 = pd.DataFrame(
        {
            "geolev": survey["geolev"],
            "survey": survey["label"],
            "index": 0.8 * survey["label"],
            "iso3": survey["iso3"],
            "svyid": survey["svyid"],
            "lat": survey["lat"],
            "lon": survey["lon"],
            "Resnet.18.MS": 0.0,
            "country": survey["country"].str.title(),
        }
    )
    _write(
        source / "data/output/cluster_pred_dhs_indices_gadm2.csv", admin2.sample(frac=1, random_state=seed)
    )
    for short in ("ms", "msnl", "nl"):
        _write_raster(source / f"data/predictions/nigeria_2012_2014_{short}_vals.tif", survey)
    _write(folder / "aid_projects/interventions.csv", _projects(rng, survey))
    return folder


def _places(rng: np.random.Generator, n: int) -> pd.DataFrame:
    parts = []
    for country, (iso3, iso2, (south, west), years) in COUNTRIES.items():
        for year in years:
            lat = np.round(south + rng.uniform(0, 4, n), 6)
            lon = np.round(west + rng.uniform(0, 4, n), 6)
            urban = rng.random(n) < 0.35
            column = np.minimum(((lon - west) / 2).astype(int), 1)
            row = np.minimum(((lat - south) / 2).astype(int), 1)
            parts.append(
                pd.DataFrame(
                    {
                        "lat": lat,
                        "lon": lon,
                        "country": country,
                        "year": year,
                        "urban": urban,
                        "label": np.round(rng.normal(np.where(urban, 0.9, -0.3), 0.5), 7),
                        "geolev": [f"{iso3}.{r}.{c}_1" for r, c in zip(row, column, strict=True)],
                        "iso3": iso3,
                        "svyid": f"{iso2}{year}",
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def _projects(rng: np.random.Generator, survey: pd.DataFrame) -> pd.DataFrame:
    rich = survey[survey["label"] > 0.8].sample(frac=0.5, random_state=1)
    table = pd.DataFrame(
        {
            "project_id": np.arange(len(rich)),
            "project_location_id": [f"{i}_1" for i in range(len(rich))],
            "country": rich["country"].str.title().to_numpy(),
            "latitude": rich["lat"].to_numpy() + 0.01,
            "longitude": rich["lon"].to_numpy() - 0.01,
            "start_date": [f"{year - 5}-06-30" for year in rich["year"]],
            "funder": np.where(rng.random(len(rich)) < 0.5, "WB", "CH"),
            "ad_sector_codes": 310,
            "sector_group_name": "Production",
        }
    )
    table.loc[::7, "country"] = None  # as in the published table
    return pd.concat([table, table.head(5)], ignore_index=True)


def _write(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def _write_raster(path: Path, survey: pd.DataFrame) -> None:
    """EPSG:3857, north-up, NaN outside, nodata tag and unit unset: as published."""
    _, _, (south, west), _ = COUNTRIES["nigeria"]
    to_map = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    left, bottom = to_map.transform(west - 0.5, south - 0.5)
    right, top = to_map.transform(west + 4.5, south + 4.5)
    height, width = int((top - bottom) / CELL_M) + 1, int((right - left) / CELL_M) + 1
    values = np.full((height, width), -0.3, dtype=np.float32)
    values[0, :3] = np.nan
    places = survey[survey["country"] == "nigeria"]
    x, y = to_map.transform(places["lon"].to_numpy(), places["lat"].to_numpy())
    cells = pd.DataFrame(
        {
            "row": ((top - y) / CELL_M).astype(int),
            "col": ((x - left) / CELL_M).astype(int),
            "value": places["Resnet-18 MS"].to_numpy(),
        }
    )
    for (row, col), value in cells.groupby(["row", "col"])["value"].mean().items():
        values[row, col] = value
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 1,
        "height": height,
        "width": width,
        "crs": "EPSG:3857",
        "transform": from_origin(left, top, CELL_M, CELL_M),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(values, 1)
        raster.descriptions = ("wealthpooled_pred_mean",)
