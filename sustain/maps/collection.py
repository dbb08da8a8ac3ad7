"""The STAC collection of a published map: what its item shares with the maps of other periods, and of which model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pystac

from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.errors import FileFormatError
from sustain.files import read_json
from sustain.maps.stac import EXTENSIONS, slug

__all__ = ["COLLECTION_FILE", "make_collection"]

COLLECTION_FILE = "collection.json"

_MLM = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
# What the schema lets a model be called; the identifier of somebody else's predictor may be anything.
_MLM_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]")
_SHARED_BY_BANDS = ("name", "description", "data_type", "nodata", "unit")


def make_collection(
    folder: Path, item: pystac.Item, card: CalibrationCard, params: PublishParams
) -> pystac.Collection:
    """Describe the collection that a published map's item belongs to, and link the item to it.

    Parameters
    ----------
    folder : Path
        The published folder; with ``model.json`` in it, the collection describes the model by fields of the MLM
        extension. Weights are not published, so it is no model that one could load from there.
    item : pystac.Item
        The map's item; gets the collection's identifier and a link to it.
    card : CalibrationCard
        The card that corrected the map.
    params : PublishParams
        Title, licence, citation.

    Returns
    -------
    pystac.Collection
        STAC 1.1, with relative hrefs: the same map always gives the same collection.

    Raises
    ------
    FileFormatError
        When ``model.json`` is no JSON object.
    """
    properties = item.properties
    start, end = item.common_metadata.start_datetime, item.common_metadata.end_datetime
    collection = pystac.Collection(
        id=slug(params.title),
        title=params.title,
        description=params.description or f"{params.title}: {card.target.name} in {card.target.unit}.",
        license=params.licence,
        extent=pystac.Extent(
            pystac.SpatialExtent([list(item.bbox or [])]), pystac.TemporalExtent([[start, end]])
        ),
        summaries=pystac.Summaries(
            {name: [properties[name]] for name in ("sustain:method", "sustain:predictor", "sustain:target")}
        ),
    )
    scientific = {name: text for name, text in properties.items() if name.startswith("sci:")}
    if scientific:
        collection.stac_extensions.append(EXTENSIONS["sci"])
        collection.extra_fields |= scientific
    collection.extra_fields["item_assets"] = {name: _shared(asset) for name, asset in item.assets.items()}
    if (folder / "model.json").exists():
        _describe_model(collection, folder / "model.json", card)
    collection.add_link(pystac.Link("item", "./item.json", pystac.MediaType.GEOJSON, title=item.id))
    item.collection_id = collection.id
    item.add_link(pystac.Link("collection", f"./{COLLECTION_FILE}", pystac.MediaType.JSON))
    return collection


def _shared(asset: pystac.Asset) -> dict[str, Any]:
    """Fields of an asset that are the same for every period."""
    fields: dict[str, Any] = {"title": asset.title, "type": asset.media_type, "roles": asset.roles}
    if "bands" in asset.extra_fields:
        fields["bands"] = [
            {name: band[name] for name in _SHARED_BY_BANDS if name in band}
            for band in asset.extra_fields["bands"]
        ]
    return fields


def _describe_model(collection: pystac.Collection, path: Path, card: CalibrationCard) -> None:
    model = read_json(path)
    if not isinstance(model, dict):
        raise FileFormatError(
            f"{path}: expected a JSON object that describes the model; got {type(model).__name__}."
        )
    asset = pystac.Asset(
        "./model.json", title="Description of the model", media_type=pystac.MediaType.JSON, roles=["metadata"]
    )
    if "backbone" in model:
        fields: dict[str, Any] = {
            "mlm:architecture": str(model["backbone"]),
            "mlm:tasks": ["regression"],
            "mlm:framework": "PyTorch",
        }
        versions = model.get("versions")
        if isinstance(versions, dict) and "torch" in versions:
            fields["mlm:framework_version"] = str(versions["torch"])
        asset.extra_fields = fields
        # In summaries each field is the list of values that occur; a name is not allowed on an asset.
        summaries = {name: value if isinstance(value, list) else [value] for name, value in fields.items()}
        if _MLM_NAME.fullmatch(card.predictor.id):
            summaries["mlm:name"] = [card.predictor.id]
        for name, value in sorted(summaries.items()):
            collection.summaries.add(name, value)
        collection.stac_extensions.append(_MLM)
    collection.add_asset("model", asset)
