"""Addresses on the web: fetching a document, telling whether a file changed, and what GDAL should do about them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from sustain.errors import DownloadError, FileFormatError

__all__ = [
    "ON_THE_WEB",
    "fetch_json",
    "gdal_options",
    "http_options",
    "is_remote",
    "is_stac",
    "plain",
    "remote_identity",
]

_TIMEOUT_S = (10, 60)  # to connect, and between two pieces of an answer
_MOST_BYTES = 256 << 20
_JSON_STARTS = (b"{", b"[", b"\xef\xbb\xbf")

ON_THE_WEB = "/vsicurl/"
"""What GDAL puts before an address, as a VRT does that names sources on the web."""

_HTTP: dict[str, Any] = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
_GDAL: dict[str, Any] = _HTTP | {
    "GDAL_CACHEMAX": 256 << 20,  # bytes; does not grow with the machine
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # A file that changed, or a server that came back, is asked anew when a file is opened anew.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",
}


def gdal_options() -> dict[str, Any]:
    """Give GDAL's options for assets, which may lie behind addresses; those set in the environment win."""
    return {name: value for name, value in _GDAL.items() if name not in os.environ}


def http_options() -> dict[str, Any]:
    """Give GDAL's patience with servers, for rasters that may have sources on the web; the environment wins."""
    return {name: value for name, value in _HTTP.items() if name not in os.environ}


def is_remote(place: str) -> bool:
    """Whether a place is an http(s) address."""
    return place.startswith(("http://", "https://"))


def is_stac(place: str | Path) -> bool:
    """Whether a place stands for STAC items rather than for a raster: a JSON file, or an address."""
    return is_remote(str(place)) or Path(place).suffix.lower() in (".json", ".geojson")


def plain(address: str) -> str:
    """Strip an address of its query, which may hold a signature that expires, and a secret."""
    return urlunsplit((*urlsplit(address)[:3], "", "")) if is_remote(address) else address


def fetch_json(address: str) -> Any:
    """Fetch a JSON document.

    Raises
    ------
    DownloadError
        When the server does not answer, or not with the document.
    FileFormatError
        When what comes is not JSON.
    """
    body = bytearray()
    try:
        with requests.get(address, timeout=_TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_content(1 << 20):
                body += chunk
                if len(body) > _MOST_BYTES or not body.lstrip().startswith(_JSON_STARTS):
                    break  # too much; or no JSON, such as imagery, of which there may be a lot
    except requests.RequestException as error:
        raise DownloadError(
            f"{plain(address)}: does not answer with a document ({_reason(error)}). Check the address and the "
            "network, or fetch the file and pass its path."
        ) from error
    if len(body) > _MOST_BYTES:
        raise DownloadError(
            f"{plain(address)}: the document is larger than {_MOST_BYTES >> 20} MB. Ask for fewer items, or cut it "
            "into several."
        )
    try:
        return json.loads(body)
    except ValueError as error:
        raise FileFormatError(
            f"{plain(address)}: what came is not JSON ({error}). Pass the address of a STAC item, an item collection "
            "or a search; imagery itself is passed as a path, or as an asset of an item."
        ) from error


def remote_identity(address: str) -> list[Any]:
    """Tell a file behind an address from others, and from itself after a change: name, size and entity tag.

    Asks for the first byte alone, which also works where only GET is signed.

    Raises
    ------
    DownloadError
        When the server does not answer, or not with the file.
    """
    try:
        with requests.get(
            address,
            headers={"Range": "bytes=0-0", "Accept-Encoding": "identity"},
            timeout=_TIMEOUT_S,
            stream=True,
        ) as answer:
            answer.raise_for_status()
            headers = answer.headers
    except requests.RequestException as error:
        raise DownloadError(f"{plain(address)} does not answer ({_reason(error)})") from error
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length")
    return [plain(address), size, headers.get("ETag") or headers.get("Last-Modified")]


def _reason(error: Exception) -> str:
    """Kind of failure, without the address that `requests` repeats with its query."""
    answer = getattr(error, "response", None)
    return type(error).__name__ if answer is None else f"HTTP status {answer.status_code}"
