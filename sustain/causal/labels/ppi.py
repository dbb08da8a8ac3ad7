"""Labels in the trial: prediction-powered inference (PPI++).

With true outcomes for some of a trial's units, chosen at random, predictions need no assumption about their errors:
they only sharpen what the labels say (Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453). The power-tuning factor
`lam` weighs them; 0 uses the labels alone. It is not held within [0, 1] here, unless asked: the best factor for
shrunken predictions is above 1, and with it the estimate does not depend on the scale of the predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.debias.sample import read
from sustain.errors import CalibrationError, EffectError
from sustain.stats.covariance import p_value
from sustain.stats.line import Regressors

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PPIResult", "clustered_variance", "ppi_effect", "ppi_mean", "ppi_ols"]

Floats = NDArray[np.float64]
Alternative = Literal["two-sided", "larger", "smaller"]


@dataclass(frozen=True)
class PPIResult:
    """A prediction-powered estimate.

    Attributes
    ----------
    estimate, std_error : float
    lam : tuple of float
        Power-tuning factor; for an effect those of the control and the treated arm.
    n_labelled, n_unlabelled : int
    influence : ndarray
        Influence of each unit: labelled before unlabelled, or the rows of the data.
    df : float
        Degrees of freedom of intervals: infinite for independent units (a normal interval), and with clusters those
        that hold labels, less one.
    """

    estimate: float
    std_error: float
    lam: tuple[float, ...]
    n_labelled: int
    n_unlabelled: int
    influence: Floats = field(repr=False, compare=False)
    df: float = math.inf

    def conf_int(self, level: float = 0.95, alternative: Alternative = "two-sided") -> tuple[float, float]:
        """Give a confidence interval, by Student's t with `df` degrees of freedom.

        Parameters
        ----------
        level : float
        alternative : {"two-sided", "larger", "smaller"}
            ``"larger"`` gives the lower bound that goes with testing for a larger value, (low, inf); ``"smaller"``
            the upper bound, (-inf, high).
        """
        if not 0 < level < 1:
            raise EffectError(
                f"level: got {level!r}, expected a confidence level between 0 and 1, such as 0.95."
            )
        _require_alternative(alternative)
        # A bound at some level is the end of a two-sided interval that leaves twice as much out.
        half = _quantile(0.5 + level / 2 if alternative == "two-sided" else level, self.df) * self.std_error
        low = -math.inf if alternative == "smaller" else self.estimate - half
        high = math.inf if alternative == "larger" else self.estimate + half
        return low, high

    def pvalue(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """P-value of the hypothesis that the value is `null`; NaN when it is so exactly and nothing scatters."""
        from scipy.special import ndtr, stdtr

        _require_alternative(alternative)
        gap = self.estimate - null
        if self.std_error > 0:
            statistic = gap / self.std_error
        else:  # nothing scatters: no p-value where the estimate is the null itself
            statistic = math.nan if gap == 0 else math.copysign(math.inf, gap)
        if alternative == "two-sided":
            return p_value(statistic, self.df)
        tail = -statistic if alternative == "larger" else statistic
        return float(ndtr(tail) if math.isinf(self.df) else stdtr(self.df, tail))

    def __str__(self) -> str:
        low, high = self.conf_int()
        factors = ", ".join(f"{lam:.3g}" for lam in self.lam)
        return (
            f"{self.estimate:.4g} (standard error {self.std_error:.3g}), 95% interval {low:.4g} to {high:.4g}\n"
            f"{self.n_labelled} labelled and {self.n_unlabelled} other units; weight of the predictions {factors} "
            "(0: labels alone). Rests on labels drawn at random, and on neither assumption about the map's errors."
        )


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
        Power-tuning factor; by default the one of least variance.
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
        When columns differ in length, values are missing or infinite, there are fewer than two labelled or unlabelled
        units, or clusters are missing or a single one.
    """
    _require_same_index("y_pred", y_pred, "y", y)
    arm = _Arm.of(y, y_pred, y_pred_unlabelled, lam, clip)
    psi = np.concatenate([arm.influence, arm.influence_unlabelled])
    n, n_unlabelled = len(arm.influence), len(arm.influence_unlabelled)
    groups = _joined(clusters, clusters_unlabelled, n, n_unlabelled)
    error = math.sqrt(clustered_variance(psi, groups))
    df = clustered_df(groups, np.arange(len(psi)) < n)
    return PPIResult(arm.estimate, error, (arm.lam,), n, n_unlabelled, psi, df)


def ppi_ols(
    x: ArrayLike,
    y: ArrayLike,
    y_pred: ArrayLike,
    x_unlabelled: ArrayLike,
    y_pred_unlabelled: ArrayLike,
    *,
    lam: float | None = None,
    clip: bool = False,
    clusters: ArrayLike | None = None,
    clusters_unlabelled: ArrayLike | None = None,
) -> list[PPIResult]:
    """Coefficients of a regression of the truth on `x`.

    Parameters
    ----------
    x, x_unlabelled : array_like, shape (n, k) and (N, k)
        Regressors; include a column of ones for a constant.
    y, y_pred, y_pred_unlabelled, lam, clip, clusters, clusters_unlabelled
        As in `ppi_mean`. One factor serves all coefficients: it makes the sum of their variances least.

    Returns
    -------
    list of PPIResult, length k

    Raises
    ------
    EffectError
        As `ppi_mean`; and when columns of `x` are linearly dependent among the labelled or the unlabelled units.
    """
    _require_same_index("y_pred", y_pred, "y", y)
    _require_same_index("x", x, "y", y)
    _require_same_index("x_unlabelled", x_unlabelled, "y_pred_unlabelled", y_pred_unlabelled)
    design, design_u = _columns("x", x), _columns("x_unlabelled", x_unlabelled)
    truth, f, f_u = (
        _vector("y", y),
        _vector("y_pred", y_pred),
        _vector("y_pred_unlabelled", y_pred_unlabelled),
    )
    n, n_u = len(truth), len(f_u)
    if not (len(f) == len(design) == n and len(design_u) == n_u and design.shape[1] == design_u.shape[1]):
        raise EffectError(
            f"x, y, y_pred have {len(design)}, {n}, {len(f)} rows and the unlabelled ones {len(design_u)}, {n_u}; "
            f"x has {design.shape[1]} columns and x_unlabelled {design_u.shape[1]}. Pass one row for each unit."
        )
    for name, part in (("x", design), ("x_unlabelled", design_u)):
        labels = [f"column {k} of {name}" for k in range(part.shape[1])]
        Regressors.of(part, labels, constant=False, error=EffectError)
    every = np.vstack([design, design_u])
    inverse = np.linalg.inv(every.T @ every / (n + n_u))
    on_truth, on_f = _fit(design, truth), _fit(design, f)
    on_f_u = _fit(design_u, f_u)

    def scores(coefficients: Floats) -> tuple[Floats, Floats, Floats]:
        of = (design, truth), (design, f), (design_u, f_u)
        first, second, third = (-z * (v - z @ coefficients)[:, None] @ inverse for z, v in of)
        return first, second, third

    if lam is None:
        g, g_f, g_u = scores(on_truth + on_f_u - on_f)
        cross = float(np.sum((g - g.mean(axis=0)) * (g_f - g_f.mean(axis=0)))) / n
        spread = float(np.var(np.vstack([g_f, g_u]), axis=0, ddof=1).sum())
        lam = _tuned(cross, spread, n, n_u, clip)
    if lam == 0:  # the labels alone, and so their own regressors alone
        inverse = np.linalg.inv(design.T @ design / n)
    estimate = on_truth + lam * (on_f_u - on_f)
    g, g_f, g_u = scores(estimate)
    labelled, unlabelled = lam * g_f - g, -lam * g_u
    variance = np.var(labelled, axis=0, ddof=1) / n + np.var(unlabelled, axis=0, ddof=1) / n_u
    groups = _joined(clusters, clusters_unlabelled, n, n_u)
    centred = (labelled - labelled.mean(axis=0)) / n, (unlabelled - unlabelled.mean(axis=0)) / n_u
    psi = np.vstack(centred)
    if groups is not None:
        variance = np.array([clustered_variance(column, groups) for column in psi.T])
    df = clustered_df(groups, np.arange(n + n_u) < n)
    return [
        PPIResult(float(b), math.sqrt(v), (lam,), n, n_u, column, df)
        for b, v, column in zip(estimate, variance, psi.T, strict=True)
    ]


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
        unlabelled units, or a cluster is missing.
    """
    for name in (label, prediction, treatment, *(() if clusters is None else (clusters,))):
        if name not in data.columns:
            raise EffectError(f"no column {name!r} in data; it has {', '.join(map(str, data.columns))}.")
    treated = _numbers(data, treatment)
    if not np.isin(treated, (0.0, 1.0)).all():
        raise EffectError(f"treatment: column {treatment!r} must hold 0 and 1 only.")
    f, y = _vector(prediction, _numbers(data, prediction)), _numbers(data, label)
    labelled = ~np.isnan(y)
    psi = np.empty(len(y))
    arms = []
    for value, sign in ((0.0, -1.0), (1.0, 1.0)):
        has, lacks = labelled & (treated == value), ~labelled & (treated == value)
        arm = _Arm.of(y[has], f[has], f[lacks], lam, clip)
        psi[has], psi[lacks] = sign * arm.influence, sign * arm.influence_unlabelled
        arms.append(arm)
    groups = None if clusters is None else cluster_labels(data[clusters], clusters)
    variance = clustered_variance(psi, groups)
    n_labelled = int(labelled.sum())
    effect = arms[1].estimate - arms[0].estimate
    lams = arms[0].lam, arms[1].lam
    df = clustered_df(groups, labelled)
    return PPIResult(effect, math.sqrt(variance), lams, n_labelled, len(y) - n_labelled, psi, df)


@dataclass(frozen=True)
class _Arm:
    """The mean of one arm, with the influence of its labelled and unlabelled units."""

    estimate: float
    lam: float
    influence: Floats
    influence_unlabelled: Floats

    @classmethod
    def of(
        cls, y: ArrayLike, y_pred: ArrayLike, y_pred_unlabelled: ArrayLike, lam: float | None, clip: bool
    ) -> _Arm:
        truth, f, f_u = (
            _vector("y", y),
            _vector("y_pred", y_pred),
            _vector("y_pred_unlabelled", y_pred_unlabelled),
        )
        if len(truth) != len(f):
            raise EffectError(
                f"y and y_pred have {len(truth)} and {len(f)} values. Pass one of each for a unit."
            )
        if min(len(truth), len(f_u)) < 2:
            raise EffectError(
                f"{len(truth)} labelled and {len(f_u)} unlabelled units; both need at least 2. With labels for all, no "
                "predictions are needed: use the labels as the outcome."
            )
        if lam is None:
            cross = float(np.mean((truth - truth.mean()) * (f - f.mean())))
            lam = _tuned(cross, float(np.var(np.concatenate([f, f_u]), ddof=1)), len(f), len(f_u), clip)
        rest = truth - lam * f
        estimate = lam * float(f_u.mean()) + float(rest.mean())
        return cls(estimate, lam, (rest - rest.mean()) / len(rest), lam * (f_u - f_u.mean()) / len(f_u))


def clustered_variance(psi: Floats, groups: NDArray[Any] | None) -> float:
    """Variance from influences: of units, or of clusters with the factor G / (G - 1)."""
    if groups is None:
        return float(psi @ psi)
    _, code = np.unique(groups.astype(str), return_inverse=True)
    sums = np.bincount(code, psi)
    if len(sums) < 2:
        raise EffectError("clusters: a single cluster has no variance. Cluster at a finer level.")
    return float(sums @ sums) * len(sums) / (len(sums) - 1)


def clustered_df(groups: NDArray[Any] | None, labelled: NDArray[np.bool_]) -> float:
    """Clusters that hold labels, less one; infinite without clusters.

    What labels say is as sure as they are spread: clusters without any add to the smaller part of the variance only.
    """
    return math.inf if groups is None else float(max(1, len(np.unique(groups[labelled])) - 1))


def _quantile(share: float, df: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(share) if math.isinf(df) else stdtrit(df, share))


def _tuned(cross: float, spread: float, n: int, n_unlabelled: int, clip: bool) -> float:
    """Factor of least variance, Cov(y, f) / ((1 + n/N) Var(f)); without spread in f there is nothing to weigh."""
    lam = cross / ((1 + n / n_unlabelled) * spread) if spread > 0 else 0.0
    return min(max(lam, 0.0), 1.0) if clip else lam


def cluster_labels(values: ArrayLike, name: str) -> NDArray[Any]:
    """Cluster labels as text; raises `EffectError` when some are missing, which would make one cluster of them."""
    import pandas as pd

    labels = np.asarray(values)
    missing = int(np.sum(pd.isna(labels)))
    if missing:
        raise EffectError(
            f"{name}: {missing} of {labels.size} units have no cluster. Give each a cluster (one of its own where it "
            "stands alone), or leave these units out."
        )
    return labels.astype(str)


def _joined(
    clusters: ArrayLike | None, clusters_unlabelled: ArrayLike | None, n: int, n_unlabelled: int
) -> NDArray[Any] | None:
    if (clusters is None) != (clusters_unlabelled is None):
        raise EffectError("clusters: pass them for labelled and unlabelled units, or for neither.")
    if clusters is None or clusters_unlabelled is None:
        return None
    parts = []
    for name, values, size in (
        ("clusters", clusters, n),
        ("clusters_unlabelled", clusters_unlabelled, n_unlabelled),
    ):
        labels = cluster_labels(values, name)
        if labels.shape != (size,):
            raise EffectError(f"{name}: got shape {labels.shape}, expected ({size},), one for each unit.")
        parts.append(labels)
    return np.concatenate(parts)


def _numbers(data: pd.DataFrame, name: str) -> Floats:
    try:
        return data[name].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise EffectError(f"column {name!r} is {data[name].dtype}, expected numbers ({error}).") from error


def _require_same_index(name: str, values: Any, other_name: str, other: Any) -> None:
    try:
        read.require_same_index(name, values, other_name, other)
    except CalibrationError as error:
        raise EffectError(str(error)) from error


def _fit(design: Floats, outcome: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(design, outcome, rcond=None)[0])


def _columns(name: str, values: ArrayLike) -> Floats:
    array = _floats(name, values)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise EffectError(f"{name}: expected a finite table of shape (n, k), got shape {array.shape}.")
    return array


def _floats(name: str, values: ArrayLike) -> Floats:
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(float), np.nan)  # what lies under a mask is no value
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise EffectError(f"{name}: expected numbers ({error}).") from error


def _vector(name: str, values: ArrayLike) -> Floats:
    array = _floats(name, values)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise EffectError(
            f"{name}: expected finite numbers of shape (n,), got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} missing or infinite. Leave out units without a prediction."
        )
    return array


def _require_alternative(alternative: str) -> None:
    if alternative not in ("two-sided", "larger", "smaller"):
        raise EffectError(f"alternative: got {alternative!r}, expected 'two-sided', 'larger' or 'smaller'.")
