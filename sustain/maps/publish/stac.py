"""The STAC item of a published map: one map of one period, its bands, its files and how it was corrected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from pyproj import Geod
from rasterio.warp import transform as transform_coordinates
from rasterio.warp import transform_bounds

import sustain
from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.files import sha256_of
from sustain.maps.antimeridian import cut_ring
from sustain.maps.geotiff import SUPPORT, WEALTH, WEALTH_RAW, WEALTH_SE, open_raster
from sustain.maps.places import WGS84
from sustain.maps.read.cells import MapSummary

__all__ = [
    "BAND_TEXTS",
    "EXTENSIONS",
    "describe_bands",
    "figure",
    "file_fields",
    "item_id",
    "make_item",
    "slug",
]

# Schemas that the fields below follow. pystac would fetch them to validate; the tests do it without a network.
EXTENSIONS = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "sci": "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
}
BAND_TEXTS = {
    WEALTH: "Wealth after the correction.",
    WEALTH_RAW: "Wealth as the model predicts it, shrunken towards the mean.",
    WEALTH_SE: "Standard error of the corrected wealth of one cell.",
    SUPPORT: "0: within the calibration sample's range; 1: outside it, the correction is an extrapolation; "
    "2: no imagery.",
}
_DEGREE_DIGITS = 6
_FIGURE_DIGITS = 6
_MULTIHASH_SHA256 = "1220"  # the function's code and the digest's length, as the file extension wants them

_ASSETS = {
    "wealth.tif": ("map", "The map", pystac.MediaType.COG, ["data"]),
    "cells.parquet": ("cells", "Cells with imagery, GeoParquet", "application/vnd.apache.parquet", ["data"]),
    "cells.csv": ("cells_csv", "Cells with imagery, CSV", "text/csv", ["data"]),
    "areas.csv": ("areas", "Means of areas with 95% intervals, CSV", "text/csv", ["data"]),
    "card.json": ("card", "Calibration card", pystac.MediaType.JSON, ["metadata"]),
    "model.json": ("model", "Description of the model", pystac.MediaType.JSON, ["metadata"]),
    "README.md": ("readme", "Map card", "text/markdown", ["overview"]),
}


def make_item(
    folder: Path,
    card: CalibrationCard,
    summary: MapSummary,
    period: tuple[date, date],
    params: PublishParams,
) -> pystac.Item:
    """Describe a published folder.

    Parameters
    ----------
    folder : Path
        Holds ``wealth.tif``; each other published file that is there becomes an asset too.
    card : CalibrationCard
        The card that corrected the map.
    summary : MapSummary
        Its figures.
    period : (date, date)
        First and last day of the imagery.
    params : PublishParams
        Title, licence, citation.

    Returns
    -------
    pystac.Item
        STAC 1.1, with relative hrefs and no time of creation: the same map always gives the same item.
    """
    with open_raster(folder / "wealth.tif") as raster:
        geometry, bbox = _footprint(raster)
        projection = _projection(raster)
        method = raster.tags().get("SUSTAIN_METHOD", "")
        bands = describe_bands(raster, summary)
    start, end = (
        datetime.combine(day, at, tzinfo=UTC)
        for day, at in zip(period, (time(), time(23, 59, 59)), strict=True)
    )
    item = pystac.Item(
        id=item_id(params.title, period),
        geometry=geometry,
        bbox=bbox,
        datetime=None,
        start_datetime=start,
        end_datetime=end,
        properties=_properties(card, method, params) | projection,
        stac_extensions=[url for name, url in EXTENSIONS.items() if name != "sci" or _scientific(params)],
    )
    for name, (key, title, media_type, roles) in _ASSETS.items():
        path = folder / name
        if path.exists():
            asset = pystac.Asset(f"./{name}", title=title, media_type=media_type, roles=roles)
            asset.extra_fields = file_fields(path)
            if key == "map":
                asset.extra_fields["bands"] = bands
            item.add_asset(key, asset)
    return item


def describe_bands(raster: rasterio.io.DatasetReader, summary: MapSummary) -> list[dict[str, Any]]:
    """STAC 1.1 ``bands`` of a corrected map, with statistics over the cells with imagery."""
    described = []
    resolution = figure(_resolution_m(raster))
    for name, unit, dtype in zip(raster.descriptions, raster.units, raster.dtypes, strict=True):
        band: dict[str, Any] = {
            "name": name,
            "description": BAND_TEXTS[name],
            "data_type": dtype,
            "nodata": "nan",
            "unit": unit,
            "raster:sampling": "area",
            "raster:spatial_resolution": resolution,
        }
        if name in summary.bands and summary.n_values:
            statistics = summary.bands[name]
            band["statistics"] = {
                "minimum": figure(statistics.minimum),
                "maximum": figure(statistics.maximum),
                "mean": figure(statistics.mean),
                "stddev": figure(statistics.std),
                "count": summary.n_cells,
                "valid_percent": figure(100 * summary.n_values / summary.n_cells),
            }
        described.append(band)
    return described


def file_fields(path: Path) -> dict[str, Any]:
    """Fields of the file extension for an asset: checksum (multihash of sha256) and size in bytes."""
    return {"file:checksum": _MULTIHASH_SHA256 + sha256_of(path), "file:size": path.stat().st_size}


def item_id(title: str, period: tuple[date, date]) -> str:
    """Make an identifier of title and years: lower-case letters, digits and hyphens."""
    return "-".join([slug(title), *sorted({str(day.year) for day in period})])


def slug(title: str) -> str:
    """Lower-case letters, digits and hyphens of a title; ``map`` where none is left."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "map"


def _properties(card: CalibrationCard, method: str, params: PublishParams) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "title": params.title,
        "license": params.licence,
        "processing:level": "L4",
        "processing:software": {"sustain": sustain.__version__},
        "processing:lineage": f"Predicted by {card.predictor.id} from satellite imagery, tile by tile; corrected with "
        f"method {method!r} of calibration card {card.sha256}.",
        "sustain:method": method,
        "sustain:card_sha256": card.sha256,
        "sustain:predictor": card.predictor.id,
        "sustain:target": card.target.name,
        "sustain:unit": card.target.unit,
        "sustain:n": card.sample.n,
        "sustain:slope": figure(card.slope),
        "sustain:slope_se": figure(float(card.slope_cov[1, 1]) ** 0.5),
        "sustain:intercept": figure(card.intercept),
        "sustain:r2": figure(card.r2),
        "sustain:support": [figure(limit) for limit in card.support],
    }
    if params.description:
        properties["description"] = params.description
    return properties | _scientific(params)


def _scientific(params: PublishParams) -> dict[str, str]:
    found = {"sci:citation": params.citation, "sci:doi": params.doi}
    return {key: text for key, text in found.items() if text}


def _projection(raster: rasterio.io.DatasetReader) -> dict[str, Any]:
    authority = raster.crs.to_authority()
    return {
        "proj:code": ":".join(authority) if authority else None,
        **({} if authority else {"proj:wkt2": raster.crs.to_wkt(version="WKT2_2019")}),
        "proj:shape": list(raster.shape),
        "proj:transform": list(raster.transform)[:6],
        "proj:bbox": list(raster.bounds),
    }


def _resolution_m(raster: rasterio.io.DatasetReader) -> float:
    """Mean side of a cell in metres of the coordinate system; of one in degrees, on the ground at its centre."""
    if raster.crs.is_projected:
        return float(np.mean(raster.res) * raster.crs.linear_units_factor[1])
    x, y = raster.xy(raster.height / 2, raster.width / 2, offset="ul")
    width, height = raster.res
    lon, lat = [x, x + width, x + width, x], [y, y, y - height, y - height]
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    return float(np.sqrt(abs(area)))


def _footprint(raster: rasterio.io.DatasetReader) -> tuple[dict[str, Any], list[float]]:
    """Outline of the raster in longitude and latitude: GeoJSON, anticlockwise, and its box.

    A raster that crosses 180 degrees has an outline in two parts, cut there, and a box whose west exceeds its east (RFC
    7946, sections 3.1.9 and 5.2).
    """
    left, bottom, right, top = raster.bounds
    # Edges may bulge beyond the corners; the box contains them.
    west, south, east, north = transform_bounds(raster.crs, WGS84, left, bottom, right, top)
    lons, lats = transform_coordinates(
        raster.crs, WGS84, [left, right, right, left, left], [bottom, bottom, top, top, bottom]
    )
    bbox = [round(value, _DEGREE_DIGITS) for value in (west, south, east, north)]
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(zip(lons, lats, strict=True))]}, bbox
    rings = [[_ring(ring)] for ring in cut_ring(zip(lons, lats, strict=True))]
    return {"type": "MultiPolygon", "coordinates": rings}, bbox


def _ring(corners: Iterable[tuple[float, float]]) -> list[list[float]]:
    return [[round(value, _DEGREE_DIGITS) for value in corner] for corner in corners]


def figure(value: float) -> float:
    """Round to the digits that a catalogue gives."""
    return float(f"{value:.{_FIGURE_DIGITS}g}")
