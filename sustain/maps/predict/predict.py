"""A wealth map from imagery: the model's prediction for the tile around every cell.

Blocks are predicted here or on a cluster, kept as files when they are finished, and put together when all are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window
from tqdm import tqdm

import sustain
from sustain.config import MapParams
from sustain.errors import DataWarning, RasterError
from sustain.files import require_free_space
from sustain.maps.geotiff import (
    COVERAGE,
    PREDICTIVE_SD,
    WEALTH_RAW,
    target_of,
)
from sustain.maps.grid import Block, Grid
from sustain.maps.imagery.bands import ModelNumbers
from sustain.maps.imagery.lattice import warn_of_ground
from sustain.maps.imagery.mosaic import Mosaic
from sustain.maps.imagery.open import open_imagery
from sustain.maps.imagery.scene import Scene
from sustain.maps.imagery.stac_scene import StacImagery
from sustain.maps.predict.dense import require_dense
from sustain.maps.predict.exact import BlockWork, Predictor
from sustain.maps.predict.finished_blocks import BlockStore
from sustain.maps.predict.workers import Finished, predict_here, predict_on_cluster
from sustain.maps.writing import create_geotiff, whole_raster

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["block_store", "predict_map"]


def predict_map(
    scene: str | Path | Sequence[str | Path],
    predictor: Predictor,
    out: str | Path,
    *,
    params: MapParams,
    work: str | Path | None = None,
    client: Client | None = None,
) -> Path:
    """Predict every cell of a scene and write the raw map.

    Parameters
    ----------
    scene : str or Path, or a sequence of them
        Imagery; see `sustain.maps.imagery.scene.Scene` for what is asked of it. Several scenes are read as one
        (`sustain.maps.imagery.mosaic.Mosaic`); they lie on one pixel grid, or are brought onto one (`params.crs`).
        Or STAC items: JSON files or addresses (`sustain.maps.imagery.stac_scene.StacImagery`).
    predictor : Predictor
        The model that also made the calibration predictions.
    out : str or Path
        GeoTIFF to write: float32 bands ``wealth_raw`` (in the target's unit) and ``coverage`` (share of the tile's
        pixels that have a value in every band, 0 to 1), in the scene's coordinate system. ``wealth_raw`` is NaN
        where coverage is 0 or below `params.min_coverage`: no imagery, no prediction. A model of mean and variance
        adds ``predictive_sd``, the standard deviation of the truth around its own prediction, in the target's unit;
        the correction does not use it.
    params : MapParams
        Spacing of the cells, size of a block, batch size, least coverage; coordinate system and resampling, where
        imagery is to be reprojected; and the mode. ``exact`` predicts each tile
        alone. ``dense`` passes over a block once (`sustain.maps.predict.dense`) and is for models that predict the
        same numbers in this way; 256 cells are predicted in both ways and compared.
    work : str or Path, optional
        Folder for finished blocks, by default a hidden one beside `out`. A run that was killed goes on from them and
        ends with the same bytes; they are removed when the map is whole. One run at a time may use it.
    client : distributed.Client, optional
        Predict the blocks on the workers of this Dask cluster instead of here. The scene's path must be readable
        there; the model is sent once to each worker. A worker that dies costs its blocks only.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    RasterError, FileFormatError
        When the scene does not fit the model, is smaller than a tile or cannot be read; when `out` is one of its files;
        when another run is making this map.
    DownloadError
        When an asset of a STAC item does not answer. Finished blocks are kept.
    ConfigError
        When `params` asks for dense mode and the model or the spacing does not allow it.
    ModelError
        When the model returns something else than one finite number a tile, or a dense map differs from the tiles'
        predictions.
    DiskSpaceError
        When there is no room for the map.

    Warns
    -----
    DataWarning
        When pixels cover another area of ground than their size says, as far from a projection's middle; when values
        cannot be written in the model's numbers; when no cell of the map has a value.

    Notes
    -----
    Memory: two blocks of imagery, one batch of tiles and one row of blocks of the map, whatever the scene's size.
    """
    out = Path(out)
    with open_imagery(scene, predictor, params) as source:
        try:
            grid = Grid(source.geobox, predictor.tile_px, params.spacing_px)
        except RasterError as error:
            raise RasterError(f"{source.path}: {error}") from error
        if params.mode == "dense":
            require_dense(predictor, grid)
        _refuse_to_overwrite(out, source)
        warn_of_ground(str(source.path), source.geobox)
        require_free_space(
            out.parent, 4 * 4 * grid.rows * grid.cols, f"the map of {grid.rows} x {grid.cols} cells"
        )
        work = out.with_name(f".blocks-{out.stem}") if work is None else Path(work)
        store = block_store(work, predictor, source, grid, params)
        work_on = BlockWork(predictor, grid, params)
        with store.only_run(out):
            # To a cluster items go along; of rasters the paths, which the workers open.
            sent = source if isinstance(source, StacImagery) else scene
            _predict_missing(
                store,
                work_on,
                f"map {out.name}",
                lambda blocks: (
                    predict_here(source, work_on, blocks)
                    if client is None
                    else predict_on_cluster(sent, work_on, blocks, client)
                ),
            )
            _write_map(out, work_on, store)
            store.clear()
    return out


def block_store(
    folder: Path, predictor: Predictor, source: Scene | Mosaic, grid: Grid, params: MapParams
) -> BlockStore:
    """Where finished blocks of a map are kept, under a fingerprint of all that they depend on."""
    return BlockStore(
        folder,
        {
            # What a predictor's name does not tell: its scaling, the year that it is to see.
            "model": [predictor.id, getattr(predictor, "fingerprint", None)],
            "numbers": asdict(ModelNumbers.of(predictor)),
            "imagery": source.identity(),
            "crs": str(grid.scene.crs),
            "scene": [*grid.scene.shape, *tuple(grid.scene.affine)[:6]],
            "tile_px": grid.tile_px,
            "params": params.model_dump(),
            "version": sustain.__version__,
        },
    )


def _predict_missing(
    store: BlockStore, work: BlockWork, what: str, predict: Callable[[list[Block]], Finished]
) -> None:
    """Predict the blocks that are not finished yet, and keep each while the next one is predicted."""
    grid = work.grid
    with tqdm(total=grid.rows * grid.cols, desc=what, unit="cell", disable=None) as progress:
        missing = []
        for block in grid.blocks(work.params.block_cells):
            if store.load(block) is None:
                missing.append(block)
            else:
                progress.update(block.cells.height * block.cells.width)
        with ThreadPoolExecutor(1, thread_name_prefix="write-block") as writer:
            written: Future[None] | None = None
            for block, values in predict(missing):
                if written is not None:
                    written.result()  # raises what the thread raised; and no more than one waits
                written = writer.submit(store.save, block, values)
                progress.update(block.cells.height * block.cells.width)
            if written is not None:
                written.result()


def _refuse_to_overwrite(out: Path, source: Scene | Mosaic) -> None:
    if out.is_dir():
        raise RasterError(f"{out}: is a folder. Name the file to write.")
    if out.exists() and any(out.samefile(file) for file in source.files if Path(file).exists()):
        raise RasterError(f"{out}: is one of the scene's own files. Write the map to another path.")


def _write_map(out: Path, work: BlockWork, store: BlockStore) -> None:
    predictor, grid, params = work.predictor, work.grid, work.params
    name, unit = target_of(predictor.target)
    bands, units = [WEALTH_RAW, COVERAGE], [unit, "1"]
    if work.has_sd:
        bands, units = [*bands, PREDICTIVE_SD], [*units, unit]
    with (
        whole_raster(out) as partial,
        create_geotiff(
            partial,
            like=grid.geobox,
            bands=bands,
            units=units,
            tags={
                "SUSTAIN_PREDICTOR": predictor.id,
                "SUSTAIN_SPACING_PX": str(params.spacing_px),
                "SUSTAIN_TARGET": name,
                "SUSTAIN_TILE_PX": str(predictor.tile_px),
            },
            # One strip a row of blocks: written once, whole, from north to south.
            blockysize=min(params.block_cells, grid.rows),
        ) as target,
    ):
        any_value = False
        for blocks in grid.block_rows(params.block_cells):
            strip = np.empty((len(bands), blocks[0].cells.height, grid.cols), dtype=np.float32)
            for block in blocks:
                values, span = store.load(block), block.cells
                if values is None:
                    raise RasterError(
                        f"{out}: the finished block at cell row {span.row}, column {span.col} is gone or damaged. Run "
                        "again; only that block will be predicted anew. Is something else cleaning the folder?"
                    )
                strip[:, :, span.col : span.col + span.width] = values
            any_value = any_value or bool(np.isfinite(strip[0]).any())
            target.write(strip, window=Window(0, blocks[0].cells.row, grid.cols, strip.shape[1]))
    if not any_value:
        warnings.warn(
            f"{out}: no cell has a value, because no tile has imagery in every band for at least "
            f"{params.min_coverage:g} of its pixels (min_coverage). Look at what each band of the scene lacks.",
            DataWarning,
            stacklevel=3,
        )
