"""What a map is called, when it was, and on which terms it may be used, as its published folder says."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from sustain.errors import FileFormatError
from sustain.files import read_json

__all__ = ["about_map"]


def about_map(folder: Path) -> dict[str, str]:
    """Read title, period, licence, providers and citation from a folder's STAC item; empty where it says nothing.

    Raises
    ------
    FileFormatError
        When ``item.json`` is there and cannot be read, or is no STAC item.
    """
    found = dict.fromkeys(("title", "period", "licence", "providers", "citation"), "")
    path = folder / "item.json"
    if not path.exists():
        return found
    content = read_json(path)
    properties = content.get("properties") if isinstance(content, dict) else None
    if not isinstance(properties, dict):
        raise FileFormatError(
            f"{path}: it has no object 'properties', so it is no STAC item. Publish the map again."
        )
    try:
        found["period"] = _period(properties)
    except ValueError as error:
        raise FileFormatError(
            f"{path}: its dates cannot be read ({error}). Publish the map again."
        ) from error
    for name, key in (("title", "title"), ("licence", "license"), ("citation", "sci:citation")):
        found[name] = str(properties.get(key) or "")
    if found["licence"] in ("other", "various", "proprietary"):  # whose name stands at a link
        links = (link for link in content.get("links", []) if link.get("rel") == "license")
        found["licence"] = next((str(link["title"]) for link in links if link.get("title")), found["licence"])
    named = (provider.get("name") for provider in properties.get("providers", []))
    found["providers"] = ", ".join(str(name) for name in named if name)
    return found


def _period(properties: dict[str, Any]) -> str:
    """Say it in years where it is of whole years, else in days."""
    start, end = (
        str(properties.get(key) or properties.get("datetime") or "")
        for key in ("start_datetime", "end_datetime")
    )
    if not (start and end):
        return ""
    first, last = date.fromisoformat(start[:10]), date.fromisoformat(end[:10])
    if (first.month, first.day, last.month, last.day) == (1, 1, 12, 31):
        texts = str(first.year), str(last.year)
    else:
        texts = first.isoformat(), last.isoformat()
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)
