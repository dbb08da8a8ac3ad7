"""A trial's two distributions of truth, and the covariance of what is measured on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.correct import combined_df
from sustain.causal.correction.response import UnfoldedTrial
from sustain.causal.estimate import Estimate
from sustain.causal.fit import FittedDesign
from sustain.debias.response.distribution import Sides, stopped_otherwise, unfold_sides, unfolding_moves
from sustain.debias.response.measures import Measure
from sustain.debias.response.unfolding import Response
from sustain.errors import EffectError
from sustain.spelling import argument

__all__ = ["Measured", "MeasuredArms", "UnfoldedArms"]

Floats = NDArray[np.float64]

MOST_MASS = 1.02
"""Sum of an estimator's positive weights, one where it compares two groups of units, up to which it does so."""


@dataclass(frozen=True)
class Measured:
    """One measure of both distributions.

    Attributes
    ----------
    kind : str
        ``"headcount"``, ``"quantile"``, ``"shortfall"`` or ``"gain"``.
    at : float
        The line, or the quantile; of a gain, the quantile at the upper end of its third.
    control, treated : Estimate
        Of the two distributions.
    effect : Estimate
        Treated less control.
    share_unfolding : float
        Share of the effect's variance that stands for the bias of unfolding; it is in the trial's part.
    """

    kind: str
    at: float
    control: Estimate
    treated: Estimate
    effect: Estimate
    share_unfolding: float


@dataclass(frozen=True)
class MeasuredArms:
    """What was measured, with the two distributions.

    Attributes
    ----------
    measured : tuple of Measured
    truth : ndarray, shape (m,)
        Nodes of the truth.
    control, treated : ndarray, shape (m,)
        Distributions on them.
    contrast : callable
        Takes the weights of the measures' effects, shape (len(measured),), and returns the estimate of their sum.
    """

    measured: tuple[Measured, ...]
    truth: Floats
    control: Floats
    treated: Floats
    contrast: Callable[[Floats], Estimate]


@dataclass(frozen=True)
class UnfoldedArms(UnfoldedTrial):
    """A trial whose two distributions of truth are wanted, beyond the effect on their mean."""

    def require_two_groups(self) -> None:
        """Raise `EffectError` unless the estimator compares two groups of units, in every population."""
        weights = self.estimator.weights
        mass = float(weights[weights > 0].sum())
        if not 1 / MOST_MASS <= mass <= MOST_MASS:
            raise EffectError(
                f"estimator: the positive weights of {self.estimator.name} sum to {mass:.3g}, expected 1: part of the "
                "treated is on the side of the controls, so that its two sides are not the distributions with and "
                f"without treatment. Adjust for fewer covariates, or use {argument('estimator', 'ipw')}."
            )
        for population, rows in zip(self.populations, self.rows, strict=True):
            here = weights[rows]
            if not (here > 0).any() or not (here < 0).any():
                raise EffectError(
                    f"strata: a stratum of {rows.size} units (its population has {population.n} calibration rows) has "
                    "treated or controls only, so that nothing is compared in it. Leave its units out, or pass no "
                    "strata."
                )

    def outcomes_of(self, measures: Sequence[Measure]) -> Floats:
        """Give the outcomes whose estimates have the covariance that is wanted, shape (1 + 2 m, n).

        The raw predictions; then, for each measure, one outcome for the controls' distribution and one for the
        treated's. Each unit has the derivative of the measure by the share of its cell. Their own estimates mean
        nothing.
        """
        responses = [self.model.response(item) for item in self.populations]
        arms, mass = self._arms(responses)
        sizes = self._sizes()
        sides = self._sides(responses)
        controls, treated = self._mixed(sides)
        slopes = [(item.gradient(controls), item.gradient(treated)) for item in measures]
        on_control = np.stack([slope[0] for slope in slopes], axis=1)
        on_treated = np.stack([slope[1] for slope in slopes], axis=1)
        weights, values = self.estimator.weights, self.units.outcome
        found = np.zeros((2 * len(measures), values.size))
        for item, arm, size, side, rows in zip(responses, arms, sizes, sides, self.rows, strict=True):
            moves = unfolding_moves(item, arm.control, arm.treated, *size, side)
            share = float(arm.weight_treated) / float(arm.weight_control)
            # A unit also makes its own population count for more in its arm.
            by_control = (
                (moves.control_by_control + side.control) @ on_control,
                share * moves.treated_by_control @ on_treated,
            )
            by_treated = (
                moves.control_by_treated @ on_control / share,
                (moves.treated_by_treated + side.treated) @ on_treated,
            )
            cells, sign = item.cells(values[rows]), weights[rows] > 0
            for place in (0, 1):
                found[place::2, rows] = np.where(
                    sign, by_treated[place][cells].T, -by_control[place][cells].T
                )
        return np.concatenate([values[None], found / mass])

    def measured(self, fitted: FittedDesign, measures: Sequence[Measure]) -> MeasuredArms:
        """Measure both distributions, with both parts of the variance.

        The trial's part is that of the influence functions under the design's own covariance; the calibration's part
        is ``sum_j ((T(g + l_j) - T(g - l_j)) / 2)^2`` over the columns l_j of the Cholesky factor of the curve's
        covariance. To the trial's part is added what bias the unfolding may have left: the squared distances to the
        measures by an earlier and by a later stop.

        Parameters
        ----------
        fitted : FittedDesign
            On the outcomes of `outcomes_of` for the same measures.
        """
        responses = [self.model.response(item) for item in self.populations]
        sides = self._sides(responses)
        control, treated = self._mixed(sides)
        points = _values(measures, control, treated)
        k = self.model.knots.size
        scores = np.concatenate([np.eye(k), -np.eye(k)])
        drawn = self._sides([self.model.response(item, scores) for item in self.populations], sides)
        spread = _values(measures, *self._mixed(drawn))
        pairs = (spread[:k] - spread[k:]) / 2
        calibration = pairs.T @ pairs
        others = zip(*self._otherwise(responses, sides), strict=True)
        away = np.stack([_values(measures, *self._mixed(other)) for other in others]) - points
        bias = away.T @ away
        trial = fitted.trial.covariance[1:, 1:]
        calibration_df = min(item.df for item in self.populations)

        def estimate(at: Floats) -> Estimate:
            ours, theirs = float(at @ (trial + bias) @ at), float(at @ calibration @ at)
            df = combined_df(ours, fitted.trial.df, theirs, calibration_df)
            return Estimate("response", float(at @ points), ours, theirs, df=df)

        unit = np.eye(points.size)
        found = [
            Measured(
                item.kind,
                item.at,
                estimate(none),
                estimate(none + gap),
                estimate(gap),
                _share(gap @ bias @ gap, gap @ (trial + bias + calibration) @ gap),
            )
            for item, none, gap in zip(measures, unit[::2], unit[1::2] - unit[::2], strict=True)
        ]
        return MeasuredArms(
            tuple(found),
            self.model.truth.x,
            control,
            treated,
            lambda at: estimate(np.repeat(at, 2) * np.tile([-1.0, 1.0], at.size)),
        )

    def _sizes(self) -> list[tuple[float, float]]:
        """Effective numbers of controls and of treated in each population."""
        weights = self.estimator.weights
        sizes = []
        for rows in self.rows:
            sides = np.maximum(-weights[rows], 0.0), np.maximum(weights[rows], 0.0)
            found = [float(side.sum() ** 2 / np.square(side).sum()) for side in sides]
            sizes.append((found[0], found[1]))
        return sizes

    def _sides(self, responses: list[Response], start: Sequence[Sides] | None = None) -> list[Sides]:
        arms, _ = self._arms(responses)
        starts = [None] * len(arms) if start is None else [item.tilts for item in start]
        return [
            unfold_sides(item, arm.control, arm.treated, *size, known)
            for item, arm, size, known in zip(responses, arms, self._sizes(), starts, strict=True)
        ]

    def _otherwise(
        self, responses: list[Response], sides: Sequence[Sides]
    ) -> list[tuple[tuple[Floats, Floats], tuple[Floats, Floats]]]:
        """Both arms by an earlier stop and by a later one, in each population."""
        arms, _ = self._arms(responses)
        return [
            stopped_otherwise(item, arm.control, arm.treated, side)
            for item, arm, side in zip(responses, arms, sides, strict=True)
        ]

    def _mixed(self, sides: Sequence[Sides | tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        """Distributions of all populations together, from those of controls and treated in each."""
        weights = self.estimator.weights
        up = np.array([np.maximum(weights[rows], 0).sum() for rows in self.rows])
        down = np.array([np.maximum(-weights[rows], 0).sum() for rows in self.rows])
        control = sum(share * side[0] for share, side in zip(down / down.sum(), sides, strict=True))
        treated = sum(share * side[1] for share, side in zip(up / up.sum(), sides, strict=True))
        return np.asarray(control), np.asarray(treated)


def _values(measures: Sequence[Measure], control: Floats, treated: Floats) -> Floats:
    """Measures of both distributions, shape (..., 2 m): control, treated, control, ..."""
    return np.stack([item.value(side) for item in measures for side in (control, treated)], axis=-1)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0
