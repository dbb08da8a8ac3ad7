"""Imagery named by STAC items: reading them from files and addresses, and finding a model's bands in their assets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pystac

from sustain.errors import ConfigError, FileFormatError, RasterError
from sustain.files import read_json
from sustain.maps.imagery.bands import Imagery, StoredBand
from sustain.maps.imagery.sentinel2 import is_reflectance, reflectance_numbers
from sustain.maps.remote import fetch_json, is_remote, plain

__all__ = ["BandSource", "ItemBands", "find_bands", "read_items"]

_MOST_PAGES = 10_000


@dataclass(frozen=True)
class BandSource(StoredBand):
    """Where one of the model's bands is kept; `nodata` as the item states it.

    Attributes
    ----------
    asset : str
        Key of the item's asset.
    href : str
        Absolute path or address of the asset.
    reflectance : bool
        Whether it is one of Sentinel-2's reflectances.
    """

    asset: str
    href: str
    reflectance: bool = False


@dataclass(frozen=True)
class ItemBands:
    """An item's bands, in the model's order."""

    name: str
    bands: tuple[BandSource, ...]


def read_items(places: Sequence[str | Path]) -> list[pystac.Item]:
    """Read items and item collections, in the order in which they are listed.

    Parameters
    ----------
    places : sequence of str or Path
        JSON files or http(s) addresses, each of an item, an item collection, or a search whose further pages are
        followed. Relative hrefs count from an item's own address (its link ``self``), else from where it was read.

    Raises
    ------
    DownloadError
        When an address does not answer.
    FileFormatError
        When a document is no JSON, no STAC, or a page of which the next cannot be had; or when one from the web names
        files of this machine.
    ConfigError
        When there is no item at all.
    """
    items = []
    for place in places:
        for document, origin in _documents(str(place)):
            features = document.get("features") if document["type"] == "FeatureCollection" else [document]
            if not isinstance(features, list):
                raise FileFormatError(f"{plain(origin)}: is a FeatureCollection without a list of features.")
            items += [_item(feature, origin) for feature in features]
    if not items:
        raise ConfigError(f"{', '.join(plain(str(place)) for place in places)}: holds no STAC item.")
    return items


def find_bands(item: pystac.Item, imagery: Imagery, names: Mapping[str, str]) -> ItemBands:
    """Find a model's bands among an item's assets.

    A band is named by its asset's key, where the asset has one band, or by ``name`` or common name in the asset's
    ``bands`` or ``eo:bands``; a name that only differs in case will do.

    Parameters
    ----------
    item : pystac.Item
    imagery : Imagery
        What the model expects.
    names : mapping
        What items call a band of the model, where they call it otherwise.

    Raises
    ------
    RasterError
        When a band is missing or ambiguous; when the item does not state its numbers (scale and offset) while the
        model's are scaled; when what it states of Sentinel-2's offset is a contradiction.

    Warns
    -----
    DataWarning
        When Sentinel-2's numbers are not stated and those of the item's processing baseline are taken.
    """
    from odc.stac import parse_item  # comes with the extra [pipeline], which maps of rasters do not need

    name = f"item {item.id}"
    try:
        parsed = parse_item(item)
    except (pystac.STACError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RasterError(
            f"{name}: its assets cannot be understood ({type(error).__name__}: {error}). Look at the fields of the "
            "projection and raster extensions."
        ) from error
    offered = [(*label, key) for key in parsed.bands for label in _labels(item, key, parsed.bands)]
    sources = []
    for band, scale, offset in zip(imagery.bands, imagery.scale, imagery.offset, strict=True):
        wanted = names.get(band, band)
        found = _best(offered, wanted)
        if len(found) != 1:
            what = "is missing" if not found else f"is in {len(found)} places ({_listed(found)})"
            raise RasterError(
                f"{name}: band {band} {what}{'' if wanted == band else f', looked for as {wanted}'}. The item's "
                f"bands are {', '.join(sorted({label for label, _, _ in offered})) or 'none'}. Say which it is: "
                f"stac_bands (sustain map --band {band}=NAME)."
            )
        key = found.pop()
        source: Any = parsed.bands[key]
        reflectance = is_reflectance(item, key[0], (label for label, _ in _labels(item, key, parsed.bands)))
        stated = _numbers(name, item, key, reflectance)
        if stated is None:
            if (scale, offset) != (1, 0):
                raise RasterError(
                    f"{name}, asset {key[0]}: states neither scale nor offset, but the model's {band} is {scale} * "
                    f"number {offset:+}. State them in raster:bands (1 and 0 for plain values)."
                )
            stated = 1.0, 0.0
        nodata = _number(source.meta.nodata)
        sources.append(
            BandSource(
                band, source.band, *stated, nodata, asset=key[0], href=source.uri, reflectance=reflectance
            )
        )
    return ItemBands(name, tuple(sources))


def _documents(place: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Documents of a place, a page at a time, and where each was read."""
    remote = is_remote(place)
    origin: str | None = place if remote else str(Path(place).absolute())
    for _ in range(_MOST_PAGES):
        if origin is None:
            return
        document = fetch_json(origin) if remote else _read(Path(place))
        kind = document.get("type") if isinstance(document, dict) else type(document).__name__
        if kind not in ("Feature", "FeatureCollection"):
            raise FileFormatError(
                f"{plain(place)}: expected a STAC item or item collection (type Feature or FeatureCollection); got "
                f"type {kind}. Of a catalogue or collection, search the items that you want and pass the result."
            )
        yield document, origin
        origin = _next_page(document, place) if kind == "FeatureCollection" else None
    raise FileFormatError(f"{plain(place)}: has more than {_MOST_PAGES} pages. Ask for fewer items.")


def _read(path: Path) -> Any:
    if not path.exists():
        raise RasterError(f"{path}: no such STAC file. Check the path.")
    return read_json(path)


def _next_page(document: dict[str, Any], place: str) -> str | None:
    """Address of a search's next page. Leaving it out would leave out imagery."""
    links = [
        link for link in document.get("links") or [] if isinstance(link, dict) and link.get("rel") == "next"
    ]
    if not links:
        return None
    href = str(links[0].get("href", ""))
    if not is_remote(place) or not is_remote(href) or links[0].get("method", "GET") != "GET":
        raise FileFormatError(
            f"{plain(place)}: is one page of a longer result, and the next cannot be had by its address alone. Save "
            "all items in one item collection (pystac_client: search.item_collection().save_object(path))."
        )
    return href


def _item(feature: Any, origin: str) -> pystac.Item:
    try:
        item = pystac.Item.from_dict(feature)
    except (pystac.STACError, pystac.STACTypeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{plain(origin)}: holds something that is no STAC item ({type(error).__name__}: {error})."
        ) from error
    own = item.get_self_href()
    if own is None or (is_remote(origin) and not is_remote(own)):
        item.set_self_href(origin)
    if is_remote(origin):
        for key, asset in item.assets.items():
            href = asset.get_absolute_href() or ""
            if urlsplit(href).scheme in ("", "file"):
                raise FileFormatError(
                    f"{plain(origin)}: item {item.id}, asset {key}, names a file of this machine ({href}), which is "
                    "not read for a document from the web. If you mean it, save the document and pass its path."
                )
    return item


def _labels(item: pystac.Item, key: tuple[str, int], keys: Mapping[Any, Any]) -> list[tuple[str, int]]:
    """List what a band of an asset may be called, and how much that counts (0 most)."""
    asset, index = key
    labels = [(f"{asset}.{index}", 3)] if (asset, 2) in keys else [(asset, 0)]
    described = _described(item.assets[asset], "bands", index) | _described(
        item.assets[asset], "eo:bands", index
    )
    for field, rank in (("name", 1), ("common_name", 2), ("eo:common_name", 2)):
        if described.get(field):
            labels.append((str(described[field]), rank))
    return labels


def _best(offered: list[tuple[str, int, Any]], wanted: str) -> set[Any]:
    """Bands that a name fits best: its own spelling before another case, an asset's key before a band's name.

    A picture of red, green and blue beside the three as assets is no ambiguity, then.
    """
    for spelt in (str, str.lower):
        for rank in range(4):
            found = {key for label, at, key in offered if at == rank and spelt(label) == spelt(wanted)}
            if found:
                return found
    return set()


def _described(asset: pystac.Asset, field: str, index: int) -> dict[str, Any]:
    listed = asset.extra_fields.get(field)
    entry = listed[index - 1] if isinstance(listed, list) and len(listed) >= index else {}
    return entry if isinstance(entry, dict) else {}


def _numbers(
    name: str, item: pystac.Item, key: tuple[str, int], reflectance: bool
) -> tuple[float, float] | None:
    """Scale and offset of a band as an item states them, by version 1 or 2 of the raster extension; None if not."""
    asset, index = item.assets[key[0]], key[1]
    described = (
        asset.extra_fields | _described(asset, "raster:bands", index) | _described(asset, "bands", index)
    )
    scale, offset = (described.get(f"raster:{name}", described.get(name)) for name in ("scale", "offset"))
    sensible = all(
        number is None or (isinstance(number, int | float) and math.isfinite(number))
        for number in (scale, offset)
    )
    if not sensible or scale == 0:
        raise RasterError(
            f"{name}, asset {key[0]}: scale and offset of its band {index} must be numbers, the scale not 0; got "
            f"{scale!r} and {offset!r}. Mend the item."
        )
    if reflectance:
        return reflectance_numbers(item, key[0], (scale, offset))
    if scale is None and offset is None:
        return None
    return (1.0 if scale is None else float(scale), 0.0 if offset is None else float(offset))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _listed(keys: set[tuple[str, int]]) -> str:
    return ", ".join(f"asset {asset}, band {index}" for asset, index in sorted(keys))
