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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.correction.card import (
    Assumption,
    choose_method,
    load_card,
    require_raw,
    require_same_product,
)
from sustain.causal.correction.correct import correct, corrected_outcome, slope_of, support_share, widened
from sustain.causal.correction.elsewhere import Transport, transport_sd
from sustain.causal.correction.overlap import Overlap
from sustain.causal.design import Design
from sustain.causal.estimate import Estimate, Note
from sustain.causal.estimators.least_squares import LinearEstimator
from sustain.causal.result.notes import (
    assumption_notes,
    change_notes,
    cluster_notes,
    corrected_already,
    dependence_notes,
    dropped_notes,
    few_units_notes,
    scatter_notes,
    slope_notes,
    support_notes,
)
from sustain.causal.result.result import EffectResult
from sustain.causal.trial.roles import EstimatorName, Roles
from sustain.causal.trial.units import Units, read_units
from sustain.causal.vcov.vcov import Vcov
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["estimate_effect"]

Floats = NDArray[np.float64]


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
    strata: str | None = None,
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
        it is instrumented or named by `treatment`.
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
        Correction that the card holds, ``"linear"``, ``"tweedie"`` or ``"bridge"``; ``"level"``, the linear one with
        the slope at `card_level`; or ``"none"``. By default ``"linear"`` with a card and ``"none"`` without.
    card_level : str, optional
        For ``"level"``: the card's level of variation (such as between regions, or within them) at which treated and
        controls are compared.
    strata : str, optional
        Column of strata (urban, rural) for which the card holds corrections of their own: each unit gets its own
        stratum's. Effects within strata are more shrunken than the pooled slope says, because part of what
        the model predicts is the difference between strata.
    assumption : {"measurement", "outcome", "bracket"}, optional
        ``"measurement"``: correct. ``"outcome"``: do not, the naive effect is meant. ``"bracket"``: report
        both ends and the path between them. None: the method decides, and the result says so where the two differ
        materially.
    transport : {"groups", "strata", "leave_one_out"} or float, optional
        Spread of the slope between countries, to be carried in the interval of a trial elsewhere: between the card's
        groups or its strata, beyond sampling error; the largest move when one calibration group is left out; or a
        standard deviation. None: the calibration's own sampling error only.
    overlap : mapping, optional
        For trials with units of the calibration sample: ``{"id": column, "rows": calibration rows}``, the rows with
        columns ``y_pred``, ``y_true`` (or as named by these keys), the id and, where `vcov` clusters, the cluster. The
        covariance of both parts of the error is then taken into account, for linear corrections. Without it the
        samples are taken as independent.
    vcov : str or mapping, optional
        ``"HC1"``; ``{"CRV1": column}`` (clusters, t with G - 1); ``{"CR2": column}`` (few clusters; for
        ``"difference"``, ``"ols"`` and ``"did"``); ``{"conley": {"lat": column, "lon": column, "cutoff_km":
        number}}`` (Bartlett kernel on great-circle distances); or ``{"block": {"lat": column, "lon": column,
        "block_km": number}}`` (spatial-block bootstrap, `n_boot` resamples, 399 by default). By default ``"HC1"``,
        and for ``"did"`` clusters of `unit`.
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
        single cluster, or arguments contradict each other.
    CardError
        When the card does not hold the method, or is for another target, unit or predictor.

    Warns
    -----
    MissingDataWarning
        When rows are left out for missing values.
    SupportWarning
        When part of the trial lies outside the range in which the correction was learned.
    WeakCalibrationWarning
        When the slope of a linear correction does not differ from zero at `level`.

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
    _require_level(level)
    card = load_card(calibration)
    method = choose_method(method, card, assumption, card_level, strata)
    roles = Roles.read(
        formula, outcome, treatment, covariates, fixed_effects, instrument, estimator, unit, time
    )
    design = Design(
        roles.estimator,
        roles.unit,
        roles.time,
        bool(roles.instruments.columns),
        roles.fixed_effects,
        outcome_model,
        propensity_model,
        n_folds,
        seed,
    )
    default = "HC1" if roles.unit is None else {"CRV1": roles.unit}
    spec = Vcov.parse(default if vcov is None else vcov, seed)
    shared = None if overlap is None else Overlap.parse(overlap)
    beside = [*design.columns, *spec.columns, *([strata] if strata else []), *([shared.id] if shared else [])]
    units = read_units(data, roles, weights, beside)
    if card is not None:
        require_same_product(data.attrs, card)

    linear = design.build(units, spec)
    corrects = card is not None and method != "none" and assumption != "outcome"
    if corrects:
        require_raw(data.columns, roles.outcome)
    slope = slope_of(card, method, card_level) if card is not None and corrects and strata is None else None
    outcomes = units.outcome[None]
    if card is not None and corrects and slope is None:
        outcomes = np.stack([units.outcome, corrected_outcome(card, method, units, strata)])
    trial = spec.covariance(linear, outcomes, units.extra, _anew(design, spec, units, outcomes))
    naive = Estimate("none", linear.estimate(units.outcome), float(trial.covariance[0, 0]), 0.0, trial.df)
    notes = [Note(kind, text) for kind, text in (*linear.notes, *trial.notes)]
    notes += dropped_notes(units) + few_units_notes(units) + dependence_notes(design, spec)
    notes += scatter_notes(naive, units.outcome, linear.weights)
    if spec.kind in ("CRV1", "CR2"):
        notes += cluster_notes(units, linear.weights, spec)
    corrected, outside = None, math.nan
    if not corrects:
        notes += corrected_already(data.columns, roles.outcome)
    if card is not None and corrects:
        corrected = correct(card, method, linear, units, naive, slope, trial, strata, card_level)
        if shared is not None:
            corrected, note = shared.applied(card, linear.influence(units.outcome), units, spec, corrected)
            notes.append(note)
        if transport is not None:
            elsewhere = transport_sd(card, transport)
            corrected = widened(
                corrected, elsewhere.sd, elsewhere.df, card.slope if slope is None else slope.value
            )
            notes.append(Note("transport", elsewhere.text))
        outside = support_share(card, linear, units, strata)
        notes += support_notes(card, outside)
        if strata is not None:
            notes.append(Note("strata", f"each unit has the correction of its own stratum ({strata})."))
        notes += slope_notes(corrected, level) + change_notes(design)
    notes += assumption_notes(naive, corrected, method, assumption, card)
    # The card's r2 is that of levels: it says nothing of comparisons within units or within fixed effects. And it is
    # what noise costs a corrected effect; a naive one does not scatter more than surveyed truth would.
    within = bool(roles.unit or roles.fixed_effects)
    return EffectResult(
        term=roles.treatment,
        outcome=roles.outcome,
        main=naive if corrected is None else corrected,
        naive=naive,
        corrected=corrected,
        method=method if card_level is None else f"{method}: {card_level}",
        assumption=assumption,
        estimator=linear.name,
        vcov=trial.label,
        level=level,
        n=units.n,
        n_treated=int(units.treated.sum()),
        n_control=int(units.n - units.treated.sum()),
        n_dropped=units.n_dropped,
        share_outside=outside,
        n_effective=math.nan if card is None or within or corrected is None else float(card.r2) * units.n,
        unit=str(data.attrs.get("unit", "") if card is None else card.target.unit),
        notes=tuple(notes),
        rows=units.rows,
        influence=_influence(linear, outcomes, corrected),
        n_params=linear.n_params,
        path_slope=math.nan if card is None else card.slope,
    )


def _anew(
    design: Design, spec: Vcov, units: Units, outcomes: Floats
) -> Callable[[NDArray[np.int64]], Floats]:
    """Estimates when each unit counts as often as a resample says, for the block bootstrap."""

    def estimates(counts: NDArray[np.int64]) -> Floats:
        again = units.repeated(counts)
        linear = design.build(again, spec)
        return np.array([linear.estimate(outcome[counts > 0]) for outcome in outcomes])

    return estimates


def _require_level(level: Any) -> None:
    if not (isinstance(level, float | int) and 0 < level < 1):
        raise EffectError(f"level: got {level!r}, expected a confidence level between 0 and 1, such as 0.95.")


def _influence(linear: LinearEstimator, outcomes: Floats, corrected: Estimate | None) -> Floats:
    """Each unit's share in the error of the main estimate."""
    psi = linear.influence(outcomes[-1])
    return psi if corrected is None or math.isnan(corrected.slope) else psi / corrected.slope
