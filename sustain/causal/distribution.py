"""Effects on the distribution of an outcome that was read off a map: headcounts, quantiles, gains by thirds.

Shares of predictions below a poverty line are not shares of places below it: predictions are shrunken, so too few of
them lie beyond any line in the tails. Here the distributions of truth of controls and of treated are unfolded from the
predictions, through the response curve and kernel of a calibration card, and the line is drawn in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.correction.change import change_of
from sustain.causal.correction.choice import CorrectionChoice
from sustain.causal.correction.correct import support_share
from sustain.causal.distributions.arms import MeasuredArms, UnfoldedArms
from sustain.causal.distributions.result import DistributionResult, distribution_notes
from sustain.causal.effect import Analysis
from sustain.causal.estimate import Estimate
from sustain.causal.estimators.least_squares import LinearEstimator
from sustain.causal.fit import FittedDesign
from sustain.causal.trial.reader import read
from sustain.causal.trial.roles import Roles
from sustain.causal.trial.units import Units
from sustain.debias.response.measures import Measure, headcount, mean_of_part, quantile, shortfall
from sustain.debias.response.model import ResponseModel
from sustain.errors import EffectError
from sustain.spelling import Placeholder, argument

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["DistributionAnalysis", "MeasureName", "estimate_distribution"]

DistributionEstimator = Literal["difference", "ols", "ipw", "aipw"]
MeasureName = Literal["headcount", "quantile", "shortfall", "gain"]

N_BAND = 25
"""Truths at which the two distributions are given with a band."""

REFUSED = {
    "gini": "an index of wealth has no zero from which it is counted, and the Gini changes with where that is put",
    "fgt": "the squared gap weighs the tail most, of which shrunken predictions say least",
}


def estimate_distribution(
    data: pd.DataFrame,
    formula: str | None = None,
    *,
    outcome: str | None = None,
    treatment: str | None = None,
    calibration: CalibrationCard | str | Path,
    lines: float | Sequence[float] = (),
    quantiles: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    measures: Sequence[MeasureName] | None = None,
    covariates: str | Sequence[str] = (),
    fixed_effects: str | Sequence[str] = (),
    estimator: DistributionEstimator | None = None,
    weights: str | ArrayLike | None = None,
    strata: str | Sequence[str] | None = None,
    vcov: str | Mapping[str, Any] | None = None,
    level: float = 0.95,
    outcome_model: Any = None,
    propensity_model: Any = None,
    n_folds: int | None = None,
    seed: int = 0,
) -> DistributionResult:
    """Estimate what a treatment does to the distribution of a mapped outcome.

    Parameters
    ----------
    data, formula, outcome, treatment, covariates, fixed_effects, weights, strata, vcov, level
        As for `estimate_effect`.
    calibration : CalibrationCard or path
        One that holds a response; see `sustain.debias.ResponseCalibration`.
    lines : float or sequence of float
        Poverty lines, in the unit of the truth.
    quantiles : sequence of float
        Between 0 and 1.
    measures : sequence of str, optional
        Among ``"headcount"``, the share below each line; ``"shortfall"``, the mean distance to each line from below
        (the poverty gap, in units of the truth); ``"quantile"``, by how much each quantile moves; and ``"gain"``, the
        mean gain of the poorest, middle and richest third, which supposes that the treatment leaves the order of units
        as it was. By default all, those of lines where there are lines.
    estimator : {"difference", "ols", "ipw", "aipw"}, optional
        As for `estimate_effect`. Others do not compare two distributions.
    outcome_model, propensity_model, n_folds, seed
        As for `estimate_effect`.

    Returns
    -------
    DistributionResult

    Raises
    ------
    EffectError
        As `estimate_effect`; when the design does not compare two groups of units; when a line lies where no truth
        was seen, or a quantile is none.
    CardError
        When the card holds no response, or is for another target, unit or predictor.

    Warns
    -----
    SupportWarning, WeakCalibrationWarning, MissingDataWarning
        As `estimate_effect`.

    Notes
    -----
    The distributions are those of the units with positive and with negative weights in the estimator: of treated and of
    controls in a trial. Supposed is measurement stability: that predictions scatter about the same curve in both arms
    and in the calibration sample. See `sustain.debias.response.distribution` for how they are unfolded.
    """
    correction = CorrectionChoice.read(calibration, "response", strata=strata, assumption="measurement")
    analysis = Analysis.of(
        Roles.read(
            formula,
            outcome=outcome,
            treatment=treatment,
            covariates=covariates,
            fixed_effects=fixed_effects,
            estimator=estimator,
        ),
        correction,
        vcov=vcov,
        weights=weights,
        level=level,
        outcome_model=outcome_model,
        propensity_model=propensity_model,
        n_folds=n_folds,
        seed=seed,
    )
    return DistributionAnalysis.of(analysis, lines, quantiles, measures).run(data)


@dataclass(frozen=True)
class DistributionAnalysis:
    """What is to be measured of a trial's distributions, beside how the trial is analysed.

    Attributes
    ----------
    analysis : Analysis
    card : CalibrationCard
    measures : tuple of Measure
    """

    analysis: Analysis
    card: CalibrationCard
    measures: tuple[Measure, ...]

    @classmethod
    def of(
        cls,
        analysis: Analysis,
        lines: float | Sequence[float] = (),
        quantiles: Sequence[float] = (),
        measures: Sequence[str] | None = None,
    ) -> DistributionAnalysis:
        """Check what was asked for, as `estimate_distribution` documents it."""
        design, card = analysis.design, analysis.correction.card
        if card is None:
            raise EffectError(
                "calibration: got None, expected a CalibrationCard or the path of one: a distribution of truth is "
                "unfolded from predictions by the card's response."
            )
        known = get_args(DistributionEstimator)
        if design.estimator not in known:
            raise EffectError(
                f"estimator: got {design.estimator!r}, expected one of {', '.join(map(repr, known))}: an "
                "instrument or a change over time compares no two distributions. Estimate the effect on the mean, with "
                "estimate_effect."
            )
        if analysis.roles.interactions is not None:
            raise EffectError(
                "formula: a product of the treatment with a covariate has no distribution. Leave it out, or estimate "
                "each group on its own."
            )
        return cls(analysis, card, _measures(card.response_model, lines, quantiles, measures))

    def run(self, data: pd.DataFrame) -> DistributionResult:
        """Read the trial, unfold both arms, measure."""
        analysis = self.analysis
        units = analysis.read(data)
        if change_of(analysis.design, units) is not None:
            raise EffectError(
                "fixed_effects: those of units and periods compare changes over time, which the card's response does "
                "not describe. Estimate the effect on the mean, with estimate_effect."
            )
        truth = self.card.response_model.truth
        low, high = self.card.response_model.ends
        band = tuple(headcount(truth, float(line)) for line in np.linspace(low, high, N_BAND))
        wanted = (*self.measures, *band, *(mean_of_part(truth, 0.0, 1.0),))

        def outcomes(some: Units, estimator: LinearEstimator, product: bool) -> NDArray[np.float64]:
            arms = UnfoldedArms.of(self.card, estimator, some, analysis.correction.strata)
            arms.require_two_groups()
            return arms.outcomes_of(wanted)

        fitted = FittedDesign.fit(analysis.design, analysis.vcov, units, outcomes)
        arms = UnfoldedArms.of(self.card, fitted.estimator, units, analysis.correction.strata)
        found = arms.measured(fitted, wanted)
        share = support_share(self.card, fitted.estimator, units)
        extrapolated = float(found.treated[(truth.x < low) | (truth.x > high)].sum())
        n, kinds = len(self.measures), {item.kind for item in self.measures}
        return DistributionResult(
            term=analysis.roles.treatment,
            outcome=analysis.roles.outcome,
            unit=str(self.card.target.unit),
            measured=found.measured[:n],
            band=found.measured[n:-1],
            mean=found.measured[-1],
            truth=found.truth,
            control=found.control,
            treated=found.treated,
            estimator=fitted.estimator.name,
            vcov=fitted.trial.label,
            level=float(analysis.level),
            n=units.n,
            n_treated=units.n_treated,
            n_dropped=units.n_dropped,
            r2=float(self.card.r2),
            extrapolated=extrapolated,
            notes=distribution_notes(
                self.card, fitted, kinds, self._gap(found), share, extrapolated, analysis.level
            ),
        )

    def _gap(self, found: MeasuredArms) -> Estimate | None:
        """Gain of the poorest third less that of the richest."""
        at = np.zeros(len(found.measured))
        thirds = [place for place, item in enumerate(self.measures) if item.kind == "gain"]
        if not thirds:
            return None
        at[thirds[0]], at[thirds[-1]] = 1.0, -1.0
        return found.contrast(at)


def _measures(
    model: ResponseModel,
    lines: float | Sequence[float],
    quantiles: Sequence[float],
    measures: Sequence[str] | None,
) -> tuple[Measure, ...]:
    asked = tuple(get_args(MeasureName)) if measures is None else _names(measures)
    at = _numbers("lines", lines)
    truth = model.truth
    low, high = model.ends
    for line in at:
        if not low <= line <= high:
            raise EffectError(
                f"lines: got {line:.4g}, expected numbers between {low:.4g} and {high:.4g}, where the calibration saw "
                "truths: beyond, no share is known."
            )
    shares = _numbers("quantiles", quantiles)
    for share in shares:
        if not 0 < share < 1:
            raise EffectError(f"quantiles: got {share:.4g}, expected shares between 0 and 1, such as 0.5.")
    if not at.size and measures is not None and {"headcount", "shortfall"} & set(asked):
        raise EffectError(
            f"lines: none given, but {argument('measures', list(asked))} needs them: pass "
            f"{argument('lines', Placeholder('number'))}, in the unit of the truth."
        )
    found: list[Measure] = []
    if "headcount" in asked:
        found += [headcount(truth, float(line)) for line in at]
    if "shortfall" in asked:
        found += [shortfall(truth, float(line)) for line in at]
    if "quantile" in asked:
        found += [quantile(truth, float(share)) for share in shares]
    if "gain" in asked:
        found += [mean_of_part(truth, part / 3, (part + 1) / 3) for part in range(3)]
    return tuple(found)


def _numbers(name: str, values: float | Sequence[float]) -> NDArray[np.float64]:
    """Read a number or several, none where there are none; raises `EffectError` on anything else."""
    listed = [values] if np.ndim(values) == 0 else list(values)  # type: ignore[arg-type]
    return np.array([read.number(name, value, "finite numbers") for value in listed], dtype=np.float64)


def _names(measures: Sequence[str]) -> tuple[str, ...]:
    asked = read.names("measures", measures)
    for name in asked:
        for word, reason in REFUSED.items():
            if str(name).lower().startswith(word):
                raise EffectError(f"measures: {name!r} is not given: {reason}. Use 'shortfall'.")
        if name not in get_args(MeasureName):
            known = ", ".join(map(repr, get_args(MeasureName)))
            raise EffectError(f"measures: got {name!r}, expected names among {known}.")
    return tuple(asked)
