"""The cells of a raster that polygons cover, and by how much; large polygons piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import exactextract
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
from shapely import MultiPolygon, box, get_parts, make_valid
from shapely.geometry.base import BaseGeometry

from sustain.errors import DataError, FileFormatError, RasterError
from sustain.maps.geotiff import open_raster
from sustain.maps.places import require_crs

__all__ = ["Piece", "cells_in_zones", "column_names", "read_polygons", "zones_on_grid"]

# exactextract leaves out cells without data unless it is told what to put in their place.
_MISSING = "-1e30"
_PRESENT = -1e29  # larger numbers are values
_SIDE = 512  # cells along the side of a piece of a large zone
_CELLS_AT_A_TIME = 1 << 21  # that exactextract is asked for at once; 100 to 200 bytes each


@dataclass(frozen=True)
class Piece:
    """Cells of a zone, or of a part of one that is large.

    Attributes
    ----------
    zone : int
        Position of the zone.
    bands : ndarray, shape (bands, n)
        Values of every band, NaN where there is none.
    weight : ndarray, shape (n,)
        Share of the cell that the zone covers, times the cell's weight.
    x, y : ndarray, shape (n,)
        Centres, in the raster's coordinate system.
    """

    zone: int
    bands: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def column_names(source: rasterio.io.DatasetReader) -> list[str]:
    """Descriptions of the bands, ``band_1`` and so on where there is none."""
    return [text or f"band_{index}" for index, text in enumerate(source.descriptions, start=1)]


def read_polygons(path: str | Path) -> gpd.GeoDataFrame:
    """Read a vector file of any format that GDAL knows: GeoPackage, GeoJSON, Shapefile.

    Raises
    ------
    DataError
        When there is no such file.
    FileFormatError
        When it cannot be read, or has no geometry.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: no such file of polygons. Check the path.")
    try:
        polygons = gpd.read_file(path)
    except (RuntimeError, ValueError) as error:  # pyogrio's are RuntimeErrors
        raise FileFormatError(f"{path}: not a readable vector file ({error}).") from error
    if not isinstance(polygons, gpd.GeoDataFrame):
        raise FileFormatError(f"{path}: a table without geometry. Give a file of polygons.")
    return polygons


def zones_on_grid(source: rasterio.io.DatasetReader, polygons: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Polygons in the coordinate system of an open raster, numbered from 0.

    Raises
    ------
    DataError
        When `polygons` has no coordinate system, or holds an empty geometry.
    RasterError
        When the raster has none.
    """
    if polygons.crs is None:
        raise DataError(
            "polygons have no coordinate system. Set it (polygons.set_crs) to what they were drawn in."
        )
    hollow = polygons.geometry.isna() | polygons.geometry.is_empty
    if hollow.any():
        raise DataError(
            f"polygons: {int(hollow.sum())} rows have no geometry, the first at {hollow.idxmax()!r}."
        )
    require_crs(source)
    return polygons.geometry.to_crs(source.crs.to_wkt()).reset_index(drop=True)


def cells_in_zones(
    raster: str | Path, zones: gpd.GeoSeries, weights: str | Path | None = None
) -> Iterator[Piece]:
    """Cells that each zone meets, some millions at a time at most: a large zone comes in several pieces.

    Where cells of `weights` are smaller than those of the raster, the cells are the small ones.

    Raises
    ------
    RasterError
        When the weights' coordinate system is another one than the raster's, or their cells do not fit it.
    """
    _check_weights(raster, weights)
    with open_raster(raster) as source:
        n_bands, side = source.count, _SIDE
        if weights is not None:
            with open_raster(weights) as other:
                side = max(1, int(_SIDE * min(1.0, other.res[0] / source.res[0])))
        parts = list(_split(source, zones, side))
    operations = [
        f"{name}(default_value={_MISSING})" for name in ("values", "coverage", "center_x", "center_y")
    ]
    if weights is not None:
        operations.append(f"weights(default_value={_MISSING},default_weight=0)")
    for some in _batches(parts):
        frame = gpd.GeoDataFrame(geometry=[shape for _, shape, _ in some], crs=zones.crs)
        try:
            found = exactextract.exact_extract(
                str(raster),
                frame,
                operations,
                weights=None if weights is None else str(weights),
                output="pandas",
            )
        except RuntimeError as error:
            raise RasterError(
                f"{weights or raster}: exactextract cannot combine these rasters and polygons ({error})."
            ) from error
        for (zone, _, _), cells in zip(some, found.to_dict("records"), strict=True):
            yield _piece(zone, cells, n_bands, weights is not None)


def _split(
    source: rasterio.io.DatasetReader, zones: gpd.GeoSeries, side: int
) -> Iterator[tuple[int, BaseGeometry, int]]:
    """Zones, those that are large cut along the raster's cells: position, shape and number of cells at most."""
    for zone, shape in enumerate(zones):
        bounds = shape.bounds
        cols, rows = ~source.transform @ (np.array(bounds[::2]), np.array(bounds[1::2]))
        left, right = np.clip([np.floor(cols.min()), np.ceil(cols.max())], 0, source.width).astype(int)
        top, bottom = np.clip([np.floor(rows.min()), np.ceil(rows.max())], 0, source.height).astype(int)
        if max(right - left, bottom - top) <= side:
            yield zone, shape, int((right - left) * (bottom - top))
            continue
        whole = make_valid(shape)
        for row in range(top, bottom, side):
            for col in range(left, right, side):
                x, y = source.transform @ (
                    np.array([col, min(col + side, right)]),
                    np.array([row, min(row + side, bottom)]),
                )
                part = _polygons_of(whole.intersection(box(x.min(), y.min(), x.max(), y.max())))
                if not part.is_empty:
                    yield zone, part, side * side


def _polygons_of(shape: BaseGeometry) -> MultiPolygon:
    """Polygons of a geometry, without the lines and points that a cut may leave."""
    return MultiPolygon([part for part in get_parts(get_parts(shape)) if part.geom_type == "Polygon"])


def _batches(
    parts: list[tuple[int, BaseGeometry, int]],
) -> Iterator[list[tuple[int, BaseGeometry, int]]]:
    batch: list[tuple[int, BaseGeometry, int]] = []
    room = _CELLS_AT_A_TIME
    for part in parts:
        if batch and room < part[2]:
            yield batch
            batch, room = [], _CELLS_AT_A_TIME
        batch.append(part)
        room -= part[2]
    if batch:
        yield batch


def _piece(zone: int, cells: dict[str, npt.NDArray[np.float64]], n_bands: int, weighed: bool) -> Piece:
    # exactextract prefixes its columns only where a raster has several bands.
    prefixes = [""] if n_bands == 1 else [f"band_{index}_" for index in range(1, n_bands + 1)]
    first = prefixes[0]
    values = np.stack([cells[f"{prefix}values"] for prefix in prefixes]).astype(np.float64)
    weight = np.asarray(cells[f"{first}coverage"], dtype=np.float64)
    if weighed:
        weight = weight * cells[f"{first}weights"]
    values[values < _PRESENT] = np.nan
    return Piece(zone, values, weight, cells[f"{first}center_x"], cells[f"{first}center_y"])


def _check_weights(raster: str | Path, weights: str | Path | None) -> None:
    if weights is None:
        return
    with open_raster(raster) as source, open_raster(weights) as other:
        if source.crs != other.crs:
            raise RasterError(
                f"{weights}: weights are in {other.crs or 'no coordinate system'}, but {raster} is in {source.crs}. "
                "Reproject the weights (gdalwarp -t_srs ... -r sum)."
            )
