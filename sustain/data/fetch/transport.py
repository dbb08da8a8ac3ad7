"""Bytes from one place, a file or an http(s) address, from a given position on, with its failures told apart.

`requests` does the talking. What it leaves to its user, and what resuming needs, is here: reading the answer to a range
request (granted, ignored, refused), and sorting what went wrong into "ask again" and "do not".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import requests
import urllib3

__all__ = [
    "Interrupted",
    "Refused",
    "Stream",
    "open_stream",
    "open_url",
    "refuse_html",
    "refuse_other_kind",
    "title_of",
]

CHUNK = 1 << 15  # also what a break can lose
LONGEST_WAIT = 120  # seconds that a server may ask for
SLOWEST = 1000  # bytes a second, over `PATIENCE` times the seconds of silence that are borne
PATIENCE = 3
# What requests lets through, of hostile addresses, headers and encodings.
_ODD = (requests.RequestException, urllib3.exceptions.HTTPError, ValueError)
# Too early, too many, or the server's own trouble: another attempt may succeed.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

_HTML = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head)\b", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class Interrupted(Exception):
    """Nothing came, or not to the end; asking again may help, after `wait` seconds where the server says so."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Refused(Exception):
    """The place will not give the file, however often it is asked."""


@dataclass(frozen=True)
class Stream:
    """An open source of bytes.

    Attributes
    ----------
    start : int
        Position in the file of the first byte to come: the one asked for, or 0 where the place gives no ranges.
    total : int or None
        Size of the whole file, as the place states it.
    html : bool
        The place says that an HTML page is coming.
    chunks : iterator of bytes
    version : str or None
        What the place calls this version of the file (ETag, else Last-Modified); another one is another file.
    """

    start: int
    total: int | None
    html: bool
    chunks: Iterator[bytes]
    version: str | None = None


@contextmanager
def open_stream(place: str | Path, start: int, timeout: float) -> Iterator[Stream]:
    """Open a file or address, from byte `start` on if the place can do that.

    Parameters
    ----------
    place : str or Path
        A `Path` is a file; a string is an http(s) address.
    start : int
        First byte wanted.
    timeout : float
        Seconds without an answer, or without a byte, after which the place counts as silent.

    Raises
    ------
    Interrupted
        When the place cannot be reached, is silent or in passing trouble; also while reading the chunks.
    Refused
        When it answers that it has no such file, or gives none.
    """
    if isinstance(place, Path):
        with _open_file(place, start) as stream:
            yield stream
    else:
        with open_url(place, start, timeout) as stream:
            yield stream


@contextmanager
def _open_file(path: Path, start: int) -> Iterator[Stream]:
    try:
        source = path.open("rb")
    except FileNotFoundError as error:
        raise Refused("there is no such file") from error
    except OSError as error:
        raise Refused(f"it cannot be read ({error.strerror})") from error
    with source:
        source.seek(start)
        state = path.stat()
        chunks = iter(lambda: source.read(CHUNK), b"")
        yield Stream(start, state.st_size, False, chunks, f"modified {state.st_mtime_ns}")


@contextmanager
def open_url(
    url: str, start: int, timeout: float, session: requests.Session | None = None
) -> Iterator[Stream]:
    """Open an http(s) address, as `open_stream` does; cookies go into `session`."""
    # Compressed on the way, sizes and ranges would be those of other bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    get = (session or requests).get
    try:
        response = _within(
            PATIENCE * timeout, lambda: get(url, headers=headers, stream=True, timeout=timeout)
        )
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Interrupted(f"it cannot be reached ({_cause(error)})") from error
    except _ODD as error:
        raise Refused(f"it cannot be asked for ({error})") from error
    with response:
        status = response.status_code
        granted = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        misses = status == 206 and (granted is None or _number(granted[1]) != start)
        if start and (
            status == 416 or misses
        ):  # no such range, or another one than asked for: the whole file then
            with open_url(url, 0, timeout, session) as stream:
                yield stream
            return
        if status in PASSING:
            seconds = min(_number(response.headers.get("Retry-After", "")) or 0, LONGEST_WAIT)
            raise Interrupted(f"the server answers {status} {response.reason}", seconds)
        if status not in {200, 206}:
            raise Refused(f"the server answers {status} {response.reason}")
        encoded = "Content-Encoding" in response.headers
        total = None if encoded else _number(response.headers.get("Content-Length", ""))
        if status == 206 and granted is not None:
            total = _number(granted[2])
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        chunks = _chunks(response, PATIENCE * timeout)
        yield Stream(start if status == 206 else 0, total, kind == "text/html", chunks, version)


def _within(seconds: float, call: Callable[[], requests.Response]) -> requests.Response:
    """Give what `call` gives; a server that drips its headers byte by byte is never silent, but is not waited for."""
    outcome: list[requests.Response | BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # handed to the caller
            outcome.append(error)

    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise Interrupted(f"no whole answer within {seconds:g} seconds")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _chunks(response: requests.Response, window: float) -> Iterator[bytes]:
    """Content as it comes; `Refused` where less than `SLOWEST` bytes a second come over a window of so many seconds."""
    since, came = time.monotonic(), 0
    try:
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            yield chunk
            came += len(chunk)
            passed = time.monotonic() - since
            if passed > window:
                if came < SLOWEST * passed:
                    raise Refused(f"it gives {came / passed:.0f} bytes a second, fewer than {SLOWEST:,}")
                since, came = time.monotonic(), 0
    except urllib3.exceptions.DecodeError as error:
        raise Refused(f"what it sends is not encoded as it says ({error})") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Interrupted(f"the connection broke off ({_cause(error)})") from error


def _number(text: str) -> int | None:
    """Read a number in a header; None where it is none, or longer than any size of a file."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else None


def _cause(error: BaseException) -> str:
    """Give the innermost reason; the outer ones repeat addresses and class names."""
    while True:
        inner = error.__cause__ or error.__context__ or next(iter(getattr(error, "args", ())), None)
        reason = getattr(inner, "reason", inner)
        if not isinstance(reason, BaseException):
            return str(error).rpartition(": ")[2] or type(error).__name__
        error = reason


def refuse_html(chunk: bytes, announced: bool, path: str) -> None:
    """Raise `Refused` where a web page came (a login, a quota notice, an error) instead of data.

    Parameters
    ----------
    chunk : bytes
        The first bytes that came.
    announced : bool
        The place called them HTML.
    path : str
        Name of the file wanted; HTML is fine where it ends in .html.
    """
    if path.lower().endswith((".html", ".htm")) or not (announced or _HTML.match(chunk)):
        return
    title = title_of(chunk)
    raise Refused("an HTML page came instead of data" + (f' ("{title}")' if title else ""))


def title_of(page: bytes) -> str:
    """Return the title of an HTML page on one line, shortened; empty where it has none."""
    title = _TITLE.search(page)
    return " ".join(title[1].decode(errors="replace").split())[:80] if title else ""


_BEGINNINGS = {
    ".zip": (b"PK\x03\x04", b"PK\x05\x06"),
    ".gz": (b"\x1f\x8b",),
    ".tgz": (b"\x1f\x8b",),
    ".hdf5": (b"\x89HDF",),
}


def refuse_other_kind(chunk: bytes, path: str) -> None:
    """Raise `Refused` where the first bytes are not those of the kind of file that the name promises."""
    begins = _BEGINNINGS.get(Path(path).suffix.lower(), (b"",))
    if not chunk.startswith(begins):
        raise Refused(f"it is no {Path(path).suffix} file: it begins with {chunk[:8]!r}")
