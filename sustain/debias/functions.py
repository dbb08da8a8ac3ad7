"""Function forms: correct predictions in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sustain.debias.base import Calibration
from sustain.debias.card.card import CalibrationCard
from sustain.debias.linear import LinearCalibration
from sustain.debias.tweedie.calibration import TweedieCalibration
from sustain.errors import CalibrationError

__all__ = ["linear_correct", "tweedie_correct"]


def linear_correct(y_pred: Any, calibration: Any) -> Any:
    """Correct predictions linearly: ``(y_pred - a) / b``.

    Parameters and errors are those of `tweedie_correct`, with `LinearCalibration` in the place of
    `TweedieCalibration`.
    """
    return _correct(y_pred, calibration, LinearCalibration)


def tweedie_correct(y_pred: Any, calibration: Any) -> Any:
    """Correct predictions by Tweedie's formula: ``m(y_pred) - sigma^2 score(m(y_pred))``.

    Parameters
    ----------
    y_pred : number, ndarray, pandas.Series, dask array or xarray.DataArray
        Predictions; the same kind comes out.
    calibration : TweedieCalibration, CalibrationCard, path or tuple
        A fitted calibration; a card or the path of one; or ``(y_pred_cal, y_true_cal)``, calibration rows on which a
        `TweedieCalibration` with its defaults is fitted.

    Raises
    ------
    CalibrationError
        When `calibration` is something else, or is not fitted.
    CardError
        When a card cannot be read or has no Tweedie correction.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> predicted = rng.normal(size=2000)
    >>> truth = predicted + rng.normal(scale=0.75, size=2000)
    >>> corrected = tweedie_correct(predicted, (predicted, truth))
    >>> float(np.round(np.polyfit(truth, corrected, 1)[0], 1))
    1.0
    """
    return _correct(y_pred, calibration, TweedieCalibration)


def _correct(y_pred: Any, calibration: Any, kind: type[Calibration]) -> Any:
    if isinstance(calibration, str | Path):
        calibration = CalibrationCard.load(calibration)
    if isinstance(calibration, CalibrationCard):
        return calibration.transform(y_pred, method=kind.method)
    if isinstance(calibration, kind):
        return calibration.transform(y_pred)
    if isinstance(calibration, tuple) and len(calibration) == 2:
        return kind().fit(*calibration).transform(y_pred)
    raise CalibrationError(
        f"calibration: got {type(calibration).__name__}. Pass a fitted {kind.__name__}, a calibration card or its "
        "path, or the pair (y_pred_cal, y_true_cal)."
    )
