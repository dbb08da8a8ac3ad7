"""From a map to the units of a trial: at points, around displaced points, or over areas; and how it was done, in words.

A unit's value is the map's **raw** prediction, which `sustain.causal.estimate_effect` corrects with the card; the
corrected value, its standard error and what is known of its support are carried beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from sustain.errors import DataError
from sustain.maps.geotiff import (
    NO_IMAGERY,
    OUTSIDE_SUPPORT,
    SUPPORT,
    WEALTH_RAW,
    open_raster,
    value_band,
    value_bands,
)
from sustain.maps.places import read
from sustain.maps.read.zonal import buffer_mean, sample_points, zonal_mean
from sustain.maps.read.zones import column_names
from sustain.spelling import argument
from sustain.stats.columns import label_text
from sustain.stats.keys import match_keys

__all__ = ["DISPLACED_M", "MapReading", "read_map_at_units"]

DISPLACED_M = {"urban": 2000.0, "rural": 5000.0}
"""How far DHS surveys displace coordinates, in metres (99 in 100 rural places; the rest up to 10 km)."""

_LETTERS = {"U": 1.0, "R": 0.0}
_SAID = ("wealth_se", "extrapolated_share", "imagery_share")  # of the map, in its caveats


@dataclass(frozen=True)
class MapReading:
    """A trial's units with the map's values.

    Attributes
    ----------
    table : DataFrame
        The units' columns, then the map's bands (``wealth``, ``wealth_raw``, ``wealth_se``), ``extrapolated_share`` and
        ``imagery_share``; ``attrs`` as of `sustain.maps.read.zonal.sample_points`.
    how : str
        How the values were read.
    averaged : bool
        Whether a value is a mean over several cells.
    outcome : str or None
        Column of the predictions; None where the raster has several bands and none was named.
    """

    table: pd.DataFrame
    how: str
    averaged: bool
    outcome: str | None = WEALTH_RAW

    def caveats(self, method: str) -> list[str]:
        """Say what a reader of an effect by `method` must know about the reading, one sentence each."""
        found = [self.how]
        if self.averaged:
            found.append(
                "Means over cells follow the truth more closely than single places do, so a slope that was learned at "
                f"places may correct too much; compare {argument('method', 'level')} or "
                f"{argument('assumption', 'bracket')}."
            )
            if method == "response":
                found.append(
                    "The response curve and the scatter about it were learned at single places; means over cells "
                    "scatter less, which unfolding does not know."
                )
            elif method not in ("none", "linear", "level"):
                found.append(
                    f"The correction {method!r} is a curve: it is applied to the mean prediction, which is not the "
                    "mean of corrected cells."
                )
        if self.outcome in self.table:
            values = self.table[self.outcome].dropna()
            if values.nunique() < len(values):
                found.append(
                    f"{len(values)} rows hold {values.nunique()} different values: units in one cell or area share its "
                    "value, and with it its error. Cluster by what they share, or make a row of each area."
                )
        if "wealth_se" in self.table:
            typical = self.table["wealth_se"].median()
            found.append(
                f"Median standard error of a unit's corrected value: {typical:.3g}. It is in the interval already, "
                "through the scatter of the predictions and the card's draws."
            )
        outside = self.table["extrapolated_share"].mean() if "extrapolated_share" in self.table else 0.0
        if outside > 0:
            found.append(
                f"{outside:.1%} of the cells read lie outside the range in which the correction was learned."
            )
        return found


def read_map_at_units(
    raster: str | Path,
    units: pd.DataFrame,
    *,
    buffer_m: float | str | None = None,
    displaced: str | None = None,
    polygons: gpd.GeoDataFrame | None = None,
    key: str | None = None,
    weights: str | Path | None = None,
    band: int | str | None = None,
    lon: str = "lon",
    lat: str = "lat",
) -> MapReading:
    """Read a map at the units of a trial.

    Parameters
    ----------
    raster : str or Path
        A map of this package, or any raster of predictions.
    units : DataFrame
        One row a unit, with columns `lon` and `lat`; with `polygons` the column `key` instead.
    buffer_m : float or str, optional
        Mean over a circle of this radius in metres, or of that of a column.
    displaced : str, optional
        For displaced survey coordinates: a column that is 1 (or, as in DHS files, ``U``) for urban and 0 (``R``) for
        rural places; circles of 2 and 5 km.
    polygons : GeoDataFrame, optional
        Areas, whose column `key` says which unit they belong to.
    key : str, optional
        Column of `units` and of `polygons`.
    weights : str or Path, optional
        Raster of weights, such as people per cell, for circles and polygons.
    band : int or str, optional
        Number (from 1) or name of the band of predictions; by default ``wealth_raw``, else the only band. In a raster
        without a band ``wealth_raw`` they are in a column of that name too.
    lon, lat : str
        Columns of `units` with coordinates in degrees.

    Returns
    -------
    MapReading

    Raises
    ------
    DataError
        When arguments exclude each other, a column is missing or there already, or a unit has no polygon or several.
    RasterError
        As `sustain.maps.read.zonal.zonal_mean`.

    Warns
    -----
    SupportWarning
        When units lie outside the raster or meet only cells without imagery.
    """
    ways = [
        name
        for name, given in (("buffer_m", buffer_m), ("displaced", displaced), ("polygons", polygons))
        if given is not None
    ]
    if len(ways) > 1:
        raise DataError(f"{' and '.join(ways)} exclude each other: choose one way to read the map.")
    if weights is not None and not ways:
        raise DataError(
            "weights: a point has one cell and nothing to weigh. Give buffer_m, displaced or polygons."
        )
    if (key is None) != (polygons is None):
        raise DataError(
            "polygons and key go together: areas, and the column that says which unit each is of."
        )
    read.require_columns(units, [key] if key else [lon, lat], argument="units")
    outcome, column, chosen = _outcome(raster, band)
    weighed = "" if weights is None else ", each cell weighed by the raster of weights"
    if polygons is not None and key is not None:
        values = _means_of_areas(raster, units, polygons, key, weights)
        how = f"Map values are means over the units' polygons{weighed}."
    elif displaced is not None:
        values = buffer_mean(raster, *_coordinates(units, lon, lat), _displacement(units, displaced), weights)
        how = (
            "Coordinates are displaced, so map values are means over circles of 2 km around urban and 5 km around "
            f"rural places{weighed}; a treatment that changes within that distance is blurred."
        )
    elif buffer_m is not None:
        radius = _radius(units, buffer_m)
        values = buffer_mean(raster, *_coordinates(units, lon, lat), radius, weights)
        size = f"{radius:g} m" if isinstance(radius, float) else f"the radius in column {buffer_m!r}"
        how = f"Map values are means over circles of {size} around the units{weighed}."
    else:
        values = sample_points(raster, *_coordinates(units, lon, lat))
        how = "Map values are those of the cells that contain the units' coordinates."
        if SUPPORT in values:
            flags = values.pop(SUPPORT)
            values = values.assign(
                extrapolated_share=(flags == OUTSIDE_SUPPORT).where(flags != NO_IMAGERY).astype(float),
                imagery_share=(flags != NO_IMAGERY).astype(float),
            )
    if outcome is not None and outcome != column:
        attrs = values.attrs
        values = values.assign(**{outcome: values[column]})
        # Under its own name as well, unless it would pass for the corrected values beside raw ones.
        values = values.drop(columns=[column] if f"{column}_raw" == outcome else [])
        values.attrs.update(attrs)
    kept = [name for name in values.columns if name in units.columns]
    clash = [name for name in kept if name in (outcome, *_SAID)]
    if clash:
        raise DataError(
            f"units: column(s) {', '.join(clash)} would be written over by the map's. Rename them."
        )
    if kept:
        how += f" Column(s) {', '.join(kept)} are the units' own, not the map's."
    table = pd.concat([units, values.drop(columns=kept).set_axis(units.index)], axis=1)
    table.attrs.update(values.attrs)
    return MapReading(table, how + chosen, averaged=bool(ways), outcome=outcome)


def _outcome(raster: str | Path, band: int | str | None) -> tuple[str | None, str, str]:
    """Column for the predictions, the name of their band, and what a reader must know of it."""
    with open_raster(raster) as source:
        names = column_names(source)
        if band is None and WEALTH_RAW not in names and len(value_bands(source)) > 1:
            return None, "", ""
        name = names[value_band(source, band) - 1]
    if name == WEALTH_RAW:
        return name, name, ""
    outcome = name if WEALTH_RAW in names else WEALTH_RAW
    which = "Predictions are" if outcome == name else f"Predictions, in column {WEALTH_RAW!r}, are"
    return outcome, name, f" {which} the raster's band {name!r}."


def _radius(units: pd.DataFrame, buffer_m: float | str) -> Any:
    if not isinstance(buffer_m, str):
        return float(buffer_m)
    read.require_columns(units, [buffer_m], argument="units")
    return read.vector(f"buffer_m: column {buffer_m!r}", units[buffer_m])


def _displacement(units: pd.DataFrame, column: str) -> Any:
    read.require_columns(units, [column], argument="units")
    # DHS's own column, URBAN_RURA, has letters.
    letters = units[column].map(lambda flag: _LETTERS.get(flag, flag) if isinstance(flag, str) else flag)
    flag = read.vector(f"displaced: column {column!r}", letters.infer_objects())
    if not np.isin(flag, (0.0, 1.0)).all():
        raise DataError(
            f"displaced: column {column!r} must be 1 (or U) for urban and 0 (or R) for rural places, and nothing else."
        )
    return np.where(flag == 1, DISPLACED_M["urban"], DISPLACED_M["rural"])


def _coordinates(units: pd.DataFrame, lon: str, lat: str) -> tuple[pd.Series, pd.Series]:
    """Columns of coordinates, numbered from 0: an index of the units may repeat, as in a panel by its units."""
    places = units.reset_index(drop=True)
    return places[lon], places[lat]


def _means_of_areas(
    raster: str | Path, units: pd.DataFrame, polygons: gpd.GeoDataFrame, key: str, weights: str | Path | None
) -> pd.DataFrame:
    """Means over the polygon of every unit, in the units' order; polygons without a key are of no unit."""
    read.require_columns(polygons, [key], argument="polygons")
    there = f"polygons: column {key!r}"
    row = match_keys(read, units[key], polygons[key], left_name=f"units: column {key!r}", right_name=there)
    used, unit = np.unique(row, return_inverse=True)
    areas = gpd.GeoDataFrame(
        geometry=polygons.geometry.to_numpy()[used],
        index=[label_text(name) for name in polygons[key].iloc[used]],
        crs=polygons.crs,
    )
    return zonal_mean(raster, areas, weights).iloc[unit]
