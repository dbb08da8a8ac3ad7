"""How much estimates of different groups differ beyond their sampling errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["RandomEffects", "random_effects"]


class RandomEffects(NamedTuple):
    """Spread of a quantity between groups.

    Attributes
    ----------
    n : int
        Number of groups.
    mean : float
        Mean over groups, each weighted by its sampling variance and the spread.
    sd : float
        Standard deviation between groups, beyond sampling error.
    q, p_value : float
        Cochran's Q of equal groups, and its p-value by chi-squared with ``n - 1`` degrees of freedom.
    i2 : float
        Share of the spread that is not sampling error, 0..1.
    """

    n: int
    mean: float
    sd: float
    q: float
    p_value: float
    i2: float


def random_effects(estimates: NDArray[np.float64], variances: NDArray[np.float64]) -> RandomEffects:
    """Random-effects mean and spread (DerSimonian and Laird 1986, doi:10.1016/0197-2456(86)90046-2).

    Parameters
    ----------
    estimates, variances : ndarray, shape (n,)
        Two or more estimates and their sampling variances, above zero.
    """
    from scipy.special import chdtrc

    weight = 1 / variances
    centre = float(weight @ estimates / weight.sum())
    q, df = float(weight @ (estimates - centre) ** 2), estimates.size - 1
    between = max(0.0, (q - df) / float(weight.sum() - np.square(weight).sum() / weight.sum()))
    again = 1 / (variances + between)
    return RandomEffects(
        n=estimates.size,
        mean=float(again @ estimates / again.sum()),
        sd=math.sqrt(between),
        q=q,
        p_value=float(chdtrc(df, q)),
        i2=max(0.0, 1 - df / q) if q > 0 else 0.0,
    )
