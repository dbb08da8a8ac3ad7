"""Which correction comes closest to known contrasts, of the kind that a trial is about to estimate.

Pseudo-trials are built from covariates, places or donor matching, never from predictions: arms that are made by
thresholding a prediction favour whatever assumes that the prediction is right. Doing nothing is a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.contrasts.families import ContrastDesign, require_quiet_labels
from sustain.debias.judge.comparison import Comparison
from sustain.debias.judge.held_out import HeldOut, Method, ReadsEffects, cross_fit_level, held_out_contrasts
from sustain.debias.judge.scores import MethodScore, scores_of
from sustain.debias.linear import LinearCalibration
from sustain.debias.response.calibration import ResponseCalibration
from sustain.debias.sample import as_sample, read
from sustain.debias.tweedie.calibration import TweedieCalibration
from sustain.errors import CalibrationError

__all__ = ["Comparison", "MethodScore", "compare"]

Array = NDArray[np.float64]

MIN_CONTRASTS = 5  # fewer held-out contrasts rank nothing


def compare(
    y_pred: Any,
    y_true: Any,
    *,
    design: ContrastDesign,
    folds: Any,
    sample_weight: Any = None,
    strata: Any = None,
    target_noise_var: float = 0.0,
    methods: Mapping[str, Method] | None = None,
    min_arm: int = 10,
) -> Comparison:
    """Rank corrections on contrasts whose truth is known.

    In every fold the contrasts among its own rows are estimated with corrections that were learned on all other folds;
    the matched slope comes from contrasts among those other rows. In donor trials every corrected value is first
    replaced by its regression on truth among the rows of the fold, so that the luck of single donors does not choose.

    Parameters
    ----------
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels.
    design : ContrastFamily or DonorTrials
        Contrasts at the level at which the trial is assigned: `ContrastFamily.treated` and `one_against_rest` for a
        treatment that follows places or covariates, `DonorTrials` for an effect that reaches the image through the
        truth alone.
    folds : array_like, shape (n,)
        Fold of each row: spatial blocks or countries, never random.
    sample_weight : array_like, shape (n,), optional
        Weights in the calibrations; contrasts are plain differences in means.
    strata : array_like, shape (n,), optional
        With strata every row is corrected by its own stratum's correction.
    target_noise_var : float
        Variance of the labels' sampling error.
    methods : mapping of str to Calibration or ReadsEffects, optional
        Corrections to judge beside ``"none"`` and ``"level"``; response, linear and Tweedie by default. What reads
        effects off the arms, without correcting a place, has ``effect(y_pred_treated, y_pred_control)`` in the place
        of ``transform``; see `sustain.debias.judge.held_out.ReadsEffects`.
    min_arm : int
        Fewest rows in either arm of a held-out contrast; means of fewer are mostly noise.

    Raises
    ------
    CalibrationError
        On unusable rows or folds, a method called ``"none"`` or ``"level"``, fewer than five held-out contrasts, or
        donor trials on labels with noise.
    """
    # Without the weights, which leave rows out of calibrations but not out of contrasts.
    sample = as_sample(y_pred, y_true, None, None, strata, target_noise_var)
    weight = read.weights("sample_weight", sample_weight, sample.n)
    require_quiet_labels(design, sample.noise)
    read.require_one_index(
        y_pred=y_pred, y_true=y_true, sample_weight=sample_weight, strata=strata, folds=folds, design=design
    )
    chosen: dict[str, Method] = (
        {"response": ResponseCalibration(), "linear": LinearCalibration(), "tweedie": TweedieCalibration()}
        if methods is None
        else dict(methods)
    )
    if {"none", "level"} & set(chosen):
        raise CalibrationError("methods: 'none' and 'level' are always compared. Give other names to yours.")
    fold, names = read.labels("folds", folds, sample.n)
    if len(names) < 2:
        raise CalibrationError(f"folds: all rows are in fold {names[0]!r}. Pass at least two folds.")
    families = held_out_contrasts(design, fold, min_arm)
    held = HeldOut(sample, weight / weight.mean(), design, fold, families)
    truth = held.truth
    if truth.size < MIN_CONTRASTS:
        raise CalibrationError(
            f"design: {truth.size} contrasts of {design.name!r} lie inside one fold with {min_arm} rows or more in "
            f"either arm; {MIN_CONTRASTS} are needed. Take fewer folds, a smaller min_arm or a wider family."
        )
    notes: list[str] = []
    found: dict[str, Array] = {"none": held.differences(sample.y_pred)}
    for name, method in chosen.items():
        if strata is not None and isinstance(method, ReadsEffects):
            notes.append(f"{name} is learned over all strata: it reads effects off arms, not places.")
        try:
            found[name] = held.estimated(method, strata)
        except CalibrationError as error:
            if name == "linear":  # it has the fewest demands: what stops it stops the comparison
                raise
            notes.append(f"{name} is left out: {error}")
    matched, slope = cross_fit_level(sample.y_pred, sample.y_true, design, fold)
    if matched is None:
        notes.append(
            "The matched slope is left out: too few contrasts in the other folds, or no positive slope."
        )
    else:
        found["level"] = held.differences(matched)
    return Comparison(
        family=design.name,
        n_contrasts=truth.size,
        n_folds=sum(len(family) > 0 for family in families),
        scores=scores_of(found, truth, held.fold_of_contrast),
        level_slope=slope,
        notes=tuple(notes),
    )
