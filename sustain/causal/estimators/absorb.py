"""Fixed effects: taken out of every column before a regression, instead of estimated one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.errors import EffectError
from sustain.stats.covariance import joint_codes

__all__ = ["Absorbed", "is_nested", "params_between", "rank_of"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

TOLERANCE = 1e-13  # of the iterative solver, relative
LITTLE = 1e-6  # share of a column that is left of it, under which the solver goes over what is left once more


class Absorbed:
    """Weighted projections off the dummies of one or more fixed effects.

    One effect is taken out by subtracting means within its levels; several are by least squares on their sparse
    dummies (LSMR, Fong and Saunders 2011), which is what alternating the means converges to. Either is done again on
    what is left (of several effects where that is little), so that of a column that they explain only rounding is left.

    Parameters
    ----------
    effects : sequence of ndarray of int, shape (n,)
        Level of each unit, 0 .. n_levels - 1, for each effect.
    weights : ndarray, shape (n,)
        Positive weights.

    Attributes
    ----------
    effects : tuple of ndarray
    rank : int
        Number of independent dummies, the constant included.
    """

    def __init__(self, effects: Sequence[Codes], weights: Floats) -> None:
        self.effects = tuple(effects)
        self.rank = rank_of(self.effects)
        self._weights = weights
        self._root = np.sqrt(weights)
        if len(self.effects) > 1:
            dummies = _dummies(self.effects, self._root)
            # Columns of norm one: the solver's error then does not depend on how large a level is.
            self._norms = np.sqrt(np.asarray(dummies.multiply(dummies).sum(axis=0)).ravel())
            self._dummies = dummies.multiply(1 / self._norms).tocsr()

    @property
    def described(self) -> str:
        """How many effects and levels, for the name of an estimator."""
        number = len(self.effects)
        levels = f"{self.rank} level{'s' if self.rank > 1 else ''}"
        return f"{number} fixed effect{'s' if number > 1 else ''} absorbed ({levels})"

    def residual(self, values: Floats) -> Floats:
        """Columns of `values`, shape (n,) or (n, k), without what the fixed effects explain."""
        if values.ndim == 2:
            return np.stack([self.residual(column) for column in values.T], axis=1) if values.size else values
        if len(self.effects) == 1:
            code = self.effects[0]
            mass = np.bincount(code, self._weights)
            for _ in range(2):
                values = values - (np.bincount(code, self._weights * values) / mass)[code]
            return values
        # Without its mean, so that the solver's accuracy is relative to how the column varies, whatever its level.
        scaled = self._root * (values - np.average(values, weights=self._weights))
        left, converged = self._left_of(scaled)
        if not converged:
            raise EffectError(
                "fixed_effects: they could not be taken out (no convergence in 10,000 steps): some levels hang "
                "together by few units. Join small levels, or leave an effect out."
            )
        if np.linalg.norm(left) <= LITTLE * np.linalg.norm(scaled):
            left, _ = self._left_of(left)
        return np.asarray(left / self._root)

    def _left_of(self, scaled: Floats) -> tuple[Floats, bool]:
        """Take the dummies out of a column times the root of the weights; and whether the solver converged."""
        from scipy.sparse.linalg import lsmr

        found = lsmr(self._dummies, scaled, atol=TOLERANCE, btol=TOLERANCE, conlim=0, maxiter=10_000)
        return np.asarray(scaled - self._dummies @ found[0]), found[1] != 7


def rank_of(effects: Sequence[Codes]) -> int:
    """Count the independent dummies of these effects, the constant included; 1 for none.

    Exact for one and two effects (levels less connected components); for more, the usual upper bound.
    """
    if not effects:
        return 1
    levels = [int(code.max()) + 1 for code in effects]
    total = levels[0]
    for place in range(1, len(effects)):
        redundant = _components(effects[0], effects[place]) if place == 1 else 1
        total += levels[place] - redundant
    return total


def is_nested(inner: Codes, outer: Codes) -> bool:
    """Whether each level of `inner` lies within one level of `outer`."""
    return int(joint_codes((inner, outer)).max()) == len(np.unique(inner)) - 1


def params_between(n_params: int, effects: Sequence[Codes], clusters: Sequence[Codes]) -> int:
    """Coefficients that a clustered variance counts, of `n_params` with the dummies of `effects` among them.

    Effects within clusters use up nothing between clusters and are not counted, as in fixest and Stata; with clusters
    of two kinds, effects within either.
    """
    across = [code for code in effects if not any(is_nested(code, way) for way in clusters)]
    return n_params - rank_of(effects) + rank_of(across)


def _components(one: Codes, other: Codes) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = int(one.max()) + 1, int(other.max()) + 1
    graph = coo_array((np.ones(len(one)), (one, left + other)), shape=(left + right, left + right))
    return int(connected_components(graph, directed=False, return_labels=False))


def _dummies(effects: Sequence[Codes], root: Floats) -> Any:
    from scipy.sparse import coo_array, hstack

    n = len(root)
    return hstack(
        [coo_array((root, (np.arange(n), code)), shape=(n, int(code.max()) + 1)) for code in effects]
    ).tocsr()
