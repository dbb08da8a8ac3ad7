"""What a reader of an effect must know: each caveat in a sentence, and as a warning where it is grave."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.choice import Corrected, CorrectionChoice
from sustain.causal.design import Design
from sustain.causal.estimate import Estimate, Note
from sustain.causal.fit import FittedDesign
from sustain.causal.result.correction_notes import correction_notes
from sustain.causal.trial.reader import read
from sustain.causal.trial.units import Units
from sustain.causal.vcov.vcov import Vcov
from sustain.errors import EffectError, FewUnitsWarning
from sustain.spelling import Placeholder, argument

__all__ = ["FEW_UNITS", "collect_notes"]

# A unit with more than this share of its arm's weight is said.
HEAVY = 0.1
# Clusters of one arm that are worth fewer equally weighted ones, and a quarter of all or less, are said.
FEW_IN_ARM = 10
# Units of one arm under which a robust variance is said to rest on few.
FEW_UNITS = 10


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
    notes += correction_notes(correction, corrected, fitted, columns, outcome, level)
    return tuple(notes)


def dropped_notes(units: Units) -> list[Note]:
    """Rows that were left out."""
    notes = []
    if units.n_dropped:
        notes.append(Note("missing", units.dropped))
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
    warnings.warn(text, FewUnitsWarning, stacklevel=6)
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
            f"{argument('vcov', {'CRV1': Placeholder('column')})}."
        )
        return [Note("not_clustered", text)]
    return []


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


def product_notes(units: Units) -> list[Note]:
    """Say what the effect is where it moves with a covariate."""
    if not units.n_products:
        return []
    text = (
        f"The effect moves with covariates ({', '.join(units.products)}): the one reported is where they are zero, or "
        "at their first category. Multiply by center(x) instead of x, and it is the effect at the mean of x."
    )
    return [Note("products", text)]
