"""What a reader must know of a correction, or of its absence; what is grave is a warning too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sustain.causal.correction.change import Change, may_be_change
from sustain.causal.correction.choice import Corrected, CorrectionChoice
from sustain.causal.correction.correct import slopes_by_stratum
from sustain.causal.estimate import Estimate, Note
from sustain.causal.fit import FittedDesign
from sustain.causal.trial.units import Units
from sustain.debias.sample import FEW_PAIRS, WEAK_R2, WEAK_SLOPE
from sustain.errors import ChangeWarning, SupportWarning, WeakCalibrationWarning
from sustain.spelling import Placeholder, argument
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["correction_notes"]

# Naive and corrected effects closer than this share of a standard error lead to the same conclusions.
MATERIAL = 0.25


def correction_notes(
    correction: CorrectionChoice,
    corrected: Corrected,
    fitted: FittedDesign,
    columns: Collection[Any],
    outcome: str,
    level: float,
) -> list[Note]:
    """Caveats of what was done about the map's errors; arguments as for `collect_notes`."""
    card, end = correction.used, corrected.estimate
    if card is None or end is None:
        notes = corrected_already(columns, outcome)
    else:
        notes = [*corrected.notes, *support_notes(card, corrected.share_outside)]
        if correction.strata:
            text = (
                f"each unit has the correction of its own stratum ({', '.join(map(str, correction.strata))})."
            )
            notes.append(Note("strata", text))
        notes += slope_notes(end, level) + weak_notes(card, end, fitted.units, correction.strata)
        notes += verdict_notes(card, correction) + period_notes(fitted)
    if correction.card is not None:
        notes += weak_model_notes(correction.card)
    if correction.change is not None:
        return notes + change_notes(correction.change, correction)
    return notes + assumption_notes(
        fitted.naive, end, correction.method, correction.assumption, correction.card
    )


def change_notes(change: Change, correction: CorrectionChoice) -> list[Note]:
    """Say that the naive effect of a change is a lower end; warns of it where a card was given for it."""
    text = (
        f"The effect is a change of {change.unit!r} over {change.time!r}. Where the outcome was read off a map, the "
        "naive effect is a lower end of its size: predictions follow changes of the truth less than differences "
        "between places, and a card that was learned by comparing places does not know by how much, so nothing is "
        "corrected. Labels of the same places at two dates would tell: collect them, treated and untreated."
    )
    if correction.card is not None and correction.assumption is None:
        warnings.warn(text, ChangeWarning, stacklevel=7)
    return [Note("changes", text)]


def period_notes(fitted: FittedDesign) -> list[Note]:
    """Say what the correction supposes where fixed effects may be those of units over time."""
    change = may_be_change(fitted.design, fitted.units)
    if change is None:
        return []
    text = (
        f"If {change.time!r} are periods of {change.unit!r}, the effect is a change over time, of which this "
        f"correction leaves most out. Pass {argument('estimator', 'did')}, which gives the naive effect as the lower "
        "end that it is."
    )
    return [Note("changes", text)]


def weak_model_notes(card: CalibrationCard, stacklevel: int = 7) -> list[Note]:
    """Say so when the card's predictor tells little of the truth; warns of it too."""
    if not card.r2 < WEAK_R2:
        return []
    text = (
        f"The card's predictions explain {card.r2:.1%} of the variance of the labels, under {WEAK_R2:.0%}: most of "
        "what they show is not the outcome. Naive effects miss most of what reaches the image through the outcome, "
        "and corrected ones lean on a slope that another population may not share."
    )
    warnings.warn(text, WeakCalibrationWarning, stacklevel=stacklevel)
    return [Note("weak_model", text)]


def corrected_already(columns: Collection[Any], outcome: str) -> list[Note]:
    """Say so when an outcome that is not corrected here stands beside its raw predictions."""
    if f"{outcome}_raw" not in columns:
        return []
    text = (
        f"{outcome!r} stands beside '{outcome}_raw', so it seems to be corrected already: then the effect supposes "
        "measurement stability, whatever is named here, and its interval leaves the calibration's uncertainty out. "
        f"Pass {argument('outcome', f'{outcome}_raw')} with the card."
    )
    return [Note("corrected_already", text)]


def support_notes(card: CalibrationCard, share: float, stacklevel: int = 7) -> list[Note]:
    """Weight on predictions outside the range in which the correction was learned; warns of it too."""
    from sustain.debias.apply import EXPECTED_OUTSIDE

    if share <= EXPECTED_OUTSIDE:
        return []
    low, high = card.support
    text = (
        f"{share:.1%} of the estimate's weight lies on predictions outside {low:.4g} to {high:.4g}, where "
        "the correction was learned; there it is an extrapolation."
    )
    warnings.warn(text, SupportWarning, stacklevel=stacklevel)
    return [Note("support", text)]


def slope_notes(corrected: Estimate, level: float) -> list[Note]:
    """Slope that may be zero; warns of it too."""
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
    warnings.warn(text, WeakCalibrationWarning, stacklevel=7)
    return [Note("weak_slope", text)]


def weak_notes(card: CalibrationCard, corrected: Estimate, units: Units, strata: Sequence[str]) -> list[Note]:
    """Slope so flat, or calibration sample so small, that little can be corrected with it; warns of it too.

    With `strata`, the columns of them, the slopes are those of the units' own strata. What the card says of flat slopes
    and of few pairs itself is not repeated: it is of all its strata, whichever the trial is in.
    """
    slopes = {"": card.slope if math.isnan(corrected.slope) else corrected.slope}
    if strata:
        found = slopes_by_stratum(card, units, strata)
        slopes = {f" in stratum {name!r}": slope for name, slope in found.items()}
    said = [
        f"The slope of prediction on truth{where} is {slope:.3g}, under {WEAK_SLOPE:g}: predictions hardly follow the "
        "truth, and the correction multiplies every error of the trial with the effect."
        for where, slope in slopes.items()
        if abs(slope) < WEAK_SLOPE
    ]
    if card.sample.n < FEW_PAIRS:
        said.append(
            f"The calibration sample has {card.sample.n} rows, under {FEW_PAIRS}: its slope is known too roughly for "
            "an interval to be relied on."
        )
    for text in said:
        warnings.warn(text, WeakCalibrationWarning, stacklevel=7)
    return [Note("weak_calibration", text) for text in said]


def verdict_notes(card: CalibrationCard, correction: CorrectionChoice) -> list[Note]:
    """Advice of the card itself that the chosen correction goes against, or that it rests on."""
    line, within = correction.method == "linear", bool(correction.strata)
    said = {str(subject): str(text) for subject, text in (card.diagnostics.get("verdicts") or {}).items()}
    if "linearity" in said:
        said["linearity"] += f" {argument('method', 'response')} reads the effect back through the curve."
    if "strata" in said:
        said["strata"] += f" Pass {argument('strata', Placeholder('column'))}, the trial's column of them."
    # Subject of a verdict, the words by which it advises something, and whether that concerns this correction.
    advice = (
        ("strata", "calibrate within strata", not within and correction.method != "level"),
        ("linearity", "is curved", line),
        ("residuals", "Tweedie", correction.method == "tweedie"),
        ("in sample", "held-out rows only", True),
        *((subject, "", True) for subject in said if subject.startswith("atoms in ")),
        # What is weak about the correction itself: of a stratum's own, its name stands after a comma.
        *(
            (subject, "", (", " in subject) == within)
            for subject in said
            if subject.startswith(f"{correction.method} ")
        ),
    )
    return [
        Note("card", f"The card says of its {subject}: {said[subject]}")
        for subject, words, concerns in advice
        if concerns and subject in said and words in said[subject]
    ]


def assumption_notes(
    naive: Estimate,
    corrected: Estimate | None,
    method: str,
    assumption: str | None,
    card: CalibrationCard | None,
) -> list[Note]:
    """Say what the assumption means, or what would decide between two that differ."""
    if assumption == "outcome":
        text = (
            "Outcome stability: what a prediction means for the truth is taken to be the same in both arms "
            "and in the calibration sample, so the naive effect is the estimate."
        )
        if method != "none":
            text += f" The correction {method!r} is not applied."
        return [Note("assumption", text + _recalibration(card))]
    if card is None:
        text = (
            "The outcome is taken as it is. Where it was read off a map, an effect that reaches the image only through "
            f"the outcome comes out too small; {argument('calibration', Placeholder('card'))} corrects it by the map's "
            "card."
        )
        return [Note("uncorrected", text)]
    if corrected is None:
        return _uncorrected(naive, card) if assumption is None else []
    if assumption == "bracket":
        text = (
            "Both ends are reported: the naive effect (outcome stability) and the corrected one (measurement "
            "stability). A treatment that the image shows in part lies between, as long as its slope of prediction on "
            "truth is not below the one that is divided by, as it can be within a stratum or in another country. The "
            "interval covers both ends."
        )
        return [Note("assumption", text + _recalibration(card))]
    gap = abs(corrected.estimate - naive.estimate)
    if assumption is None and not gap <= MATERIAL * naive.std_error:  # also where no standard error is known
        return [
            Note(
                "assumption",
                f"No assumption is named, and it matters: naive {naive.estimate:.4g}, corrected "
                f"{corrected.estimate:.4g}. If the treatment can change the image only through the outcome "
                "(measurement stability), the corrected effect is right. If the image shows by itself what "
                "differs between the arms, as region, roads or towns (outcome stability), the naive one is. Labelled "
                "places on both sides of the contrast decide: regress truth on prediction and treatment, "
                "and prediction on truth and treatment; the treatment's coefficient is zero in the "
                f"regression whose assumption holds. Pass {_an_assumption()}." + _recalibration(card),
            )
        ]
    return []


def _an_assumption() -> str:
    return argument("assumption", "measurement", "outcome", "bracket")


def _uncorrected(naive: Estimate, card: CalibrationCard) -> list[Note]:
    text = (
        "No correction is applied, which supposes outcome stability. If the treatment can change the image only "
        f"through the outcome (measurement stability), the effect is nearer {naive.estimate / card.slope:.4g}, by the "
        f"card's slope of {card.slope:.3g}. Pass {_an_assumption()}."
    )
    return [Note("assumption", text + _recalibration(card))]


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
        "for one unit of prediction, not by 1: under outcome stability the effect would be that many times "
        "the naive one."
    )
