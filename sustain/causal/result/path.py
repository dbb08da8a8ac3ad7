"""Between both assumptions: the effect by how much of the contrast the image shows only through the outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sustain.causal.estimate import Estimate
from sustain.errors import EffectError
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd

    from sustain.causal.result.result import EffectResult

__all__ = ["visible_share_path"]


def visible_share_path(result: EffectResult, shares: Sequence[float]) -> pd.DataFrame:
    """Effects from outcome stability (share 0) to measurement stability (share 1).

    When a share m of the contrast reaches the image only through the outcome and the rest is visible by itself, the
    contrast's slope is ``s = 1 - m (1 - b)`` and the effect is naive / s. That is the naive effect plus
    ``w = m b / s`` times what the whole correction adds, and in this form it holds for a curve as well as for a line.

    Parameters
    ----------
    result : EffectResult
        With a correction.
    shares : sequence of float
        Values of m, 0 to 1.

    Returns
    -------
    DataFrame
        ``mediated`` (m), ``estimate``, ``std_error``, ``conf_low``, ``conf_high``.

    Raises
    ------
    EffectError
        When the result holds no correction, or a share is outside 0 to 1.
    """
    import pandas as pd

    corrected = result.corrected
    if corrected is None:
        raise EffectError(
            f"path: method is {result.method!r} and assumption {result.assumption!r}, so there is one end only. "
            "Estimate with a correction and assumption None, 'measurement' or 'bracket'."
        )
    rows = []
    for share in shares:
        if not 0 <= share <= 1:
            raise EffectError(f"shares: got {share!r}, expected shares between 0 and 1.")
        estimate, error = _between(result.naive, corrected, result.path_slope, share)
        half = critical_value(result.level, corrected.df) * error
        rows.append((share, estimate, error, estimate - half, estimate + half))
    columns = ["mediated", "estimate", "std_error", "conf_low", "conf_high"]
    return pd.DataFrame(rows, columns=columns)


def _between(naive: Estimate, corrected: Estimate, slope: float, share: float) -> tuple[float, float]:
    own = slope if math.isnan(corrected.slope) else corrected.slope
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
    if math.isnan(corrected.slope):
        return estimate, math.sqrt(
            trial + weight**2 * (corrected.variance_calibration + 2 * corrected.covariance)
        )
    # A line's weight moves with its slope: d tau / d b = -m tau / s.
    calibration = (share * estimate / divisor) ** 2 * corrected.slope_var
    # Trial part d / s and calibration part -m tau e_b / s, beside d / b and -tau e_b / b at the end.
    shared = corrected.covariance * share * own**2 * estimate / (divisor**2 * corrected.estimate or math.inf)
    return estimate, math.sqrt(trial + calibration + 2 * shared)
