"""Exact predictions of a block: each cell is what the model predicts for its tile alone.

A block of imagery is read once and its overlapping tiles are cut as a strided view, so that every cell is treated as
the survey sites were that the calibration was learned from. A fully convolutional pass over the scene would be faster,
but an ordinary padded network gives other numbers there, after calibration has measured its errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sustain.config import MapParams
from sustain.errors import ModelError
from sustain.maps.grid import Block, Grid
from sustain.maps.scene import Imagery

__all__ = ["BlockWork", "Predictor", "cut_tiles", "tile_coverage"]


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


@dataclass(frozen=True)
class BlockWork:
    """What it takes to predict any block of a map, beside its pixels."""

    predictor: Predictor
    grid: Grid
    params: MapParams

    def predict(self, block: Block, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
        """Predict the cells of a block.

        Parameters
        ----------
        block : Block
        pixels : ndarray of uint16, shape (bands, height, width)
            Imagery of the block's window.

        Returns
        -------
        ndarray of float32, shape (2, rows, cols)
            Prediction (NaN where there is too little imagery) and coverage.

        Raises
        ------
        ModelError
            When the model returns something else than one finite number a tile.
        """
        predictor, grid, params = self.predictor, self.grid, self.params
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
                    f"{block.cells.row}, column {block.cells.col}; got shape {predicted.shape} with "
                    f"{int((~np.isfinite(predicted)).sum())} not finite. Check the model's weights and statistics."
                )
            wealth[batch] = predicted
        return np.stack([wealth, coverage])


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
