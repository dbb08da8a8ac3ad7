"""Labels in the trial: prediction-powered inference (PPI++) of means and differences in means.

With true outcomes for some of a trial's units, chosen at random, predictions need no assumption about their errors:
they only sharpen what the labels say (Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453). The power-tuning factor
`lam` weighs them; 0 uses the labels alone. It is not held within [0, 1] here, unless asked: the best factor for
shrunken predictions is above 1, and with it the estimate does not depend on the scale of the predictions.

Estimates are the paper's. Its intervals are for many labels: variances are divided by n and quantiles are normal. Here
they have small-sample factors and Student's t (`sustain.causal.labels.small_samples`), which with many labels is the
same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.labels.labelled import LabelledTrial
from sustain.causal.labels.result import PPIResult
from sustain.causal.labels.small_samples import Part, add_up, few_notes, mean_part
from sustain.causal.trial.reader import read
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["effect_of", "given_factor", "joint_groups", "ppi_effect", "ppi_mean", "tuned_factor"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def ppi_mean(
    y: ArrayLike,
    y_pred: ArrayLike,
    y_pred_unlabelled: ArrayLike,
    *,
    lam: float | None = None,
    clip: bool = False,
    clusters: ArrayLike | None = None,
    clusters_unlabelled: ArrayLike | None = None,
) -> PPIResult:
    """Mean of the truth, from labelled and unlabelled units of one population.

    Parameters
    ----------
    y, y_pred : array_like, shape (n,)
        Truth and prediction of the labelled units.
    y_pred_unlabelled : array_like, shape (N,)
        Prediction of the others.
    lam : float, optional
        Power-tuning factor; by default the one of least variance, which is tuned on three labels or more.
    clip : bool
        Hold the tuned factor within [0, 1], as the paper does.
    clusters, clusters_unlabelled : array_like, shape (n,) and (N,), optional
        Clusters, with labels that are common to both.

    Returns
    -------
    PPIResult

    Raises
    ------
    EffectError
        When columns differ in length or index, values are missing or infinite, there are fewer than two labelled or
        unlabelled units, or the labels, or the other units, lie in a single cluster.
    """
    truth = read.vector("y", y)
    f = read.vector("y_pred", y_pred, truth.size, like="y")
    f_u = read.vector("y_pred_unlabelled", y_pred_unlabelled)
    read.require_index_of("y", y, y_pred=y_pred, clusters=clusters)
    read.require_same_index(
        "clusters_unlabelled", clusters_unlabelled, "y_pred_unlabelled", y_pred_unlabelled
    )
    group, group_u = joint_groups(clusters, clusters_unlabelled, truth.size, f_u.size)
    mean = _Mean.of(truth, f, f_u, given_factor(lam), clip, group, group_u, "")
    total = add_up(mean.parts)
    return PPIResult(
        estimate=mean.estimate,
        std_error=total.std_error,
        lam=(mean.lam,),
        n_labelled=truth.size,
        n_unlabelled=f_u.size,
        influence=np.concatenate([mean.psi, mean.psi_unlabelled]),
        df=total.df,
        notes=few_notes(total.df, group is not None, mean.held),
    )


def ppi_effect(
    data: pd.DataFrame,
    *,
    label: str,
    prediction: str,
    treatment: str,
    clusters: str | None = None,
    lam: float | None = None,
    clip: bool = False,
) -> PPIResult:
    """Difference in means of the truth between arms, each arm with a factor of its own.

    Parameters
    ----------
    data : DataFrame
        One row a unit of the trial.
    label : str
        Column of true outcomes, NaN where there is none. Which units have one must be random within an arm.
    prediction, treatment : str
        Columns of predictions, and of 0 and 1.
    clusters : str, optional
        Column of clusters.
    lam, clip
        As in `ppi_mean`.

    Raises
    ------
    EffectError
        When a column is missing or holds no numbers, treatment is not 0/1, an arm has fewer than two labelled or
        unlabelled units (three labelled ones where `lam` is tuned), the labels of an arm, or its other units, lie in a
        single cluster, or a cluster is missing.
    """
    trial = LabelledTrial.read(
        data, label=label, prediction=prediction, treatment=treatment, clusters=clusters
    )
    return effect_of(trial, lam, clip)


def effect_of(trial: LabelledTrial, lam: float | None = None, clip: bool = False) -> PPIResult:
    """`ppi_effect` of a trial that was read."""
    lam = given_factor(lam)
    psi = np.empty(trial.n)
    arms = []
    for value, sign, name in ((0.0, -1.0, "control "), (1.0, 1.0, "treated ")):
        has, lacks = (part & (trial.treated == value) for part in (trial.labelled, ~trial.labelled))
        group, group_u = (None if trial.group is None else trial.group[part] for part in (has, lacks))
        y, f, f_u = trial.label[has], trial.prediction[has], trial.prediction[lacks]
        arm = _Mean.of(y, f, f_u, lam, clip, group, group_u, name, sign)
        psi[has], psi[lacks] = arm.psi, arm.psi_unlabelled
        arms.append(arm)
    total = add_up([part for arm in arms for part in arm.parts])
    n_labelled = int(trial.labelled.sum())
    return PPIResult(
        estimate=arms[1].estimate - arms[0].estimate,
        std_error=total.std_error,
        lam=(arms[0].lam, arms[1].lam),
        n_labelled=n_labelled,
        n_unlabelled=trial.n - n_labelled,
        influence=psi,
        df=total.df,
        notes=few_notes(total.df, trial.group is not None, ", ".join(arm.held for arm in arms)),
    )


@dataclass(frozen=True)
class _Mean:
    """The mean of one arm, or of a population.

    Attributes
    ----------
    estimate, lam : float
    parts : list of Part
        That of the labels and, unless `lam` is zero, that of the other units.
    psi, psi_unlabelled : ndarray
        Influences with small-sample factors.
    held : str
        How many labels, or clusters with labels, there are.
    """

    estimate: float
    lam: float
    parts: list[Part]
    psi: Floats
    psi_unlabelled: Floats
    held: str

    @classmethod
    def of(
        cls,
        y: Floats,
        f: Floats,
        f_u: Floats,
        lam: float | None,
        clip: bool,
        group: Codes | None,
        group_u: Codes | None,
        name: str,
        sign: float = 1.0,
    ) -> _Mean:
        """Mean of one arm, whose `name` is for errors, counted with a sign."""
        tuned = lam is None
        _require_units(len(y), len(f_u), name, tuned)
        if lam is None:
            cross = float(np.mean((y - y.mean()) * (f - f.mean())))
            lam = tuned_factor(cross, float(np.var(np.append(f, f_u), ddof=1)), len(f), len(f_u), clip)
        rest = y - lam * f
        labels = mean_part(rest - rest.mean(), sign, group, kept_by_tuning(len(y) - 1) if tuned else 1.0)
        parts = [_told(labels, f"labelled {name}units")]
        if lam != 0:
            others = mean_part(f_u - f_u.mean(), sign * lam, group_u)
            parts.append(_told(others, f"unlabelled {name}units"))
        what = "labels" if group is None else "clusters with labels"
        return cls(
            estimate=lam * float(f_u.mean()) + float(rest.mean()),
            lam=lam,
            parts=parts,
            psi=parts[0].scaled,
            psi_unlabelled=parts[1].scaled if lam != 0 else np.zeros(len(f_u)),
            held=f"{labels.n_groups} {name}{what}",
        )


def _require_units(n: int, n_unlabelled: int, name: str, tuned: bool) -> None:
    if min(n, n_unlabelled) < 2:
        raise EffectError(
            f"{n} labelled and {n_unlabelled} unlabelled {name}units; both need at least 2. With labels for all, no "
            "predictions are needed: use the labels as the outcome."
        )
    if tuned and n < 3:
        raise EffectError(
            f"lam: {n} labelled {name}units cannot tune a factor and show how they differ. Pass lam=1 (predictions as "
            "they are) or lam=0 (labels alone), or label three or more."
        )


def _told(part: Part, name: str) -> Part:
    """Give the part, if something is seen of how its clusters differ."""
    if part.alone:
        raise EffectError(
            f"clusters: the {name} lie in a single cluster, so that nothing is seen of how clusters differ. Cluster at "
            "a finer level."
        )
    return part


def kept_by_tuning(df: int) -> float:
    """Share of the degrees of freedom of labels that tuning a factor on them leaves."""
    return (df - 1) / df


def given_factor(lam: float | None) -> float | None:
    """Factor that was passed, checked."""
    return None if lam is None else read.number("lam", lam, "a finite factor, such as 1, or None to tune it")


def tuned_factor(cross: float, spread: float, n: int, n_unlabelled: int, clip: bool) -> float:
    """Factor of least variance, Cov(y, f) / ((1 + n/N) Var(f)); without spread in f there is nothing to weigh."""
    lam = cross / ((1 + n / n_unlabelled) * spread) if spread > 0 else 0.0
    return min(max(lam, 0.0), 1.0) if clip else lam


def joint_groups(
    clusters: Any, clusters_unlabelled: Any, n: int, n_u: int
) -> tuple[Codes | None, Codes | None]:
    """Cluster codes of labelled and unlabelled units, in one numbering."""
    if (clusters is None) != (clusters_unlabelled is None):
        raise EffectError("clusters: pass them for labelled and unlabelled units, or for neither.")
    if clusters is None:
        return None, None
    for name, values, size, like in (
        ("clusters", clusters, n, "y"),
        ("clusters_unlabelled", clusters_unlabelled, n_u, "y_pred_unlabelled"),
    ):
        read.labels(name, values, size, like=like)
    first, second = read.joint_labels("clusters", clusters, clusters_unlabelled)
    return first.codes, second.codes
