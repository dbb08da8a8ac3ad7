"""Cross-fitted corrections: every place corrected by a calibration that never saw it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.debias.base import Calibration
from sustain.debias.judge.agreement import agreement
from sustain.debias.sample import read
from sustain.errors import CalibrationError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cross_fit", "cross_fit_models", "model_table"]

Array = NDArray[np.float64]


def cross_fit(
    calibration: Calibration,
    y_pred: Any,
    y_true: Any,
    folds: Any,
    *,
    sample_weight: Any = None,
    strata: Any = None,
    target_noise_var: float = 0.0,
) -> Array:
    """Correct every fold by a calibration fitted on all others.

    Parameters
    ----------
    calibration : Calibration
        Its parameters are used; it is left as it is.
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels.
    folds : array_like, shape (n,)
        Fold of each row: spatial blocks, or countries. Random folds leak between neighbours.
    sample_weight, strata : array_like, shape (n,), optional
        As for ``fit``; with strata every row is corrected by its own stratum's correction.
    target_noise_var : float
        Variance of the labels' sampling error.

    Returns
    -------
    ndarray, shape (n,)
        Corrected predictions.

    Raises
    ------
    CalibrationError
        When there are fewer than two folds, or what is left without a fold cannot carry a calibration.
    """
    x = read.vector("y_pred", y_pred)
    y = read.vector("y_true", y_true, x.size)
    fold, names = read.labels("folds", folds, x.size)
    beside = {"y_true": y_true, "folds": folds, "sample_weight": sample_weight, "strata": strata}
    for name, values in beside.items():
        read.require_same_index(name, values, "y_pred", y_pred)
    if len(names) < 2:
        raise CalibrationError(f"folds: all rows are in fold {names[0]!r}. Pass at least two folds.")
    corrected = np.empty(x.size)
    for number in range(len(names)):
        inside = fold == number
        rest = ~inside
        fitted = type(calibration)(**calibration.get_params()).fit(
            x[rest],
            y[rest],
            sample_weight=None if sample_weight is None else np.asarray(sample_weight)[rest],
            strata=None if strata is None else np.asarray(strata)[rest],
            target_noise_var=target_noise_var,
        )
        # A fold that holds the extremes lies outside the others' support by construction.
        corrected[inside] = fitted.transform(
            x[inside], None if strata is None else np.asarray(strata)[inside], check_support=False
        )
    return corrected


def cross_fit_models(
    predictions: Mapping[str, Any], y_true: Any, folds: Any, calibrations: Mapping[str, Calibration]
) -> dict[tuple[str, str], Array]:
    """Cross-fit several corrections of several models.

    Parameters
    ----------
    predictions : mapping of str to array_like, shape (n,)
        Out-of-sample predictions by model.
    y_true, folds : array_like, shape (n,)
        As for `cross_fit`.
    calibrations : mapping of str to Calibration
        Corrections by name.

    Returns
    -------
    dict of (model, method) to ndarray, shape (n,)
        For each model the predictions as they are (method ``"none"``), then the corrections.
    """
    estimates = {}
    with tqdm(
        total=len(predictions) * len(calibrations), desc="cross-fit", unit="model", disable=None
    ) as bar:
        for model, values in predictions.items():
            estimates[model, "none"] = read.vector(model, values)
            for method, calibration in calibrations.items():
                estimates[model, method] = cross_fit(calibration, values, y_true, folds)
                bar.update()
    return estimates


def model_table(estimates: Mapping[tuple[str, str], Array], y_true: Any) -> pd.DataFrame:
    """Compare models and corrections with the truth.

    Parameters
    ----------
    estimates : mapping of (model, method) to array_like, shape (n,)
        As from `cross_fit_models`; every model needs its method ``"none"``.
    y_true : array_like, shape (n,)
        Labels.

    Returns
    -------
    DataFrame
        One row a model and method: ``model``, the columns of `sustain.debias.judge.agreement.agreement`, and
        ``max_change``, the largest correction of a place.
    """
    import pandas as pd

    tables = []
    for (model, method), values in estimates.items():
        table = agreement(y_true, {method: values})
        table["max_change"] = float(np.abs(values - estimates[model, "none"]).max())
        table.insert(0, "model", model)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
