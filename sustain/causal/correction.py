"""A card's correction, carried through an estimator: the corrected effect and both parts of its variance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators import LinearEstimator
from sustain.causal.result import Estimate
from sustain.causal.units import Units
from sustain.causal.variance import corrected_effect
from sustain.causal.vcov import Vcov

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["combined_df", "correct", "support_share"]


def correct(
    card: CalibrationCard,
    method: str,
    linear: LinearEstimator,
    units: Units,
    vcov: Vcov,
    naive: Estimate,
    strata: str | None = None,
) -> Estimate:
    """Effect on the corrected outcome, with the trial's and the calibration's part of its variance.

    A linear correction divides the effect by the slope, and its calibration part is the delta method's. For any
    other correction h the trial's part comes from the influence function on h(x), and the calibration's part from
    the spread of the effect over the card's bootstrap draws: under draw k the effect is
    ``sum_i omega_i h_k(x_i)``, exactly, because the estimators are linear in the outcome. With `strata`, a column of
    the units, each unit takes the function of its own stratum, and the second way serves the linear correction too.

    Raises
    ------
    CardError
        When the card does not hold the method, or not for a stratum of the units.
    """
    parts = list(_by_stratum(units, strata))
    effects = np.sum(
        [
            card.draws(method, name).weighted_sum(units.outcome[rows], linear.weights[rows])
            for name, rows in parts
        ],
        axis=0,
    )
    # A bootstrap of few groups understates the variance as a variance without degrees of freedom does.
    groups = card.sample.n_groups or card.sample.n
    spread = float(np.var(effects, ddof=1)) * groups / (groups - 1)
    if method == "linear" and strata is None:
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
    outcome = np.empty(units.n)
    for name, rows in parts:
        outcome[rows] = card.transform(units.outcome[rows], method=method, check_support=False, stratum=name)
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


def support_share(
    card: CalibrationCard, linear: LinearEstimator, units: Units, strata: str | None = None
) -> float:
    """Share of the estimator's absolute weight on predictions outside the card's support, 0..1."""
    described = {stratum.name for stratum in card.strata}
    weight = np.abs(linear.weights)
    outside = np.zeros(units.n, dtype=bool)
    for name, rows in _by_stratum(units, strata):
        low, high = card.support_of(name if name in described else None)
        outside[rows] = (units.outcome[rows] < low) | (units.outcome[rows] > high)
    return float(weight[outside].sum() / weight.sum())


def _by_stratum(units: Units, strata: str | None) -> Iterator[tuple[str | None, NDArray[np.intp]]]:
    """Give each stratum's name and rows; all rows under the name None without strata."""
    if strata is None:
        yield None, np.arange(units.n)
        return
    names, codes = np.unique(units.extra[strata].astype(str), return_inverse=True)
    for code, name in enumerate(names):
        yield str(name), np.flatnonzero(codes == code)


def _card_df(card: CalibrationCard) -> float:
    return float(card.prediction_on_truth.df)
