"""A server on this machine that answers as the test tells it: with ranges, breaks, pages, silence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

DATA = np.random.default_rng(5).bytes(300_000)


class Handler(BaseHTTPRequestHandler):
    """Answers each path by the function that the test has put there."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        wanted = self.headers.get("Range", "bytes=0-")
        self.start_at = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.close_connection = True
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.reply(404, b"", length=0)
        else:
            answer(self)

    def reply(self, status: int, body: bytes, *, length: int | None, **headers: str) -> None:
        self.send_response(status)
        # Said, or a client may take up the connection again just as it is closed.
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Callable[[Handler], None]] = {}
        self.asked: list[tuple[str, str | None]] = []

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *_: Any) -> None:
        """A client that goes away in mid-answer is part of the tests."""

    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.asked]


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def ranged(handler: Handler, data: bytes = DATA, limit: int | None = None) -> None:
    """Serve the range asked for; with `limit`, break off after so many bytes."""
    start = handler.start_at
    rest = data[start:]
    status = 206 if start else 200
    headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    handler.reply(status, rest[:limit], length=len(rest), **headers)


def rangeless(handler: Handler, data: bytes = DATA) -> None:
    handler.reply(200, data, length=len(data))


def html(kind: str) -> Callable[[Handler], None]:
    page = b"<!DOCTYPE html>\n<html><head><title>Quota\n exceeded</title></head></html>"
    return lambda handler: handler.reply(200, page, length=len(page), Content_Type=kind)
