"""A card's correction, carried through an estimator: the corrected effect and both parts of its variance."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators import LinearEstimator
from sustain.causal.result import Estimate
from sustain.causal.units import Units
from sustain.causal.variance import corrected_effect
from sustain.causal.vcov import Vcov
from sustain.errors import CardError, SupportWarning

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["correct", "effects_of_draws", "support_share"]

Floats = NDArray[np.float64]


def correct(
    card: CalibrationCard, method: str, linear: LinearEstimator, units: Units, vcov: Vcov, naive: Estimate
) -> Estimate:
    """Effect on the corrected outcome, with the trial's and the calibration's part of its variance.

    A linear correction divides the effect by the slope; its calibration part is the delta method's, and the
    one by the card's draws is kept beside it. For any other correction h the trial's part comes from the
    influence function on h(x), and the calibration's part from the spread of the effect over the draws.

    Raises
    ------
    CardError
        When the card does not hold the method, or holds no draws of a correction that needs them.
    """
    draws = effects_of_draws(card, method, linear.weights, units.outcome)
    spread = float(np.var(draws, ddof=1)) if len(draws) > 1 else math.nan
    if method == "linear":
        slope, slope_var = float(card.slope), float(card.slope_cov[1][1])
        effect = corrected_effect(naive.estimate, naive.variance_trial, slope, slope_var)
        return Estimate(
            method,
            effect.estimate,
            effect.variance_trial,
            effect.variance_calibration,
            naive.df,
            spread,
            slope,
            slope_var,
        )
    if math.isnan(spread):
        raise CardError(
            f"calibration: the card holds no bootstrap draws of {method!r}, so the calibration's part of "
            "the variance is unknown. Build the card with n_boot of 200 or more."
        )
    outcome = _transform(card, method, units.outcome)
    trial = vcov.variance(linear.influence(outcome), linear.n_params, units.extra)
    return Estimate(method, linear.estimate(outcome), trial.variance, spread, naive.df, spread)


def effects_of_draws(card: CalibrationCard, method: str, weights: Floats, outcome: Floats) -> Floats:
    """Effect under each bootstrap draw of a correction, shape (n_draws,).

    An estimator that is linear in the outcome gives ``tau_b = sum_i omega_i h_b(x_i)`` under draw b, exactly.
    The draws are tables that are linear between nodes, so the units are first gathered at the nodes, once for
    all draws.
    """
    tables = np.asarray(card.draws(method), dtype=float)
    if tables.size == 0:
        return np.empty(0)
    return np.asarray(tables @ _gather(np.asarray(card.grid.x, dtype=float), outcome, weights))


def support_share(card: CalibrationCard, linear: LinearEstimator, units: Units) -> float:
    """Share of the estimator's absolute weight on predictions outside the card's support, 0..1."""
    low, high = card.support
    weight = np.abs(linear.weights)
    outside = (units.outcome < low) | (units.outcome > high)
    return float(weight[outside].sum() / weight.sum())


def _gather(nodes: Floats, x: Floats, weights: Floats) -> Floats:
    """Weights at the nodes with ``sum_i w_i h(x_i) = gathered @ h(nodes)`` for every h linear between nodes.

    Beyond the outer nodes h goes on straight, so there a node's weight may be negative.
    """
    left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    share = (x - nodes[left]) / (nodes[left + 1] - nodes[left])
    gathered = np.bincount(left, weights * (1 - share), minlength=len(nodes))
    return np.asarray(gathered + np.bincount(left + 1, weights * share, minlength=len(nodes)))


def _transform(card: CalibrationCard, method: str, outcome: Floats) -> Floats:
    with warnings.catch_warnings():
        # The share outside the support is said once, weighted as the estimator weighs it.
        warnings.simplefilter("ignore", SupportWarning)
        return np.asarray(card.transform(outcome, method=method), dtype=float)
