"""Which correction comes closest to known contrasts, of the kind that a trial is about to estimate.

Pseudo-trials are built from covariates, places or donor matching, never from predictions: arms that are made by
thresholding a prediction favour whatever assumes that the prediction is right. Doing nothing is a candidate.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.base import Calibration
from sustain.debias.bridge.calibration import BridgeCalibration
from sustain.debias.contrasts.families import ContrastDesign, require_quiet_labels
from sustain.debias.contrasts.slopes import contrasts
from sustain.debias.judge.cross_fit import cross_fit
from sustain.debias.linear import LinearCalibration
from sustain.debias.sample import as_sample, read
from sustain.debias.tweedie.calibration import TweedieCalibration
from sustain.errors import CalibrationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison", "MethodScore", "compare", "cross_fit_level", "held_out_contrasts"]

Array = NDArray[np.float64]

MIN_CONTRASTS = 5  # fewer held-out contrasts rank nothing
SHOWN = 0.8  # an image that holds this share of a contrast, or more, is said to show it
_WORDS = {"none": "the predictions as they are", "level": "the slope matched to these contrasts"}


@dataclass(frozen=True)
class MethodScore:
    """How one method does on the held-out contrasts.

    Attributes
    ----------
    method : str
    mae, rmse : float
        Mean absolute and root mean squared error of the contrasts, in the target's unit.
    bias : float
        Mean error in the direction of the true contrast: negative when contrasts come out too small.
    share : float
        Share of the true contrasts that comes out: slope of estimated on true ones through the origin.
    behind, behind_std_error : float
        By how much the mean absolute error is above the best method's, and the paired standard error of that (contrasts
        taken as independent).
    """

    method: str
    mae: float
    rmse: float
    bias: float
    share: float
    behind: float
    behind_std_error: float


@dataclass(frozen=True)
class Comparison:
    """A ranking of methods. It recommends and explains; it switches nothing.

    Attributes
    ----------
    family : str
        What kind of contrasts was judged.
    n_contrasts, n_folds : int
        Held-out contrasts, and the folds that they come from.
    recommended : str
        Method with the least mean absolute error: ``"none"``, ``"linear"``, ``"tweedie"``, ``"bridge"`` or ``"level"``.
    scores : tuple of MethodScore
        Best first.
    level_slope : float or None
        Mean over folds of the slope that is matched to the family; None when it could not be estimated.
    notes : tuple of str
        What was left out, and why.
    """

    family: str
    n_contrasts: int
    n_folds: int
    recommended: str
    scores: tuple[MethodScore, ...]
    level_slope: float | None
    notes: tuple[str, ...]

    def score(self, method: str) -> MethodScore:
        """Score of one method. Raises `CalibrationError` when it was not compared."""
        for item in self.scores:
            if item.method == method:
                return item
        raise CalibrationError(
            f"method: {method!r} was not compared; there are {', '.join(s.method for s in self.scores)}."
        )

    @property
    def equals(self) -> tuple[str, ...]:
        """Methods that cannot be told from the recommended one: less than two standard errors behind it."""
        return tuple(item.method for item in self.scores[1:] if item.behind <= 2 * item.behind_std_error)

    def explain(self) -> str:
        """Say in words what is recommended, and why."""
        best, none = self.scores[0], self.score("none")
        said = [
            f"{self.n_contrasts} contrasts ({self.family}) in {self.n_folds} folds that the calibration did not see. "
            f"Closest: {_WORDS.get(best.method, best.method)}, mean absolute error {best.mae:.3g}.",
            f"The predictions as they are hold {none.share:.0%} of the true contrasts.",
        ]
        if best.method == "none" and (self.level_slope is None or self.level_slope >= SHOWN):
            said.append("The image shows these contrasts by itself: a correction would make them too large.")
        elif best.method == "none":
            said.append(
                "They come out too small, but at arms of this size a correction adds more noise than it takes off "
                f"bias (matched slope {self.level_slope:.2f}); in larger arms, or over many trials, it may be due."
            )
        elif best.method == "level":
            said.append(
                "Neither the predictions as they are nor the slope over all places is right at this level."
            )
        else:
            said.append(
                "The contrasts reach the predictions as other differences in truth do: a correction is due."
            )
        if self.equals:
            said.append(f"Not to be told apart from it: {', '.join(self.equals)}.")
        said.append(
            "This holds for contrasts of this kind only; nothing is switched: pass the method yourself."
        )
        return " ".join((*said, *self.notes))

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as dictionaries, lists and numbers, with the explanation."""
        return {**asdict(self), "equals": self.equals, "explanation": self.explain()}

    def __str__(self) -> str:
        rows = [f"{'method':10} {'MAE':>9} {'RMSE':>9} {'bias':>9} {'share':>7}  behind the best"]
        for s in self.scores:
            behind = "-" if s.behind == 0 else f"{s.behind:.3g} ({s.behind_std_error:.2g})"
            rows.append(f"{s.method:10} {s.mae:9.4g} {s.rmse:9.4g} {s.bias:9.3g} {s.share:7.0%}  {behind}")
        return "\n".join((*rows, self.explain()))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("method", "MAE", "RMSE", "bias", "share", "behind"))
        rows = ""
        for s in self.scores:
            name = html.escape(s.method)
            name = f"<b>{name}</b>" if s.method == self.recommended else name
            cells = (f"{s.mae:.4g}", f"{s.rmse:.4g}", f"{s.bias:.3g}", f"{s.share:.0%}", f"{s.behind:.3g}")
            rows += (
                f"<tr><th style='text-align:left'>{name}</th>"
                + "".join(f"<td>{c}</td>" for c in cells)
                + "</tr>"
            )
        return f"<table><tr>{head}</tr>{rows}</table><p>{html.escape(self.explain())}</p>"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean absolute errors, with bars of two paired standard errors from the best."""
        from matplotlib import pyplot

        if ax is None:
            ax = pyplot.subplots(layout="constrained")[1]
        scores = self.scores[::-1]
        ax.axvline(self.scores[0].mae, color="0.6", linewidth=1, label="least error")
        ax.errorbar(
            [s.mae for s in scores],
            range(len(scores)),
            xerr=[2 * s.behind_std_error for s in scores],
            fmt="o",
            capsize=3,
            label="error, and two standard errors\nof its distance from the least",
        )
        ax.legend(frameon=False)
        ax.set_yticks(range(len(scores)), [s.method for s in scores])
        ax.set_xlim(left=0)
        ax.set_xlabel(f"mean absolute error of the contrasts ({self.family})")
        return ax


def compare(
    y_pred: Any,
    y_true: Any,
    *,
    design: ContrastDesign,
    folds: Any,
    sample_weight: Any = None,
    strata: Any = None,
    target_noise_var: float = 0.0,
    methods: Mapping[str, Calibration] | None = None,
    min_arm: int = 10,
) -> Comparison:
    """Rank corrections on contrasts whose truth is known.

    In every fold the contrasts among its own rows are estimated with corrections that were learned on all other folds;
    the matched slope comes from contrasts among those other rows.

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
    methods : mapping of str to Calibration, optional
        Corrections to judge beside ``"none"`` and ``"level"``; linear, Tweedie and bridge by default.
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
    chosen = {"linear": LinearCalibration(), "tweedie": TweedieCalibration(), "bridge": BridgeCalibration()}
    chosen = chosen if methods is None else dict(methods)
    if {"none", "level"} & set(chosen):
        raise CalibrationError("methods: 'none' and 'level' are always compared. Give other names to yours.")
    fold = read.labels("folds", folds, sample.n).codes
    notes: list[str] = []
    estimates: dict[str, Array] = {"none": sample.y_pred}
    for name, calibration in chosen.items():
        try:
            estimates[name] = cross_fit(
                calibration,
                sample.y_pred,
                sample.y_true,
                folds,
                sample_weight=weight / weight.mean(),
                strata=strata,
                target_noise_var=sample.noise,
            )
        except CalibrationError as error:
            if name == "linear":  # it has the fewest demands: what stops it stops the comparison
                raise
            notes.append(f"{name} is left out: {error}")
    families = held_out_contrasts(design, fold, min_arm)
    matched, slope = cross_fit_level(sample.y_pred, sample.y_true, design, fold)
    if matched is None:
        notes.append(
            "The matched slope is left out: too few contrasts in the other folds, or no positive slope."
        )
    else:
        estimates["level"] = matched
    truth = _stack(families, sample.y_true)
    if truth.size < MIN_CONTRASTS:
        raise CalibrationError(
            f"design: {truth.size} contrasts of {design.name!r} lie inside one fold with {min_arm} rows or more in "
            f"either arm; {MIN_CONTRASTS} are needed. Take fewer folds, a smaller min_arm or a wider family."
        )
    scores = _scores({name: _stack(families, values) for name, values in estimates.items()}, truth)
    return Comparison(
        family=design.name,
        n_contrasts=truth.size,
        n_folds=sum(len(family) > 0 for family in families),
        recommended=scores[0].method,
        scores=scores,
        level_slope=slope,
        notes=tuple(notes),
    )


def held_out_contrasts(design: ContrastDesign, fold: NDArray[np.intp], min_arm: int) -> list[Any]:
    """Contrasts among the rows of each fold alone."""
    return [design.on(fold == number, min_arm) for number in range(int(fold.max()) + 1)]


def cross_fit_level(
    y_pred: Array, y_true: Array, design: ContrastDesign, fold: NDArray[np.intp]
) -> tuple[Array | None, float | None]:
    """Divide each fold's predictions by the slope matched to the design on all other folds; also the mean slope.

    None when a fold's matched slope cannot be estimated or is not positive.
    """
    sample = as_sample(y_pred, y_true)
    corrected, slopes = np.empty(y_pred.size), []
    for number in range(int(fold.max()) + 1):
        inside = fold == number
        term = contrasts(sample, design.on(~inside, 2))
        if term is None or not term.slope > 0:
            return None, None
        corrected[inside] = y_pred[inside] / term.slope
        slopes.append(term.slope)
    return corrected, float(np.mean(slopes))


def _stack(families: list[Any], values: Array) -> Array:
    return np.concatenate([family.differences(values) for family in families])


def _scores(found: Mapping[str, Array], truth: Array) -> tuple[MethodScore, ...]:
    errors = {name: values - truth for name, values in found.items()}
    # Ties go to the method that does less: "none" is first.
    best = min(errors, key=lambda name: float(np.abs(errors[name]).mean()))
    scores = []
    for name, error in errors.items():
        behind = np.abs(error) - np.abs(errors[best])
        scores.append(
            MethodScore(
                method=name,
                mae=float(np.abs(error).mean()),
                rmse=math.sqrt(float((error**2).mean())),
                bias=float((error * np.sign(truth)).mean()),
                share=float(found[name] @ truth / (truth @ truth)),
                behind=float(behind.mean()),
                behind_std_error=float(behind.std(ddof=1)) / math.sqrt(truth.size),
            )
        )
    return tuple(sorted(scores, key=lambda item: item.mae))
