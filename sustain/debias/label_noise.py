"""Label noise: the labels' own sampling error, a few households to a label.

Its variance, ``target_noise_var``, is checked here, kept with the calibration sample and the card, and taken off
wherever
labels are a regressor: in the line of prediction on truth (`sustain.stats.line.fit_line`), in slopes within groups
(`sustain.debias.contrasts.slopes`), and in the tests of assumptions (`sustain.debias.diagnosis.stability`).
"""

from __future__ import annotations

import numpy as np

from sustain.errors import CalibrationError

__all__ = ["noise_variance"]


def noise_variance(target_noise_var: float) -> float:
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
