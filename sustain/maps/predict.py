"""A wealth map from imagery: the model's prediction for the tile around every cell.

This is the *exact* mode. Each block of imagery is read once and its overlapping tiles are cut as a strided view, so
that every cell is what the model predicts for that tile alone, as at the survey sites the calibration was learned
from. A fully convolutional pass over the scene would be faster, but an ordinary padded network gives other numbers
there, after calibration has measured its errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window
from tqdm import tqdm

import sustain
from sustain.config import MapParams
from sustain.errors import ModelError, RasterError
from sustain.files import atomic_path, require_free_space
from sustain.maps.geotiff import COVERAGE, WEALTH_RAW, create_geotiff, target_of, write_failures
from sustain.maps.grid import Block, Grid
from sustain.maps.scene import Imagery, Scene

__all__ = ["Predictor", "cut_tiles", "predict_map", "tile_coverage"]


class Predictor(Imagery, Protocol):
    """A model of tiles; `sustain.models.predictor.TilePredictor` is one."""

    @property
    def id(self) -> str:
        """Name and hash of the weights."""

    @property
    def tile_px(self) -> int:
        """Side of a tile, in pixels."""

    @property
    def target(self) -> Any:
        """Name and unit of what is predicted."""

    def predict(self, tiles: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
        """Predict tiles of shape (n, bands, tile_px, tile_px); returns shape (n,)."""


def predict_map(scene: str | Path, predictor: Predictor, out: str | Path, *, params: MapParams) -> Path:
    """Predict every cell of a scene and write the raw map.

    Parameters
    ----------
    scene : str or Path
        Imagery; see `sustain.maps.scene.Scene` for what is asked of it.
    predictor : Predictor
        The model that also made the calibration predictions.
    out : str or Path
        GeoTIFF to write: float32 bands ``wealth_raw`` (in the target's unit) and ``coverage`` (share of the tile's
        pixels that have a value in every band, 0 to 1), in the scene's coordinate system. ``wealth_raw`` is NaN
        where coverage is 0 or below `params.min_coverage`: no imagery, no prediction.
    params : MapParams
        Spacing of the cells, size of a block, batch size, least coverage.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    RasterError, FileFormatError
        When the scene does not fit the model, is smaller than a tile or cannot be read.
    ModelError
        When the model returns something else than one finite number a tile.
    DiskSpaceError
        When there is no room for the map.

    Notes
    -----
    Memory: one block of imagery, one batch of tiles and one row of blocks of the map, whatever the scene's size.
    """
    out = Path(out)
    with Scene(scene, predictor) as source:
        try:
            grid = Grid(source.height, source.width, predictor.tile_px, params.spacing_px, source.transform)
        except RasterError as error:
            raise RasterError(f"{source.path}: {error}") from error
        require_free_space(
            out.parent, 2 * 4 * grid.rows * grid.cols, f"the map of {grid.rows} x {grid.cols} cells"
        )
        name, unit = target_of(predictor.target)
        with (
            atomic_path(out) as partial,
            write_failures(out),
            create_geotiff(
                partial,
                shape=grid.shape,
                transform=grid.transform,
                crs=source.crs,
                bands=(WEALTH_RAW, COVERAGE),
                units=(unit, "1"),
                tags={
                    "SUSTAIN_PREDICTOR": predictor.id,
                    "SUSTAIN_SPACING_PX": str(params.spacing_px),
                    "SUSTAIN_TARGET": name,
                    "SUSTAIN_TILE_PX": str(predictor.tile_px),
                    "SUSTAIN_VERSION": sustain.__version__,
                },
                # One strip a row of blocks: written once, whole, from north to south.
                blockysize=min(params.block_cells, grid.rows),
            ) as target,
            tqdm(total=grid.rows * grid.cols, desc=f"map {out.name}", unit="cell", disable=None) as progress,
        ):
            for blocks in grid.block_rows(params.block_cells):
                strip = np.empty((2, blocks[0].cells.height, grid.cols), dtype=np.float32)
                for block in blocks:
                    span = block.cells
                    strip[:, :, span.col : span.col + span.width] = _predict_block(
                        source, predictor, grid, block, params
                    )
                    progress.update(span.height * span.width)
                target.write(strip, window=Window(0, blocks[0].cells.row, grid.cols, strip.shape[1]))
    return out


def cut_tiles(pixels: npt.NDArray[Any], tile_px: int, spacing_px: int) -> npt.NDArray[Any]:
    """Overlapping tiles of a window, as a view: no pixel is copied.

    Parameters
    ----------
    pixels : ndarray, shape (bands, height, width)
        A block's window.

    Returns
    -------
    ndarray, shape (rows, cols, bands, tile_px, tile_px)
    """
    view = np.lib.stride_tricks.sliding_window_view(pixels, (tile_px, tile_px), axis=(1, 2))
    return np.moveaxis(view[:, ::spacing_px, ::spacing_px], 0, 2)


def tile_coverage(valid: npt.NDArray[np.bool_], tile_px: int, spacing_px: int) -> npt.NDArray[np.float32]:
    """Share of valid pixels in each tile of a window.

    Parameters
    ----------
    valid : ndarray of bool, shape (height, width)

    Returns
    -------
    ndarray of float32, shape (rows, cols)
        From 0 to 1.
    """
    # Summed-area table (Crow 1984): each tile's count is four look-ups, however much tiles overlap.
    table = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), dtype=np.int64)
    table[1:, 1:] = valid.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    upper, lower = table[:-tile_px:spacing_px], table[tile_px::spacing_px]
    left, right = slice(None, -tile_px, spacing_px), slice(tile_px, None, spacing_px)
    count = lower[:, right] - lower[:, left] - upper[:, right] + upper[:, left]
    return (count / tile_px**2).astype(np.float32)


def _predict_block(
    scene: Scene, predictor: Predictor, grid: Grid, block: Block, params: MapParams
) -> npt.NDArray[np.float32]:
    pixels = scene.read(block.window)
    coverage = tile_coverage((pixels != predictor.nodata).all(axis=0), grid.tile_px, grid.spacing_px)
    tiles = cut_tiles(pixels, grid.tile_px, grid.spacing_px)
    wealth = np.full(coverage.shape, np.nan, dtype=np.float32)
    rows, cols = np.nonzero((coverage > 0) & (coverage >= params.min_coverage))
    for start in range(0, rows.size, params.batch_size):
        batch = rows[start : start + params.batch_size], cols[start : start + params.batch_size]
        # Stacked tile by tile, which copies rows of pixels; indexing with arrays would copy pixel by pixel.
        stacked = np.stack([tiles[row, col] for row, col in zip(*batch, strict=True)])
        predicted = np.asarray(predictor.predict(stacked))
        if predicted.shape != batch[0].shape or not np.isfinite(predicted).all():
            raise ModelError(
                f"{predictor.id}: expected {batch[0].size} finite predictions for the block at cell row "
                f"{block.cells.row}, column {block.cells.col} of {scene.path}; got shape {predicted.shape} with "
                f"{int((~np.isfinite(predicted)).sum())} not finite. Check the model's weights and statistics."
            )
        wealth[batch] = predicted
    return np.stack([wealth, coverage])
