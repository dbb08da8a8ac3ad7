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
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from numpy.typing import ArrayLike

from sustain.causal.correction import correct, support_share
from sustain.causal.designs import Design, EstimatorName
from sustain.causal.result import EffectResult, Estimate, Note
from sustain.causal.units import Units, read_units
from sustain.causal.variance import critical_value
from sustain.causal.vcov import Vcov
from sustain.errors import CardError, EffectError, SupportWarning, WeakCalibrationWarning

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["estimate_effect"]

Assumption = Literal["measurement", "outcome", "bracket"]

# Naive and corrected effects closer than this share of a standard error lead to the same conclusions.
MATERIAL = 0.25


def estimate_effect(
    data: pd.DataFrame,
    *,
    outcome: str,
    treatment: str,
    covariates: Sequence[str] = (),
    estimator: EstimatorName = "difference",
    weights: str | ArrayLike | None = None,
    calibration: CalibrationCard | str | Path | None = None,
    method: str | None = None,
    strata: str | None = None,
    assumption: Assumption | None = None,
    vcov: str | Mapping[str, Any] | None = None,
    level: float = 0.95,
    unit: str | None = None,
    time: str | None = None,
    instrument: str | Sequence[str] | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> EffectResult:
    """Estimate a treatment effect on a mapped outcome, with an interval that carries the calibration's error.

    Parameters
    ----------
    data : DataFrame
        One row a unit. ``data.attrs["unit"]`` and ``data.attrs["predictor"]``, where set, must agree with the
        card.
    outcome : str
        Column of **raw** predictions: the card corrects them.
    treatment : str
        Column of 0 and 1.
    covariates : sequence of str
        Columns to adjust for; text and categories become dummies.
    estimator : {"difference", "ols", "ipw", "aipw", "did", "iv"}
        Difference in means; least squares with covariates; inverse-propensity weighting (Hajek, logistic
        propensity); doubly robust with cross-fitting; difference-in-differences (two-way fixed effects);
        two-stage least squares.
    weights : str or array_like of shape (n,), optional
        Sampling weights.
    calibration : CalibrationCard or path, optional
        How the errors of these predictions behave.
    method : str, optional
        Correction that the card holds, ``"linear"``, ``"tweedie"`` or ``"bridge"``, or ``"none"``. By default
        ``"linear"`` with a card and ``"none"`` without.
    strata : str, optional
        Column of strata (urban, rural) for which the card holds corrections of their own: each unit gets its own
        stratum's. Effects within strata are more shrunken than the pooled slope says, because part of what
        the model predicts is the difference between strata.
    assumption : {"measurement", "outcome", "bracket"}, optional
        ``"measurement"``: correct. ``"outcome"``: do not, the naive effect is meant. ``"bracket"``: report
        both ends. None: the method decides, and the result says so where the two differ materially.
    vcov : str or mapping, optional
        ``"HC1"``; ``{"CRV1": column}`` (clusters, t with G - 1); ``{"CR2": column}`` (few clusters; for
        ``"difference"`` and ``"ols"``); or ``{"conley": {"lat": column, "lon": column, "cutoff_km":
        number}}`` (Bartlett kernel on great-circle distances). By default ``"HC1"``, and for ``"did"``
        clusters of `unit`.
    level : float
        Confidence level.
    unit, time : str, optional
        For ``"did"``: columns of the unit and the period of each row; `treatment` is then the status in the
        period.
    instrument : str or sequence of str, optional
        For ``"iv"``: columns.
    n_folds, seed : int
        For ``"aipw"``: number of folds, and the seed that draws them; clusters of `vcov` are kept whole.

    Returns
    -------
    EffectResult

    Raises
    ------
    EffectError
        When a column is missing, treatment is not 0/1, an arm is empty, the design is singular, there is a
        single cluster, or arguments contradict each other.
    CardError
        When the card does not hold the method, or is for another unit or predictor.

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
    Every estimator is linear in the outcome. A linear correction therefore divides the effect by the slope b,
    with V(tau) = V_d / b^2 + tau^2 V_b / b^2; any other correction h is applied to the outcome, with the
    trial's part of the variance from the influence function on h(x) and the calibration's part from the
    effect under each of the card's bootstrap draws of h.
    """
    card = _load_card(calibration)
    method = _choose_method(method, card, assumption)
    design = Design.parse(estimator, covariates, unit, time, instrument, n_folds, seed)
    spec = Vcov.parse(vcov if vcov is not None else "HC1" if unit is None else {"CRV1": unit})
    if not 0 < level < 1:
        raise EffectError(f"level: got {level!r}, expected a confidence level between 0 and 1, such as 0.95.")
    units = read_units(
        data,
        outcome,
        treatment,
        covariates,
        weights,
        design.instruments,
        (*design.columns, *spec.columns, *(() if strata is None else (strata,))),
    )
    linear = design.build(units, spec)
    if card is not None:
        _require_same_product(data.attrs, card)

    trial = spec.variance(linear, units.outcome, units.extra)
    notes = [Note(kind, text) for kind, text in (*linear.notes, *trial.notes)]
    notes += _dropped_notes(units)
    naive = Estimate("none", linear.estimate(units.outcome), trial.variance, 0.0, trial.df)
    corrected, outside = None, math.nan
    if card is not None and method != "none" and assumption != "outcome":
        corrected = correct(card, method, linear, units, spec, naive, strata)
        outside = support_share(card, linear, units, strata)
        notes += _support_notes(card, outside)
        if strata is not None:
            notes.append(Note("strata", f"each unit has the correction of its own stratum ({strata})."))
        notes += _slope_notes(corrected, level)
    notes += _assumption_notes(naive, corrected, method, assumption, card)
    return EffectResult(
        term=treatment,
        outcome=outcome,
        main=naive if corrected is None else corrected,
        naive=naive,
        corrected=corrected,
        method=method,
        assumption=assumption,
        estimator=linear.name,
        vcov=trial.label,
        level=level,
        n=units.n,
        n_treated=int(units.treated.sum()),
        n_control=int(units.n - units.treated.sum()),
        n_dropped=units.n_dropped,
        share_outside=outside,
        n_effective=math.nan if card is None else float(card.r2) * units.n,
        unit=str(data.attrs.get("unit", "") if card is None else card.target.unit),
        notes=tuple(notes),
    )


def _load_card(calibration: CalibrationCard | str | Path | None) -> CalibrationCard | None:
    if calibration is None:
        return None
    from sustain.debias import CalibrationCard

    if isinstance(calibration, str | Path):
        return CalibrationCard.load(calibration)
    if isinstance(calibration, CalibrationCard):
        return calibration
    raise EffectError(
        f"calibration: got {type(calibration).__name__}, expected a CalibrationCard or the path of one. "
        "A fitted calibration becomes a card with .to_card()."
    )


def _choose_method(method: str | None, card: CalibrationCard | None, assumption: str | None) -> str:
    if assumption is not None and assumption not in get_args(Assumption):
        raise EffectError(
            f"assumption: got {assumption!r}, expected 'measurement' (correct), 'outcome' (do not), "
            "'bracket' (both) or None."
        )
    if method is None:
        method = "none" if card is None else "linear"
    if method != "none" and card is None and assumption != "outcome":
        raise EffectError(
            f"method={method!r} needs calibration=: a CalibrationCard or the path of one, made from "
            "labelled places."
        )
    if method == "none" and assumption in ("measurement", "bracket"):
        raise EffectError(
            f"assumption={assumption!r} asks for a correction, but "
            + (
                "no card was given. Pass calibration=."
                if card is None
                else "method is 'none'. Choose 'linear', 'tweedie' or 'bridge'."
            )
        )
    return method


def _require_same_product(attrs: Mapping[Any, Any], card: CalibrationCard) -> None:
    for key, theirs in (("unit", card.target.unit), ("predictor", card.predictor.id)):
        ours = attrs.get(key)
        if ours is not None and theirs and str(ours) != str(theirs):
            raise CardError(
                f"calibration: the card is for {key} {str(theirs)!r}, but data.attrs[{key!r}] is "
                f"{str(ours)!r}. Use the card that was published with this map."
            )


def _dropped_notes(units: Units) -> list[Note]:
    notes = []
    if units.n_dropped:
        notes.append(Note("missing", f"{units.n_dropped} rows left out for missing values; {units.n} used."))
    if units.n_unweighted:
        notes.append(Note("weights", f"{units.n_unweighted} rows have a weight of zero and are left out."))
    return notes


def _support_notes(card: CalibrationCard, share: float) -> list[Note]:
    from sustain.debias.estimator import EXPECTED_OUTSIDE

    if share <= EXPECTED_OUTSIDE:
        return []
    low, high = card.support
    text = (
        f"{share:.1%} of the estimate's weight lies on predictions outside {low:.4g} to {high:.4g}, where "
        "the correction was learned; there it is an extrapolation."
    )
    warnings.warn(text, SupportWarning, stacklevel=3)
    return [Note("support", text)]


def _slope_notes(corrected: Estimate, level: float) -> list[Note]:
    if math.isnan(corrected.slope):
        return []
    fieller = corrected.fieller(level)
    if fieller.kind == "bounded":
        return []
    text = (
        f"The slope of prediction on truth, {corrected.slope:.3g} (standard error "
        f"{math.sqrt(corrected.slope_var):.2g}), does not differ from zero at this level. Fieller's set is "
        f"{fieller}; the delta interval is not to be trusted."
    )
    warnings.warn(text, WeakCalibrationWarning, stacklevel=3)
    return [Note("weak_slope", text)]


def _assumption_notes(
    naive: Estimate,
    corrected: Estimate | None,
    method: str,
    assumption: str | None,
    card: CalibrationCard | None,
) -> list[Note]:
    if assumption == "outcome":
        text = (
            "Outcome stability: what a prediction means for the truth is taken to be the same in both arms "
            "and in the calibration sample, so the naive effect is the estimate."
        )
        if method != "none":
            text += f" The correction {method!r} is not applied."
        return [Note("assumption", text + _recalibration(card))]
    if corrected is None:
        return []
    if assumption == "bracket":
        return [
            Note(
                "assumption",
                "Both ends are reported: the naive effect (outcome stability) and the corrected one "
                "(measurement stability). A treatment that the image shows in part lies between; the "
                "interval covers both ends.",
            )
        ]
    gap = abs(corrected.estimate - naive.estimate)
    if assumption is None and gap > MATERIAL * naive.std_error:
        return [
            Note(
                "assumption",
                f"No assumption is named, and it matters: naive {naive.estimate:.4g}, corrected "
                f"{corrected.estimate:.4g}. If the treatment can change the image only through the outcome "
                "(measurement stability), the corrected effect is right. If the image shows the treated "
                "places anyway, by region, roads or towns (outcome stability), the naive one is. Labelled "
                "places on both sides of the contrast decide: regress truth on prediction and treatment, "
                "and prediction on truth and treatment; the treatment's coefficient is zero in the "
                "regression whose assumption holds. Pass assumption='measurement', 'outcome' or 'bracket'.",
            )
        ]
    return []


def _recalibration(card: CalibrationCard | None) -> str:
    """Say so when the card's slope of truth on prediction is not 1, which the naive scale supposes."""
    if card is None:
        return ""
    line = card.truth_on_prediction
    error = math.sqrt(line.cov[1][1])
    if abs(line.slope - 1) <= critical_value(0.95, line.df) * error:
        return ""
    return (
        f" But in the calibration sample the truth rises by {line.slope:.3g} (standard error {error:.2g}) "
        "for one unit of prediction, not by 1: under this assumption the effect would be that many times "
        "the naive one."
    )
