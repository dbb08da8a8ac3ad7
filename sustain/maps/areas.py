"""Means of a corrected map over areas, with the uncertainty of the calibration and of the predictions kept apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
from scipy.stats import norm

from sustain.debias import CalibrationCard
from sustain.errors import DataError
from sustain.maps.geotiff import OUTSIDE_SUPPORT, SUPPORT, WEALTH_RAW, open_raster
from sustain.maps.raster import require_corrected_with
from sustain.maps.zonal import warn_of_holes
from sustain.maps.zones import Piece, cells_in_zones, column_names, zones_on_grid

__all__ = ["COLUMNS", "area_means", "areas_table", "overlap_factor", "published_card"]

Floats = npt.NDArray[np.float64]

COLUMNS = {
    "wealth": "Mean of the corrected wealth.",
    "low95": "Lower end of the 95% interval with `calibration_se` and `noise_se_shared`: the widest there can be.",
    "high95": "Upper end of that interval.",
    "narrowest_low95": "Lower end of the 95% interval with `calibration_se` and `noise_se`: the narrowest.",
    "narrowest_high95": "Upper end of that interval.",
    "wealth_raw": "Mean of wealth as the model predicts it.",
    "calibration_se": "Standard error by the calibration, which all cells share: from the card's bootstrap draws.",
    "noise_se": "Standard error by the noise of the predictions, if cells that share no imagery err independently.",
    "noise_se_shared": "The same, if all cells of the area err together.",
    "imagery_share": "Share of the area (with weights: of its weight) on cells with imagery.",
    "extrapolated_share": "Share of these cells outside the calibration sample's range.",
    "cells": "Number of cells that the area meets and that hold a value.",
}
"""Columns of the table of areas, and what they hold."""


def area_means(
    raster: str | Path,
    areas: gpd.GeoDataFrame,
    card: CalibrationCard | str | Path,
    weights: str | Path | None = None,
) -> pd.DataFrame:
    """Mean wealth of every area, with its standard errors.

    The mean is linear in the correction: ``sum_i w_i h(x_i)``, where x are raw predictions and w is the share of the
    cell in the area (times its weight), scaled to sum to one. So the part of its variance that comes from
    calibration is that of ``sum_i w_i h_k(x_i)`` over the card's draws k, exactly, as in
    `sustain.causal.estimate_effect`. The noise s_i of single predictions (`CalibrationCard.standard_error`
    without the draws) adds ``c sum_i w_i^2 s_i^2`` if cells that share no imagery err independently, and
    ``(sum_i w_i s_i)^2`` if all err together; the map cannot say which, so both are given. The factor c is
    `overlap_factor`.

    Parameters
    ----------
    raster : str or Path
        Raster of `sustain.maps.raster.correct_raster`.
    areas : geopandas.GeoDataFrame
        Polygons, with a coordinate system.
    card : CalibrationCard, str or Path
        The card that corrected the map.
    weights : str or Path, optional
        Raster of weights, such as people per cell; as in `sustain.maps.zonal.zonal_mean`.

    Returns
    -------
    pandas.DataFrame
        One row an area, same index; the columns `COLUMNS`, in the target's unit. Areas without imagery have NaN.

    Raises
    ------
    RasterError
        When the raster is no corrected map, was corrected with another card, or the weights do not fit it.
    DataError
        When `areas` has no coordinate system, or holds an empty geometry.
    CardError
        When the card is unreadable.

    Warns
    -----
    SupportWarning
        When some areas meet no cell that holds a value.

    Notes
    -----
    Neither interval knows of errors that the calibration sample could not show: an area unlike those that the card
    was learned in, or a country whose slope differs (``slope_spread`` of the card). Memory is bounded, however
    large an area is.
    """
    if isinstance(card, str | Path):
        card = CalibrationCard.load(card)
    with open_raster(raster) as source:
        tags = source.tags()
        require_corrected_with(source, card)
        names = column_names(source)
        factor = overlap_factor(tags)
        cell_area = abs(source.transform.determinant)
        zones = zones_on_grid(source, areas)
        n_cells = zones.area / cell_area
        reader = _Reader(source.transform, names, card, tags["SUSTAIN_METHOD"])
    sums = [_Sums() for _ in range(len(zones))]
    for piece in cells_in_zones(raster, zones, weights):
        reader.add(piece, sums[piece.zone])
    rows = [
        reader.finish(found, factor, None if weights is not None else float(size))
        for found, size in zip(sums, n_cells, strict=True)
    ]
    table = pd.DataFrame(rows, index=areas.index, columns=list(COLUMNS))
    warn_of_holes(raster, len(table), 0, int((~(table["imagery_share"] > 0)).sum()), "areas")
    return table


def areas_table(
    raster: str | Path,
    areas: str | Path,
    key: str,
    card: CalibrationCard | str | Path,
    weights: str | Path | None = None,
) -> pd.DataFrame:
    """Table of the areas of a vector file: their names, then the columns of `area_means`.

    Parameters
    ----------
    raster, card, weights
        As for `area_means`.
    areas : str or Path
        Any vector file that GDAL reads: GeoPackage, GeoJSON, Shapefile.
    key : str
        Its column of names, each there once.

    Raises
    ------
    DataError
        When the file cannot be read, lacks the column, or has a name twice or none; and as `area_means`.
    RasterError, CardError
        As `area_means`.
    """
    if not Path(areas).exists():
        raise DataError(f"{areas}: no such file of areas. Check the path.")
    try:
        polygons = gpd.read_file(areas)
    except (RuntimeError, ValueError) as error:  # pyogrio's are RuntimeErrors
        raise DataError(f"{areas}: not a readable vector file ({error}).") from error
    if key not in polygons.columns or key == polygons.geometry.name:
        names = [str(name) for name in polygons.columns if name != polygons.geometry.name]
        raise DataError(f"{areas}: no column {key!r}; it has {', '.join(names)}.")
    if (wrong := polygons[key].isna() | polygons[key].duplicated()).any():
        raise DataError(
            f"{areas}: {key!r} must name every area once; {int(wrong.sum())} rows repeat a name or have none, the "
            f"first {polygons.loc[wrong, key].iloc[0]!r}. Dissolve them first, or choose another column."
        )
    table = area_means(raster, polygons, card, weights)
    table.insert(0, key, polygons[key])
    return table


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


def overlap_factor(tags: dict[str, str]) -> float:
    """By how much overlapping tiles raise the variance of a mean of many cells.

    The noise of two cells is taken to correlate as the share of imagery that their tiles have in common,
    ``(1 - |i| / k)(1 - |j| / k)`` at a distance of (i, j) cells, where a tile is k cells wide. Summed over all
    distances that is the factor: 1 where tiles do not overlap, ``k^2`` for whole k.

    Parameters
    ----------
    tags : dict
        Tags of the map; without the sizes of tile and spacing the factor is 1.
    """
    try:
        k = float(tags["SUSTAIN_TILE_PX"]) / float(tags["SUSTAIN_SPACING_PX"])
    except (KeyError, ValueError, ZeroDivisionError):
        return 1.0
    if k <= 1:
        return 1.0
    lags = np.arange(1, math.ceil(k))
    return float((1 + 2 * (1 - lags / k).sum()) ** 2)


@dataclass
class _Sums:
    """What is gathered of one area, piece by piece."""

    weight: float = 0.0  # of all cells, with imagery or not
    seen: float = 0.0
    outside: float = 0.0
    raw: float = 0.0
    corrected: float = 0.0
    noise: float = 0.0
    squares: float = 0.0
    cells: int = 0
    draws: Floats | float = field(default=0.0)


class _Reader:
    """Take the cells of pieces of areas, and make figures of their sums."""

    def __init__(
        self, transform: rasterio.Affine, names: list[str], card: CalibrationCard, method: str
    ) -> None:
        self._to_cell = ~transform
        self._raw, self._support = names.index(WEALTH_RAW), names.index(SUPPORT)
        self._card, self._method = card, method
        self._draws = card.draws(method)

    def add(self, piece: Piece, sums: _Sums) -> None:
        """Add a piece of an area."""
        sums.weight += float(piece.weight.sum())
        x, weight, outside = self._seen(piece)
        if not x.size:
            return
        error = np.asarray(self._card.standard_error(x, method=self._method))
        own = np.sqrt(np.maximum(error**2 - self._draws.variance(x), 0))
        corrected = self._card.transform(x, method=self._method, check_support=False)
        sums.seen += float(weight.sum())
        sums.outside += float(weight @ outside)
        sums.raw += float(weight @ x)
        sums.corrected += float(weight @ corrected)
        sums.noise += float(weight @ own)
        sums.squares += float(weight**2 @ own**2)
        sums.cells += x.size
        sums.draws = sums.draws + self._draws.weighted_sum(x, weight)

    def _seen(self, piece: Piece) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """Raw value, weight, and whether it is beyond the support, of every cell of the map that counts."""
        raw, flags = piece.bands[self._raw], piece.bands[self._support]
        there = np.isfinite(raw) & (piece.weight > 0)
        # Weights may be finer than the map: what lies in one cell of it has one error.
        col, row = self._to_cell @ (piece.x[there], piece.y[there])
        place = np.floor(row) * 2.0**32 + np.floor(col)
        _, first, which = np.unique(place, return_index=True, return_inverse=True)
        weight = np.asarray(np.bincount(which, weights=piece.weight[there], minlength=first.size), np.float64)
        return raw[there][first], weight, flags[there][first] == OUTSIDE_SUPPORT

    def finish(self, sums: _Sums, factor: float, n_cells: float | None) -> dict[str, float]:
        """Figures of one area; `n_cells` is its size, parts outside the raster included, unless cells are weighed."""
        total = sums.weight if n_cells is None else n_cells
        found = dict.fromkeys(COLUMNS, math.nan)
        found |= {"imagery_share": sums.seen / total if total > 0 else math.nan, "cells": sums.cells}
        if not sums.seen > 0:
            return found
        mean = sums.corrected / sums.seen
        # As of an effect: a bootstrap of few groups understates the variance.
        groups = self._card.sample.n_groups or self._card.sample.n
        spread = np.var(np.asarray(sums.draws) / sums.seen, ddof=1)
        calibration = math.sqrt(float(spread) * groups / (groups - 1))
        shared = sums.noise / sums.seen
        own = min(math.sqrt(factor * sums.squares) / sums.seen, shared)
        reach = float(norm.ppf(0.975))
        narrow, wide = (reach * math.hypot(calibration, noise) for noise in (own, shared))
        return found | {
            "wealth": mean,
            "wealth_raw": sums.raw / sums.seen,
            "calibration_se": calibration,
            "noise_se": own,
            "noise_se_shared": shared,
            "narrowest_low95": mean - narrow,
            "narrowest_high95": mean + narrow,
            "low95": mean - wide,
            "high95": mean + wide,
            "extrapolated_share": sums.outside / sums.seen,
        }
