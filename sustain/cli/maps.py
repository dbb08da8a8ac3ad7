"""``sustain map``, ``areas`` and ``serve``: predict, means of areas, look at a map."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def map_(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENE...",
            help="Imagery: GeoTIFFs or VRTs with named bands; or STAC items or item collections, as JSON files or "
            "addresses.",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Raw map to write.")],
    model: Annotated[Path, typer.Option(help="Folder of a trained model.")],
    spacing_px: Annotated[
        int, typer.Option(min=1, help="Distance between cells, in pixels of the imagery.")
    ] = 32,
    block_cells: Annotated[int, typer.Option(min=1, help="Cells along one side of a work block.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles on the device at once.")] = 256,
    mode: Annotated[
        Literal["exact", "dense"],
        typer.Option(
            help="exact: each tile alone; dense: one pass a block, for resnet_valid, faster where the spacing is well "
            "below the tile's side."
        ),
    ] = "exact",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes of a local Dask cluster; 0: this process.")
    ] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler.")] = None,
    crs: Annotated[
        str | None,
        typer.Option(
            help="Reproject imagery to this coordinate system, in metres, at the model's pixel size; auto: one that "
            "fits it. Without it, rasters must fit as they are."
        ),
    ] = None,
    resampling: Annotated[
        Literal["nearest", "bilinear", "cubic", "average"],
        typer.Option(help="How pixels are brought onto that grid; missing ones always by the nearest."),
    ] = "bilinear",
    band: Annotated[
        list[str] | None,
        typer.Option(metavar="BAND=NAME", help="What STAC items call a band of the model; may be repeated."),
    ] = None,
    year: Annotated[
        float | None,
        typer.Option(help="Year of the imagery, for models that look at it (2015.5: its middle)."),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for finished blocks, which a killed run goes on from.")
    ] = None,
) -> None:
    """Predict every cell of a scene; a killed run goes on where it stopped."""
    from sustain.config import MapParams
    from sustain.maps.predict import predict_map
    from sustain.models import load_model

    params = MapParams(
        spacing_px=spacing_px,
        block_cells=block_cells,
        batch_size=batch_size,
        mode=mode,
        crs=crs,
        resampling=resampling,
        stac_bands=_band_names(band or []),
    )
    with ExitStack() as stack:
        client = _client(stack, workers, scheduler)
        scene = scenes[0] if len(scenes) == 1 else scenes
        predictor: Any = load_model(model)
        if year is not None:
            predictor = predictor.for_year(year)
        predict_map(scene, predictor, out, params=params, work=work, client=client)
    typer.echo(f"{out}: written")


def _band_names(pairs: list[str]) -> dict[str, str]:
    from sustain.errors import ConfigError

    names = {}
    for pair in pairs:
        band, equals, name = pair.partition("=")
        if not (band and equals and name):
            raise ConfigError(f"--band: expected BAND=NAME, such as NIR=nir08; got {pair!r}.")
        names[band] = name
    return names


def _client(stack: ExitStack, workers: int, scheduler: str | None) -> Any:
    """Connect to a running cluster, or start a local one; None for neither."""
    from sustain.errors import ClusterError, ConfigError

    if scheduler is not None and workers:
        raise ConfigError("--scheduler and --workers: pass one of them.")
    if scheduler is None and not workers:
        return None
    import distributed as dask_distributed

    distributed: Any = dask_distributed  # its classes have no types
    if scheduler is not None:
        try:
            return stack.enter_context(distributed.Client(scheduler, timeout="20s"))
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"--scheduler: no Dask scheduler answers at {scheduler} ({error}). Start one (dask scheduler) and "
                "workers that see the same files."
            ) from error
    cluster = stack.enter_context(_local_cluster(distributed, workers))
    return stack.enter_context(distributed.Client(cluster))


@contextmanager
def _local_cluster(distributed: Any, workers: int) -> Iterator[Any]:
    """Start a cluster on this machine; when it ends, a worker that is slow to go is ended without a word of it."""
    cluster = distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    try:
        yield cluster
    finally:
        nanny = logging.getLogger("distributed.nanny")
        level = nanny.level
        nanny.setLevel(logging.ERROR)
        try:
            cluster.close()
        finally:
            nanny.setLevel(level)


def areas(
    map_path: Annotated[
        Path, typer.Argument(metavar="MAP", help="A published folder, or a corrected raster (with --card).")
    ],
    polygons: Annotated[
        Path,
        typer.Argument(
            metavar="AREAS",
            help="Vector file of areas, such as districts: GeoPackage, GeoJSON, Shapefile, GeoParquet.",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Table to write: .csv, .tsv, .parquet or .xlsx.")],
    key: Annotated[str, typer.Option(help="Column of the areas' names, each there once.")],
    card: Annotated[
        Path | None, typer.Option(help="Calibration card; by default that of the published folder.")
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(
            help="Raster of people per cell, to weigh cells by; on other cells than the map's, people are shared out "
            "by area. Without it cells weigh the ground that they cover."
        ),
    ] = None,
    people_per_km2: Annotated[
        bool,
        typer.Option(help="--people holds densities, in people per square kilometre, rather than counts."),
    ] = False,
    layer: Annotated[
        str | None, typer.Option(help="Layer of AREAS; needed where the file has several.")
    ] = None,
) -> None:
    """Write the mean wealth of areas, with intervals that carry the uncertainty of the calibration."""
    from sustain.errors import ConfigError
    from sustain.maps.read.areas import COLUMNS, areas_table
    from sustain.tables import require_writable, write_table

    raster = map_path / "wealth.tif" if map_path.is_dir() else map_path
    card = card or (map_path / "card.json" if map_path.is_dir() else None)
    if card is None:
        raise ConfigError("--card: name the card that corrected the map, or give a published folder as MAP.")
    require_writable(out)
    if people_per_km2 and people is None:
        raise ConfigError("--people-per-km2 says what --people holds: give that raster too.")
    table = areas_table(raster, polygons, key, card, people, layer=layer, weights_per_km2=people_per_km2)
    write_table(out, table, rounded=COLUMNS)
    typer.echo(f"{out}: {len(table)} areas, {int(table['wealth'].notna().sum())} with imagery")


def serve(
    map_path: Annotated[Path, typer.Argument(metavar="MAP", help="A published folder, or a raster.")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback let others in.")
    ] = "127.0.0.1",
) -> None:
    """Show a map in the browser: layers on one scale, values at a click, the mean of a region."""
    import socket

    import uvicorn

    from sustain.errors import ConfigError
    from sustain.viewer import MapLayers, make_app

    loopback = host in ("127.0.0.1", "localhost", "::1")
    layers = MapLayers(map_path)
    hosts = ("127.0.0.1", "localhost", "[::1]") if loopback else ("*",)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # so that a browser that is quicker than the server waits
        except OSError as error:
            raise ConfigError(
                f"--port: cannot listen on {host}:{port} ({error.strerror}). Choose another port."
            ) from error
        address = f"http://{host}:{listener.getsockname()[1]}"
        typer.echo(f"{layers.path} at {address} (stop with Ctrl-C)")
        if not loopback:
            typer.echo("Everybody who reaches this address sees the map.", err=True)
        uvicorn.Server(uvicorn.Config(make_app(layers, hosts), log_level="warning")).run(sockets=[listener])
