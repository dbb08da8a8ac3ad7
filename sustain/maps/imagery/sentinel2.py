"""Sentinel-2's offset: which of a product's files still hold it, and what an item must say so that it is known.

From processing baseline 04.00 on (25 January 2022, and all of Collection 1, N0500) ESA adds 1000 to the numbers of the
reflectance bands, of Level-1C and Level-2A alike: reflectance = 0.0001 * number - 0.1. Before it was 0.0001 * number.
Some archives pass these numbers on; Earth Search subtracts the 1000 in the GeoTIFFs of its collections
``sentinel-s2-l2a-cogs`` and ``sentinel-2-l2a``, says so in ``earthsearch:boa_offset_applied`` (earlier
``sentinel:boa_offset_applied``), and still states the offset -0.1 in ``raster:bands``; the JPEG 2000 files of the same
items are ESA's own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from sustain.errors import DataWarning, RasterError

__all__ = ["is_reflectance", "reflectance_numbers", "warn_of_negative"]

_SCALE = 0.0001
_OFFSET = -0.1
_FIRST_WITH_OFFSET = 400  # processing baseline 04.00

_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINE = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_VERSION = re.compile(r"N?(\d{1,2}(?=\.|\d\d$))\.?(\d{1,2})")  # 05.09, 0509, N0509, 5.09, 5.1
_PRODUCT = ("s2:product_uri", "sentinel:product_id", "s2:product_id")
_MISSION = re.compile(r"sentinel-?2|sentinel-s2|(^|_)s2_|^s2[abc]", re.IGNORECASE)
_BAND = re.compile(r"B(0?[1-9]|1[0-2]|8A)", re.IGNORECASE)
_COMMON = re.compile(r"coastal|blue|green|red|rededge\d*|nir(08|09)?|cirrus|swir(16|22)", re.IGNORECASE)
_SUFFIX = re.compile(r"([-_](\d+m|jp2))+$", re.IGNORECASE)
_PICTURE = re.compile(r"visual|overview|preview|thumbnail|tci", re.IGNORECASE)

_DARK = -0.02  # below it a reflectance is no noise over dark water
_ENOUGH = 1000  # pixels


def is_reflectance(item: pystac.Item, asset: str, names: Iterable[str]) -> bool:
    """Tell whether a band of an item is one of Sentinel-2's reflectances; its classes and aerosols have no offset.

    Parameters
    ----------
    item : pystac.Item
    asset : str
        Key of the asset.
    names : iterable of str
        What else the item calls the band: names and common names.
    """
    facts = item.properties
    told = [
        item.collection_id or "",
        str(facts.get("constellation", "")),
        str(facts.get("platform", "")),
        item.id,
    ]
    mission = any(map(_MISSION.search, told)) or any(key.startswith(("s2:", "sentinel:")) for key in facts)
    if not mission or _PICTURE.match(asset):
        return False
    called = [_SUFFIX.sub("", name) for name in (asset, *names)]
    return any(_BAND.fullmatch(name) or _COMMON.fullmatch(name) for name in called)


def reflectance_numbers(
    item: pystac.Item, asset: str, stated: tuple[float | None, float | None]
) -> tuple[float, float] | None:
    """Find scale and offset of a reflectance band of Sentinel-2: value = scale * number + offset.

    Parameters
    ----------
    item : pystac.Item
    asset : str
        Key of the asset.
    stated : (float or None, float or None)
        Scale and offset as the asset states them.

    Returns
    -------
    (float, float) or None
        None where neither the asset nor a processing baseline tells.

    Raises
    ------
    RasterError
        When the stated offset contradicts the processing baseline, and nothing says that the offset was subtracted.

    Warns
    -----
    DataWarning
        When the asset states neither and ESA's numbers of the item's baseline are taken.
    """
    scale, offset = stated
    if _is_subtracted(item, asset):
        return scale or _SCALE, 0.0
    baseline = _baseline(item)
    if baseline is None:
        return None if scale is None and offset is None else (_or(scale, 1.0), _or(offset, 0.0))
    expected = _OFFSET if baseline >= _FIRST_WITH_OFFSET else 0.0
    version = f"{baseline // 100:02d}.{baseline % 100:02d}"
    if scale is None and offset is None:
        warnings.warn(
            f"Sentinel-2 items of processing baseline {version} state neither scale nor offset; ESA's numbers of this "
            f"baseline are taken: reflectance = {_SCALE:g} * number {expected:+g}. Where the provider has subtracted "
            f"the offset, say so in the items: {_APPLIED[0]}: true.",
            DataWarning,
            stacklevel=2,
        )
        return _SCALE, expected
    found = _or(offset, 0.0) / _or(scale, 1.0)  # in numbers of the file
    if abs(found - expected / _SCALE) > 0.5:
        raise RasterError(
            f"item {item.id}, asset {asset}: Sentinel-2's processing baseline is {version}, of which reflectance = "
            f"{_SCALE:g} * number {expected:+g}, but the item states scale {_or(scale, 1.0):g} and offset "
            f"{_or(offset, 0.0):g}. If the provider has subtracted the offset from the file's numbers, say so in the "
            f"item's properties: {_APPLIED[0]}: true. If not, mend raster:bands: scale {_SCALE:g}, offset "
            f"{expected:g}."
        )
    return _or(scale, 1.0), _or(offset, 0.0)


def warn_of_negative(name: str, band: str, values: npt.NDArray[np.floating[Any]]) -> None:
    """Say so where reflectances are negative for the most part: their offset was subtracted before.

    Flags of some items are wrong, mostly of Earth Search's ``sentinel-2-l2a`` of 2022 and 2025.

    Parameters
    ----------
    name, band : str
        For the message.
    values : ndarray
        Reflectances, NaN where missing.

    Warns
    -----
    DataWarning
    """
    present = np.count_nonzero(np.isfinite(values))
    if present >= _ENOUGH and 2 * np.count_nonzero(values < _DARK) > present:
        warnings.warn(
            f"{name}: most reflectances of band {band} are negative with the offset that the item states. It was "
            "probably subtracted from the file's numbers already, and the item's flag is wrong. Compare with another "
            f"archive, and say so in the item's properties: {_APPLIED[0]}: true.",
            DataWarning,
            stacklevel=2,
        )


def _is_subtracted(item: pystac.Item, asset: str) -> bool:
    """Whether the offset is gone from an asset's file: where the item says so, but not from ESA's JPEG 2000."""
    about = item.assets[asset]
    original = (about.media_type or "").startswith("image/jp2") or about.href.split("?")[0].lower().endswith(
        ".jp2"
    )
    told = (str(item.properties.get(key, "")).lower() for key in _APPLIED)
    return not original and "true" in told


def _baseline(item: pystac.Item) -> int | None:
    """Find the processing baseline, in hundredths (509 for 05.09), in properties or the name of the product."""
    for key in _BASELINE:
        if found := _VERSION.fullmatch(str(item.properties.get(key, "")).strip()):
            return 100 * int(found[1]) + int(found[2].ljust(2, "0"))
    for name in (*(str(item.properties.get(key, "")) for key in _PRODUCT), item.id):
        if found := re.search(r"_N(\d{4})_", name):
            return int(found[1])
    return None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
