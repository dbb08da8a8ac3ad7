"""A card as a text file: sorted keys, one line a list of numbers, and a hash that shows edits."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sustain.errors import CardError

__all__ = ["digest", "dump", "read"]


def digest(content: dict[str, Any]) -> str:
    """Hash of a card's content, whatever the order of its keys and the layout of its text."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def dump(value: Any, indent: str = "") -> str:
    """JSON with sorted keys, where a list without objects takes one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        rows = [f"{deeper}{json.dumps(key)}: {dump(value[key], deeper)}" for key in sorted(value)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}" + "}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(deeper + dump(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def read(text: str, name: str, newest: int) -> dict[str, Any]:
    """Content of a card's text, not yet validated.

    Raises
    ------
    CardError
        When the text is no JSON object with a ``schema_version``, or of a version after `newest`.
    """
    try:
        content: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise CardError(
            f"{name}: not a calibration card ({error}). Fetch it again from its publisher."
        ) from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise CardError(f"{name}: not a calibration card: it has no schema_version.")
    found = content["schema_version"]
    if type(found) is not int or not 1 <= found <= newest:
        raise CardError(
            f"{name}: a card of schema version {found!r}; this sustain reads versions 1 to {newest}. "
            "Install the release that wrote the card, or have the card built again."
        )
    return content
