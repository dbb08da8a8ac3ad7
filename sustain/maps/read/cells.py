"""A map as a table of its cells, and its figures: what those who work in tables rather than rasters need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import rasterio
from rasterio.warp import transform as transform_coordinates
from rasterio.windows import Window

from sustain.files import atomic_path
from sustain.maps.geotiff import (
    OUTSIDE_SUPPORT,
    SUPPORT,
    WEALTH,
    WEALTH_RAW,
    WEALTH_SE,
    open_raster,
    read_values,
)
from sustain.maps.places import WGS84

__all__ = ["GEO", "BandStatistics", "MapSummary", "iter_cells", "write_cells"]

_STRIP_ROWS = 256
_DEGREE_DIGITS = 6  # 0.1 m

# GeoParquet 1.1; without a "crs" its coordinates are longitude and latitude (OGC:CRS84).
GEO = json.dumps(
    {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}},
    },
    sort_keys=True,
)
"""GeoParquet's ``geo`` metadata of a table of points in a column ``geometry``."""

_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("lon", "<f8"), ("lat", "<f8")])
_SCHEMA = pa.schema(
    [
        ("lon", pa.float64()),
        ("lat", pa.float64()),
        (WEALTH, pa.float32()),
        (WEALTH_RAW, pa.float32()),
        (WEALTH_SE, pa.float32()),
        (SUPPORT, pa.int8()),
        ("geometry", pa.binary()),
    ],
    metadata={"geo": GEO},
)


@dataclass
class BandStatistics:
    """Least, greatest, mean and standard deviation of one band's values, gathered piece by piece."""

    minimum: float = float("inf")
    maximum: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0
    n: int = 0

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Take in more values."""
        if values.size:
            wide = values.astype(np.float64)
            self.minimum = min(self.minimum, float(wide.min()))
            self.maximum = max(self.maximum, float(wide.max()))
            self.total += float(wide.sum())
            self.squares += float((wide**2).sum())
            self.n += values.size

    @property
    def mean(self) -> float:
        """Mean; NaN without values."""
        return self.total / self.n if self.n else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation (divided by n); NaN without values."""
        return max(self.squares / self.n - self.mean**2, 0.0) ** 0.5 if self.n else float("nan")


@dataclass
class MapSummary:
    """Figures of a corrected map.

    Attributes
    ----------
    n_cells : int
        Cells of the raster.
    n_outside : int
        Cells with a prediction outside the calibration sample's range.
    bands : dict of BandStatistics
        For ``wealth``, ``wealth_raw`` and ``wealth_se``, over the cells with imagery.
    """

    n_cells: int
    n_outside: int = 0
    bands: dict[str, BandStatistics] = field(
        default_factory=lambda: {name: BandStatistics() for name in (WEALTH, WEALTH_RAW, WEALTH_SE)}
    )

    @property
    def n_values(self) -> int:
        """Cells with a prediction."""
        return self.bands[WEALTH].n


def iter_cells(raster: rasterio.io.DatasetReader) -> Iterator[pd.DataFrame]:
    """Cells with a prediction, row by row as the raster has them, some hundred rows at a time.

    Yields
    ------
    pandas.DataFrame
        Columns lon and lat (degrees, EPSG:4326, of the cell's centre, to 0.1 m; from -180 to 180, whatever the
        raster's own longitudes), wealth, wealth_raw, wealth_se and support. Cells without imagery are left out.
    """
    names = list(raster.descriptions)
    for start in range(0, raster.height, _STRIP_ROWS):
        window = Window(0, start, raster.width, min(_STRIP_ROWS, raster.height - start))
        bands = read_values(raster, raster.indexes, window).astype(np.float32)
        rows, cols = np.nonzero(np.isfinite(bands[names.index(WEALTH)]))
        x, y = raster.transform @ (cols + 0.5, rows + start + 0.5)
        lon, lat = transform_coordinates(raster.crs, WGS84, x, y) if rows.size else ([], [])
        lon = (np.asarray(lon, dtype=np.float64) + 180) % 360 - 180
        table = {"lon": np.round(lon, _DEGREE_DIGITS), "lat": np.round(lat, _DEGREE_DIGITS)}
        table |= {name: bands[names.index(name), rows, cols] for name in (WEALTH, WEALTH_RAW, WEALTH_SE)}
        table[SUPPORT] = bands[names.index(SUPPORT), rows, cols].astype(np.int8)
        yield pd.DataFrame(table)


def _points(cells: pd.DataFrame) -> pa.Array:
    """Well-known binary of the cells' points: byte order, kind of geometry, longitude, latitude."""
    points = np.zeros(len(cells), dtype=_POINT)
    points["order"], points["kind"] = 1, 1
    points["lon"], points["lat"] = cells["lon"], cells["lat"]
    ends = _POINT.itemsize * np.arange(len(cells) + 1, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), len(cells), [None, pa.py_buffer(ends), pa.py_buffer(points)])


def write_cells(corrected: str | Path, parquet: str | Path, csv: str | Path) -> MapSummary:
    """Write the cells of a corrected map as GeoParquet and as CSV, in bounded memory.

    Parameters
    ----------
    corrected : str or Path
        Raster of `sustain.maps.correct.raster.correct_raster`.
    parquet, csv : str or Path
        GeoParquet and CSV to write: the columns of `iter_cells`; the GeoParquet also has a point geometry.

    Returns
    -------
    MapSummary
    """
    with (
        open_raster(corrected) as raster,
        atomic_path(parquet) as parquet_partial,
        atomic_path(csv) as csv_partial,
        pq.ParquetWriter(parquet_partial, _SCHEMA, compression="zstd") as columns,
        csv_partial.open("wb") as text,
    ):
        summary = MapSummary(n_cells=raster.height * raster.width)
        # pyarrow writes numbers ten times as fast as pandas does; the names of columns it would put in quotes.
        text.write((",".join(_SCHEMA.names[:-1]) + "\n").encode())
        plain = arrow_csv.WriteOptions(include_header=False, quoting_style="none")
        for cells in iter_cells(raster):
            values = {name: cells[name].to_numpy() for name in cells}
            table = pa.Table.from_pydict(values | {"geometry": _points(cells)}, _SCHEMA)
            columns.write_table(table)
            arrow_csv.write_csv(table.drop_columns("geometry"), text, plain)
            for name, statistics in summary.bands.items():
                statistics.add(cells[name].to_numpy())
            summary.n_outside += int((cells[SUPPORT] == OUTSIDE_SUPPORT).sum())
    return summary
