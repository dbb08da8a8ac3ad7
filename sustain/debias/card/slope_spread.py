"""For those who take a card elsewhere: where its predictions lay, and how much the slope differs between groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import MIN_PAIRS, CalibrationSample
from sustain.debias.table import quantiles_of
from sustain.errors import CalibrationError
from sustain.stats.line import fit_line
from sustain.stats.random_effects import RandomEffects, random_effects

__all__ = ["prediction_quantiles", "slope_spread"]

Array = NDArray[np.float64]

MIN_GROUPS = 5  # groups that a variance between groups needs


def slope_spread(sample: CalibrationSample) -> RandomEffects | None:
    """Spread of slopes over the groups of a calibration sample; None with fewer than five of 20 pairs or more.

    A new group's slope differs from that of the pooled sample by about its `sd`, which no clustered standard error
    contains.
    """
    if sample.group is None:
        return None
    slopes, variances = [], []
    for rows in np.split(np.argsort(sample.group, kind="stable"), np.cumsum(np.bincount(sample.group))[:-1]):
        part = sample.take(rows)  # weights of a mean of one, as variances suppose
        if part.n < MIN_PAIRS or not np.ptp(part.y_true) > 0:
            continue
        try:
            line = fit_line(part.y_true, part.y_pred, part.weight, None, sample.noise, CalibrationError)
        except CalibrationError:  # a group whose labels vary less than their noise has no slope
            continue
        slopes.append(line.slope)
        variances.append(line.cov[1, 1])
    if len(slopes) < MIN_GROUPS or not min(variances) > 0:
        return None
    return random_effects(np.array(slopes), np.array(variances))


def prediction_quantiles(sample: CalibrationSample) -> tuple[Array, Array]:
    """Inner quantiles of the predictions: (shares, values), as many as leave 20 places between two.

    They tell where a trial's predictions lie among those of the calibration sample without giving one of these: no
    extremes, and each a weighted mean of many order statistics.
    """
    n_bins = int(np.clip(sample.n // MIN_PAIRS, 1, 20))
    shares = np.arange(1, n_bins) / n_bins
    return shares, quantiles_of(sample.y_pred, sample.weight, shares)
