"""The STAC collection of a published map: what its item shares with the maps of other periods."""

from __future__ import annotations

from typing import Any

import pystac

from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.maps.publish.facts import stac_licence
from sustain.maps.publish.model_item import MODEL_ITEM_FILE
from sustain.maps.publish.stac import EXTENSIONS, add_links, common_fields, slug

__all__ = ["COLLECTION_FILE", "make_collection"]

COLLECTION_FILE = "collection.json"

_SHARED_BY_BANDS = ("name", "description", "data_type", "nodata", "unit")


def make_collection(
    item: pystac.Item,
    card: CalibrationCard,
    params: PublishParams,
    model_item: pystac.Item | None = None,
) -> pystac.Collection:
    """Describe the collection that a published map's item belongs to, and link the items to it.

    Parameters
    ----------
    item : pystac.Item
        The map's item; gets the collection's identifier and a link to it.
    card : CalibrationCard
        The card that corrected the map.
    params : PublishParams
        Title, licence, providers, keywords, citation.
    model_item : pystac.Item, optional
        The model's item, of `sustain.maps.publish.model_item.make_model_item`; gets them too.

    Returns
    -------
    pystac.Collection
        STAC 1.1, with relative hrefs: the same map always gives the same collection.
    """
    properties = item.properties
    start, end = item.common_metadata.start_datetime, item.common_metadata.end_datetime
    collection = pystac.Collection(
        id=slug(params.title),
        title=params.title,
        description=params.description or f"{params.title}: {card.target.name} in {card.target.unit}.",
        license=stac_licence(params.licence),
        extent=pystac.Extent(
            pystac.SpatialExtent([list(item.bbox or [])]), pystac.TemporalExtent([[start, end]])
        ),
        summaries=pystac.Summaries(
            {name: [properties[name]] for name in ("sustain:method", "sustain:predictor", "sustain:target")}
        ),
    )
    shared = common_fields(card, params)
    collection.extra_fields |= {name: value for name, value in shared.items() if name != "license"}
    for prefix, name in (("sci:", "sci"), ("version", "version")):
        if any(field.startswith(prefix) for field in shared):
            collection.stac_extensions.append(EXTENSIONS[name])
    add_links(collection, params)
    collection.extra_fields["item_assets"] = {name: _shared(asset) for name, asset in item.assets.items()}
    items = {"item.json": item} | ({MODEL_ITEM_FILE: model_item} if model_item is not None else {})
    for name, member in items.items():
        collection.add_link(pystac.Link("item", f"./{name}", pystac.MediaType.GEOJSON, title=member.id))
        member.collection_id = collection.id
        member.add_link(pystac.Link("collection", f"./{COLLECTION_FILE}", pystac.MediaType.JSON))
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
