"""STAC items of small scenes on disk, and a server of files that can be told to fail."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from tests.maps.fakes import BANDS, OFFSET, SCALE

EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
]


def write_asset(path, pixels, *, crs="EPSG:3857", transform=None, nodata=0):
    """A plain GeoTIFF: no names, no scale; what an item says of it is all there is."""
    with rasterio.open(
        path, "w", driver="GTiff", dtype=pixels.dtype, count=len(pixels), height=pixels.shape[1], width=pixels.shape[2],
        crs=crs, nodata=nodata, transform=transform or from_origin(-3000, 2400, 30, 30), tiled=True, blockxsize=32,
        blockysize=32, compress="deflate",
    ) as raster:  # fmt: skip
        raster.write(pixels)
    return path


def asset(path, raster_bands, *, names=None, **fields):
    with rasterio.open(path) as raster:
        fields |= {"proj:shape": list(raster.shape), "proj:transform": list(raster.transform)[:6]}
    if names is not None:
        fields["eo:bands"] = [{"name": name} for name in names]
    href = f"./{Path(path).name}"
    return {"href": href, "type": "image/tiff", "roles": ["data"], "raster:bands": raster_bands} | fields


def numbers(scale=SCALE, offset=OFFSET, nodata=0):
    return [{"scale": s, "offset": o, "nodata": nodata} for s, o in zip(scale, offset, strict=True)]


def item(name, assets, *, crs="EPSG:3857", **properties):
    code = {"proj:epsg": int(crs.removeprefix("EPSG:"))}
    return {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": EXTENSIONS, "id": name, "geometry": None,
        "properties": {"datetime": "2020-01-01T00:00:00Z"} | code | properties, "links": [], "assets": assets,
    }  # fmt: skip


def collection(path, items, **fields):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items} | fields))
    return path


def piece_item(folder, name, pixels, row=0, col=0, height=75, width=101, *, edit=lambda cut: cut):
    """An item of a part of the scene, an asset a band, keyed by the band's name."""
    cut = edit(pixels[:, row : row + height, col : col + width].copy())
    transform = from_origin(-3000 + 30 * col, 2400 - 30 * row, 30, 30)
    assets = {}
    for i, band in enumerate(BANDS):
        path = write_asset(folder / f"{name}-{band}.tif", cut[i : i + 1], transform=transform)
        assets[band] = asset(path, numbers()[i : i + 1])
    return item(name, assets)


class Files(BaseHTTPRequestHandler):
    """Serves a folder, with ranges and entity tags; `server.fails` may answer otherwise, or it breaks off."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        status = self.server.fails(self.path, asked)
        path = self.server.folder / self.path.partition("?")[0].lstrip("/")
        if status or not path.is_file():
            self._send(status or 404, b"", body)
            return
        data = path.read_bytes()
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", asked or ""):
            start, stop = int(match[1]), min(int(match[2] or len(data)), len(data) - 1) + 1
            about = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
            self._send(206, data[start:stop], body, ETag=str(path.stat().st_mtime_ns), **about)
        else:
            self._send(200, data, body, ETag=str(path.stat().st_mtime_ns))

    def _send(self, status, data, body, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(data), "Accept-Ranges": "bytes"} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(data[: len(data) // 2] if self.server.breaks_off else data)
            self.close_connection = self.server.breaks_off

    def log_message(self, *_):
        """Keep quiet."""


class FileServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Files)
        self.folder = folder
        self.asked = []
        self.fails = lambda path, asked: None
        self.breaks_off = False

    def address(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, *_):
        """A client that goes away in mid-answer is part of the tests."""


def silence(path, asked):
    """Never answer in time."""
    time.sleep(30)
    return 503


@contextmanager
def serving(folder):
    server = FileServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def half_numbers(pixels):
    """The scene's values in other numbers: float reflectances and kelvins, NaN where missing."""
    values = pixels * np.array(SCALE)[:, None, None] + np.array(OFFSET)[:, None, None]
    return np.where(pixels == 0, np.nan, values).astype(np.float32)
