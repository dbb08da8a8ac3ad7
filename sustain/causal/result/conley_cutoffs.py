"""Conley's standard error by cutoff: how much rests on how far neighbours are taken to matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimate import Estimate
from sustain.causal.vcov.conley import conley_covariance
from sustain.errors import EffectError
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["conley_profile"]


def conley_profile(
    main: Estimate,
    influence: NDArray[np.float64],
    n_params: int,
    places: NDArray[np.float64],
    cutoffs_km: Sequence[float],
    level: float,
) -> pd.DataFrame:
    """Compute standard errors and intervals of an effect under several cutoffs, the calibration's part included.

    A standard error that still grows at the largest cutoff says that units depend on each other over longer
    distances: cluster by region, or go on. One that falls at large cutoffs is an artefact of averaging over much of
    the sample, and no evidence that dependence ends.

    Parameters
    ----------
    main : Estimate
    influence : ndarray, shape (n,)
        Each unit's share in the trial's error of the estimate.
    n_params : int
        Estimated coefficients.
    places : ndarray, shape (n, 2)
        Latitude and longitude of the units, in degrees.
    cutoffs_km : sequence of float
    level : float
        Of the intervals.

    Returns
    -------
    DataFrame
        ``cutoff_km``, ``std_error``, ``conf_low``, ``conf_high``; NaN where a variance is not positive.

    Raises
    ------
    EffectError
        When a unit has no place.
    """
    import pandas as pd

    if np.isnan(places).any():
        raise EffectError(f"lat, lon: {int(np.isnan(places).any(axis=1).sum())} of the units have no place.")
    beside = main.variance - main.variance_trial + main.variance_own
    size = float(np.square(influence).sum())
    critical = critical_value(level, math.inf, EffectError)
    rows = []
    for cutoff in cutoffs_km:
        trial = conley_covariance(influence, places[:, 0], places[:, 1], cutoff, n_params=n_params).item()
        # Where all units are neighbours, influences that sum to zero leave rounding.
        error = math.sqrt(trial + beside) if trial > 1e-12 * size else math.nan
        half = critical * error
        rows.append((float(cutoff), error, main.estimate - half, main.estimate + half))
    return pd.DataFrame(rows, columns=["cutoff_km", "std_error", "conf_low", "conf_high"])
