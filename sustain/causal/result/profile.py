"""Conley's standard error by cutoff: how much rests on how far neighbours are taken to matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sustain.causal.vcov.conley import conley_covariance, read_degrees
from sustain.errors import EffectError
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd

    from sustain.causal.result.result import EffectResult

__all__ = ["conley_profile"]


def conley_profile(
    result: EffectResult, data: pd.DataFrame, lat: str, lon: str, cutoffs_km: Sequence[float]
) -> pd.DataFrame:
    """Compute standard errors and intervals of an effect under several cutoffs, the calibration's part included.

    A standard error that still grows at the largest cutoff says that units depend on each other over longer
    distances: cluster by region, or go on. One that falls at large cutoffs is an artefact of averaging over much of
    the sample, and no evidence that dependence ends.

    Parameters
    ----------
    result : EffectResult
    data : DataFrame
        The data that the result was estimated from.
    lat, lon : str
        Columns, in degrees.
    cutoffs_km : sequence of float

    Returns
    -------
    DataFrame
        ``cutoff_km``, ``std_error``, ``conf_low``, ``conf_high``; NaN where a variance is not positive.

    Raises
    ------
    EffectError
        When `data` is not the data of the result, or coordinates are missing.
    """
    import pandas as pd

    if not len(result.rows) or result.rows.max() >= len(data):
        raise EffectError("data: not the rows that this result was estimated from. Pass the same table.")
    for name in (lat, lon):
        if name not in data.columns:
            raise EffectError(f"no column {name!r} in data; it has {', '.join(map(str, data.columns))}.")
    places = np.column_stack([read_degrees(data[name], name) for name in (lat, lon)])[result.rows]
    if np.isnan(places).any():
        raise EffectError(f"lat, lon: {int(np.isnan(places).any(axis=1).sum())} of the units have no place.")
    main = result.main
    beside = main.variance - main.variance_trial
    size = float(np.square(result.influence).sum())
    rows = []
    for cutoff in cutoffs_km:
        trial = float(
            conley_covariance(result.influence, places[:, 0], places[:, 1], cutoff, n_params=result.n_params)[
                0, 0
            ]
        )
        # Where all units are neighbours, influences that sum to zero leave rounding.
        error = math.sqrt(trial + beside) if trial > 1e-12 * size else math.nan
        half = critical_value(result.level, math.inf) * error
        rows.append((float(cutoff), error, main.estimate - half, main.estimate + half))
    return pd.DataFrame(rows, columns=["cutoff_km", "std_error", "conf_low", "conf_high"])
