"""Between both assumptions: the effect by how much of the contrast the image shows only through the outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sustain.causal.correction.ratio import CorrectedEffect
from sustain.causal.estimate import Estimate
from sustain.causal.trial.reader import read
from sustain.errors import EffectError
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["effect_table", "visible_share", "visible_share_path"]


def visible_share_path(
    naive: Estimate, corrected: Estimate, slope: float, level: float, shares: Sequence[float]
) -> pd.DataFrame:
    """Effects from outcome stability (share 0) to measurement stability (share 1).

    Parameters
    ----------
    naive, corrected : Estimate
        Both ends.
    slope : float
        The card's slope of prediction on truth, for a correction that is no division by a slope of its own.
    level : float
        Of the intervals.
    shares : sequence of float
        Values of m, 0 to 1; see `visible_share`.

    Returns
    -------
    DataFrame
        ``mediated`` (m), ``estimate``, ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    EffectError
        When a share is outside 0 to 1.
    """
    effects = [visible_share(naive, corrected, slope, share) for share in shares]
    return effect_table("mediated", shares, effects, critical_value(level, corrected.df, EffectError))


def visible_share(naive: Estimate, corrected: Estimate, slope: float, share: float) -> CorrectedEffect:
    """Effect when a share m of the contrast reaches the image only through the outcome.

    The rest of the contrast is visible by itself, so that its slope is ``s = 1 - m (1 - b)`` and the effect is
    naive / s. That is the naive effect plus ``w = m b / s`` times what the whole correction adds, and in this form it
    holds for a curve as well as for a line.
    """
    share = read.number("shares", share, "shares between 0 and 1", least=0)
    if share > 1:
        raise EffectError(f"shares: got {share!r}, expected shares between 0 and 1.")
    line = not math.isnan(corrected.slope)
    own = corrected.slope if line else slope
    divisor = 1 - share * (1 - own)
    if divisor <= 0:
        raise EffectError(
            f"path: the slope of a contrast with share {share:g} would be {divisor:.3g}, not above 0."
        )
    weight = share * own / divisor
    estimate = naive.estimate + weight * (corrected.estimate - naive.estimate)
    trial = (
        (1 - weight) ** 2 * naive.variance_trial
        + weight**2 * corrected.variance_trial
        + 2 * weight * (1 - weight) * corrected.covariance_naive
    )
    if line:
        # A line's weight moves with its slope: d tau / d b = -m tau / s.
        calibration = (share * estimate / divisor) ** 2 * corrected.slope_var
        # Trial part d / s and calibration part -m tau e_b / s, beside d / b and -tau e_b / b at the end.
        shared = (
            corrected.covariance * share * own**2 * estimate / (divisor**2 * corrected.estimate or math.inf)
        )
    else:
        calibration = weight**2 * corrected.variance_calibration
        shared = weight**2 * corrected.covariance
    return CorrectedEffect(
        estimate, math.sqrt(max(0.0, trial + calibration + 2 * shared)), trial, calibration
    )


def effect_table(
    name: str, values: Sequence[Any], effects: Sequence[CorrectedEffect], critical: float
) -> pd.DataFrame:
    """Effects with their intervals, a row for each of `values`, which are in the column `name`."""
    import pandas as pd

    rows = [
        (
            value,
            effect.estimate,
            effect.std_error,
            effect.estimate - critical * effect.std_error,
            effect.estimate + critical * effect.std_error,
        )
        for value, effect in zip(values, effects, strict=True)
    ]
    return pd.DataFrame(rows, columns=[name, "estimate", "std_error", "conf_low", "conf_high"])
