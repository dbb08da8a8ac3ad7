"""An effect read back through the response curve, by unfolding the predictions that it was estimated from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.correct import combined_df
from sustain.causal.estimate import Estimate, Note
from sustain.causal.estimators.least_squares import LinearEstimator
from sustain.causal.trial.reader import read
from sustain.causal.trial.units import Units
from sustain.causal.vcov.vcov import TrialCovariance
from sustain.debias.response.influence import influence
from sustain.debias.response.model import Population, ResponseModel
from sustain.debias.response.slope import slope_for
from sustain.debias.response.two_samples import both_ways, covariance_along, weight_of_alike
from sustain.debias.response.unfolding import Arms, Response, Unfolded, common_gains, unfold_effect
from sustain.errors import CalibrationError, CardError, EffectError
from sustain.spelling import argument
from sustain.stats.combinations import combined_label, read_combinations

if TYPE_CHECKING:
    from sustain.causal.fit import FittedDesign
    from sustain.debias import CalibrationCard

__all__ = ["ResponseEffect", "UnfoldedTrial", "response_notes"]

Floats = NDArray[np.float64]

N_DRAWS, LEAST_DRAWS = 100, 40
"""Draws of the response curve, shared among the populations of a trial, and the fewest of these."""

DIFFERS = 2.0
"""Standard errors between the effect and that of units which gain alike, from which effects are said to differ."""

FAR = 0.1  # share of the treated beyond the curve's ends that is said


@dataclass(frozen=True)
class ResponseEffect:
    """What unfolding says beside the effect itself.

    Attributes
    ----------
    slope : float
        The trial's own slope of prediction on truth: the effect on predictions over that on the truth.
    unfolded, alike : Estimate
        The effect by the two unfolded distributions, and the effect if every unit gains alike.
    weight_alike : float
        Weight of the latter in the estimate, 0 to 1: that of two estimates which sampling error does not tell apart.
    apart : float
        Standard errors between the two.
    extrapolated : float
        Share of the treated whose truth lies beyond the ends of the response curve.
    bounded : bool
        Whether no common gain that is looked for (up to three standard deviations of the truth) explains the effect on
        predictions; `alike` is then the greatest, and has no weight.
    truth : ndarray, shape (m,)
        Nodes of the truth.
    control, treated : ndarray, shape (m,)
        Unfolded distributions on them.
    """

    slope: float
    unfolded: Estimate
    alike: Estimate
    weight_alike: float
    apart: float
    extrapolated: float
    bounded: bool
    truth: Floats
    control: Floats
    treated: Floats

    @property
    def differs(self) -> bool:
        """Whether effects differ between units, as far as the trial can tell."""
        return self.apart > DIFFERS and not self.bounded

    def to_dict(self, level: float) -> dict[str, Any]:
        """As plain numbers and lists, with intervals at `level`."""
        found: dict[str, Any] = {
            "slope": self.slope,
            "weight_alike": self.weight_alike,
            "apart": self.apart,
            "effects_differ": self.differs,
            "extrapolated": self.extrapolated,
            "bounded": self.bounded,
        }
        for name, end in (("unfolded", self.unfolded), ("alike", self.alike)):
            low, high = end.conf_int(level)
            found[name] = {
                "estimate": end.estimate,
                "std_error": end.std_error,
                "conf_low": low,
                "conf_high": high,
            }
        for name in ("truth", "control", "treated"):
            found[name] = getattr(self, name).tolist()
        return found


@dataclass(frozen=True)
class UnfoldedTrial:
    """A trial's predictions, unfolded: where on the response curve its units lie, and what follows for the effect.

    The units with positive weights in the estimator make the one distribution, those with negative weights the other:
    the arms of a difference in means, and what any other design compares.

    Attributes
    ----------
    model : ResponseModel
    populations : tuple of Population
        That the units are from.
    rows : tuple of ndarray of int
        Units of each population.
    estimator : LinearEstimator
    units : Units
    product : bool
        Whether the estimate is how an effect moves with a covariate: no shift of all units makes that.
    elsewhere : bool
        Whether the units are from a population that is none of the card's: the interval then carries how these differ.
    """

    model: ResponseModel
    populations: tuple[Population, ...]
    rows: tuple[NDArray[np.intp], ...]
    estimator: LinearEstimator
    units: Units
    product: bool = False
    elsewhere: bool = False

    @classmethod
    def of(
        cls,
        card: CalibrationCard,
        estimator: LinearEstimator,
        units: Units,
        strata: Sequence[str] = (),
        *,
        product: bool = False,
        elsewhere: bool = False,
    ) -> Self:
        """Match the units to the card's populations; raises `CardError` where one is not in the card."""
        model = card.response_model
        if not strata:
            return cls(model, (model.pooled,), (np.arange(units.n),), estimator, units, product, elsewhere)
        found = read_combinations(read, "strata", {name: units.extra[name] for name in strata})
        try:
            populations = tuple(model.population(parts) for parts in found.parts)
        except CalibrationError as error:
            raise CardError(str(error)) from error
        for parts, population in zip(found.parts, populations, strict=True):
            _require_rise(model, population, combined_label(parts))
        rows = tuple(np.flatnonzero(found.codes == code) for code in range(len(populations)))
        return cls(model, populations, rows, estimator, units, product, elsewhere)

    def outcomes(self) -> Floats:
        """Give the outcomes whose estimates have the covariance that is wanted, shape (3, n).

        The raw predictions, and two outcomes whose influence functions are those of the unfolded effect and of the
        effect if every unit gains alike. Their own estimates mean nothing.
        """
        responses = self._responses()
        found = self.unfolded(responses)
        arms, mass = self._arms(responses)
        derivatives = influence(responses, arms, found, self._difference, mass, contrast=self.product)
        weights, values = self.estimator.weights, self.units.outcome
        outcomes = [values]
        for derivative in derivatives:
            outcome = derivative.difference * values
            for item, rows, control, treated in zip(
                responses, self.rows, derivative.control, derivative.treated, strict=True
            ):
                cells = item.cells(values[rows])
                sign = weights[rows] > 0
                outcome[rows] += np.where(sign, treated[cells], -control[cells]) / mass
            outcomes.append(outcome)
        return np.stack(outcomes)

    def _responses(self, scores: Floats | None = None) -> list[Response]:
        return [self.model.response(item, scores, elsewhere=self.elsewhere) for item in self.populations]

    @property
    def _difference(self) -> float:
        return self.estimator.estimate(self.units.outcome)

    def _arms(self, responses: list[Response]) -> tuple[list[Arms], float]:
        weights, values = self.estimator.weights, self.units.outcome
        positive, negative = np.maximum(weights, 0.0), np.maximum(-weights, 0.0)
        mass = float(positive.sum())
        arms = []
        for item, rows in zip(responses, self.rows, strict=True):
            # An arm without units here has no weight, and what would be seen if its truths were the calibration's.
            nothing = (item.distribution[..., None, :] @ item.matrix)[..., 0, :]
            up, down = float(positive[rows].sum()), float(negative[rows].sum())
            arms.append(
                Arms(
                    item.shares(values[rows], negative[rows]) if down > 0 else nothing,
                    item.shares(values[rows], positive[rows]) if up > 0 else nothing,
                    down / float(negative.sum()),
                    up / mass,
                )
            )
        return arms, mass

    def unfolded(self, responses: list[Response]) -> Unfolded:
        """Unfold both arms by these responses."""
        arms, mass = self._arms(responses)
        return unfold_effect(responses, arms, self._difference, mass, contrast=self.product)

    def corrected(self, fitted: FittedDesign) -> tuple[Estimate, ResponseEffect, Floats]:
        """Effect with both parts of its variance, what unfolding says beside it, and an outcome of its influence.

        The trial's part is that of the influence functions under the design's own covariance, the calibration's part
        that of `covariance_along` the curve's. The effect is a mean of the unfolded one and that of units which gain
        alike, by `weight_of_alike`.

        Parameters
        ----------
        fitted : FittedDesign
            On the outcomes of `outcomes`.
        """
        responses = self._responses()
        found = self.unfolded(responses)
        if not np.isfinite(found.effect):
            raise EffectError(
                "method: the trial's predictions do not say where on the response curve the effect lies, so 'response' "
                f"cannot read it back. Use {argument('method', 'linear')}."
            )
        k = self.model.knots.size
        half = np.random.default_rng(0).standard_normal((self._n_draws // 2, k))
        two = _TwoEffects(
            np.array([float(found.effect), float(found.shift)]),
            fitted.trial,
            covariance_along(self._effects(both_ways(k))),
            np.cov(self._effects(np.concatenate([half, -half])), rowvar=False),
            self._df,
        )
        bounded = bool(abs(float(found.shift)) >= common_gains(responses)[-1])
        alike = weight_of_alike(two.points[0], two.points[1], two.apart_variance)
        if self.product or bounded:
            alike = 0.0
        end = two.mean(alike)
        arms, _ = self._arms(responses)
        control = sum(arm.weight_control * part for arm, part in zip(arms, found.control, strict=True))
        treated = sum(arm.weight_treated * part for arm, part in zip(arms, found.treated, strict=True))
        (low, high), truth = self.model.ends, self.model.truth.x
        beside = ResponseEffect(
            slope=self._difference / end.estimate if end.estimate else float(found.slope),
            unfolded=two.mean(0.0),
            alike=two.mean(1.0),
            weight_alike=alike,
            apart=two.apart,
            extrapolated=float(np.asarray(treated)[(truth < low) | (truth > high)].sum()),
            bounded=bounded,
            truth=truth,
            control=np.asarray(control),
            treated=np.asarray(treated),
        )
        return end, beside, (1 - alike) * fitted.outcomes[1] + alike * fitted.outcomes[2]

    def _effects(self, scores: Floats) -> Floats:
        """Effects by curves that left their estimate, shape (n, 2): unfolded, alike."""
        found = self.unfolded(self._responses(scores))
        return np.column_stack([found.effect, found.shift])

    @property
    def _n_draws(self) -> int:
        return max(LEAST_DRAWS, N_DRAWS // len(self.populations))

    @property
    def _df(self) -> float:
        df = min(item.df for item in self.populations)
        between = self.model.between
        return df if not self.elsewhere or between is None else min(df, between.n - 1.0)


def _require_rise(model: ResponseModel, population: Population, name: str) -> None:
    """Raise `EffectError` where a population's predictions may not rise with the truth."""
    found = slope_for(model, population, model.scale)
    low, high = found.interval()
    if not low > 0:
        raise EffectError(
            f"strata: in {name!r} the slope of the response curve, over one standard deviation of the truth, is "
            f"{found.value:.3g} with a 95% interval of [{low:.3g}, {high:.3g}], not above zero: no effect can be "
            f"read back there. Leave strata out, leave these units out, or use {argument('assumption', 'outcome')}."
        )


@dataclass(frozen=True)
class _TwoEffects:
    """The unfolded effect and that of units which gain alike, with what is known of both."""

    points: Floats
    trial: TrialCovariance
    calibration: Floats
    drawn: Floats
    df: float

    @property
    def apart_variance(self) -> float:
        gap = np.array([1.0, -1.0])
        return float(gap @ (self.trial.covariance[1:, 1:] + self.calibration) @ gap)

    @property
    def apart(self) -> float:
        """Standard errors between the two."""
        distance = abs(float(self.points[0] - self.points[1]))
        return distance / math.sqrt(self.apart_variance) if self.apart_variance > 0 else 0.0

    def mean(self, alike: float) -> Estimate:
        """Mean of both with this weight on the second; the variance of a mean of which one is right."""
        at = np.array([1 - alike, alike])
        between = alike * (1 - alike) * float(self.points[0] - self.points[1]) ** 2
        ours = float(at @ self.trial.covariance[1:, 1:] @ at) + between
        theirs = float(at @ self.calibration @ at)
        return Estimate(
            "response",
            float(at @ self.points),
            ours,
            theirs,
            df=combined_df(ours, self.trial.df, theirs, self.df),
            variance_draws=float(at @ self.drawn @ at),
            covariance_naive=float(self.trial.covariance[0, 1:] @ at),
        )


def response_notes(beside: ResponseEffect) -> tuple[Note, ...]:
    """Say what a reader must know of an effect that was read back."""
    notes = []
    if beside.differs:
        notes.append(
            Note(
                "effects_differ",
                f"If every unit gained alike, the effect would be {beside.alike.estimate:.4g}; the two unfolded "
                f"distributions say {beside.unfolded.estimate:.4g}, {beside.apart:.1f} standard errors from it: "
                "effects differ between units.",
            )
        )
    if beside.bounded:
        notes.append(
            Note(
                "bounded",
                f"The arms' predictions differ by more than a gain of {abs(beside.alike.estimate):.3g} of every unit, "
                "three standard deviations of the truth, would make: the image seems to show the contrast by itself, "
                f"and the effect that is read back means little. See {argument('assumption', 'outcome')}.",
            )
        )
    if beside.extrapolated > FAR:
        notes.append(
            Note(
                "extrapolated",
                f"{beside.extrapolated:.0%} of the treated are beyond the truths that shaped the response curve, where "
                "it is straight. Calibrate on places like theirs.",
            )
        )
    return tuple(notes)
