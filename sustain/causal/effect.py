"""The effect of a treatment on an outcome that was read off a map.

A map's predictions are shrunken, so effects on them come out too small, unless the image shows the contrast
by itself. Which of the two holds is an assumption, not a matter of arithmetic:

- *measurement stability*: P(prediction | truth) is the same in both arms and in the calibration sample. The
  treatment reaches the image through the outcome only. Then the correction is right and the naive effect is
  not.
- *outcome stability*: P(truth | prediction) is the same. The image shows the contrast (region, roads, town).
  Then the naive effect is right, and a correction overshoots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from sustain.causal.correction.change import change_of
from sustain.causal.correction.choice import Assumption, Corrected, CorrectionChoice
from sustain.causal.correction.elsewhere import Transport
from sustain.causal.design import Design
from sustain.causal.estimate import Note
from sustain.causal.fit import FittedDesign
from sustain.causal.result.estimates import About, Product
from sustain.causal.result.notes import collect_notes
from sustain.causal.result.result import EffectResult
from sustain.causal.trial.reader import read
from sustain.causal.trial.roles import EstimatorName, Roles
from sustain.causal.trial.units import Units, read_units
from sustain.causal.vcov.vcov import Vcov
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["Analysis", "estimate_effect"]


def estimate_effect(
    data: pd.DataFrame,
    formula: str | None = None,
    *,
    outcome: str | None = None,
    treatment: str | None = None,
    covariates: str | Sequence[str] = (),
    fixed_effects: str | Sequence[str] = (),
    estimator: EstimatorName | None = None,
    weights: str | ArrayLike | None = None,
    calibration: CalibrationCard | str | Path | None = None,
    method: str | None = None,
    card_level: str | None = None,
    strata: str | Sequence[str] | None = None,
    assumption: Assumption | None = None,
    transport: Transport | None = None,
    overlap: Mapping[str, Any] | None = None,
    vcov: str | Mapping[str, Any] | None = None,
    level: float = 0.95,
    unit: str | None = None,
    time: str | None = None,
    instrument: str | Sequence[str] | None = None,
    outcome_model: Any = None,
    propensity_model: Any = None,
    n_folds: int | None = None,
    seed: int = 0,
) -> EffectResult:
    """Estimate a treatment effect on a mapped outcome, with an interval that carries the calibration's error.

    Parameters
    ----------
    data : DataFrame
        One row a unit. ``data.attrs["unit"]``, ``["target"]``, ``["predictor"]`` and ``["predictor_sha256"]``, where
        set, must agree with the card.
    formula : str, optional
        Instead of `outcome`, `treatment`, `covariates`, `fixed_effects` and `instrument`:
        ``"wealth ~ treated + x | adm2 + year"``, where fixed effects follow the first bar, and
        ``"wealth ~ x | adm2 | treated ~ offer"`` for instruments. The treatment is the first term on the right, unless
        it is instrumented or named by `treatment`. With ``treated * x`` (``"ols"``) the effect is that where x is zero,
        and ``coefficients`` of the result says by how much it moves with x.
    outcome : str
        Column of **raw** predictions: the card corrects them.
    treatment : str
        Column of 0 and 1.
    covariates : str or sequence of str
        Columns to adjust for; text and categories become dummies.
    fixed_effects : str or sequence of str
        Columns whose levels are absorbed, ``"a^b"`` for combinations; for ``"ols"`` and ``"iv"``.
    estimator : {"difference", "ols", "ipw", "aipw", "did", "iv"}, optional
        Difference in means; least squares with covariates; inverse-propensity weighting (logistic propensity);
        doubly robust with cross-fitting; difference-in-differences (two-way fixed effects); two-stage least
        squares. Inverse propensities are normalised to add up to one in each arm (Hajek). By default
        ``"difference"``, and with a formula ``"ols"`` or ``"iv"``.
    weights : str or array_like of shape (n,), optional
        Sampling weights.
    calibration : CalibrationCard or path, optional
        How the errors of these predictions behave.
    method : str, optional
        ``"response"``: the effect read back through the card's response curve, at the truths that the trial's own
        predictions unfold to. ``"linear"`` or ``"tweedie"``, corrections of each prediction; ``"level"``, the linear
        one with the slope at `card_level`; or ``"none"``. By default ``"response"`` with a card that holds it,
        ``"linear"`` with one that does not, and ``"none"`` without a card.
    card_level : str, optional
        For ``"level"``: the card's level of variation (such as between regions, or within them) at which treated and
        controls are compared.
    strata : str or sequence of str, optional
        Column of strata (urban, rural) for which the card holds corrections of their own: each unit gets its own
        stratum's. Of several columns, in the order of the card's (country, then urban or rural), a unit whose
        combination is not in the card gets that of its first labels. Effects within strata are more shrunken than the
        pooled slope says, because part of what the model predicts is the difference between strata.
    assumption : {"measurement", "outcome", "bracket"}, optional
        ``"measurement"``: correct. ``"outcome"``: do not, the naive effect is meant. ``"bracket"``: report
        both ends and the path between them. None: the method decides, and the result says so where the two differ
        materially. A change over time (``"did"``, or fixed effects of units and years) takes ``"outcome"`` or None and
        no correction: no card holds a slope of change, and the naive effect is a lower end of its size.
    transport : {"groups", "strata"} or float, optional
        For a trial in a country that the card has not seen, what its interval is to carry: by how much what `method`
        recovers of an effect differs between the card's groups, beyond sampling error; for a linear correction also
        by how much slopes differ between its strata, or a standard deviation of the slope. None: the calibration's own
        sampling error only.
    overlap : mapping, optional
        For trials with units of the calibration sample: ``{"id": column, "rows": calibration rows}``, the rows with
        columns ``y_pred``, ``y_true`` (or as named by these keys), the id and, where `vcov` clusters, the cluster. The
        covariance of both parts of the error is then taken into account, for linear corrections. Without it the
        samples are taken as independent.
    vcov : str or mapping, optional
        ``"HC1"``; ``{"CRV1": column}`` (clusters, t with G - 1), or two columns in a list; ``{"CR2": column}`` (few
        clusters; for ``"difference"``, ``"ols"`` and ``"did"``); ``{"conley": {"lat": column, "lon": column,
        "cutoff_km": number}}`` (Bartlett kernel on great-circle distances); or ``{"block": {"lat": column, "lon":
        column, "block_km": number}}`` (spatial-block bootstrap, `n_boot` resamples, 399 by default). By default
        ``"HC1"``, and for ``"did"`` clusters of `unit`.
    level : float
        Confidence level.
    unit, time : str, optional
        For ``"did"``: columns of the unit and the period of each row; `treatment` is then the status in the
        period. With a formula, its two fixed effects.
    instrument : str or sequence of str, optional
        For ``"iv"``: columns.
    outcome_model, propensity_model : estimators of scikit-learn, optional
        For ``"aipw"``: any regressor and any classifier with ``predict_proba``; cloned, cross-fitted and seeded. By
        default least squares within each arm, and a logistic regression.
    n_folds : int, optional
        For ``"aipw"``: number of folds, in which clusters of `vcov` are kept whole. By default 5, and 20 (or one for
        each cluster) where there are fewer than 100 clusters and no bootstrap.
    seed : int
        Of these folds, of learners and of the block bootstrap.

    Returns
    -------
    EffectResult

    Raises
    ------
    EffectError
        When a column is missing, treatment is not 0/1, an arm is empty, the design is singular, there is a
        single cluster, a correction of a change over time is asked for, or arguments contradict each other.
    CardError
        When the card does not hold the method, or is for another target, unit or predictor.

    Warns
    -----
    MissingDataWarning
        When rows are left out for missing values.
    SupportWarning
        When part of the trial lies outside the range in which the correction was learned.
    WeakCalibrationWarning
        When the slope of a linear correction does not differ from zero at `level` or is under 0.2, or the card was
        learned from fewer than 100 rows; when the predictions explain less than 20% of the variance of the labels.
    ChangeWarning
        When a card is given for a change over time, which it does not correct, without ``assumption="outcome"``.

    Notes
    -----
    Every estimator is linear in the outcome (with `outcome_model`, nearly so). A linear correction therefore divides
    the effect by the slope b, with V(tau) = V_d / b^2 + tau^2 V_b / b^2; any other correction h is applied to the
    outcome, with the trial's part of the variance from the influence function on h(x) and the calibration's part
    from the effect under each of the card's bootstrap draws of h.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sustain.debias import build_card
    >>> rng = np.random.default_rng(0)
    >>> predicted = rng.normal(size=500)
    >>> about = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model"}
    >>> card = build_card(predicted, predicted + 0.7 * rng.normal(size=500), **about)
    >>> trial = pd.DataFrame({"wealth": rng.normal(size=400), "treated": np.arange(400) % 2})
    >>> effect = estimate_effect(trial, "wealth ~ treated", calibration=card, assumption="measurement")
    >>> effect.std_error > effect.naive.std_error
    True
    """
    analysis = Analysis.of(
        Roles.read(
            formula,
            outcome=outcome,
            treatment=treatment,
            covariates=covariates,
            fixed_effects=fixed_effects,
            instrument=instrument,
            estimator=estimator,
            unit=unit,
            time=time,
        ),
        CorrectionChoice.read(
            calibration,
            method,
            card_level=card_level,
            strata=strata,
            assumption=assumption,
            transport=transport,
            overlap=overlap,
        ),
        vcov=vcov,
        weights=weights,
        level=level,
        outcome_model=outcome_model,
        propensity_model=propensity_model,
        n_folds=n_folds,
        seed=seed,
    )
    return analysis.run(data)


@dataclass(frozen=True)
class Analysis:
    """What is to be estimated from a trial: which columns, by which design, with which errors and correction.

    Attributes
    ----------
    roles : Roles
    design : Design
    vcov : Vcov
    correction : CorrectionChoice
    weights : str, array_like or None
        Column of sampling weights, or the weights.
    level : float
        Confidence level.
    """

    roles: Roles
    design: Design
    vcov: Vcov
    correction: CorrectionChoice
    weights: str | ArrayLike | None = None
    level: float = 0.95

    def __post_init__(self) -> None:
        """Raise `EffectError` unless the level is a share."""
        expected = "a confidence level between 0 and 1, such as 0.95"
        if not 0 < read.number("level", self.level, expected) < 1:
            raise EffectError(f"level: got {self.level!r}, expected {expected}.")

    @classmethod
    def of(
        cls,
        roles: Roles,
        correction: CorrectionChoice,
        *,
        vcov: str | Mapping[str, Any] | None = None,
        weights: str | ArrayLike | None = None,
        level: float = 0.95,
        seed: int = 0,
        **learning: Any,
    ) -> Self:
        """Put an analysis together from its columns and its correction.

        Parameters
        ----------
        vcov, weights, level, seed
            As of `estimate_effect`.
        **learning
            ``outcome_model``, ``propensity_model``, ``n_folds``.
        """
        design = Design(
            estimator=roles.estimator,
            unit=roles.unit,
            time=roles.time,
            instrumented=bool(roles.instruments.columns),
            fixed_effects=roles.fixed_effects,
            seed=seed,
            **learning,
        )
        default = "HC1" if roles.unit is None else {"CRV1": roles.unit}
        return cls(
            roles, design, Vcov.parse(default if vcov is None else vcov, seed), correction, weights, level
        )

    def run(self, data: pd.DataFrame) -> EffectResult:
        """Read the trial, fit the design with its variance, apply the correction, collect the notes."""
        units = self.read(data)
        change = change_of(self.design, units)
        if change is not None:
            return replace(self, correction=self.correction.of_change(change))._run(data, units)
        return self._run(data, units)

    def _run(self, data: pd.DataFrame, units: Units) -> EffectResult:
        fitted = FittedDesign.fit(self.design, self.vcov, units, self.correction.outcomes)
        corrected = self.correction.applied(fitted)
        products = dict(fitted.products(self.correction.outcomes))
        notes = collect_notes(
            fitted, products, self.correction, corrected, data.columns, self.roles.outcome, self.level
        )
        return self._result(data, fitted, products, corrected, notes)

    def read(self, data: pd.DataFrame) -> Units:
        """Units of the trial; raises where `data` are not what the roles and the card are for."""
        columns = (*self.design.columns, *self.vcov.columns, *self.correction.columns)
        units = read_units(data, self.roles, self.weights, columns)
        self.correction.require_for(data, self.roles.outcome)
        return units

    def _result(
        self,
        data: pd.DataFrame,
        fitted: FittedDesign,
        products: Mapping[str, FittedDesign],
        corrected: Corrected,
        notes: tuple[Note, ...],
    ) -> EffectResult:
        units, naive, end = fitted.units, fitted.naive, corrected.estimate
        card, asked = self.correction.card, self.correction
        # The card's r2 is that of levels: it says nothing of comparisons within units or within fixed effects. And it
        # is what noise costs a corrected effect; a naive one does not scatter more than surveyed truth would.
        comparable = end is not None and not fitted.within
        return EffectResult(
            term=self.roles.treatment,
            outcome=self.roles.outcome,
            main=naive if end is None else end,
            naive=naive,
            corrected=end,
            method=asked.label,
            assumption=asked.assumption,
            estimator=fitted.estimator.name,
            vcov=fitted.trial.label,
            level=float(self.level),
            n=units.n,
            n_treated=units.n_treated,
            n_control=units.n - units.n_treated,
            n_dropped=units.n_dropped,
            share_outside=corrected.share_outside,
            n_effective=float(card.r2) * units.n if card is not None and comparable else math.nan,
            unit=str(data.attrs.get("unit", "") if card is None else card.target.unit),
            notes=notes,
            rows=units.rows,
            influence=fitted.influence(end, corrected.outcome),
            n_params=fitted.estimator.n_params,
            r2=math.nan if card is None else float(card.r2),
            path_slope=_path_slope(card, corrected),
            response=corrected.response,
            products=tuple(
                Product(name, other.naive, asked.applied(other).estimate) for name, other in products.items()
            ),
            about=self._about(units),
            index=data.index[units.rows],
            values=units.outcome,
        )

    def _about(self, units: Units) -> About:
        roles, spec, card = self.roles, self.vcov, self.correction.card
        adjusted = roles.covariates if roles.interactions is None else roles.interactions
        panel = () if roles.unit is None or roles.time is None else (roles.unit, roles.time)
        named = spec.columns if spec.kind in ("CRV1", "CR2") else ()
        return About(
            covariates=tuple(str(name) for name in adjusted.columns if name != roles.treatment),
            fixed_effects=tuple(map(str, (*panel, *roles.fixed_effects))),
            clusters=tuple((str(name), read.labels(str(name), units.extra[name]).n) for name in named),
            weights=""
            if self.weights is None
            else self.weights
            if isinstance(self.weights, str)
            else "given",
            card="" if card is None else f"{card.target.name}, {card.predictor.id}",
            card_sha256="" if card is None else card.sha256,
        )


def _path_slope(card: CalibrationCard | None, corrected: Corrected) -> float:
    """Slope along which a result goes from one assumption to the other."""
    if corrected.response is not None and 0 < corrected.response.slope < math.inf:
        return corrected.response.slope
    return math.nan if card is None else card.slope
