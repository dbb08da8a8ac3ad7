"""Means of a map over areas, the one to expect and the corrected one, with intervals that carry their errors."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
from rasterio.warp import transform as to_degrees
from scipy.spatial.distance import cdist

from sustain.debias import CalibrationCard
from sustain.errors import WeakCalibrationWarning
from sustain.maps.correct.raster import require_corrected_with
from sustain.maps.geotiff import OUTSIDE_SUPPORT, SUPPORT, WEALTH_RAW, open_raster
from sustain.maps.places import read
from sustain.maps.read.area_variance import AreaErrors, BlockSums
from sustain.maps.read.people import open_people
from sustain.maps.read.polygons import polygonal, read_polygons
from sustain.maps.read.zonal import warn_of_holes
from sustain.maps.read.zones import Piece, cells_in_zones, value_names, whole_weights, zones_on_grid
from sustain.sphere import arc_km, on_sphere
from sustain.stats.covariance import critical_value

__all__ = ["COLUMNS", "area_means", "areas_table", "published_card"]

Floats = npt.NDArray[np.float64]

COLUMNS = {
    "expected": "Mean wealth to expect, given the predictions, by the card's line of truth on prediction.",
    "expected_low95": "Lower end of its 95% interval.",
    "expected_high95": "Upper end of its 95% interval.",
    "wealth": "Mean of the corrected wealth: for differences and effects.",
    "low95": "Lower end of its 95% interval.",
    "high95": "Upper end of its 95% interval.",
    "wealth_raw": "Mean of wealth as the model predicts it; no interval.",
    "expected_se": "Standard error of `expected`: uncertainty of the line, and what predictions leave unexplained.",
    "calibration_se": "Part of the standard error of `wealth` that comes from the correction; all cells share it.",
    "noise_se": "Part of the standard error of `wealth` that comes from the noise of the predictions.",
    "country_se": "Part of the standard error of `wealth` that all areas of a country share, if the card knows it.",
    "expected_country_se": "Part of `expected_se` that all areas of a country share, if the card knows it.",
    "imagery_share": "Share of the area's ground (with weights: of its weight) on cells with imagery.",
    "extrapolated_share": "Share of these cells outside the calibration sample's range.",
    "cells": "Number of cells that the area meets and that hold a value.",
}
"""Columns of the table of areas, and what they hold."""


def area_means(
    raster: str | Path,
    areas: gpd.GeoDataFrame,
    card: CalibrationCard | str | Path,
    weights: str | Path | None = None,
    *,
    weights_per_km2: bool = False,
) -> pd.DataFrame:
    """Mean wealth of every area, with its standard errors.

    Two means, for two questions. With x the raw predictions and w the ground of each cell in the area (or its
    people there), scaled to sum to one:

    - ``expected`` is ``c + g sum_i w_i x_i``, where c and g are the card's line of truth on prediction: the mean truth
      of areas with such predictions (outcome stability).
    - ``wealth`` is ``sum_i w_i h(x_i)``, with h the map's correction: it does not shrink what moves the predictions
      only through wealth (measurement stability).

    The variance of either is that of its line or correction, plus that of the cells' errors,
    ``sum_ij w_i w_j s_i s_j rho(d_ij)``. For ``wealth`` the first is that of ``sum_i w_i h_k(x_i)`` over the card's
    draws k, as in `sustain.causal.estimate_effect`, and s_i is the noise of one cell
    (`CalibrationCard.standard_error` without the draws). For ``expected`` the first follows from the covariance of
    (c, g), and s is the residual standard deviation of truth given prediction. How errors correlate over distance,
    rho, is in the card (``spatial_errors``); a card that was built without coordinates does not know it, and then
    all cells of an area are taken to err together, which gives the widest intervals.

    A card of five countries or more that was built with a column of countries knows how far countries err as wholes.
    Then s is about the mean of a country, ``tau^2`` is added, the variance of the countries' mean errors (for
    ``wealth`` in proportion to s, as the correction enlarges it), and Student's t has at most the degrees of freedom
    of ``tau``: countries less one. All areas of a country share this part (`country_se`, `expected_country_se`), so
    that it cancels in their difference. It is the same for an area in one of the card's own countries: the one line of
    all countries does not take out what is known of the mean error there.

    Parameters
    ----------
    raster : str or Path
        Raster of `sustain.maps.correct.raster.correct_raster`.
    areas : geopandas.GeoDataFrame
        Polygons, with a coordinate system.
    card : CalibrationCard, str or Path
        The card that corrected the map.
    weights, weights_per_km2
        As in `sustain.maps.read.zonal.zonal_mean`.

    Returns
    -------
    pandas.DataFrame
        One row an area, same index; the columns `COLUMNS`, in the target's unit. Areas without imagery have NaN.

    Raises
    ------
    RasterError
        When the raster is no corrected map, was corrected with another card, or cannot be weighed by the weights.
    DataError
        As `sustain.maps.read.zonal.zonal_mean`.
    CardError
        When the card is unreadable.

    Warns
    -----
    SupportWarning
        When some areas meet no cell that holds a value.
    WeakCalibrationWarning
        When the card does not say how errors correlate over distance, or is of several countries and does not say how
        far they err as wholes.

    Notes
    -----
    Neither interval holds errors that the calibration sample could not show: those of an area unlike any in the
    sample, or far from the mean of a country whose slope differs (``slope_spread`` of the card). Nor does it hold the
    error of rho. That a country's mean error is drawn as those of the card's countries were is an assumption.
    Memory is bounded, however large an area is (`sustain.maps.read.area_variance.BlockSums`).
    """
    read.require_telling_index("areas", areas)
    if isinstance(card, str | Path):
        card = CalibrationCard.load(card)
    if (doubt := _doubt(card)) is not None:
        warnings.warn(doubt, WeakCalibrationWarning, stacklevel=2)
    shapes = polygonal(areas)
    with open_raster(raster) as source, open_people(source, weights, per_km2=weights_per_km2) as people:
        require_corrected_with(source, card)
        reader = _Reader(source, value_names(source), card, source.tags()["SUSTAIN_METHOD"])
        zones = zones_on_grid(source, shapes)
        sums = [_Sums() for _ in range(len(zones))]
        for piece in cells_in_zones(source, zones, people):
            reader.add(piece, sums[piece.zone])
        whole = whole_weights(zones, shapes, np.array([found.weight for found in sums]), people)
    rows = [reader.finish(found, total) for found, total in zip(sums, whole.tolist(), strict=True)]
    table = pd.DataFrame(rows, index=areas.index, columns=list(COLUMNS))
    warn_of_holes(raster, len(table), 0, int((~(table["imagery_share"] > 0)).sum()), "areas")
    return table


def areas_table(
    raster: str | Path,
    areas: str | Path,
    key: str,
    card: CalibrationCard | str | Path,
    weights: str | Path | None = None,
    *,
    layer: str | None = None,
    weights_per_km2: bool = False,
) -> pd.DataFrame:
    """Table of the areas of a vector file: their names, then the columns of `area_means`.

    Parameters
    ----------
    raster, card, weights, weights_per_km2
        As for `area_means`.
    areas : str or Path
        Any vector file of `sustain.maps.read.read_polygons`: GeoPackage, GeoJSON, Shapefile, GeoParquet.
    key : str
        Its column of names, each there once. It is the first column of the table; where it is called like one of
        `COLUMNS`, with ``area_`` before it.
    layer : str, optional
        Layer of the file, where it has several.

    Raises
    ------
    DataError
        When the file cannot be read, lacks the column, or has a name twice or none; and as `area_means`.
    RasterError, CardError
        As `area_means`.
    """
    polygons = read_polygons(areas, layer=layer, key=key)
    table = area_means(raster, polygons, card, weights, weights_per_km2=weights_per_km2)
    table.insert(0, f"area_{key}" if key in COLUMNS else key, polygons[key])
    return table.reset_index(drop=True)


def published_card(folder: Path) -> CalibrationCard | None:
    """Card of a published folder; None where it has none.

    Raises
    ------
    CardError
        When it is unreadable.
    RasterError
        When it is not the card that corrected the folder's map.
    """
    path = folder / "card.json"
    if not path.exists():
        return None
    card = CalibrationCard.load(path)
    with open_raster(folder / "wealth.tif") as source:
        require_corrected_with(source, card)
    return card


def _doubt(card: CalibrationCard) -> str | None:
    """Say what the card cannot tell of the errors of an area."""
    if card.spatial_errors is None:
        return (
            "card: it does not say how the errors of neighbours correlate (it was built without lon and lat), so "
            "all cells of an area are taken to err together. The intervals are the widest that there can be."
        )
    several = len(card.sample.countries)
    if several > 1 and card.spatial_errors.truth_given_prediction.countries is None:
        return (
            f"card: it is of {several} countries and does not say how far countries err as wholes, so the intervals "
            "are too short, most for large areas. Build it again with lon, lat and countries= a column of the rows; "
            "that takes five countries of 20 rows or more."
        )
    return None


@dataclass
class _Sums:
    """What is gathered of one area, piece by piece."""

    weight: float = 0.0  # of all cells, with imagery or not: square kilometres, or people
    seen: float = 0.0
    outside: float = 0.0
    raw: float = 0.0
    corrected: float = 0.0
    own: Floats = field(
        default_factory=lambda: np.zeros(2)
    )  # squares of the columns of `blocks`, cell by cell
    cells: int = 0
    draws: Floats | float = field(default=0.0)
    blocks: BlockSums = field(default_factory=lambda: BlockSums(2))  # weight times noise; weight


class _Reader:
    """Take the cells of pieces of areas, and make figures of their sums."""

    def __init__(
        self, source: rasterio.io.DatasetReader, names: list[str], card: CalibrationCard, method: str
    ) -> None:
        self._transform, self._crs = source.transform, source.crs
        self._raw, self._support = names.index(WEALTH_RAW), names.index(SUPPORT)
        self._card, self._method = card, method
        self._draws = card.draws(method)
        self._errors = AreaErrors(card)
        df = card.truth_on_prediction.df
        self._reach = critical_value(0.95, df if self._errors.df is None else min(df, self._errors.df))

    def add(self, piece: Piece, sums: _Sums) -> None:
        """Add a piece of an area."""
        sums.weight += float(piece.weight.sum())
        there = np.isfinite(piece.bands[self._raw]) & (piece.weight > 0)
        if not there.any():
            return
        row, col, weight = piece.row[there], piece.col[there], piece.weight[there]
        x, flags = (piece.bands[band][there] for band in (self._raw, self._support))
        error = np.asarray(self._card.standard_error(x, method=self._method))
        noise = np.sqrt(np.maximum(error**2 - self._draws.variance(x), 0))
        corrected = self._card.transform(x, method=self._method, check_support=False)
        columns = np.column_stack([weight * noise, weight])
        sums.seen += float(weight.sum())
        sums.outside += float(weight @ (flags == OUTSIDE_SUPPORT))
        sums.raw += float(weight @ x)
        sums.corrected += float(weight @ corrected)
        sums.own += (columns**2).sum(axis=0)
        sums.cells += x.size
        sums.draws = sums.draws + self._draws.weighted_sum(x, weight)
        sums.blocks.add(row, col, columns)

    def finish(self, sums: _Sums, total: float) -> dict[str, float]:
        """Figures of one area; `total` is its weight, parts beyond the raster included."""
        found = dict.fromkeys(COLUMNS, math.nan)
        found |= {"imagery_share": sums.seen / total if total > 0 else math.nan, "cells": sums.cells}
        if not sums.seen > 0:
            return found
        by_cells, by_country = self._errors.variances(
            sums.blocks, sums.own, lambda: self._distances(sums.blocks)
        )
        noise, unexplained = np.sqrt(by_cells) / sums.seen
        country, expected_country = np.sqrt(by_country) / sums.seen
        raw, wealth = sums.raw / sums.seen, sums.corrected / sums.seen
        # As of an effect: a bootstrap of few groups understates the variance.
        groups = self._card.sample.n_groups or self._card.sample.n
        spread = np.var(np.asarray(sums.draws) / sums.seen, ddof=1)
        calibration = math.sqrt(float(spread) * groups / (groups - 1))
        line = self._card.truth_on_prediction
        expected, at = line.intercept + line.slope * raw, np.array([1.0, raw])
        of_line = float(at @ np.array(line.cov) @ at)
        expected_se = math.sqrt(of_line + unexplained**2 + np.nan_to_num(expected_country) ** 2)
        margin = self._reach * math.hypot(calibration, noise, np.nan_to_num(country))
        expected_margin = self._reach * expected_se
        return found | {
            "expected": expected,
            "expected_low95": expected - expected_margin,
            "expected_high95": expected + expected_margin,
            "wealth": wealth,
            "low95": wealth - margin,
            "high95": wealth + margin,
            "wealth_raw": raw,
            "expected_se": expected_se,
            "calibration_se": calibration,
            "noise_se": noise,
            "country_se": country,
            "expected_country_se": expected_country,
            "extrapolated_share": sums.outside / sums.seen,
        }

    def _distances(self, blocks: BlockSums) -> tuple[Floats, float]:
        """Distances between blocks, and the width of a cell in their middle, in kilometres on the ground."""
        col, row = blocks.centres()
        cell = np.add([[0, 1, 0], [0, 0, 1]], [[col.mean()], [row.mean()]])
        x, y = self._transform @ (np.append(col, cell[0]), np.append(row, cell[1]))
        lon, lat = to_degrees(self._crs, "EPSG:4326", x, y)
        places = on_sphere(lat, lon)
        here, right, below = places[-3:]
        sides = arc_km([np.linalg.norm(right - here), np.linalg.norm(below - here)])
        return arc_km(cdist(places[:-3], places[:-3])), math.sqrt(sides[0] * sides[1])
