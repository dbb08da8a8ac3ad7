"""Before a trial: what effects a map can show, and what labels are worth beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sustain.errors import EffectError

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["effective_sample_size", "minimum_detectable_effect"]


def effective_sample_size(n_labelled: float, n_unlabelled: float, correlation: float) -> float:
    """Labelled units that prediction-powered inference is worth: n (n + N) / (n + N (1 - rho^2)).

    Parameters
    ----------
    n_labelled, n_unlabelled : float
        Units with and without a label.
    correlation : float
        Correlation rho of truth and prediction.
    """
    if not (n_labelled > 0 and n_unlabelled >= 0 and abs(correlation) <= 1):
        raise EffectError(
            f"n_labelled={n_labelled!r}, n_unlabelled={n_unlabelled!r}, correlation={correlation!r}: expected sizes "
            "above zero and a correlation between -1 and 1."
        )
    return n_labelled * (n_labelled + n_unlabelled) / (n_labelled + n_unlabelled * (1 - correlation**2))


def minimum_detectable_effect(
    n_treated: float,
    n_control: float,
    sd: float,
    *,
    calibration: CalibrationCard | None = None,
    level: float = 0.95,
    power: float = 0.8,
    icc: float = 0.0,
    cluster_size: float = 1.0,
) -> float:
    """Smallest effect that a trial finds with the given power, when the outcome is surveyed or mapped.

    A mapped unit carries the map's noise beside its own spread, ``sd^2 + (residual_sd / b)^2``; and the slope's
    relative error c adds tau^2 c^2 to the variance, so that tau solves ``tau = k sqrt(V + tau^2 c^2)`` with k the sum
    of the two normal quantiles. When k c is 1 or more no effect, however large, is found with that power.

    Parameters
    ----------
    n_treated, n_control : float
        Units in each arm.
    sd : float
        Standard deviation of the true outcome within an arm.
    calibration : CalibrationCard, optional
        Card of the map; without one the outcome is surveyed.
    level, power : float
        Confidence level of the two-sided interval, and chance that it excludes zero.
    icc, cluster_size : float
        Where clusters are treated: intra-cluster correlation of the outcome and units in a cluster.

    Returns
    -------
    float
        In the unit of `sd`; infinite where the calibration is too weak.
    """
    from scipy.special import ndtri

    if not (n_treated > 0 and n_control > 0 and sd > 0):
        raise EffectError(
            f"n_treated={n_treated!r}, n_control={n_control!r}, sd={sd!r}: expected numbers above 0."
        )
    if not (0 < level < 1 and 0 < power < 1 and 0 <= icc <= 1 and cluster_size >= 1):
        raise EffectError(
            f"level={level!r}, power={power!r}, icc={icc!r}, cluster_size={cluster_size!r}: expected shares between 0 "
            "and 1 and clusters of 1 or more."
        )
    quantiles = float(ndtri(0.5 + level / 2) + ndtri(power))
    unit_variance = sd**2 * (1 + (cluster_size - 1) * icc)
    room = 1.0
    if calibration is not None:
        unit_variance += (calibration.residual_sd / calibration.slope) ** 2
        room -= quantiles**2 * float(calibration.slope_cov[1, 1]) / calibration.slope**2
    if room <= 0:
        return math.inf
    return quantiles * math.sqrt(unit_variance * (1 / n_treated + 1 / n_control) / room)
