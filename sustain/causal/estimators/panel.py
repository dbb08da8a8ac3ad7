"""Difference-in-differences: the effect of treatment status in a panel with unit and period effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.absorb import Absorbed
from sustain.causal.estimators.least_squares import (
    LeastSquares,
    from_basis,
    negative_weights,
)
from sustain.errors import EffectError
from sustain.stats.line import Regressors

__all__ = ["two_way_fixed_effects"]

Floats = NDArray[np.float64]

MAX_PERIODS = 1000


def two_way_fixed_effects(
    treated: Floats,
    covariates: Floats,
    names: Sequence[str],
    unit: NDArray[Any],
    time: NDArray[Any],
    weights: Floats,
) -> LeastSquares:
    """Coefficient of treatment status with an effect for every unit and every period.

    With two periods and treatment in the second this is the difference-in-differences of means. Unit effects
    are taken out by subtracting weighted means within units, and periods are columns, so an unbalanced panel
    is exact.

    Parameters
    ----------
    treated : ndarray, shape (n,)
        Treatment status of the unit in the period, 0 or 1.
    covariates, names
        As in `least_squares`; must vary within units.
    unit, time : ndarray, shape (n,)
        Labels of the unit and the period of each row.
    weights : ndarray, shape (n,)
        Positive weights.

    Raises
    ------
    EffectError
        When a unit occurs twice in a period, there is one period, or treatment never changes within a unit.
    """
    code, period, n_units, periods = _index(unit, time)
    within = Absorbed((code,), weights).residual
    root = np.sqrt(weights)
    dummies = (period[:, None] == np.arange(1, len(periods))).astype(float)
    design = np.column_stack([dummies, covariates, treated])
    left = within(design)
    labels = [*(f"period {label}" for label in periods[1:]), *names, "the treatment"]
    size = np.linalg.norm(root[:, None] * design, axis=0)
    if np.linalg.norm(root * left[:, -1]) <= 1e-10 * size[-1]:
        raise EffectError(
            "treatment: it never changes within a unit, so there is no before and after. Code it as the "
            "status in the period: 0 before treatment starts, 1 from then on."
        )
    basis = Regressors.of(left, labels, weights, constant=False, size=size, error=EffectError).basis
    partial = basis[:, -1]
    omega = root * partial / float(partial @ (root * treated))

    return from_basis(
        f"difference-in-differences ({len(periods)} periods, {n_units} units)",
        omega,
        basis,
        root,
        n_units + design.shape[1],
        _notes(omega, treated, code, n_units),
        within=within,
        effects=(code,),
    )


def _index(
    unit: NDArray[Any], time: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp], int, list[str]]:
    units, code = np.unique(unit.astype(str), return_inverse=True)
    try:
        periods, period = np.unique(time, return_inverse=True)
    except TypeError as error:
        raise EffectError("time: periods of several kinds, such as numbers and text. Use one.") from error
    if len(periods) < 2:
        raise EffectError(
            f"time: a single period ({periods[0]}), but a difference in differences needs two or more."
        )
    if len(periods) > MAX_PERIODS:
        raise EffectError(
            f"time: {len(periods)} periods. Is {periods[0]!r} a date? Give one label for each survey wave."
        )
    cell = code * len(periods) + period
    values, counts = np.unique(cell, return_counts=True)
    if counts.max() > 1:
        first = values[counts.argmax()]
        raise EffectError(
            f"unit, time: unit {units[first // len(periods)]} occurs {counts.max()} times in period "
            f"{periods[first % len(periods)]}. Give one row for each unit and period."
        )
    return code, period, len(units), [str(label) for label in periods]


def _notes(
    omega: Floats, treated: Floats, code: NDArray[np.intp], n_units: int
) -> tuple[tuple[str, str], ...]:
    notes = negative_weights(omega, treated)
    alone = int((np.bincount(code, minlength=n_units) == 1).sum())
    if alone:
        notes.append(("singletons", f"{alone} units occur in one period only and carry no information."))
    return tuple(notes)
