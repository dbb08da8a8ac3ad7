"""For those who take a card elsewhere: where its predictions lay, and how much the slope differs between groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import MIN_PAIRS, CalibrationSample
from sustain.debias.table import quantiles_of
from sustain.errors import CalibrationError
from sustain.stats.line import fit_line

__all__ = ["SlopeSpread", "prediction_quantiles", "slope_spread"]

Array = NDArray[np.float64]

MIN_GROUPS = 5  # groups that a variance between groups needs


@dataclass(frozen=True)
class SlopeSpread:
    """How much the slope of prediction on truth differs between groups (countries, surveys, blocks).

    Attributes
    ----------
    n_groups : int
        Groups of 20 pairs or more.
    mean, sd : float
        Mean and standard deviation of the groups' true slopes, sampling error taken off (random effects).
    q, p_value : float
        Cochran's test that all groups share one slope.
    i2 : float
        Share of the estimates' variance that is true variation, 0..1.
    """

    n_groups: int
    mean: float
    sd: float
    q: float
    p_value: float
    i2: float


def slope_spread(sample: CalibrationSample, noise: float = 0.0) -> SlopeSpread | None:
    """Spread of slopes over the groups of a calibration sample; None with fewer than five usable groups.

    The variance between groups is DerSimonian and Laird's (1986, doi:10.1016/0197-2456(86)90046-2). A new group's slope
    differs from that of the pooled sample by about `SlopeSpread.sd`, which no clustered standard error contains.

    Parameters
    ----------
    sample : CalibrationSample
    noise : float
        Variance of the labels' sampling error.
    """
    if sample.group is None:
        return None
    slopes, variances = [], []
    for rows in np.split(np.argsort(sample.group, kind="stable"), np.cumsum(np.bincount(sample.group))[:-1]):
        part = sample.take(rows[sample.weight[rows] > 0])  # weights of a mean of one, as variances suppose
        if part.n < MIN_PAIRS or not np.ptp(part.y_true) > 0:
            continue
        try:
            line = fit_line(part.y_true, part.y_pred, part.weight, None, noise)
        except CalibrationError:  # a group whose labels vary less than their noise has no slope
            continue
        slopes.append(line.slope)
        variances.append(line.cov[1, 1])
    if len(slopes) < MIN_GROUPS or not min(variances) > 0:
        return None
    return _random_effects(np.array(slopes), np.array(variances))


def _random_effects(slopes: Array, variances: Array) -> SlopeSpread:
    from scipy.special import chdtrc

    weight = 1 / variances
    centre = float(weight @ slopes / weight.sum())
    q, df = float(weight @ (slopes - centre) ** 2), slopes.size - 1
    between = max(0.0, (q - df) / float(weight.sum() - np.square(weight).sum() / weight.sum()))
    again = 1 / (variances + between)
    return SlopeSpread(
        n_groups=slopes.size,
        mean=float(again @ slopes / again.sum()),
        sd=math.sqrt(between),
        q=q,
        p_value=float(chdtrc(df, q)),
        i2=max(0.0, 1 - df / q) if q > 0 else 0.0,
    )


def prediction_quantiles(sample: CalibrationSample) -> tuple[Array, Array]:
    """Inner quantiles of the predictions: (shares, values), as many as leave 20 places between two.

    They tell where a trial's predictions lie among those of the calibration sample without giving one of these: no
    extremes, and each a weighted mean of many order statistics.
    """
    n_bins = int(np.clip(sample.n // MIN_PAIRS, 1, 20))
    shares = np.arange(1, n_bins) / n_bins
    return shares, quantiles_of(sample.y_pred, sample.weight, shares)
