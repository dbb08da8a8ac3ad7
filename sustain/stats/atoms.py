"""Values that many rows have exactly: zeros of those who own nothing, caps of a scale, answers heaped on one number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["atoms"]

SHARE = 0.05
"""Of the weight: a value that has more of it than this may be an atom."""

AHEAD = 3.0
"""Times the share of any of the two values on either side: less is rounding, which all values have alike."""

FEW = 5
"""Rows that an atom has at least."""

COARSE = 10
"""Distinct values under which a column is a scale of grades, all of whose values many rows have."""


def atoms(
    values: NDArray[np.float64], weight: NDArray[np.float64] | None = None
) -> list[tuple[float, float]]:
    """Find values that far more rows have exactly than have the values beside them.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Finite.
    weight : ndarray, shape (n,), optional
        Non-negative; one each by default.

    Returns
    -------
    list of (value, share)
        Ascending by value; `share` of the weight, 0..1. Empty for a column without atoms, one that is rounded and one
        of few grades.
    """
    value, code, count = np.unique(values, return_inverse=True, return_counts=True)
    if value.size < COARSE:
        return []
    weight = np.ones(values.size) if weight is None else weight
    share = np.bincount(code.ravel(), weight) / weight.sum()
    padded = np.pad(share, 2)
    beside = np.max([padded[0:-4], padded[1:-3], padded[3:-1], padded[4:]], axis=0)
    found = (share > SHARE) & (share > AHEAD * beside) & (count >= FEW)
    return [(float(v), float(s)) for v, s in zip(value[found], share[found], strict=True)]
