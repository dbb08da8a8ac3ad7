"""The doubly robust estimator with cross-fitting (AIPW), and its folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.least_squares import Adjustment, LinearEstimator
from sustain.causal.estimators.propensity import (
    fit_propensity,
    logistic,
    overlap_notes,
    require_overlap,
    standardised,
)
from sustain.errors import EffectError
from sustain.spelling import argument
from sustain.stats.least_squares import Regressors

__all__ = [
    "FOLDS",
    "CrossFitted",
    "Fold",
    "Regress",
    "Split",
    "augmented",
    "default_folds",
    "doubly_robust",
    "make_folds",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Rows = NDArray[np.intp]
Classify = Callable[[Rows, Rows], Floats]

# Sums of inverse propensities over more than this many times the number of units are said.
REACH = 1.5

# Folds of cross-fitting, and those of fewer clusters than are enough for these.
FOLDS, MORE_FOLDS, ENOUGH_CLUSTERS = 5, 20, 100


@dataclass(frozen=True)
class Fold:
    """One fold of `doubly_robust`: its rows, and its nuisances fitted elsewhere."""

    rows: Rows
    train: tuple[Rows, Rows]  # rows of treated and control training units
    bread: tuple[Floats, Floats]  # inverse of each arm's Z'WZ, shape (k, k)
    propensity: Floats


Regress = Callable[[Fold, int, Floats], Floats]


@dataclass(frozen=True)
class CrossFitted(LinearEstimator):
    """A doubly robust estimate, with the folds that it was made with, and the weights of residuals in either arm."""

    folds: tuple[Fold, ...] = field(repr=False, kw_only=True)
    arms: tuple[Floats, Floats] = field(repr=False, kw_only=True)


def doubly_robust(
    adjustment: Adjustment,
    *,
    n_folds: int = FOLDS,
    seed: int = 0,
    clusters: Sequence[Codes] = (),
    classify: Classify | None = None,
) -> CrossFitted:
    """Augmented inverse-propensity weighting, cross-fitted (Chernozhukov et al. 2018, doi:10.1111/ectj.12097).

    ``tau = sum_i w_i (m1(z_i) - m0(z_i)) + sum_i a1_i (y_i - m1(z_i)) - sum_i a0_i (y_i - m0(z_i))``, where the weights
    ``a1_i`` of the treated are proportional to ``w_i / p(z_i)``, those of the controls, ``a0_i``, to
    ``w_i / (1 - p(z_i))``, and each arm's add up to one (Hajek), as the ``w_i`` of all units do. The regressions m1 and
    m0 are least squares within an arm and p is logistic, each fitted on the other folds. With regressions that are
    linear in the outcome, so is the estimate.

    Parameters
    ----------
    adjustment : Adjustment
    n_folds : int
        Number of folds, at least 2.
    seed : int
        Of the folds.
    clusters : sequence of ndarray of int, shape (n,)
        Units of one cluster stay in one fold, so that a unit's nuisances know nothing of its neighbours.
    classify : callable, optional
        Takes the rows to train on and the rows to predict for, and returns the propensities of the latter; a logistic
        regression on the covariates by default.

    Raises
    ------
    EffectError
        When covariates are dependent or separate the arms, also within the training part of a fold.

    Notes
    -----
    Weights as they are, ``1 / (n p)``, add up to one in expectation only: where propensities come near 0 or 1, their
    sum wanders and takes the estimate along (Kang and Schafer 2007, doi:10.1214/07-STS227; Busso, DiNardo and
    McCrary 2014, doi:10.1162/REST_a_00431). Dividing by it costs nothing in large samples, keeps the estimate doubly
    robust, and keeps what it adds to the regressions within the range of the residuals (Robins, Sued, Lei-Gomez
    and Rotnitzky 2007, doi:10.1214/07-STS227D).
    """
    treated, weights, z = adjustment.treated, adjustment.weights, standardised(adjustment)
    share = weights / weights.sum()
    if classify is None:
        classify = partial(_logit_propensity, treated, z, weights)
    splits = make_folds(treated, n_folds, seed, clusters)
    folds = [_fit_fold(split, adjustment, z, classify) for split in splits]
    propensity = np.empty(len(treated))
    for fold in folds:
        propensity[fold.rows] = fold.propensity
    inverse = (weights * treated / propensity, weights * (1 - treated) / (1 - propensity))
    arms = tuple(arm / arm.sum() for arm in inverse)
    omega = arms[0] - arms[1]
    for fold in folds:
        for sign, arm, rows, bread in zip((1, -1), arms, fold.train, fold.bread, strict=True):
            asked = (share[fold.rows] - arm[fold.rows]) @ z[fold.rows]
            omega[rows] += sign * weights[rows] * (z[rows] @ (bread @ asked))

    def regress(fold: Fold, arm: int, outcome: Floats) -> Floats:
        rows = fold.train[arm]
        return np.asarray(z[fold.rows] @ (fold.bread[arm] @ ((weights[rows] * outcome[rows]) @ z[rows])))

    notes = overlap_notes(arms, propensity)
    # Weights 1/p stand for all units, and those of an arm add up to about as many as there are, unless p is off.
    reach = max(float(arm.sum() / weights.sum()) for arm in inverse)
    if reach > REACH:
        text = (
            f"The inverse propensities of one arm add up to {reach:.1f} times the units that they stand for: out of "
            "their fold some propensities are too near 0 or 1, and the estimate is erratic. Use fewer covariates or "
            "folds, or keep to the units where both arms occur."
        )
        notes = (*notes, ("overlap", text))
    return CrossFitted(
        f"doubly robust (AIPW, Hajek weights, {' x '.join([str(n_folds)] * max(1, len(clusters)))} folds)",
        omega,
        lambda outcome: augmented(folds, share, arms, outcome, regress)[1],
        1,
        notes,
        folds=tuple(folds),
        arms=(arms[0], arms[1]),
    )


def augmented(
    folds: Sequence[Fold], share: Floats, arms: Sequence[Floats], outcome: Floats, regress: Regress
) -> tuple[float, Floats]:
    """Doubly robust estimate from its parts, and its influence.

    The estimate is ``sum_i share_i (m1_i - m0_i) + r1 - r0`` with ``r1 = sum_i a1_i (y_i - m1_i)``. As r1 is a ratio,
    unit i moves it by ``a1_i (y_i - m1_i - r1)``. Nuisances that are fitted out of the fold add nothing of first
    order.

    Parameters
    ----------
    folds : sequence of Fold
    share : ndarray, shape (n,)
        Weights of all units, which add up to one.
    arms : two ndarrays of shape (n,)
        Weights a1 and a0, which add up to one each and are zero in the other arm.
    outcome : ndarray, shape (n,)
    regress : callable
        Takes a fold, 0 for the treated or 1 for the controls, and the outcome; returns what a regression in that arm,
        outside the fold, predicts for the units of the fold.

    Returns
    -------
    estimate : float
    influence : ndarray, shape (n,)
        Adds up to zero.
    """
    fitted = np.empty((2, len(outcome)))
    for fold in folds:
        for arm in (0, 1):
            fitted[arm, fold.rows] = regress(fold, arm, outcome)
    contrast = fitted[0] - fitted[1]
    regression = float(share @ contrast)
    residual = outcome - fitted
    left = [float(weight @ own) for weight, own in zip(arms, residual, strict=True)]
    influence = share * (contrast - regression)
    for sign, weight, own, mean in zip((1, -1), arms, residual, left, strict=True):
        influence += sign * weight * (own - mean)
    return regression + left[0] - left[1], influence


def _fit_fold(split: Split, adjustment: Adjustment, z: Floats, classify: Classify) -> Fold:
    rows, rest = split
    treated = adjustment.treated[rest]
    train = rest[treated == 1], rest[treated == 0]
    breads = []
    for arm, part in zip(("treated", "control"), train, strict=True):
        try:
            # In the columns of all units, each of which is one of the covariates up to those before it.
            line = Regressors.of(
                z[part][:, 1:], adjustment.names, adjustment.weights[part], error=EffectError
            )
        except EffectError as error:
            raise EffectError(
                f"aipw: outside one of the folds the {arm} units cannot carry a regression on the "
                f"covariates: {error} Fewer folds ({argument('n_folds', 2)}) or "
                f"{argument('estimator', 'ols')} ask for less."
            ) from error
        breads.append(line.back @ line.back.T)
    propensity = classify(rest, rows)
    require_overlap(propensity)
    return Fold(rows, train, (breads[0], breads[1]), propensity)


def _logit_propensity(treated: Floats, z: Floats, weights: Floats, rest: Rows, rows: Rows) -> Floats:
    return logistic(z[rows], fit_propensity(treated[rest], z[rest], weights[rest]))


def default_folds(clusters: Sequence[Codes]) -> int:
    """Count the folds of cross-fitting: 5, or with few clusters 20 (or one for each cluster).

    Folds of whole clusters leave out a fifth of few clusters at a time, and which ones they are moves the estimate by
    more than its standard error knows of: in trials of 40 regions, 95% intervals cover 0.924 with 5 folds and 0.935
    with 20 (medians of `benchmarks/coverage.py`). Clusters of two kinds have folds of either, and so many fits.
    """
    if not clusters:
        return FOLDS
    fewest = min(int(codes.max()) + 1 for codes in clusters)
    most = MORE_FOLDS if fewest < ENOUGH_CLUSTERS and len(clusters) == 1 else FOLDS
    return max(2, min(most, fewest))


class Split(NamedTuple):
    """Rows of one fold, and those that its nuisances are fitted on."""

    rows: Rows
    rest: Rows


def make_folds(treated: Floats, n_folds: int, seed: int, clusters: Sequence[Codes] = ()) -> list[Split]:
    """Folds at random and balanced by arm, or of whole clusters at random.

    With clusters of two kinds each kind has `n_folds` folds, every pair of them is a fold, and its nuisances are fitted
    on the rows that share neither (Chiang, Kato, Ma and Sasaki 2022, doi:10.1080/07350015.2021.1895815).

    Raises
    ------
    EffectError
        When there are fewer than two folds, or fewer clusters or units in an arm than folds.
    """
    if n_folds < 2:
        raise EffectError(f"n_folds: got {n_folds}, expected 2 or more.")
    rng = np.random.default_rng(seed)
    if clusters:
        ways = [_cluster_folds(codes, n_folds, rng) for codes in clusters]
    else:
        fold = np.empty(len(treated), dtype=np.intp)
        for arm in (0.0, 1.0):
            rows = np.flatnonzero(treated == arm)
            if len(rows) < n_folds:
                raise EffectError(
                    f"n_folds: {n_folds} folds for an arm of {len(rows)} units. Use fewer folds."
                )
            fold[rng.permutation(rows)] = np.arange(len(rows)) % n_folds
        ways = [fold]
    shared = np.column_stack(ways)
    return [
        Split(
            np.flatnonzero((shared == fold).all(axis=1)),
            np.flatnonzero((shared != fold).all(axis=1)),
        )
        for fold in np.unique(shared, axis=0)
    ]


def _cluster_folds(codes: Codes, n_folds: int, rng: np.random.Generator) -> Rows:
    n_clusters = int(codes.max()) + 1
    if n_clusters < n_folds:
        raise EffectError(f"n_folds: {n_folds} folds of {n_clusters} clusters. Use fewer folds.")
    return np.asarray(rng.permutation(np.arange(n_clusters) % n_folds)[codes])
