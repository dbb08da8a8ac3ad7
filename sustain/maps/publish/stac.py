"""The STAC item of a published map: one map of one period, its bands, its files and how it was corrected."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pystac
import rasterio

import sustain
from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.files import sha256_of
from sustain.maps.geotiff import SUPPORT, WEALTH, WEALTH_RAW, WEALTH_SE, open_raster
from sustain.maps.publish.facts import created, keywords, providers, stac_licence
from sustain.maps.publish.ground import footprint, native_bounds, resolution_m
from sustain.maps.read.cells import MapSummary

__all__ = [
    "BAND_TEXTS",
    "EXTENSIONS",
    "add_links",
    "common_fields",
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
    "version": "https://stac-extensions.github.io/version/v1.2.0/schema.json",
}
BAND_TEXTS = {
    WEALTH: "Wealth after the correction.",
    WEALTH_RAW: "Wealth as the model predicts it, shrunken towards the mean.",
    WEALTH_SE: "Standard error of the corrected wealth of one cell.",
    SUPPORT: "0: within the calibration sample's range; 1: outside it, the correction is an extrapolation; "
    "2: no imagery.",
}
_FIGURE_DIGITS = 6
_MULTIHASH_SHA256 = "1220"  # the function's code and the digest's length, as the file extension wants them

_ASSETS = {
    "wealth.tif": ("map", "The map", pystac.MediaType.COG, ["data"]),
    "cells.parquet": ("cells", "Cells with imagery, GeoParquet", "application/vnd.apache.parquet", ["data"]),
    "cells.csv": ("cells_csv", "Cells with imagery, CSV", "text/csv", ["data"]),
    "areas.csv": ("areas", "Means of areas with 95% intervals, CSV", "text/csv", ["data"]),
    "card.json": ("card", "Calibration card", pystac.MediaType.JSON, ["metadata"]),
    "model.json": ("model", "Description of the model", pystac.MediaType.JSON, ["metadata"]),
    "thumbnail.png": (
        "thumbnail",
        "The map at a glance, with its legend",
        pystac.MediaType.PNG,
        ["thumbnail"],
    ),
    "wealth.qml": ("style", "QGIS style of the map", pystac.MediaType.XML, ["metadata", "style"]),
    "wealth_se.qml": (
        "style_se",
        "QGIS style of its standard error",
        pystac.MediaType.XML,
        ["metadata", "style"],
    ),
    "support.qml": ("style_support", "QGIS style of its flags", pystac.MediaType.XML, ["metadata", "style"]),
    "legend.json": ("legend", "Colours and the values they stand for", pystac.MediaType.JSON, ["metadata"]),
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
        Title, licence, providers, keywords, citation.

    Returns
    -------
    pystac.Item
        STAC 1.1, with relative hrefs; its time of creation is the one that was said, never the clock's: the same map
        always gives the same item.
    """
    with open_raster(folder / "wealth.tif") as raster:
        geometry, bbox = footprint(raster)
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
        stac_extensions=[
            url
            for name, url in EXTENSIONS.items()
            if (name != "sci" or _scientific(params)) and (name != "version" or params.version)
        ],
    )
    add_links(item, params)
    for name, (key, title, media_type, roles) in _ASSETS.items():
        path = folder / name
        if path.exists():
            asset = pystac.Asset(f"./{name}", title=title, media_type=media_type, roles=roles)
            asset.extra_fields = file_fields(path)
            if key == "map":
                asset.extra_fields["bands"] = bands
            item.add_asset(key, asset)
    return item


def add_links(thing: pystac.Item | pystac.Collection, params: PublishParams) -> None:
    """Link to the text of a licence that is none of SPDX's, and to what is to be cited."""
    if stac_licence(params.licence) != params.licence:
        address = params.licence if params.licence.startswith(("https://", "http://")) else "./README.md"
        media_type = None if address == params.licence else "text/markdown"
        thing.add_link(pystac.Link("license", address, media_type, title=params.licence))
    if params.doi:
        thing.add_link(pystac.Link("cite-as", f"https://doi.org/{params.doi}"))


def common_fields(card: CalibrationCard, params: PublishParams) -> dict[str, Any]:
    """Fields that item and collection share; one that nobody said is left out."""
    found = {
        "license": stac_licence(params.licence),
        "providers": providers(params),
        "keywords": keywords(params, card),
        "version": params.version,
        **_scientific(params),
    }
    return {name: value for name, value in found.items() if value}


def describe_bands(raster: rasterio.io.DatasetReader, summary: MapSummary) -> list[dict[str, Any]]:
    """STAC 1.1 ``bands`` of a corrected map, with statistics over the cells with imagery."""
    described = []
    resolution = figure(resolution_m(raster))
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
        "processing:level": "L4",
        "processing:software": {"sustain": sustain.__version__},
        "processing:lineage": f"Predicted by {card.predictor.id} from satellite imagery; corrected with method "
        f"{method!r} of calibration card {card.sha256}.",
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
    day = created(params)
    if day is not None:
        properties["created"] = pystac.utils.datetime_to_str(day)
    return properties | common_fields(card, params)


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
        "proj:bbox": list(native_bounds(raster)),
    }


def figure(value: float) -> float:
    """Round to the digits that a catalogue gives."""
    return float(f"{value:.{_FIGURE_DIGITS}g}")
