"""Exact predictions of a block: each cell is what the model predicts for its tile alone.

A block of imagery is read once and its overlapping tiles are cut as a strided view. So every cell is predicted in the
same way as the survey sites of the calibration sample. A fully convolutional pass over the scene would be faster, but
an ordinary padded network would then predict other numbers than those whose errors the calibration measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sustain.config import MapParams
from sustain.errors import ModelError
from sustain.maps.grid import Block, Grid
from sustain.maps.imagery.scene import Imagery
from sustain.maps.predict.dense import checked_cells, dense_predictions

__all__ = ["BlockWork", "Predictor", "cut_tiles", "tile_coverage"]


class Predictor(Imagery, Protocol):
    """A model of tiles; `sustain.models.predictor.TilePredictor` is one.

    A model that says ``has_sd`` has ``predict_with_sd`` too, which gives predictions and their standard deviations.
    """

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

    @property
    def has_sd(self) -> bool:
        """Whether the model gives a predictive standard deviation."""
        return bool(getattr(self.predictor, "has_sd", False))

    def predict(self, block: Block, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
        """Predict the cells of a block.

        Parameters
        ----------
        block : Block
        pixels : ndarray of uint16, shape (bands, height, width)
            Imagery of the block's window.

        Returns
        -------
        ndarray of float32, shape (2 or 3, rows, cols)
            Prediction (NaN where there is too little imagery), coverage, and the predictive standard deviation where
            the model gives one.

        Raises
        ------
        ModelError
            When the model returns something else than one finite number a tile, or when a checked cell of a dense map
            differs from its tile's prediction by more than ``dense_tolerance``.
        """
        grid, params = self.grid, self.params
        coverage = tile_coverage((pixels != self.predictor.nodata).all(axis=0), grid.tile_px, grid.spacing_px)
        wanted = (coverage > 0) & (coverage >= params.min_coverage)
        predict = self._exact if params.mode == "exact" else self._dense
        values = predict(block, pixels, wanted)
        return np.stack([values[0], coverage, *values[1:]])

    def _dense(
        self, block: Block, pixels: npt.NDArray[np.uint16], wanted: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Predict in one pass, and compare the map's checked cells with their tiles' predictions."""
        if not wanted.any():
            return np.full((1 + self.has_sd, *wanted.shape), np.nan, dtype=np.float32)
        grid, tolerance = self.grid, self.params.dense_tolerance
        # A predictor that can: `require_dense` was asked before the first block.
        predictor: Any = self.predictor
        dense = dense_predictions(predictor, pixels, grid.tile_px, grid.spacing_px)
        checked = wanted & checked_cells(grid, block.cells)
        if checked.any():
            differences = np.abs(dense - self._exact(block, pixels, checked))[:, checked]
            for what, apart in zip(("predictions", "standard deviations"), differences, strict=False):
                if not apart.max() <= tolerance:
                    raise ModelError(
                        f"{predictor.id}: dense mode differs from the tiles' own {what} by up to {apart.max():.3g}, "
                        f"more than dense_tolerance {tolerance:g}, at {int((~(apart <= tolerance)).sum())} of "
                        f"{apart.size} checked cells. Its map would have other errors than were calibrated; use mode "
                        "exact."
                    )
        return np.where(wanted, dense, np.float32(np.nan))

    def _exact(
        self, block: Block, pixels: npt.NDArray[np.uint16], wanted: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Predict each wanted cell's tile alone; bands prediction and, where there is one, standard deviation."""
        predictor, grid, params = self.predictor, self.grid, self.params
        tiles = cut_tiles(pixels, grid.tile_px, grid.spacing_px)
        values = np.full((1 + self.has_sd, *wanted.shape), np.nan, dtype=np.float32)
        rows, cols = np.nonzero(wanted)
        for start in range(0, rows.size, params.batch_size):
            batch = rows[start : start + params.batch_size], cols[start : start + params.batch_size]
            # Stacked tile by tile, which copies rows of pixels; indexing with arrays would copy pixel by pixel.
            stacked = np.stack([tiles[row, col] for row, col in zip(*batch, strict=True)])
            predicted = self._predict_tiles(stacked)
            if predicted.shape != (len(values), batch[0].size) or not np.isfinite(predicted).all():
                raise ModelError(
                    f"{predictor.id}: expected {batch[0].size} finite predictions for the block at cell row "
                    f"{block.cells.row}, column {block.cells.col}; got shape {predicted.shape[1:]} with "
                    f"{int((~np.isfinite(predicted)).sum())} not finite. Check the model's weights and statistics."
                )
            values[:, batch[0], batch[1]] = predicted
        return values

    def _predict_tiles(self, tiles: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
        if not self.has_sd:
            return np.asarray(self.predictor.predict(tiles))[None]
        predictor: Any = self.predictor
        return np.stack(predictor.predict_with_sd(tiles))


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
