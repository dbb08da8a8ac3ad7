"""The viewer's pages and answers. Only the named routes exist, so no path of the machine can be asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sustain.errors import DataError
from sustain.viewer.layers import MapLayers

__all__ = ["make_app"]

_STATIC = Path(__file__).resolve().parent / "static"
# The page may load nothing from anywhere else, and run no script but its own.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)

Answer = TypeVar("Answer")
# Beyond 180 degrees the page goes on counting, once around the world and more.
Longitude = Annotated[float, Field(ge=-1080, le=1080)]
Latitude = Annotated[float, Field(ge=-90, le=90)]


class Region(BaseModel):
    """Corners of a polygon, (lon, lat) in degrees."""

    corners: list[tuple[Longitude, Latitude]] = Field(min_length=3, max_length=1000)


def make_app(layers: MapLayers, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> FastAPI:
    """Make the web application of one map.

    Parameters
    ----------
    layers : MapLayers
    hosts : tuple of str
        Host names that may be asked for; a page elsewhere cannot reach the viewer under a name of its own.
    """
    app = FastAPI(title="sustain", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.middleware("http")
    async def policy(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/map.json")
    def describe() -> dict[str, Any]:
        return layers.describe()

    @app.get("/tiles/{name}/{z}/{x}/{y}.png")
    def tile(name: str, z: int, x: int, y: int) -> Response:
        if not (0 <= z <= 24 and 0 <= x < 2**z and 0 <= y < 2**z):
            raise HTTPException(404, "no such tile")
        content = _or_bad_request(lambda: layers.tile(name, z, x, y))
        return Response(content, media_type="image/png") if content else Response(status_code=204)

    @app.get("/at")
    def at(
        lon: Annotated[float, Field(ge=-180, le=180)], lat: Annotated[float, Field(ge=-90, le=90)]
    ) -> dict[str, Any]:
        return _or_bad_request(lambda: layers.at(lon, lat))

    @app.post("/region")
    def region(region: Region) -> dict[str, float | None]:
        return _or_bad_request(lambda: layers.region(region.corners))

    app.mount("/", StaticFiles(directory=_STATIC, html=True))
    return app


def _or_bad_request(call: Callable[[], Answer]) -> Answer:
    try:
        return call()
    except DataError as error:
        raise HTTPException(400, str(error)) from error
