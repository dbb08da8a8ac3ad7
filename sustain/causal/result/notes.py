"""What a reader of an effect must know: each caveat in a sentence, and as a warning where it is grave."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.choice import Corrected, CorrectionChoice
from sustain.causal.correction.correct import slopes_by_stratum
from sustain.causal.design import Design
from sustain.causal.estimate import Estimate, Note
from sustain.causal.fit import FittedDesign
from sustain.causal.trial.reader import read
from sustain.causal.trial.units import Units
from sustain.causal.vcov.vcov import Vcov
from sustain.debias.sample import FEW_PAIRS, WEAK_SLOPE
from sustain.errors import EffectError, SupportWarning, WeakCalibrationWarning
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["collect_notes"]

# Naive and corrected effects closer than this share of a standard error lead to the same conclusions.
MATERIAL = 0.25
# A unit with more than this share of its arm's weight is said.
HEAVY = 0.1
# Clusters of one arm that are worth fewer equally weighted ones, and a quarter of all or less, are said.
FEW_IN_ARM = 10
# Units of one arm under which a robust variance is said to rest on few.
FEW_UNITS = 10
REFUTED = 0.05  # p-value under which a line is said not to do


def collect_notes(
    fitted: FittedDesign,
    products: Mapping[str, FittedDesign],
    correction: CorrectionChoice,
    corrected: Corrected,
    columns: Collection[Any],
    outcome: str,
    level: float,
) -> tuple[Note, ...]:
    """Everything that a reader of the effect must know; what is grave is a warning too.

    Parameters
    ----------
    fitted : FittedDesign
    products : mapping of str to FittedDesign
        The same regression for each product of the treatment with a covariate.
    correction : CorrectionChoice
    corrected : Corrected
        What the correction made of the fitted design.
    columns : collection of str
        Of the data.
    outcome : str
        The one among them that effects are on.
    level : float
        Of the intervals.
    """
    units, estimator, spec = fitted.units, fitted.estimator, fitted.vcov
    notes = [Note(kind, text) for kind, text in (*estimator.notes, *fitted.trial.notes)]
    notes += [note for product in products.values() for note in decided_by_one_notes(product)]
    notes += dropped_notes(units) + few_units_notes(units) + dependence_notes(fitted.design, spec)
    notes += scatter_notes(fitted.naive, units.outcome, estimator.weights) + product_notes(units)
    for column in spec.columns if spec.kind in ("CRV1", "CR2") else ():
        notes += cluster_notes(units, estimator.weights, column, spec.kind)
    card, end = correction.used, corrected.estimate
    if card is None or end is None:
        notes += corrected_already(columns, outcome)
    else:
        notes += corrected.notes
        notes += support_notes(card, corrected.share_outside)
        if correction.strata is not None:
            text = f"each unit has the correction of its own stratum ({correction.strata})."
            notes.append(Note("strata", text))
        notes += slope_notes(end, level) + weak_notes(card, end, units, correction.strata)
        notes += verdict_notes(card, correction)
        notes += change_notes(fitted.design)
    notes += assumption_notes(fitted.naive, end, correction.method, correction.assumption, correction.card)
    return tuple(notes)


def dropped_notes(units: Units) -> list[Note]:
    """Rows that were left out."""
    notes = []
    if units.n_dropped:
        notes.append(Note("missing", f"{units.n_dropped} rows left out for missing values; {units.n} used."))
    if units.n_unweighted:
        notes.append(Note("weights", f"{units.n_unweighted} rows have a weight of zero and are left out."))
    notes += _heavy_units(units)
    return notes


def _heavy_units(units: Units) -> list[Note]:
    for name, arm in (("treated", units.treated == 1), ("control", units.treated == 0)):
        weight = units.weights[arm]
        heaviest = float(weight.max() / weight.sum())
        if heaviest > HEAVY and heaviest > 2 / len(weight):
            kish = float(weight.sum() ** 2 / np.square(weight).sum())
            text = (
                f"One unit has {heaviest:.0%} of the weight of the {name} units, which are worth {kish:.1f} equally "
                "weighted ones: the interval, which leans on many units, is not to be trusted."
            )
            return [Note("weights", text)]
    return []


def cluster_notes(units: Units, weights: NDArray[np.float64], column: str, kind: str) -> list[Note]:
    """Arm whose weight lies in few clusters, however many there are in all.

    Few treated clusters, or one that weighting lifts above all others, make a clustered variance far too small or the
    estimate erratic (MacKinnon and Webb 2018, doi:10.1111/ectj.12107). CR2 makes up for few, but not for one: the
    residuals of an arm that is one cluster add up to zero, and nothing is seen of how its clusters differ.

    Parameters
    ----------
    units : Units
        With the clusters in ``extra``.
    weights : ndarray, shape (n,)
        Of the outcome in the estimate.
    column : str
        Of the clusters.
    kind : {"CRV1", "CR2"}

    Raises
    ------
    EffectError
        When each arm is one cluster: a difference between the arms is then one between two clusters.
    """
    code, names = read.labels(f"vcov: column {column!r}", units.extra[column])
    arms = (("treated", units.treated == 1), ("control", units.treated == 0))
    alone = [name for name, arm in arms if len(np.unique(code[arm])) == 1]
    if len(alone) == 2:
        raise EffectError(
            f"vcov: the treated are one cluster of {column!r} and the controls another, so that the effect cannot be "
            "told from a difference between two clusters. No variance can be estimated at this level; a finer one "
            "supposes that the clusters do not differ otherwise."
        )
    for name, arm in arms:
        held = np.bincount(code[arm], np.abs(weights[arm]), minlength=len(names))
        worth = float(held.sum() ** 2 / np.square(held).sum())
        if name in alone or (kind == "CRV1" and worth < FEW_IN_ARM and worth <= len(names) / 4):
            text = (
                f"The weight of the {name} units lies in few of the {len(names)} clusters of {column!r}, the heaviest "
                f"with {held.max() / held.sum():.0%} of it: they are worth {worth:.1f} equally weighted ones. The "
                "clustered interval is not to be trusted."
            )
            return [Note("few_clusters", text)]
    return []


def decided_by_one_notes(product: FittedDesign) -> list[Note]:
    """Product whose coefficient one cluster or unit decides; its other notes are those of the effect."""
    return [Note(kind, text) for kind, text in product.trial.notes if kind.startswith("single_")]


def few_units_notes(units: Units) -> list[Note]:
    """Arm with so few units that a robust variance rests on a handful of residuals."""
    fewest, name = min((int(units.treated.sum()), "treated"), (int((1 - units.treated).sum()), "control"))
    if fewest >= FEW_UNITS:
        return []
    text = (
        f"Only {fewest} {name} units: the standard error rests on a handful of residuals and is likely too small. "
        "A permutation test asks for less."
    )
    return [Note("few_units", text)]


def dependence_notes(design: Design, vcov: Vcov) -> list[Note]:
    """Say what HC1 supposes where rows repeat units or share the level of a fixed effect.

    Cluster where treatment was given, or where units were drawn (Abadie, Athey, Imbens and Wooldridge 2023,
    doi:10.1093/qje/qjac038); in a panel at the unit or coarser (Bertrand, Duflo and Mullainathan 2004,
    doi:10.1162/003355304772839588).
    """
    if vcov.kind != "HC1":
        return []
    if design.unit is not None:
        text = (
            f"HC1 takes every row as independent, but the periods of one {design.unit!r} share errors, so the interval "
            f"is likely too short. Leave vcov out, which clusters by {design.unit!r}, or cluster where treatment was "
            "given."
        )
        return [Note("not_clustered", text)]
    if design.fixed_effects:
        names = ", ".join(map(repr, design.fixed_effects))
        text = (
            f"HC1 takes every row as independent. Fixed effects ({names}) take out what rows of a level share on "
            "average, not errors that go together within it or over time. Where rows repeat units, or treatment was "
            "given to groups of rows, the interval is too short: cluster by those units or groups, "
            "vcov={'CRV1': column}."
        )
        return [Note("not_clustered", text)]
    return []


def change_notes(design: Design) -> list[Note]:
    """Say what a correction of changes over time supposes."""
    if design.estimator != "did":
        return []
    text = (
        "The card's correction was learned by comparing places, and a difference-in-differences compares changes of "
        "the same places. The correction supposes that predictions follow changes of the truth as they follow "
        "differences between places; where they follow changes less, the effect is larger than this."
    )
    return [Note("changes", text)]


def scatter_notes(naive: Estimate, outcome: NDArray[np.float64], weights: NDArray[np.float64]) -> list[Note]:
    """Say so when nothing scatters around the estimate, and a standard error of (almost) zero says nothing.

    Parameters
    ----------
    naive : Estimate
    outcome, weights : ndarray, shape (n,)
        Of the units, and their weights in the estimate.
    """
    size = float(np.square(weights * outcome).sum())
    if not naive.variance_trial <= 1e-20 * size:  # no number where one cluster decides the estimate
        return []
    text = (
        "The outcome does not scatter around what the design predicts (it is constant in each arm, or within the fixed "
        "effects), so the standard error is zero and says nothing. Are predictions rounded, all from one cell of the "
        "map, or from one map for all periods?"
    )
    return [Note("no_scatter", text)]


def corrected_already(columns: Collection[Any], outcome: str) -> list[Note]:
    """Say so when an outcome that is not corrected here stands beside its raw predictions."""
    if f"{outcome}_raw" not in columns:
        return []
    text = (
        f"{outcome!r} stands beside '{outcome}_raw', so it seems to be corrected already: then the effect supposes "
        "measurement stability, whatever is named here, and its interval leaves the calibration's uncertainty out. "
        f"Pass outcome='{outcome}_raw' with the card."
    )
    return [Note("corrected_already", text)]


def support_notes(card: CalibrationCard, share: float) -> list[Note]:
    """Weight on predictions outside the range in which the correction was learned; warns of it too."""
    from sustain.debias.apply import EXPECTED_OUTSIDE

    if share <= EXPECTED_OUTSIDE:
        return []
    low, high = card.support
    text = (
        f"{share:.1%} of the estimate's weight lies on predictions outside {low:.4g} to {high:.4g}, where "
        "the correction was learned; there it is an extrapolation."
    )
    warnings.warn(text, SupportWarning, stacklevel=5)
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
    warnings.warn(text, WeakCalibrationWarning, stacklevel=5)
    return [Note("weak_slope", text)]


def weak_notes(card: CalibrationCard, corrected: Estimate, units: Units, strata: str | None) -> list[Note]:
    """Slope so flat, or calibration sample so small, that little can be corrected with it; warns of it too.

    With `strata`, the column of them, the slopes are those of the units' own strata. What the card says of flat slopes
    and of few pairs itself is not repeated: it is of all its strata, whichever the trial is in.
    """
    slopes = {"": card.slope if math.isnan(corrected.slope) else corrected.slope}
    if strata is not None:
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
        warnings.warn(text, WeakCalibrationWarning, stacklevel=5)
    return [Note("weak_calibration", text) for text in said]


def verdict_notes(card: CalibrationCard, correction: CorrectionChoice) -> list[Note]:
    """Advice of the card itself that the chosen correction goes against, or that it rests on."""
    line, within = correction.method == "linear", correction.strata is not None
    said = {str(subject): str(text) for subject, text in (card.diagnostics.get("verdicts") or {}).items()}
    for curve in card.corrections:
        p_value = curve.notes.get("j_test_p", 1.0)
        if curve.stratum is None and p_value < REFUTED:
            said[curve.method] = (
                f"a line does not meet the moments that a curve does (J test, p = {p_value:.2g}): prefer the "
                f"{curve.method}, or Tweedie, to the linear correction."
            )
    if "strata" in said:
        said["strata"] += " Pass strata=, the trial's column of them."
    # Subject of a verdict, the words by which it advises something, and whether that concerns this correction.
    advice = (
        ("strength", "too little", True),
        ("strata", "calibrate within strata", not within and correction.method != "level"),
        ("linearity", "is curved", line),
        ("bridge", "prefer", line),
        ("residuals", "Tweedie", correction.method == "tweedie"),
        ("in sample", "held-out rows only", True),
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


def product_notes(units: Units) -> list[Note]:
    """Say what the effect is where it moves with a covariate."""
    if not units.n_products:
        return []
    text = (
        f"The effect moves with covariates ({', '.join(units.products)}): the one reported is where they are zero, or "
        "at their first category. Multiply by center(x) instead of x, and it is the effect at the mean of x."
    )
    return [Note("products", text)]


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
            "the outcome comes out too small; calibration= takes the map's card."
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
                "regression whose assumption holds. Pass assumption='measurement', 'outcome' or 'bracket'."
                + _recalibration(card),
            )
        ]
    return []


def _uncorrected(naive: Estimate, card: CalibrationCard) -> list[Note]:
    text = (
        "No correction is applied, which supposes outcome stability. If the treatment can change the image only "
        f"through the outcome (measurement stability), the effect is nearer {naive.estimate / card.slope:.4g}, by the "
        f"card's slope of {card.slope:.3g}. Pass assumption='measurement', 'outcome' or 'bracket'."
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
