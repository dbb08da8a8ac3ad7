"""From a map to a table: values at points, around points whose place is not exact, and in polygons."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
from pyproj import Geod
from shapely import Polygon

from sustain.errors import DataError, SupportWarning
from sustain.maps.geotiff import NO_IMAGERY, OUTSIDE_SUPPORT, SUPPORT, open_raster, read_values, value_bands
from sustain.maps.places import (
    WGS84,
    cells_of,
    doubt_places,
    inside_of,
    points_by_block,
    read,
    read_coordinates,
)
from sustain.maps.read.longitudes import whole_ring
from sustain.maps.read.people import open_people
from sustain.maps.read.polygons import polygonal
from sustain.maps.read.zones import Piece, cells_in_zones, value_names, whole_weights, zones_on_grid

__all__ = ["buffer_mean", "sample_points", "warn_of_holes", "zonal_mean"]

_CIRCLE_CORNERS = 180


def sample_points(raster: str | Path, lon: Any, lat: Any) -> pd.DataFrame:
    """Values of the cells that contain some points.

    Parameters
    ----------
    raster : str or Path
        A map of this package, or any raster; the bands' descriptions become column names.
    lon, lat : array_like, shape (n,)
        Longitude and latitude in degrees (EPSG:4326).

    Returns
    -------
    pandas.DataFrame, shape (n, bands)
        In the order of the points, with the index of `lon` if it is a Series. NaN outside the raster and where the
        cell holds no value. A ``support`` band becomes a column of integers, 2 (no imagery) in both cases.
        ``attrs`` hold ``unit``, ``predictor`` and ``card_sha256`` where the raster declares them;
        `sustain.causal.estimate_effect` compares the first two with the card's.

    Raises
    ------
    DataError
        When coordinates are missing, of unequal number or out of range, an index repeats (a join by it would
        multiply rows; `sustain.maps.read.read_map_at_units` takes it), or when longitude and latitude are
        exchanged (few points lie inside the raster as given, most with the two exchanged).
    FileFormatError, RasterError
        When the raster cannot be read or has no coordinate system.

    Warns
    -----
    SupportWarning
        When points lie outside the raster or in cells without imagery; it counts both.
    """
    read.require_telling_index("lon", lon)
    index = lon.index if isinstance(lon, pd.Series) else None
    lon, lat = read_coordinates(lon, lat)
    with open_raster(raster) as source:
        rows, cols = cells_of(source, lon, lat)
        inside = inside_of(source, rows, cols)
        doubt_places(source, lon, lat, inside)
        bands = value_bands(source)
        values = np.full((lon.size, len(bands)), np.nan)
        for points, window in points_by_block(source, rows, cols, np.flatnonzero(inside)):
            block = read_values(source, bands, window)
            values[points] = block[:, rows[points] - window.row_off, cols[points] - window.col_off].T
        names, attrs = value_names(source), _attrs(source)
    table = pd.DataFrame(values, columns=names, index=index)
    table.attrs.update(attrs)
    empty = inside & np.isnan(table[names[0]].to_numpy())
    if SUPPORT in names:
        table[SUPPORT] = table[SUPPORT].fillna(NO_IMAGERY).astype("int8")
    warn_of_holes(raster, lon.size, int((~inside).sum()), int(empty.sum()), "points")
    return table


def buffer_mean(
    raster: str | Path,
    lon: Any,
    lat: Any,
    radius_m: Any,
    weights: str | Path | None = None,
    *,
    weights_per_km2: bool = False,
) -> pd.DataFrame:
    """Mean of the map in a circle around each point, for places that are known only roughly.

    Survey coordinates are displaced on purpose (DHS: up to 2 km in towns and 5 km in the country, 10 km for one
    in a hundred), so that one cell is too precise.

    Parameters
    ----------
    raster : str or Path
    lon, lat : array_like, shape (n,)
        Longitude and latitude in degrees (EPSG:4326).
    radius_m : float or array_like, shape (n,)
        Radius on the ground, in metres.
    weights, weights_per_km2
        As in `zonal_mean`.

    Returns
    -------
    pandas.DataFrame, shape (n, ...)
        Columns of `zonal_mean`.

    Raises
    ------
    DataError
        As `sample_points`, and when a radius is not positive.
    """
    read.require_telling_index("lon", lon)
    index = lon.index if isinstance(lon, pd.Series) else None
    lon, lat = read_coordinates(lon, lat)
    radius = radius_m if np.ndim(radius_m) else np.full(lon.size, radius_m)
    radius = read.vector("radius_m", radius, lon.size, like="lon")
    if not (radius > 0).all():
        raise DataError(f"radius_m must be a positive number of metres; the least is {radius.min():g}.")
    with open_raster(raster) as source:
        rows, cols = cells_of(source, lon, lat)
        inside = inside_of(source, rows, cols)
        doubt_places(source, lon, lat, inside)
    # Drawn on the ellipsoid, so that a metre is a metre in any projection of the raster.
    bearing = np.linspace(0, 360, _CIRCLE_CORNERS, endpoint=False)
    corner_lon, corner_lat, _ = Geod(ellps="WGS84").fwd(
        np.repeat(lon, bearing.size),
        np.repeat(lat, bearing.size),
        np.tile(bearing, lon.size),
        np.repeat(radius, bearing.size),
    )
    corners = np.stack([corner_lon, corner_lat], axis=-1).reshape(lon.size, bearing.size, 2)
    rings = [Polygon(whole_ring(np.concatenate([circle, circle[:1]]))) for circle in corners]
    circles = gpd.GeoDataFrame(geometry=rings, crs=WGS84, index=index)
    return zonal_mean(raster, circles, weights, weights_per_km2=weights_per_km2)


def zonal_mean(
    raster: str | Path,
    polygons: gpd.GeoDataFrame,
    weights: str | Path | None = None,
    *,
    weights_per_km2: bool = False,
) -> pd.DataFrame:
    """Mean of every band in every polygon, counting each cell by the ground that the polygon covers of it.

    Parameters
    ----------
    raster : str or Path
    polygons : geopandas.GeoDataFrame
        Zones, with a coordinate system, which may be another one than the raster's; mended where they are not valid.
        Those across 180 degrees are cut there, or count their longitudes on.
    weights : str or Path, optional
        Raster of one band of weights that add up, such as people per cell, on cells of any size in any coordinate
        system: they are shared out over the raster's cells by area. Cells without a weight, and those with a negative
        or infinite one, count for nothing. By default a cell weighs its ground on the ellipsoid.
    weights_per_km2 : bool
        Whether `weights` holds densities, per square kilometre, rather than counts.

    Returns
    -------
    pandas.DataFrame
        One row a polygon, same index. Columns: the means of the bands (but not of ``support``) over the cells that
        hold values; ``imagery_share``, the share of the zone's ground (of its weight, with `weights`) on such cells;
        and, if there is a ``support`` band, ``extrapolated_share``, the share of these that lies outside the
        calibration sample's range.

        ``wealth_se`` is the mean standard error. That is the standard error of the mean if the cells' errors are
        perfectly correlated, and an upper bound otherwise; `sustain.maps.read.areas.area_means` tells apart what all
        cells share. ``attrs`` as in `sample_points`.

    Raises
    ------
    DataError
        When `polygons` has no coordinate system or an index that repeats, a row is no polygon or empty, or
        an edge leaves open which way round the Earth it goes.
    RasterError
        When the raster or the weights have no coordinate system, or the weights several bands.

    Warns
    -----
    SupportWarning
        When some polygons meet no cell that holds a value.
    GridWarning
        When the weights' cells are not the raster's, so that they are shared out.
    DataWarning
        When polygons were mended, weights are none, or weights do not reach all polygons.
    """
    read.require_telling_index("polygons", polygons)
    shapes = polygonal(polygons)
    with open_raster(raster) as source, open_people(source, weights, per_km2=weights_per_km2) as people:
        names, attrs = value_names(source), _attrs(source)
        zones = zones_on_grid(source, shapes)
        sums = np.zeros((len(zones), 2 * len(names) + 3))
        for piece in cells_in_zones(source, zones, people):
            sums[piece.zone] += _sums(piece, names)
        sums[:, -3] = whole_weights(zones, shapes, sums[:, -3], people)
    parts = [_zone_means(found, names) for found in sums]
    table = pd.DataFrame(parts, index=polygons.index)
    table.attrs.update(attrs)
    if len(table):
        empty = int((~(table["imagery_share"] > 0)).sum())
        warn_of_holes(raster, len(table), 0, empty, "polygons")
    return table


def _attrs(source: rasterio.io.DatasetReader) -> dict[str, str]:
    tags = source.tags()
    declared = {
        "unit": source.units[0],
        "predictor": tags.get("SUSTAIN_PREDICTOR"),
        "card_sha256": tags.get("SUSTAIN_CARD_SHA256"),
    }
    return {key: text for key, text in declared.items() if text}


def _sums(piece: Piece, names: list[str]) -> npt.NDArray[np.float64]:
    """Add up every band's weighted values, and their weights; and the weight in all, seen, and extrapolated."""
    there = ~np.isnan(piece.bands)
    weight = np.where(there, piece.weight, 0)
    seen = weight[0].sum()
    outside = 0.0
    if SUPPORT in names:
        flags = piece.bands[names.index(SUPPORT)]
        outside = float(weight[0] @ (flags == OUTSIDE_SUPPORT))
    values = (weight * np.where(there, piece.bands, 0)).sum(axis=1)
    return np.concatenate([values, weight.sum(axis=1), [piece.weight.sum(), seen, outside]])


def _zone_means(sums: npt.NDArray[np.float64], names: list[str]) -> dict[str, float]:
    """Means of one zone, from its sums."""
    values, weights, (total, seen, outside) = np.split(sums, [len(names), 2 * len(names)])
    means = {
        name: _ratio(value, weight)
        for name, value, weight in zip(names, values, weights, strict=True)
        if name != SUPPORT
    }
    means["imagery_share"] = _ratio(seen, total)
    if SUPPORT in names:
        means["extrapolated_share"] = _ratio(outside, seen)
    return means


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def warn_of_holes(raster: str | Path, n: int, n_outside: int, n_empty: int, what: str) -> None:
    """Warn of points or polygons without a value: so many outside the raster, so many on cells without imagery."""
    parts = []
    if n_outside:
        parts.append(f"{n_outside} lie outside the raster")
    if n_empty:
        parts.append(f"{n_empty} meet only cells without imagery")
    if parts:
        warnings.warn(
            f"{raster}: of {n} {what}, {' and '.join(parts)}; their values are NaN.",
            SupportWarning,
            stacklevel=3,
        )
