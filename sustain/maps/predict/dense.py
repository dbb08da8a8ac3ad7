"""Dense predictions of a block: one pass over its window, for networks whose cells see nothing beyond their tile.

Neighbouring tiles share most of their pixels, and exact mode passes over a pixel once for every tile that holds it. A
network that pads nothing and averages its feature cells predicts a tile from the mean of the cells inside the tile. For
such a network one pass over the window is enough: the means are then taken over boxes of its feature cells. To be sure,
some cells of every map are predicted in exact mode too and compared.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from sustain.errors import ConfigError
from sustain.maps.grid import Grid, Span

__all__ = ["N_CHECKED", "DensePredictor", "checked_cells", "dense_predictions", "require_dense"]

N_CHECKED = 256
"""Cells of a map that are predicted in both modes."""


class DensePredictor(Protocol):
    """What dense mode asks of a model; `sustain.models.predictor.TilePredictor` has it."""

    @property
    def id(self) -> str:
        """Name and hash of the weights."""

    @property
    def receptive_field(self) -> int | None:
        """Side of what a feature cell sees, in pixels; None where only whole tiles can be predicted."""

    @property
    def stride(self) -> int | None:
        """Distance of feature cells, in pixels; None where only whole tiles can be predicted."""

    def predict_cells(self, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
        """Put a window of shape (bands, height, width) through the network; shape (fields, h, w)."""

    def combine_cells(self, means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Turn means of the fields into predictions and, where the model has them, standard deviations."""


def require_dense(predictor: object, grid: Grid) -> None:
    """Refuse a model or a grid whose dense map cannot equal the predictions of the tiles.

    Raises
    ------
    ConfigError
        When the model sees whole tiles only, or when cells of the map do not fall on its feature cells.
    """
    name = getattr(predictor, "id", type(predictor).__name__)
    stride = getattr(predictor, "stride", None)
    if getattr(predictor, "receptive_field", None) is None or stride is None:
        raise ConfigError(
            f"mode is dense, but {name} predicts whole tiles only: it pads, shows tiles in several views or counts "
            "their moments, so a dense map would differ from what was calibrated. Use mode exact, or train "
            "resnet_valid with views 1 and no moments."
        )
    if grid.spacing_px % stride:
        raise ConfigError(
            f"mode is dense and spacing_px is {grid.spacing_px}, but the feature cells of {name} are {stride} pixels "
            f"apart: the spacing must be a multiple of {stride}. Change it, or use mode exact."
        )


def dense_predictions(
    predictor: DensePredictor, pixels: npt.NDArray[np.uint16], tile_px: int, spacing_px: int
) -> npt.NDArray[np.float32]:
    """Predict the tile of every cell of a window by one pass over it.

    Parameters
    ----------
    predictor : DensePredictor
        A model and a spacing that `require_dense` lets pass.
    pixels : ndarray of uint16, shape (bands, height, width)
        A block's window.

    Returns
    -------
    ndarray of float32, shape (1 or 2, rows, cols)
        Prediction and, where the model gives one, standard deviation.
    """
    stride, field = predictor.stride or 1, predictor.receptive_field or 1
    fields = predictor.predict_cells(pixels)
    side, step = (tile_px - field) // stride + 1, spacing_px // stride
    # Not by a summed-area table: its differences lose digits that the comparison with exact mode is about.
    windows = np.lib.stride_tricks.sliding_window_view(fields, (side, side), axis=(1, 2))[:, ::step, ::step]
    return predictor.combine_cells(windows.mean(axis=(3, 4))).astype(np.float32)


def checked_cells(grid: Grid, block: Span) -> npt.NDArray[np.bool_]:
    """Tell which cells of a block are predicted in exact mode too: `N_CHECKED` of the whole map, always the same.

    Returns
    -------
    ndarray of bool, shape (block.height, block.width)
    """
    n = grid.rows * grid.cols
    drawn = np.random.default_rng(0).choice(n, size=min(N_CHECKED, n), replace=False)
    rows, cols = np.divmod(drawn, grid.cols)
    rows, cols = rows - block.row, cols - block.col
    inside = (rows >= 0) & (rows < block.height) & (cols >= 0) & (cols < block.width)
    found = np.zeros(block.shape, dtype=np.bool_)
    found[rows[inside], cols[inside]] = True
    return found
