"""A card's correction, carried through an estimator: the corrected effect and both parts of its variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sustain.causal.estimators import LinearEstimator
from sustain.causal.result import Estimate
from sustain.causal.units import Units
from sustain.causal.variance import corrected_effect
from sustain.causal.vcov import Vcov

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["combined_df", "correct", "support_share"]


def correct(
    card: CalibrationCard, method: str, linear: LinearEstimator, units: Units, vcov: Vcov, naive: Estimate
) -> Estimate:
    """Effect on the corrected outcome, with the trial's and the calibration's part of its variance.

    A linear correction divides the effect by the slope, and its calibration part is the delta method's. For any
    other correction h the trial's part comes from the influence function on h(x), and the calibration's part from
    the spread of the effect over the card's bootstrap draws: under draw k the effect is
    ``sum_i omega_i h_k(x_i)``, exactly, because the estimators are linear in the outcome.

    Raises
    ------
    CardError
        When the card does not hold the method.
    """
    effects = card.draws(method).weighted_sum(units.outcome, linear.weights)
    # A bootstrap of few groups understates the variance as a variance without degrees of freedom does.
    groups = card.sample.n_groups or card.sample.n
    spread = float(np.var(effects, ddof=1)) * groups / (groups - 1)
    if method == "linear":
        slope, slope_var = card.slope, float(card.slope_cov[1, 1])
        effect = corrected_effect(naive.estimate, naive.variance_trial, slope, slope_var)
        return Estimate(
            method,
            effect.estimate,
            effect.variance_trial,
            effect.variance_calibration,
            df=combined_df(effect.variance_trial, naive.df, effect.variance_calibration, _card_df(card)),
            variance_draws=spread,
            slope=slope,
            slope_var=slope_var,
        )
    outcome = np.asarray(card.transform(units.outcome, method=method, check_support=False))
    trial = vcov.variance(linear, outcome, units.extra)
    return Estimate(
        method,
        linear.estimate(outcome),
        trial.variance,
        spread,
        df=combined_df(trial.variance, trial.df, spread, _card_df(card)),
        variance_draws=spread,
    )


def combined_df(trial: float, trial_df: float, calibration: float, calibration_df: float) -> float:
    """Degrees of freedom of a sum of two independent variance estimates (Welch 1947, Satterthwaite 1946)."""
    total = trial + calibration
    if total == 0:
        return trial_df
    shares = trial / total, calibration / total
    inverse = shares[0] ** 2 / trial_df + shares[1] ** 2 / calibration_df
    return 1.0 / inverse if inverse > 0 else float("inf")


def support_share(card: CalibrationCard, linear: LinearEstimator, units: Units) -> float:
    """Share of the estimator's absolute weight on predictions outside the card's support, 0..1."""
    low, high = card.support
    weight = np.abs(linear.weights)
    outside = (units.outcome < low) | (units.outcome > high)
    return float(weight[outside].sum() / weight.sum())


def _card_df(card: CalibrationCard) -> float:
    return float(card.prediction_on_truth.df)
