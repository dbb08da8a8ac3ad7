"""Label noise: the labels' own sampling error, a few households to a label.

Its variance, ``target_noise_var``, is checked here, kept with the calibration sample and the card, and taken off
wherever labels are a regressor: in the line of prediction on truth (`sustain.stats.line.fit_line`), in slopes within
groups (`sustain.debias.contrasts.slopes`), in the tests of assumptions (`sustain.debias.diagnosis.noisy_truth`), and in
the response curve (`sustain.debias.response.noisy_labels`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.errors import CalibrationError
from sustain.stats.columns import ColumnReader

__all__ = ["noise_of_rows", "noise_variance"]

Array = NDArray[np.float64]


def noise_variance(target_noise_var: Any) -> float:
    """Check `target_noise_var`; raises `CalibrationError` unless it is one number, zero or more."""
    try:
        value = float(target_noise_var)
    except (TypeError, ValueError) as error:
        raise CalibrationError(
            f"target_noise_var: got {type(target_noise_var).__name__}, expected one variance for all labels, such as "
            "their mean sampling variance."
        ) from error
    if not (np.isfinite(value) and value >= 0):
        raise CalibrationError(
            f"target_noise_var: {target_noise_var!r} is not a variance. Pass zero or more."
        )
    return value


def noise_of_rows(target_noise_var: Any, n: int) -> Array | None:
    """Noise variance of each label, shape (n,); None where one variance was passed for all of them.

    Raises
    ------
    CalibrationError
        On another length, missing or infinite values, or a variance below zero.
    """
    if np.ndim(target_noise_var) == 0:
        return None
    rows = ColumnReader(CalibrationError).vector("target_noise_var", target_noise_var, n)
    if (rows < 0).any():
        raise CalibrationError(
            f"target_noise_var: {int((rows < 0).sum())} of {n} values are below zero. Pass a variance for each row, "
            "zero or more, in squared units of the label."
        )
    return rows
