"""Variance of a mean over an area when the errors of its cells are alike the more the nearer they lie.

And when those of a whole country are alike, however far apart its cells lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sustain.debias import CalibrationCard

__all__ = ["AreaErrors", "BlockSums"]

Floats = npt.NDArray[np.float64]

MOST_BLOCKS = 256  # of one area; pairs of blocks are what the variance costs
_NEAR = 4.0  # sides of a block; pairs of blocks that lie farther apart are as alike as their centres
_FINEST = 48


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
        n = self._sums[:, -3]
        side = self.side * cell
        near = (distance < _NEAR * side) & ~np.eye(len(n), dtype=np.bool_) if self.side > 1 else None
        return [
            float(q @ _mean_correlations(rho, distance, near, n, side, cell) @ q)
            for q, rho in zip(self._sums[:, :-3].T, correlations, strict=True)
        ]


def _mean_correlations(
    rho: Callable[[Floats], Floats],
    distance: Floats,
    near: npt.NDArray[np.bool_] | None,
    n: Floats,
    side: float,
    cell: float,
) -> Floats:
    """Mean correlation of the pairs of cells of two blocks; near ones are more alike than at their mean distance."""
    found = np.asarray(rho(distance))
    if near is None:
        return found
    # The difference of two cells' centres varies by (side**2 - cell**2) / 6 along each axis: Gauss-Hermite, 3 nodes.
    nodes = np.array([-1.0, 0.0, 1.0]) * np.sqrt(3 * (side**2 - cell**2) / 6)
    weights = np.array([1.0, 4.0, 1.0]) / 6
    far = distance[near]
    found[near] = sum(
        w * v * np.asarray(rho(np.hypot(far + x, y)))
        for x, w in zip(nodes, weights, strict=True)
        for y, v in zip(nodes, weights, strict=True)
    )
    # Within a block, a cell meets itself once in n times.
    roots = np.ceil(np.sqrt(n)).astype(np.int64)
    others = {root: _between_cells(rho, int(root), cell) for root in np.unique(roots)}
    itself = float(np.asarray(rho(np.zeros(1)))[0])
    np.fill_diagonal(found, itself / n + (1 - 1 / n) * np.array([others[root] for root in roots]))
    return found


def _between_cells(rho: Callable[[Floats], Floats], side: int, cell: float) -> float:
    """Mean correlation of two different cells of a square of cells; of a large one, as of `_FINEST` cells a side."""
    k = min(side, _FINEST)
    if k < 2:
        return 0.0
    step = np.arange(k)
    ways = (k - step) * np.where(step > 0, 2.0, 1.0)  # pairs that lie so many rows, or columns, apart
    pairs = np.outer(ways, ways)
    pairs[0, 0] = 0.0
    correlation = np.asarray(rho(cell * side / k * np.hypot(step[:, None], step)))
    return float((pairs * correlation).sum() / pairs.sum())


class AreaErrors:
    """Variance that a card gives the errors of an area's two means: the corrected one, and the one to expect.

    Parameters
    ----------
    card : CalibrationCard

    Attributes
    ----------
    df : int or None
        Degrees of freedom of the spread of countries; None where the card does not know it.
    """

    def __init__(self, card: CalibrationCard) -> None:
        spatial, unexplained = card.spatial_errors, card.truth_on_prediction.residual_sd**2
        self._all = np.array([1.0, max(0.0, unexplained - card.target_noise_var)])
        self._correlograms = (
            () if spatial is None else (spatial.prediction_given_truth, spatial.truth_given_prediction)
        )
        countries = [item.countries for item in self._correlograms if item.countries is not None]
        self.df = min((found.df for found in countries), default=None)
        self._within, self._between = self._all, np.full(2, np.nan)
        if countries:
            # The noise of a cell is known, whatever its size; of it a country has the share that it has in the sample.
            unit = np.array([max(card.residual_sd, 1e-300) ** 2, 1.0])
            self._within = np.array([found.within_sd**2 for found in countries]) / unit
            self._between = np.array([found.sd**2 for found in countries]) / unit

    def variances(
        self, blocks: BlockSums, own: Floats, distances: Callable[[], tuple[Floats, float]]
    ) -> tuple[Floats, Floats]:
        """Variances of two sums over the cells of an area: by errors of cells, and by the error of its country.

        Parameters
        ----------
        blocks : BlockSums
            Sums of weight times noise, and of weight.
        own : ndarray, shape (2,)
            Sums of the squares of both, cell by cell.
        distances : callable
            Gives the distances between blocks and the width of a cell; called only where they are needed.

        Returns
        -------
        tuple of ndarray, each of shape (2,)
            The second is NaN where the card does not know the spread of countries. Without correlograms all cells
            are taken to err together.
        """
        together = blocks.totals() ** 2
        if not self._correlograms:
            return together * self._all, together * self._between
        alike = blocks.quadratic_forms(*distances(), self._correlograms)
        alone = [(1 - found.shared) * part for found, part in zip(self._correlograms, own, strict=True)]
        return np.add(alike, alone) * self._within, together * self._between
