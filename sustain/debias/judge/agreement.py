"""How estimates of wealth agree with a survey: place by place, by tenth, and by area.

An estimate can be best for one purpose and worst for another. Correcting a map makes its errors larger place by place,
because noise is stretched with the signal, and smaller on average among the places of a given wealth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import read
from sustain.errors import CalibrationError, DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["agreement", "agreement_by_level", "area_means", "bias_by_tenth"]

Array = NDArray[np.float64]


def agreement(y_true: Any, estimates: Mapping[str, Any]) -> pd.DataFrame:
    """Compare estimates with the truth.

    Parameters
    ----------
    y_true : array_like, shape (n,)
        Truth, at least three values that are not all the same.
    estimates : mapping of str to array_like, shape (n,)
        Estimates of the same places by name.

    Returns
    -------
    DataFrame
        One row an estimate: ``method``; ``n``; ``sd_true``, standard deviation of the truth (divided by n);
        ``bias``, mean error; ``mae``; ``rmse``; ``r2``, share of variance explained (negative when worse than the
        mean); ``pearson_r2``, squared correlation; ``slope`` and ``intercept`` of estimate on truth.

    Raises
    ------
    CalibrationError
        When columns differ in length or (among pandas objects) index, or hold missing values.
    DataError
        When the truth does not vary.
    """
    import pandas as pd

    truth = read.vector("y_true", y_true)
    if truth.size < 3 or not np.ptp(truth) > 0:
        raise DataError(f"y_true: {truth.size} value(s) without variation; there is nothing to compare with.")
    variance = truth.var()
    rows = []
    for name, values in estimates.items():
        read.require_same_index(name, values, "y_true", y_true)
        estimate = read.vector(name, values, truth.size, like="y_true")
        error = estimate - truth
        covariance = float(np.mean((estimate - estimate.mean()) * (truth - truth.mean())))
        slope = covariance / variance
        rows.append(
            {
                "method": name,
                "n": truth.size,
                "sd_true": np.sqrt(variance),
                "bias": error.mean(),
                "mae": np.abs(error).mean(),
                "rmse": np.sqrt(np.mean(error**2)),
                "r2": 1 - np.mean(error**2) / variance,
                "pearson_r2": slope * covariance / estimate.var() if np.ptp(estimate) > 0 else 0.0,
                "slope": slope,
                "intercept": estimate.mean() - slope * truth.mean(),
            }
        )
    return pd.DataFrame(rows)


def agreement_by_level(
    y_true: Any, estimates: Mapping[str, Any], areas: Any, min_places: int = 5
) -> pd.DataFrame:
    """Compare estimates with the truth at places and at means of areas.

    The slope is not the same at both: what makes one area richer than another is easier to see from above than what
    makes one of its places richer than the next.

    Parameters
    ----------
    y_true, estimates
        As for `agreement`.
    areas : array_like, shape (n,)
        Area of each place.
    min_places : int
        Areas with fewer places are left out.

    Returns
    -------
    DataFrame
        `agreement` with a first column ``level``: ``"place"`` or ``"area"``.
    """
    import pandas as pd

    if "y_true" in estimates:
        raise CalibrationError("estimates: 'y_true' is the truth's own name. Give the estimate another.")
    means = area_means(areas, {"y_true": y_true, **estimates}, min_places)
    tables = {
        "place": agreement(y_true, estimates),
        "area": agreement(means["y_true"], {name: means[name] for name in estimates}),
    }
    return pd.concat(tables, names=["level"]).reset_index("level").reset_index(drop=True)


def bias_by_tenth(y_true: Any, estimates: Mapping[str, Any], by: Any = None) -> pd.DataFrame:
    """Mean error of estimates in each tenth of the places.

    Parameters
    ----------
    y_true : array_like, shape (n,)
        Truth, at least ten values.
    estimates : mapping of str to array_like, shape (n,)
        Estimates by name.
    by : array_like, shape (n,), optional
        What the tenths are made of; the truth by default. Tenths of a noisy truth hold places that were
        measured too low or too high by chance; tenths of the prediction do not.

    Returns
    -------
    DataFrame
        One row a method and tenth: ``method``, ``tenth`` (1 to 10), ``n``, ``mean_true``, ``mean_estimate``, ``bias``
        and ``std_error`` of the bias (places taken as independent).

    Raises
    ------
    CalibrationError
        When columns differ in length or (among pandas objects) index, or hold missing values.
    DataError
        When there are fewer than twenty places.
    """
    import pandas as pd

    truth = read.vector("y_true", y_true)
    if truth.size < 20:
        raise DataError(f"y_true: {truth.size} places are too few for tenths; at least 20 are needed.")
    read.require_same_index("by", by, "y_true", y_true)
    key = truth if by is None else read.vector("by", by, truth.size, like="y_true")
    rank = np.argsort(np.argsort(key, kind="stable"), kind="stable")
    tenth = rank * 10 // truth.size + 1
    tables = []
    for name, values in estimates.items():
        read.require_same_index(name, values, "y_true", y_true)
        estimate = read.vector(name, values, truth.size, like="y_true")
        places = pd.DataFrame(
            {"tenth": tenth, "truth": truth, "estimate": estimate, "error": estimate - truth}
        )
        table = places.groupby("tenth", as_index=False).agg(
            n=("truth", "size"),
            mean_true=("truth", "mean"),
            mean_estimate=("estimate", "mean"),
            bias=("error", "mean"),
            std_error=("error", "sem"),
        )
        table.insert(0, "method", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def area_means(areas: Any, columns: Mapping[str, Any], min_places: int = 1) -> pd.DataFrame:
    """Means of columns by area, for areas with enough places.

    Parameters
    ----------
    areas : array_like, shape (n,)
        Area of each place.
    columns : mapping of str to array_like, shape (n,)
        Truth and estimates by name.
    min_places : int
        Areas with fewer places are left out: their mean is mostly the survey's own error.

    Returns
    -------
    DataFrame
        One row an area, sorted: ``area`` (the label as text), ``n_places`` and the mean of each column.

    Raises
    ------
    CalibrationError
        When columns differ in length or (among pandas objects) index, or hold missing values; so do areas.
    """
    import pandas as pd

    code, names = read.labels("areas", areas)
    table = pd.DataFrame()
    for name, values in columns.items():
        read.require_same_index(name, values, "areas", areas)
        table[name] = read.vector(name, values, code.size, like="areas")
    grouped = table.groupby(code)
    means = grouped.mean()
    means.insert(0, "n_places", grouped.size())
    means.insert(0, "area", list(names))
    return means[means["n_places"] >= min_places].reset_index(drop=True)
