"""What every baseline is: something that learns from one part of a task and predicts another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.sustainbench.ood_landcover import LandCoverRegions

__all__ = ["Baseline", "Constant", "Prediction"]


class Prediction(NamedTuple):
    """What `sustain.data.sustainbench.tasks.score` judges.

    Attributes
    ----------
    values : ndarray or iterable of ndarray
        A number or class a sample, or one mask after the other.
    scores : ndarray of float, shape (n,), optional
        Score of class 1, where there are two classes.
    """

    values: NDArray[Any] | Iterable[NDArray[Any]]
    scores: NDArray[np.float64] | None = None


class Baseline(Protocol):
    """Learns and predicts in one call."""

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """Learn from `train` and predict every sample of `test`, in its order.

        Parameters
        ----------
        train, test : TaskDataset
            Parts of one task and one scheme. Labels of `test` are not looked at.
        val : TaskDataset, optional
            What choices are made on, by the baselines that make any.
        seed : int
            All that is random follows from it.
        epochs : int, optional
            Other than the baseline's own number; for those that have epochs.
        """


class Constant:
    """The mean of the training labels, or their most frequent class: what knowing nothing scores."""

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """Predict one number for all; see `Baseline.fit_predict`."""
        if train.kind == "segmentation":
            counts = sum(np.bincount(train.mask(i).ravel(), minlength=256) for i in range(len(train)))
            counts = np.asarray(counts)
            if train.ignore_index is not None:
                counts[train.ignore_index] = 0
            fullest = int(np.argmax(counts))
            return Prediction(np.full_like(test.mask(i), fullest) for i in range(len(test)))
        if isinstance(test, LandCoverRegions):  # classes of an episode are alike by construction
            return Prediction(np.zeros(len(test.labels), dtype=np.int64))
        if train.kind == "regression":
            return Prediction(np.full(len(test), float(np.mean(train.labels))))
        values, counts = np.unique(train.labels, return_counts=True)
        n, chosen = len(test), int(np.argmax(counts))
        return Prediction(np.full(n, values[chosen]), np.full(n, counts[chosen] / counts.sum()))
