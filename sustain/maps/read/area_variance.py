"""Variance of a mean over an area when the errors of its cells are alike the more the nearer they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["BlockSums"]

Floats = npt.NDArray[np.float64]

MOST_BLOCKS = 256  # of one area; pairs of blocks are what the variance costs
_IN_A_SQUARE = 0.5214  # mean distance of two places in a square of side one


class BlockSums:
    """Sums over the cells of an area, kept for square blocks that grow with the area.

    Blocks begin as single cells. Whenever there are more than 256 their sides double, so that an area of any size
    costs a bounded number of pairs, and a small one is exact.

    Parameters
    ----------
    n_sums : int
        Number of columns that are summed.
    """

    def __init__(self, n_sums: int) -> None:
        self.side = 1
        self._place = np.empty((0, 2), dtype=np.int64)
        self._sums = np.empty((0, n_sums + 3))  # and cells, columns and rows, for the blocks' centres

    def add(self, row: npt.NDArray[np.int64], col: npt.NDArray[np.int64], values: Floats) -> None:
        """Add cells; `values` has shape (n, n_sums)."""
        cells = np.column_stack([values, np.ones(row.size), col + 0.5, row + 0.5])
        self._merge(np.column_stack([row, col]) // self.side, cells)
        while len(self._place) > MOST_BLOCKS:
            self.side *= 2
            place, sums = self._place // 2, self._sums
            self._place, self._sums = self._place[:0], sums[:0]
            self._merge(place, sums)

    def _merge(self, place: npt.NDArray[np.int64], sums: Floats) -> None:
        self._place, which = np.unique(np.concatenate([self._place, place]), axis=0, return_inverse=True)
        both = np.concatenate([self._sums, sums])
        self._sums = np.stack(
            [np.bincount(which.ravel(), column, minlength=len(self._place)) for column in both.T], axis=1
        )

    def totals(self) -> Floats:
        """Give the sums over all cells, shape (n_sums,)."""
        return np.asarray(self._sums[:, :-3].sum(axis=0))

    def centres(self) -> tuple[Floats, Floats]:
        """Give the mean column and row of each block's cells, in cells from the raster's upper left corner."""
        n = self._sums[:, -3]
        return self._sums[:, -2] / n, self._sums[:, -1] / n

    def quadratic_forms(
        self, distance: Floats, cell: float, correlations: Sequence[Callable[[Floats], Floats]]
    ) -> list[float]:
        """``sum_ij q_i q_j rho(d_ij)`` over all pairs of cells, for each summed column q and its correlation.

        Parameters
        ----------
        distance : ndarray, shape (blocks, blocks)
            Between the centres of the blocks.
        cell : float
            Width of a cell, in the unit of `distance`.
        correlations : sequence of callable
            One a column: correlation of two cells at a distance.
        """
        within = distance.copy()
        # Two cells of one block are, on average, as far apart as two places in a square of its size.
        width = cell * np.sqrt(self._sums[:, -3])
        np.fill_diagonal(within, np.where(self._sums[:, -3] > 1, _IN_A_SQUARE * width, 0.0))
        return [float(q @ rho(within) @ q) for q, rho in zip(self._sums[:, :-3].T, correlations, strict=True)]
