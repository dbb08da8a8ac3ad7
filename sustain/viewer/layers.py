"""What the viewer shows of a map: its bands as coloured tiles on one scale, values at a point, means of a region."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from rio_tiler.colormap import cmap
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import Reader
from shapely import box

from sustain.errors import DataError, RasterError
from sustain.maps.geotiff import (
    NO_IMAGERY,
    OUTSIDE_SUPPORT,
    SUPPORT,
    SUPPORTED,
    WEALTH,
    WEALTH_RAW,
    WEALTH_SE,
    open_raster,
    read_values,
)
from sustain.maps.places import WGS84, cells_of, inside_of, read_coordinates
from sustain.maps.read import area_means, published_card, zonal_mean
from sustain.viewer.regions import region_on_map

__all__ = ["MapLayers"]

_LOOK_PX = 1024  # side of the overview that the colour scale is made from
_SPREAD = (2.0, 98.0)  # per cent of the values that the colours span
_TITLES = {
    WEALTH: "Wealth, corrected",
    WEALTH_RAW: "Wealth, as predicted",
    WEALTH_SE: "Standard error of a cell",
    SUPPORT: "Range of the calibration",
}
# Kinds, not amounts: pale where the correction was learned, purple beyond it, grey where nothing is known.
_SUPPORT_COLOURS = {
    SUPPORTED: (205, 218, 227, 255),
    OUTSIDE_SUPPORT: (136, 46, 114, 255),
    NO_IMAGERY: (120, 120, 120, 255),
}
_SUPPORT_WORDS = {SUPPORTED: "within range", OUTSIDE_SUPPORT: "extrapolated", NO_IMAGERY: "no imagery"}
_EMPTY = b""
_MOST_CELLS = 25_000_000  # of a drawn region; some ten seconds of work


class MapLayers:
    """The layers of one raster.

    Parameters
    ----------
    path : str or Path
        A published folder, or a raster of one or more named bands. The folder's ``card.json``, if there, gives the
        means of regions their standard errors.

    Raises
    ------
    RasterError
        When there is no such raster, it holds no value, or the folder's card is not the one that corrected it.
    FileFormatError, CardError
        When raster or card cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path / "wealth.tif" if path.is_dir() else path
        self.card = published_card(path) if path.is_dir() else None
        with open_raster(self.path) as source:
            if source.crs is None:
                raise RasterError(f"{self.path}: no coordinate system is set, so it cannot be put on a map.")
            if source.crs.is_geographic and source.bounds.right > 180 + 1e-6:
                raise RasterError(
                    f"{self.path}: its longitudes go from {source.bounds.left:g} to {source.bounds.right:g}, beyond "
                    "180, where web maps cannot draw them. Bring it to a projected system (gdalwarp -t_srs)."
                )
            west, south, east, north = transform_bounds(source.crs, WGS84, *source.bounds)
            # Across 180 degrees the page goes on counting, as Leaflet does.
            self.bounds = west, south, east if east >= west else east + 360, north
            self.names = [str(text or f"band {i}") for i, text in enumerate(source.descriptions, start=1)]
            self.unit = str(source.units[0] or "")
            self.tags = source.tags()
            self._crs, self._cell_area = source.crs.to_wkt(), abs(source.transform.determinant)
            self._frame = box(*source.bounds)
            step = max(1, math.ceil(max(source.height, source.width) / _LOOK_PX))
            shape = (source.count, source.height // step or 1, source.width // step or 1)
            small = source.read(out_shape=shape, resampling=Resampling.nearest, masked=True)
            small = small.astype(np.float64).filled(np.nan)
        self._ranges = self._colour_ranges(small)

    def _colour_ranges(self, values: np.ndarray[Any, Any]) -> dict[str, tuple[float, float]]:
        """Find the ends of each band's colour scale; the corrected and the raw band share theirs."""
        shared = [i for i, name in enumerate(self.names) if name in (WEALTH, WEALTH_RAW)]
        ranges = {}
        for i, name in enumerate(self.names):
            band = values[shared if i in shared else [i]]
            if not np.isfinite(band).any():
                raise RasterError(f"{self.path}: the band {name!r} holds no value; there is nothing to show.")
            low, high = np.nanpercentile(band, _SPREAD)
            if name == WEALTH_SE:
                low = 0.0  # a standard error that hardly varies must look so
            ranges[name] = (0.0, 2.0) if name == SUPPORT else (float(low), float(max(high, low + 1e-9)))
        return ranges

    def describe(self) -> dict[str, Any]:
        """Say what the page needs to know, as JSON types."""
        return {
            "title": self.tags.get("SUSTAIN_TARGET", self.path.stem),
            "unit": self.unit,
            "method": self.tags.get("SUSTAIN_METHOD", ""),
            "card": self.tags.get("SUSTAIN_CARD_SHA256", ""),
            "has_card": self.card is not None,
            "one_scale": {WEALTH, WEALTH_RAW} <= set(self.names),
            "bounds": list(self.bounds),
            "layers": [
                {
                    "name": name,
                    "title": _TITLES.get(name, name),
                    "low": low,
                    "high": high,
                    "colours": _stops(name),
                    "kinds": list(_SUPPORT_WORDS.values()) if name == SUPPORT else [],
                }
                for name, (low, high) in self._ranges.items()
            ],
        }

    def tile(self, name: str, z: int, x: int, y: int) -> bytes:
        """Draw a 256-pixel PNG of one band in Web Mercator; empty bytes outside the map.

        Raises
        ------
        DataError
            When there is no such band.
        """
        if name not in self._ranges:
            raise DataError(f"layer: {name!r} is not in this map; it has {', '.join(self.names)}.")
        low, high = self._ranges[name]
        with Reader(str(self.path)) as reader:
            try:
                image = reader.tile(x, y, z, indexes=self.names.index(name) + 1)
            except TileOutsideBounds:
                return _EMPTY
        data = image.array
        if name == SUPPORT:
            image.array = np.ma.array(np.rint(np.nan_to_num(data.data)).astype(np.uint8), mask=data.mask)
            kinds: bytes = image.render(img_format="PNG", colormap=_SUPPORT_COLOURS)
            return kinds
        scaled = np.clip((np.nan_to_num(data.data, nan=low) - low) / (high - low) * 255, 0, 255)
        image.array = np.ma.array(scaled.astype(np.uint8), mask=data.mask | ~np.isfinite(data.data))
        rendered: bytes = image.render(img_format="PNG", colormap=cmap.get(_colormap(name)))
        return rendered

    def at(self, lon: float, lat: float) -> dict[str, float | None]:
        """Values of every band at a point; None where there is none, and everywhere outside the map."""
        with open_raster(self.path) as source:
            rows, cols = cells_of(source, *read_coordinates(lon, lat))
            if not inside_of(source, rows, cols).all():
                return dict.fromkeys(self.names)
            values = read_values(source, source.indexes, Window(int(cols[0]), int(rows[0]), 1, 1))
        return {name: _number(value) for name, value in zip(self.names, values.ravel(), strict=True)}

    def region(self, corners: list[tuple[float, float]]) -> dict[str, float | None]:
        """Means in a polygon of (lon, lat) corners, as drawn on the page; see `sustain.viewer.regions`.

        Returns
        -------
        dict
            With the card of a published folder, the columns of `sustain.maps.read.areas.area_means`; else those of
            `sustain.maps.read.zonal.zonal_mean`.

        Raises
        ------
        DataError
            When the corners do not make an area, or one of more cells than can be answered while somebody waits.
        """
        part, share = region_on_map(corners, self.bounds)
        if part.is_empty:
            raise DataError("region: it lies outside the map. Draw it on the map.")
        area = gpd.GeoDataFrame(geometry=[part], crs=WGS84)
        n_cells = (
            float(area.to_crs(self._crs).make_valid().intersection(self._frame).area.iloc[0])
            / self._cell_area
        )
        if n_cells > _MOST_CELLS:
            raise DataError(
                f"region: it has {n_cells / 1e6:.0f} million cells, more than {_MOST_CELLS / 1e6:.0f} million. Draw a "
                "smaller one, or run sustain areas."
            )
        if self.card is None:
            means = zonal_mean(self.path, area).iloc[0]
        else:
            means = area_means(self.path, area, self.card).iloc[0]
            means["imagery_share"] *= share
        return {name: _number(means[name]) for name in means.index}


def _colormap(name: str) -> str:
    return "plasma" if name == WEALTH_SE else "cividis"


def _stops(name: str) -> list[str]:
    """Nine colours along the scale, or one a kind, as CSS colours."""
    if name == SUPPORT:
        return ["#{:02x}{:02x}{:02x}".format(*colour[:3]) for colour in _SUPPORT_COLOURS.values()]
    table = cmap.get(_colormap(name))
    return ["#{:02x}{:02x}{:02x}".format(*table[i][:3]) for i in np.linspace(0, 255, 9).astype(int)]


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
