"""What the viewer shows of a map: its bands as coloured tiles on one scale, values at a point, means of a region."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from shapely import Polygon

from sustain.errors import DataError, RasterError
from sustain.maps.geotiff import SUPPORT, WEALTH, WEALTH_RAW, WEALTH_SE, open_raster, read_values, value_bands
from sustain.maps.places import WGS84, cells_of, inside_of, read_coordinates
from sustain.maps.read import area_means, published_card, zonal_mean
from sustain.palettes import ERROR, SUPPORT_KINDS, Palette, Scale, scale_of
from sustain.palettes import WEALTH as WEALTH_COLOURS
from sustain.viewer.about import about_map
from sustain.viewer.regions import region_on_map
from sustain.viewer.tiles import tile_values, to_png

__all__ = ["MapLayers"]

_LOOK_PX = 2048  # up to this side every cell counts for the colour scale
_STOPS = 17  # of a legend
_TITLES = {
    WEALTH: "Wealth, corrected",
    WEALTH_RAW: "Wealth, as predicted",
    WEALTH_SE: "Standard error of a cell",
    SUPPORT: "Range of the calibration",
}
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
        self.about = about_map(self.path.parent if path.is_dir() else self.path)
        with open_raster(self.path) as source:
            if source.crs is None:
                raise RasterError(f"{self.path}: no coordinate system is set, so it cannot be put on a map.")
            self.bands = _named_bands(source)
            self.names = list(self.bands)
            if not self.bands:
                raise RasterError(
                    f"{self.path}: all of its bands are alpha bands; there is no value to show."
                )
            self.unit = str(source.units[next(iter(self.bands.values())) - 1] or "")
            self.tags = source.tags()
            self._crs, self._cell_area = source.crs.to_wkt(), abs(source.transform.determinant)
            self._frame = Polygon(_outline(source, 0, 0, source.height, source.width))
            self.bounds = _bounds(source, self._frame)
            self._max_zoom = _zoom_of((self.bounds[2] - self.bounds[0]) / max(source.shape))
            self._scales = self._find_scales(source)

    def _find_scales(self, source: DatasetReader) -> dict[str, Scale]:
        """Find the ends of each band's colour scale; the corrected and the raw band share theirs."""
        step = max(1, math.ceil(max(source.height, source.width) / _LOOK_PX))
        shape = None if step == 1 else (source.height // step or 1, source.width // step or 1)
        shared = [name for name in (WEALTH, WEALTH_RAW) if name in self.bands]
        scales = {}
        for name in self.names:
            alike = [name, *(other for other in shared if name in shared and other != name)]
            parts = [read_values(source, [self.bands[other]], shape=shape) for other in alike]
            scale = scale_of(*parts, from_zero=name == WEALTH_SE)
            if scale is None or not np.isfinite(parts[0]).any():
                raise RasterError(f"{self.path}: the band {name!r} holds no value; there is nothing to show.")
            if step > 1:  # the values that were not looked at may go on beyond
                scale = Scale(scale.low, scale.high, name != WEALTH_SE or scale.low < 0, True)
            scales[name] = Scale(0, max(SUPPORT_KINDS)) if name == SUPPORT else scale
        return scales

    def describe(self) -> dict[str, Any]:
        """Say what the page needs to know, as JSON types."""
        layers = []
        for name, scale in self._scales.items():
            low, high = scale.labels()
            layers.append(
                {
                    "name": name,
                    "title": _TITLES.get(name, name),
                    "low": scale.low,
                    "high": scale.high,
                    "ends": [low, high],
                    "colours": [kind.colour for kind in SUPPORT_KINDS.values()]
                    if name == SUPPORT
                    else _palette(name).colours(_STOPS),
                    "kinds": [kind.words for kind in SUPPORT_KINDS.values()] if name == SUPPORT else [],
                }
            )
        title = self.about["title"] or self.tags.get("SUSTAIN_TARGET", self.path.stem).replace("_", " ")
        return self.about | {
            "title": title,
            "unit": self.unit,
            "method": self.tags.get("SUSTAIN_METHOD", ""),
            "card": self.tags.get("SUSTAIN_CARD_SHA256", ""),
            "has_card": self.card is not None,
            "compared": {WEALTH, WEALTH_RAW} <= set(self.names),
            "bounds": list(self.bounds),
            "max_zoom": self._max_zoom,
            "layers": layers,
        }

    def tile(self, name: str, z: int, x: int, y: int) -> bytes:
        """Draw a 256-pixel PNG of one band in Web Mercator; empty bytes outside the map.

        Raises
        ------
        DataError
            When there is no such band.
        """
        if name not in self.bands:
            raise DataError(f"layer: {name!r} is not in this map; it has {', '.join(self.names)}.")
        with open_raster(self.path) as source:
            values = tile_values(source, self.bands[name], z, x, y, kinds=name == SUPPORT)
        if values is None:
            return _EMPTY
        known, scale = np.isfinite(values), self._scales[name]
        if name == SUPPORT:
            table = np.array([_rgb(kind.colour) for kind in SUPPORT_KINDS.values()], dtype=np.uint8)
            places = np.where(known, values, 0)
        else:
            table = _palette(name).rgb()
            places = np.where(known, (values - scale.low) / (scale.high - scale.low), 0) * (len(table) - 1)
        return to_png(table[np.rint(places).clip(0, len(table) - 1).astype(int)], known)

    def at(self, lon: float, lat: float) -> dict[str, Any]:
        """Values of every band at a point, and the cell they are of.

        Returns
        -------
        dict
            ``values``: by name of band, None where there is none, and everywhere outside the map. ``cell``: the four
            corners (lon, lat) of the cell, longitudes counted on from `lon`; None outside the map.
        """
        with open_raster(self.path) as source:
            rows, cols = cells_of(source, *read_coordinates(lon, lat))
            if not inside_of(source, rows, cols).all():
                return {"values": dict.fromkeys(self.names), "cell": None}
            row, col = int(rows[0]), int(cols[0])
            values = read_values(source, list(self.bands.values()), Window(col, row, 1, 1))
            x, y = np.transpose(_outline(source, row, col, 1, 1))
            to_degrees = Transformer.from_crs(source.crs.to_wkt(), WGS84, always_xy=True)
        lons, lats = to_degrees.transform(x, y)
        lons = lons - 360 * np.round((lons - lon) / 360)
        corners = [[float(east), float(north)] for east, north in zip(lons, lats, strict=True)]
        numbers = {name: _number(value) for name, value in zip(self.bands, values.ravel(), strict=True)}
        return {"values": numbers, "cell": corners if np.isfinite(corners).all() else None}

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
        on_grid = area.to_crs(self._crs).make_valid().iloc[0].intersection(self._frame)
        n_cells = on_grid.area / self._cell_area
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


def _named_bands(source: DatasetReader) -> dict[str, int]:
    """Bands that hold values, by name: a name that several have, or none has, is told apart by the band's number."""
    texts = {index: str(source.descriptions[index - 1] or f"band_{index}") for index in value_bands(source)}
    often = Counter(texts.values())
    return {text if often[text] == 1 else f"{text} ({index})": index for index, text in texts.items()}


def _outline(source: DatasetReader, row: int, col: int, height: int, width: int) -> list[tuple[float, float]]:
    """Corners of a window of cells, in the raster's own system."""
    corners = ((col, row), (col + width, row), (col + width, row + height), (col, row + height))
    return [source.transform @ corner for corner in corners]


def _bounds(source: DatasetReader, frame: Polygon) -> tuple[float, float, float, float]:
    """West, south, east and north in degrees; the east exceeds 180 where the map crosses it."""
    left, bottom, right, top = frame.bounds
    if source.crs.is_geographic and right > 180:
        return left, bottom, right, top
    west, south, east, north = transform_bounds(source.crs, WGS84, left, bottom, right, top)
    return west, south, east if east >= west else east + 360, north


def _zoom_of(degrees: float) -> int:
    """Zoom level at which a cell of so many degrees is some 128 pixels wide; nearer there is nothing more to see."""
    return int(min(18, max(2, math.ceil(math.log2(180 / degrees)))))


def _palette(name: str) -> Palette:
    return ERROR if name == WEALTH_SE else WEALTH_COLOURS


def _rgb(colour: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(colour.removeprefix("#")), dtype=np.uint8)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
