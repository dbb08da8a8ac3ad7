"""Polygons as people bring them, read and mended at one place: files, layers, keys, and shapes that are none."""

from __future__ import annotations

import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from sustain.errors import DataError, DataWarning, FileFormatError
from sustain.maps.places import read

__all__ = ["mend", "polygonal", "read_polygons", "row_names"]

_POLYGONAL = (3, 6)  # shapely's numbers of Polygon and MultiPolygon
_COLLECTION = 7
_MOST_NAMED = 3


def read_polygons(path: str | Path, *, layer: str | None = None, key: str | None = None) -> gpd.GeoDataFrame:
    """Read a vector file: GeoPackage, GeoJSON, Shapefile, any other that GDAL knows, or GeoParquet.

    Parameters
    ----------
    path : str or Path
    layer : str, optional
        Layer to read; needed where the file has several layers with geometries.
    key : str, optional
        Column that names the polygons. Given, it must be there, with a name for each row, none twice; names are
        compared as text (`sustain.stats.columns`), and become the index.

    Returns
    -------
    geopandas.GeoDataFrame
        Shapes as they are in the file; whoever reads a map with them mends them (`polygonal`).

    Raises
    ------
    DataError
        When there is no such file, it has several layers and none is named, or the key is missing or wrong.
    FileFormatError
        When it cannot be read, or has no geometry.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file of polygons. Check the path.")
    polygons = (
        _geoparquet(path) if path.suffix.lower() in (".parquet", ".geoparquet") else _vector(path, layer)
    )
    return polygons if key is None else _named(path, polygons, key)


def polygonal(polygons: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Give the valid polygons of a table, or refuse it by the row.

    A shape that crosses itself keeps all that its outlines enclose; parts that overlap count once; a hole counts
    wherever it lies. Lines and points beside polygons are left out. That shapes were mended is said in a warning.

    Returns
    -------
    geopandas.GeoSeries
        Of Polygons and MultiPolygons in two dimensions, with the index and the coordinate system of `polygons`.

    Raises
    ------
    DataError
        When there is no coordinate system, when a row has no geometry, an empty one or one without an area, or when
        coordinates are not finite, or are no degrees though their system says so.

    Warns
    -----
    DataWarning
        When shapes were mended; it counts and names them.
    """
    if not isinstance(polygons, gpd.GeoDataFrame | gpd.GeoSeries):
        raise DataError(
            f"polygons: got {type(polygons).__name__}, expected a GeoDataFrame, as of sustain.maps.read.read_polygons."
        )
    if polygons.crs is None:
        raise DataError(
            "polygons have no coordinate system. Set it (polygons.set_crs) to what they were drawn in."
        )
    index = polygons.index
    shapes = shapely.force_2d(polygons.geometry.to_numpy())
    _refuse(index, shapely.is_missing(shapes) | shapely.is_empty(shapes), "no geometry")
    with np.errstate(invalid="ignore"):
        bounds = shapely.bounds(shapes)
    corners = shapely.get_num_coordinates(shapes)
    numbers, of_shape = shapely.get_coordinates(shapes, return_index=True)
    finite = np.bincount(of_shape, np.isfinite(numbers).all(axis=1), minlength=len(shapes)) == corners
    _refuse(index, ~finite, "coordinates that are not finite numbers")
    if polygons.crs.is_geographic:
        _require_degrees(index, bounds)
    kinds = shapely.get_type_id(shapes)
    ill = ~shapely.is_valid(shapes) | ~np.isin(kinds, _POLYGONAL)
    found = shapes.copy()
    found[ill] = [mend(shape) for shape in shapes[ill]]
    hollow = ~(shapely.area(found) > 0)
    if hollow.any():
        kind = shapely.GeometryType(int(kinds[int(np.argmax(hollow))])).name.title()
        _refuse(index, hollow, f"no area (the first is a {kind})")
    # A single polygon in a collection is no fault of anybody's.
    if (mended := ill & ~((kinds == _COLLECTION) & shapely.equals(shapes, found))).any():
        why = shapely.is_valid_reason(shapes[mended][:1])[0]
        why = "points or lines beside polygons" if why == "Valid Geometry" else why
        warnings.warn(
            f"polygons: {int(mended.sum())} of {len(shapes)} rows are no valid polygons and were mended "
            f"({row_names(index, mended)}; the first: {why}). All that their outlines enclose counts, once.",
            DataWarning,
            stacklevel=3,
        )
    return gpd.GeoSeries(found, index=index, crs=polygons.crs)


def mend(shape: shapely.Geometry) -> shapely.MultiPolygon:
    """Give what a shape encloses, as valid polygons; empty where it encloses nothing."""
    polygons = [part for part in _parts(shape) if part.geom_type == "Polygon"]
    valid = shapely.make_valid(shapely.MultiPolygon(polygons), method="structure", keep_collapsed=False)
    return shapely.MultiPolygon(
        [part for part in _parts(valid) if part.geom_type == "Polygon" and part.area > 0]
    )


def _parts(shape: shapely.Geometry) -> list[shapely.Geometry]:
    """Parts of a geometry, those of collections within collections too."""
    if not hasattr(shape, "geoms"):
        return [shape]
    return [part for inner in shape.geoms for part in _parts(inner)]


def _require_degrees(index: pd.Index, bounds: npt.NDArray[np.float64]) -> None:
    """Refuse coordinates in metres that are called degrees, as in GeoJSON without a system of its own."""
    left, bottom, right, top = bounds.T
    wrong = ~((np.abs(bottom) <= 90) & (np.abs(top) <= 90) & (left >= -360) & (right <= 540))
    if wrong.any():
        at = bounds[int(np.argmax(wrong))]
        _refuse(
            index,
            wrong,
            f"coordinates that are no degrees (the first begins at {at[0]:g}, {at[1]:g}), though their coordinate "
            "system is one of degrees",
            "Say which system they were drawn in: polygons.set_crs(..., allow_override=True), in GeoJSON the member "
            "crs; or exchange longitude and latitude, if that is what it is.",
        )


def _refuse(
    index: pd.Index,
    wrong: npt.NDArray[np.bool_],
    what: str,
    advice: str = "Leave these rows out, or mend them.",
) -> None:
    if wrong.any():
        raise DataError(
            f"polygons: {int(wrong.sum())} of {wrong.size} rows have {what}: {row_names(index, wrong)}. {advice}"
        )


def row_names(index: pd.Index, which: npt.NDArray[np.bool_]) -> str:
    """Name the first of some rows, for messages."""
    names = [repr(name.item() if hasattr(name, "item") else name) for name in index[which][:_MOST_NAMED]]
    return ", ".join(names) + (" ..." if which.sum() > _MOST_NAMED else "")


def _vector(path: Path, layer: str | None) -> gpd.GeoDataFrame:
    try:
        there = [(str(name), kind) for name, kind in pyogrio.list_layers(path)]
        drawn = [name for name, kind in there if kind is not None]
        if layer is not None and layer not in [name for name, _ in there]:
            raise DataError(f"{path}: no layer {layer!r}; it has {', '.join(name for name, _ in there)}.")
        if layer is None and len(drawn) > 1:
            raise DataError(
                f"{path}: {len(drawn)} layers ({', '.join(drawn)}), and none is named. Say which one "
                "(layer=, on the command line --layer)."
            )
        polygons = gpd.read_file(path, layer=layer or next(iter(drawn), None))
    except DataError:
        raise
    except (RuntimeError, ValueError) as error:  # pyogrio's are RuntimeErrors
        raise FileFormatError(f"{path}: not a readable vector file ({error}).") from error
    if not isinstance(polygons, gpd.GeoDataFrame):
        raise FileFormatError(f"{path}: a table without geometry. Give a file of polygons.")
    return polygons


def _geoparquet(path: Path) -> gpd.GeoDataFrame:
    try:
        if b"geo" not in (pq.read_schema(path).metadata or {}):
            raise FileFormatError(
                f"{path}: a Parquet table without geometry (without GeoParquet's metadata). Give a file of polygons."
            )
        polygons = gpd.read_parquet(path)
    except (ValueError, TypeError, OSError, pa.ArrowException) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path}: not a readable GeoParquet file ({error}).") from error
    # A named index is a column of the table as its maker sees it.
    return polygons if polygons.index.name is None else polygons.reset_index()


def _named(path: Path, polygons: gpd.GeoDataFrame, key: str) -> gpd.GeoDataFrame:
    if key not in polygons.columns or key == polygons.geometry.name:
        names = [str(name) for name in polygons.columns if name != polygons.geometry.name]
        raise DataError(f"{path}: no column {key!r}; it has {', '.join(names)}.")
    blank = polygons[key].map(lambda name: isinstance(name, str) and not name.strip()).to_numpy(dtype=bool)
    missing = polygons[key].isna().to_numpy() | blank
    if missing.any():
        raise DataError(
            f"{path}: column {key!r} must name every area once; {int(missing.sum())} of {missing.size} rows have no "
            f"name, the first is row {int(np.argmax(missing))} (counted from 0). Name them, or leave them out."
        )
    labels = read.labels(f"{path}: column {key!r}", polygons[key])
    times = np.bincount(labels.codes, minlength=labels.n)
    if (times > 1).any():
        repeated = [labels.names[code] for code in np.flatnonzero(times > 1)]
        raise DataError(
            f"{path}: column {key!r} must name every area once; {len(repeated)} names are there more than once, such "
            f"as {repeated[0]!r}. Dissolve these areas first, or choose another column."
        )
    return polygons.set_index(polygons[key].to_numpy())
