"""Files on Google Drive, by plain https.

Drive answers a request for a large file with a page that asks for a confirmation, and one for a file that many have
fetched with a page that speaks of a quota; both come with status 200. The first is followed, the second is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import requests

from sustain.data.fetch.transport import Refused, Stream, open_url, title_of

__all__ = ["DriveFile", "open_drive"]

DOWNLOAD = "https://drive.usercontent.google.com/download"
_MAX_PAGE = 1 << 20
_HOSTS = ("google.com", "googleusercontent.com")


@dataclass(frozen=True)
class DriveFile:
    """A file on Google Drive.

    Attributes
    ----------
    id : str
        The long name in its address.
    """

    id: str

    def __str__(self) -> str:
        return f"https://drive.google.com/file/d/{self.id}/view"


@contextmanager
def open_drive(file: DriveFile, start: int, timeout: float) -> Iterator[Stream]:
    """Open a file on Drive, from byte `start` on if Drive can do that.

    Parameters
    ----------
    file : DriveFile
    start : int
        First byte wanted.
    timeout : float
        Seconds without an answer, or without a byte, after which Drive counts as silent.

    Raises
    ------
    Interrupted
        When Drive cannot be reached, is silent or in passing trouble; also while reading the chunks.
    Refused
        When the quota is used up, the file is not public or gone, or something else than the file comes.
    """
    address = f"{DOWNLOAD}?{urlencode({'id': file.id, 'export': 'download', 'confirm': 't'})}"
    with requests.Session() as session:
        for _ in range(2):
            with open_url(address, start, timeout, session) as stream:
                if not stream.html:
                    yield stream
                    return
                page = _beginning(stream)
            following = _confirmation(page, address, file.id)
            if following is None:
                raise Refused(_reason(page))
            address = following
    raise Refused("Google Drive asks for a confirmation again and again")


def _beginning(stream: Stream) -> bytes:
    page = b""
    for chunk in stream.chunks:
        page += chunk
        if len(page) > _MAX_PAGE:
            break
    return page


def _reason(page: bytes) -> str:
    text, title = page.decode(errors="replace").casefold(), title_of(page)
    said = f' ("{title}")' if title else ""
    if "quota" in text or "too many users" in text:
        return (
            f"Google Drive's quota for this file is used up{said}: too many fetched it lately. Try again after a day, "
            "or get it in a browser while signed in"
        )
    if "sign in" in text or "request access" in text or "you need access" in text:
        return f"the file on Google Drive is not public{said}"
    return f"Google Drive sent an HTML page instead of data{said}"


class _Form(HTMLParser):
    """Finds where a page of Drive leads on: its download form, or (older) a link that confirms."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.link: str | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and given.get("id") in {"download-form", "downloadForm"}:
            self.action, self._inside = given.get("action"), True
        elif tag == "input" and self._inside and "name" in given:
            self.fields[given["name"]] = given.get("value", "")
        elif tag == "a" and "confirm=" in given.get("href", "") and "export=download" in given["href"]:
            self.link = given["href"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


def _confirmation(page: bytes, asked: str, file_id: str) -> str | None:
    """Return the address that a page of confirmation leads to, on Google's hosts and for the same file only."""
    form = _Form()
    form.feed(page.decode(errors="replace"))
    if form.action:
        bare, _, query = form.action.partition("?")
        following = f"{bare}?{urlencode(dict(parse_qsl(query)) | form.fields)}"
    elif form.link:
        following = form.link
    else:
        return None
    address = urljoin(asked, following)
    parts, before = urlsplit(address), urlsplit(asked)
    host = parts.hostname or ""
    known = any(host == name or host.endswith(f".{name}") for name in _HOSTS)
    if parts.netloc != before.netloc and not (known and parts.scheme == "https"):
        raise Refused(f"a page instead of the file leads to {host}, which is not Google's")
    if dict(parse_qsl(parts.query)).get("id") != file_id:
        raise Refused("a page instead of the file leads to another file")
    return address
