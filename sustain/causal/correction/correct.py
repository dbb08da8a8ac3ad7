"""A card's correction, carried through an estimator: the corrected effect and both parts of its variance."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.ratio import corrected_effect
from sustain.causal.estimate import Estimate
from sustain.causal.estimators.learners import LearnedEstimator
from sustain.causal.estimators.least_squares import LinearEstimator
from sustain.causal.fit import FittedDesign
from sustain.causal.trial.reader import read
from sustain.causal.trial.units import Units
from sustain.debias.card.draws import Draws
from sustain.errors import EffectError
from sustain.spelling import Placeholder, argument
from sustain.stats.columns import matched_label
from sustain.stats.combinations import combined_label, read_combinations

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = [
    "Divisor",
    "combined_df",
    "correct",
    "corrected_outcome",
    "divisor_of",
    "draws_variance",
    "slopes_by_stratum",
    "support_share",
    "widened",
]

Floats = NDArray[np.float64]

_SEEN = 500  # predictions at which draws are compared
_KEPT = 0.999  # share of their variance that the curves hold


@dataclass(frozen=True)
class Divisor:
    """What a linear correction divides by: a slope of prediction on truth.

    Attributes
    ----------
    value, variance : float
    df : float
        Degrees of freedom of the variance.
    own : float
        Variance of one contrast's own error, which is there at equal truth too and is part of the trial's.
    """

    value: float
    variance: float
    df: float
    own: float = 0.0


def divisor_of(card: CalibrationCard, method: str, card_level: str | None) -> Divisor | None:
    """Slope of the method ``"linear"`` or, at one level of variation, ``"level"``; None for other methods.

    Raises
    ------
    EffectError
        When ``"level"`` comes without the name of a level.
    CardError
        When the card has no such level, or its slope there may be zero.
    """
    if method == "linear":
        return Divisor(card.slope, float(card.slope_cov[1, 1]), float(card.prediction_on_truth.df))
    if method != "level":
        return None
    if card_level is None:
        known = ", ".join(map(repr, card.level_names)) or "none"
        raise EffectError(
            f"{argument('method', 'level')} needs {argument('card_level', Placeholder('level'))}, at which the "
            f"treatment varies (between or within what are treated and controls compared?). The card has {known}."
        )
    card.draws("level", level=card_level)  # raises where the slope may be zero
    found = card.level(card_level)
    return Divisor(found.slope, found.new_std_error**2, float(found.new_df), found.contrast_sd**2)


def correct(
    card: CalibrationCard,
    method: str,
    fitted: FittedDesign,
    divisor: Divisor | None,
    strata: Sequence[str] = (),
    card_level: str | None = None,
) -> Estimate:
    """Effect on the corrected outcome, with the trial's and the calibration's part of its variance.

    A linear correction divides the effect by the slope, and its calibration part is the delta method's. For any
    other correction h the trial's part comes from the influence function on h(x), and the calibration's part from
    the spread of the effect over the card's bootstrap draws: under draw k the effect is
    ``sum_i omega_i h_k(x_i)``, because the estimators are linear in the outcome. With `strata`, columns of the units,
    each unit takes the function of its own stratum, and the second way serves the linear correction too.

    Parameters
    ----------
    fitted : FittedDesign
        On the raw outcome and, for a curve, the corrected one.
    divisor : Divisor or None
        Of `divisor_of`; None for a curve, and for strata.

    Raises
    ------
    CardError
        When the card does not hold the method, or not for a stratum of the units.
    """
    naive, trial = fitted.naive, fitted.trial
    if divisor is not None:
        name = card_level if method == "level" else None
        ends = card.draws(method, level=name)(np.array([0.0, 1.0]))
        spread = draws_variance(naive.estimate * (ends[:, 1] - ends[:, 0]), card)
        trial_df = combined_df(naive.variance_trial, naive.df, divisor.own, divisor.df)
        variance = naive.variance_trial + divisor.own
        effect = corrected_effect(naive.estimate, variance, divisor.value, divisor.variance)
        return Estimate(
            method,
            effect.estimate,
            effect.variance_trial,
            effect.variance_calibration,
            df=combined_df(effect.variance_trial, trial_df, effect.variance_calibration, divisor.df),
            variance_draws=spread,
            slope=divisor.value,
            slope_var=divisor.variance,
            covariance_naive=naive.variance_trial / divisor.value,
            variance_own=divisor.own / divisor.value**2,
        )
    spread = _spread(card, method, fitted.estimator, fitted.units, strata)
    variance = float(trial.covariance[1, 1])
    return Estimate(
        method,
        fitted.estimator.estimate(fitted.outcomes[1]),
        variance,
        spread,
        df=combined_df(variance, trial.df, spread, float(card.prediction_on_truth.df)),
        variance_draws=spread,
        covariance_naive=float(trial.covariance[0, 1]),
    )


def corrected_outcome(card: CalibrationCard, method: str, units: Units, strata: Sequence[str] = ()) -> Floats:
    """Outcome under the card's correction, shape (n,); how much lies off the support is `support_share`'s to say."""
    outcome = np.empty(units.n)
    for name, rows in _by_stratum(card, units, strata):
        outcome[rows] = card.transform(units.outcome[rows], method=method, check_support=False, stratum=name)
    return outcome


def widened(end: Estimate, sd: float, df: float) -> Estimate:
    """`end` with the spread between places of what the correction recovers beside the calibration's own uncertainty.

    Parameters
    ----------
    end : Estimate
    sd : float
        Standard deviation of the recovered share of an effect between the places that a trial may be in.
    df : float
        Degrees of freedom of its square: few places tell little of how places differ.
    """
    more = (end.estimate * sd) ** 2
    wider = replace(
        end,
        variance_calibration=end.variance_calibration + more,
        variance_draws=end.variance_draws + more,
        df=combined_df(end.variance, end.df, more, df),
    )
    return wider if math.isnan(end.slope) else replace(wider, slope_var=end.slope_var + (sd * end.slope) ** 2)


def combined_df(trial: float, trial_df: float, calibration: float, calibration_df: float) -> float:
    """Degrees of freedom of a sum of two independent variance estimates (Welch 1947, Satterthwaite 1946)."""
    total = trial + calibration
    if total == 0:
        return trial_df
    shares = trial / total, calibration / total
    inverse = shares[0] ** 2 / trial_df + shares[1] ** 2 / calibration_df
    return 1.0 / inverse if inverse > 0 else float("inf")


def support_share(
    card: CalibrationCard, linear: LinearEstimator, units: Units, strata: Sequence[str] = ()
) -> float:
    """Share of the estimator's absolute weight on predictions outside the card's support, 0..1."""
    weight = np.abs(linear.weights)
    outside = np.zeros(units.n, dtype=bool)
    for name, rows in _by_stratum(card, units, strata):
        low, high = card.support_of(name)
        outside[rows] = (units.outcome[rows] < low) | (units.outcome[rows] > high)
    return float(weight[outside].sum() / weight.sum())


def slopes_by_stratum(card: CalibrationCard, units: Units, strata: Sequence[str]) -> dict[str, float]:
    """Slope of prediction on truth in each stratum of the units; the pooled one where the card has none of its own."""
    own = {stratum.name: stratum.prediction_on_truth.slope for stratum in card.strata}
    return {str(name): own.get(str(name), card.slope) for name, _ in _by_stratum(card, units, strata)}


def _by_stratum(
    card: CalibrationCard, units: Units, strata: Sequence[str]
) -> Iterator[tuple[str | None, NDArray[np.intp]]]:
    """Give each stratum's name, as in the card where it is, and rows; all rows under the name None without strata.

    Of several columns, from coarse to fine, a stratum is a combination of labels; one that is not in the card is in
    that of its first labels where this is.
    """
    if not strata:
        yield None, np.arange(units.n)
        return
    known = {item.stratum for item in card.corrections if item.stratum is not None}
    found = read_combinations(read, "strata", {name: units.extra[name] for name in strata})
    rows: dict[str, list[int]] = {}
    for code, parts in enumerate(found.parts):
        rows.setdefault(_known_name(parts, known), []).append(code)
    for name, codes in rows.items():
        yield name, np.flatnonzero(np.isin(found.codes, codes))


def _known_name(parts: tuple[str, ...], known: Collection[str]) -> str:
    for length in range(len(parts), 0, -1):
        name = matched_label(known, combined_label(parts[:length]))
        if name is not None:
            return name
    return combined_label(parts)


def _spread(
    card: CalibrationCard, method: str, linear: LinearEstimator, units: Units, strata: Sequence[str]
) -> float:
    """Variance of the effect over the card's bootstrap draws."""
    parts = [(card.draws(method, name), rows) for name, rows in _by_stratum(card, units, strata)]
    if isinstance(linear, LearnedEstimator):
        effects = _learned_effects(parts, linear, units)
    else:
        effects = np.sum(
            [draws.weighted_sum(units.outcome[rows], linear.weights[rows]) for draws, rows in parts], axis=0
        )
    return draws_variance(effects, card)


def draws_variance(effects: Floats, card: CalibrationCard) -> float:
    """Variance of an effect over the card's draws, with the factor ``G / (G - 1)`` of its groups."""
    # A bootstrap of few groups understates the variance as a variance without degrees of freedom does.
    groups = card.sample.n_groups or card.sample.n
    return float(np.var(effects, ddof=1)) * groups / (groups - 1)


def _learned_effects(
    parts: Sequence[tuple[Draws, NDArray[np.intp]]], linear: LearnedEstimator, units: Units
) -> Floats:
    """Effects under the draws, but for a constant, by learners that are too slow to be fitted once a draw.

    The deviations of the draws are combinations of a few curves: the learners are fitted to those. Taking a learner as
    linear in these small deviations is what the bootstrap of a smooth estimate supposes anyway.
    """
    order = np.argsort(units.outcome, kind="stable")
    sampled = np.zeros(units.n, dtype=bool)
    sampled[order[np.linspace(0, units.n - 1, min(units.n, _SEEN)).astype(np.intp)]] = True
    seen = np.hstack([draws(units.outcome[rows[sampled[rows]]]) for draws, rows in parts])
    left, size, _ = np.linalg.svd(seen - seen.mean(axis=0), full_matrices=False)
    n_curves = int(np.searchsorted(np.cumsum(size**2), _KEPT * np.sum(size**2)) + 1)
    outcomes = np.empty((n_curves, units.n))
    for draws, rows in parts:
        centred = draws.h - draws.h.mean(axis=0)
        curves = Draws(draws.grid, (left[:, :n_curves] / size[:n_curves]).T @ centred)
        outcomes[:, rows] = curves(units.outcome[rows])
    effects = np.array([linear.estimate(outcome) for outcome in outcomes])
    return np.asarray((left[:, :n_curves] * size[:n_curves]) @ effects)
