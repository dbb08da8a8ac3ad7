"""The tasks' metrics by name, with intervals from resampling whole countries, regions or sites.

Every metric here takes weights. A cluster bootstrap is then a matter of weights (how often each cluster was drawn),
and the pixels of a mask need not be kept: their counts by cluster, truth and prediction say all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sustain.errors import DataError

__all__ = ["METRICS", "Metric", "MetricResult", "Outcome", "evaluate", "outcome_of", "outcome_of_masks"]

Weighted = Callable[[NDArray[Any], NDArray[Any], NDArray[np.float64]], float]
_FEW_GROUPS = 10


def _pearson_r2(truth: NDArray[Any], prediction: NDArray[Any], weight: NDArray[np.float64]) -> float:
    x, y = (v - np.average(v, weights=weight) for v in (truth.astype(float), prediction.astype(float)))
    spread = np.average(x**2, weights=weight) * np.average(y**2, weights=weight)
    return float(np.average(x * y, weights=weight) ** 2 / spread) if spread > 0 else math.nan


def _r2(truth: NDArray[Any], prediction: NDArray[Any], weight: NDArray[np.float64]) -> float:
    spread = np.average((truth - np.average(truth, weights=weight)) ** 2, weights=weight)
    missed = np.average((truth - prediction) ** 2, weights=weight)
    return float(1 - missed / spread) if spread > 0 else math.nan


def _of_sklearn(name: str, **options: Any) -> Weighted:
    """Take a function of `sklearn.metrics`, which is imported when it is first called."""

    def metric(truth: NDArray[Any], prediction: NDArray[Any], weight: NDArray[np.float64]) -> float:
        from sklearn import metrics

        return float(getattr(metrics, name)(truth, prediction, sample_weight=weight, **options))

    return metric


def _auc(truth: NDArray[Any], score: NDArray[Any], weight: NDArray[np.float64]) -> float:
    drawn = weight > 0
    if len(np.unique(truth[drawn])) < 2:
        return math.nan
    return _of_sklearn("roc_auc_score")(truth[drawn], score[drawn], weight[drawn])


def _present(metric: Weighted) -> Weighted:
    """Leave out rows that were not drawn, so that a class without rows does not count as one with score 0."""

    def drawn_only(truth: NDArray[Any], prediction: NDArray[Any], weight: NDArray[np.float64]) -> float:
        drawn = weight > 0
        return metric(truth[drawn], prediction[drawn], weight[drawn])

    return drawn_only


class Metric(NamedTuple):
    """A metric that takes weights.

    Attributes
    ----------
    function : callable
        ``(truth, prediction, weight) -> float``; NaN where it is not defined.
    needs : {"value", "class", "score"}
        What a prediction must be: a number, a class, or the score of class 1.
    better : {"higher", "lower"}
    title : str
    """

    function: Weighted
    needs: str
    better: str
    title: str


METRICS = {
    "pearson_r2": Metric(_pearson_r2, "value", "higher", "squared Pearson correlation"),
    "r2": Metric(_r2, "value", "higher", "coefficient of determination"),
    "rmse": Metric(
        lambda t, p, w: float(np.sqrt(np.average((t - p) ** 2, weights=w))),
        *("value", "lower", "root mean squared error"),
    ),
    "mae": Metric(
        lambda t, p, w: float(np.average(np.abs(t - p), weights=w)),
        *("value", "lower", "mean absolute error"),
    ),
    "accuracy": Metric(
        lambda t, p, w: float(np.average(t == p, weights=w)), "class", "higher", "overall accuracy"
    ),
    "macro_f1": Metric(
        # The mean over classes that occur in the truth or the predictions.
        _present(_of_sklearn("f1_score", average="macro", zero_division=0)),
        *("class", "higher", "mean of the classes' F1"),
    ),
    "f1": Metric(
        _of_sklearn("f1_score", zero_division=0),
        "class",
        "higher",
        "F1 of class 1",
    ),
    "dice": Metric(
        _of_sklearn("f1_score", zero_division=0),
        *("class", "higher", "Dice coefficient of the pooled pixels (their F1)"),
    ),
    "precision": Metric(
        _of_sklearn("precision_score", zero_division=0),
        *("class", "higher", "precision of class 1"),
    ),
    "recall": Metric(
        _of_sklearn("recall_score", zero_division=0),
        *("class", "higher", "recall of class 1"),
    ),
    "auc": Metric(_auc, "score", "higher", "area under the ROC curve"),
    "cohen_kappa": Metric(
        _present(_of_sklearn("cohen_kappa_score")),
        *("class", "higher", "Cohen's kappa"),
    ),
}
METRICS["oa"] = METRICS["accuracy"]


class Outcome(NamedTuple):
    """Truth beside prediction, one row a sample or a cell of counted pixels.

    Attributes
    ----------
    truth, prediction : ndarray, shape (n,)
    score : ndarray, shape (n,), or None
        Score of class 1, which the AUC needs.
    group : ndarray of str, shape (n,)
        Cluster that a bootstrap resamples whole.
    weight : ndarray of float, shape (n,)
        How many samples or pixels a row stands for.
    """

    truth: NDArray[Any]
    prediction: NDArray[Any]
    score: NDArray[np.float64] | None
    group: NDArray[Any]
    weight: NDArray[np.float64]


class MetricResult(NamedTuple):
    """A metric's estimate with its interval.

    Attributes
    ----------
    metric : str
    estimate : float
    low, high : float
        Ends of the bootstrap percentile interval; NaN when there was nothing to resample.
    level : float
    n : int
        Samples (pixels, for masks).
    n_groups : int
    note : str
        What weakens the interval; empty when nothing does.
    """

    metric: str
    estimate: float
    low: float
    high: float
    level: float
    n: int
    n_groups: int
    note: str


def outcome_of(
    truth: ArrayLike, prediction: ArrayLike, groups: ArrayLike, score: ArrayLike | None = None
) -> Outcome:
    """Put truth and predictions of samples side by side.

    Parameters
    ----------
    truth, prediction : array_like, shape (n,)
    groups : array_like of str, shape (n,)
        Country, region or site of each sample.
    score : array_like, shape (n,), optional
        Score of class 1.

    Raises
    ------
    DataError
        When lengths differ, nothing is left, or a value is NaN: predict every sample of the part.
    """
    columns = [np.asarray(truth), np.asarray(prediction), np.asarray(groups, dtype=np.str_)]
    if score is not None:
        columns.append(np.asarray(score, dtype=float))
    if any(v.ndim != 1 or len(v) != len(columns[0]) for v in columns) or not len(columns[0]):
        raise DataError(
            f"truth, prediction, groups (and score) must be one-dimensional, equally long and not empty; got "
            f"{', '.join(str(v.shape) for v in columns)}."
        )
    for name, values in zip(("truth", "prediction", "groups", "score"), columns, strict=False):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DataError(
                f"{name} has {int((~np.isfinite(values)).sum())} NaN or infinite value(s); every sample needs one."
            )
    return Outcome(
        columns[0],
        columns[1],
        columns[3] if score is not None else None,
        columns[2],
        np.ones(len(columns[0])),
    )


def outcome_of_masks(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]], groups: Sequence[str], ignore_index: int | None = None
) -> Outcome:
    """Count the pixels of masks by group, true and predicted class.

    Parameters
    ----------
    pairs : iterable of (truth, prediction)
        Integer masks of one shape, sample by sample; memory holds one pair.
    groups : sequence of str
        Group of each pair.
    ignore_index : int, optional
        True class of pixels that do not count.

    Raises
    ------
    DataError
        When a prediction's shape differs, pairs and groups differ in number, or no pixel counts.
    """
    counts: dict[tuple[str, int, int], int] = {}
    n = 0
    for n, (truth, prediction) in enumerate(pairs, start=1):
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        if truth.shape != prediction.shape:
            raise DataError(
                f"pair {n - 1}: prediction has shape {prediction.shape}, but the mask {truth.shape}."
            )
        kept = np.full(truth.shape, True) if ignore_index is None else truth != ignore_index
        cells, sizes = np.unique(np.stack([truth[kept], prediction[kept]]), axis=1, return_counts=True)
        if n > len(groups):
            break
        for (t, p), size in zip(cells.T.tolist(), sizes.tolist(), strict=True):
            key = (str(groups[n - 1]), int(t), int(p))
            counts[key] = counts.get(key, 0) + size
    if n != len(groups):
        raise DataError(f"{n} prediction(s) for {len(groups)} mask(s); every sample needs one.")
    if not counts:
        raise DataError("no pixel counts: all are of the class to be ignored.")
    group, truth, prediction = (np.array(v) for v in zip(*counts, strict=True))
    return Outcome(truth, prediction, None, group, np.array(list(counts.values()), dtype=float))


def evaluate(
    names: Sequence[str], outcome: Outcome, *, level: float = 0.95, n_draws: int = 1000, seed: int = 0
) -> list[MetricResult]:
    """Compute metrics with cluster-bootstrap percentile intervals.

    Parameters
    ----------
    names : sequence of str
        Names of `METRICS`; ``NAME_by_country`` (or ``_by_`` whatever the groups are) is the plain mean of the groups'
        own values, which a difference in level between groups cannot raise.
    outcome : Outcome
    level : float
        Coverage of the intervals.
    n_draws : int
        Bootstrap draws; each draws as many groups as there are, with replacement.
    seed : int

    Returns
    -------
    list of MetricResult
        With one group, samples are resampled instead and the note says so; with fewer than ten groups it says that the
        interval is rough.

    Raises
    ------
    DataError
        When a name is unknown, or a metric needs a score that `outcome` lacks.
    """
    if unknown := [name for name in names if name.partition("_by_")[0] not in METRICS]:
        raise DataError(f"no metric {', '.join(unknown)}; there are {', '.join(METRICS)}.")
    if not 0 < level < 1 or n_draws < 1:
        raise DataError(f"level must be between 0 and 1 and n_draws positive; got {level} and {n_draws}.")
    codes, labels = pd.factorize(outcome.group)
    n_groups, note = len(labels), ""
    if n_groups == 1 and len(outcome.truth) > 1 and (outcome.weight == 1).all():
        codes = np.arange(len(outcome.truth))
        note = "one group only: samples were resampled, so dependence between them is not in the interval"
    elif n_groups == 1:
        note = "one group only: no interval"
    elif n_groups < _FEW_GROUPS:
        note = f"{n_groups} groups only: the interval is rough"
    n_units = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_draws if n_units > 1 else 0)
    results = []
    for name in names:
        base, _, by_group = name.partition("_by_")
        metric = METRICS[base]
        if metric.needs == "score" and outcome.score is None:
            raise DataError(f"{name} needs the score of class 1 of each sample, not only its class.")
        predicted = (
            outcome.score if metric.needs == "score" and outcome.score is not None else outcome.prediction
        )

        def value(
            weight: NDArray[np.float64], metric: Metric = metric, predicted: NDArray[Any] = predicted
        ) -> float:
            return metric.function(outcome.truth, predicted, weight)

        if by_group:
            each = np.array([value(outcome.weight * (outcome.group == label)) for label in labels])
            defined = np.isfinite(each)
            estimate = float(each[defined].mean()) if defined.any() else math.nan
            weights = draws[:, defined] if n_groups > 1 else np.empty((0, int(defined.sum())))
            weights = weights[weights.sum(axis=1) > 0]
            drawn = weights @ each[defined] / weights.sum(axis=1)
        else:
            estimate = value(outcome.weight)
            drawn = np.array([value(outcome.weight * draw[codes]) for draw in draws])
        drawn = drawn[np.isfinite(drawn)]
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(drawn, tails) if len(drawn) else (math.nan, math.nan)
        n = int(outcome.weight.sum())
        results.append(MetricResult(name, estimate, float(low), float(high), level, n, n_groups, note))
    return results
