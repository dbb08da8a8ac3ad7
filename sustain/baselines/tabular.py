"""Baselines that turn each sample, or each pixel, into features and hand them to an estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.baselines.baseline import Prediction
from sustain.data.sustainbench.dataset import TaskDataset
from sustain.errors import DataError

__all__ = [
    "OnPixels",
    "OnSamples",
    "boosting",
    "forest_classifier",
    "forest_regressor",
    "linear_probe",
    "ridge",
]

Features = Callable[[TaskDataset, TaskDataset, int], NDArray[np.float32]]
"""``(train, dataset, seed) -> (n, ...)``: features of every sample of ``dataset``."""


@dataclass(frozen=True)
class OnSamples:
    """Features of each sample, then an estimator.

    Parameters
    ----------
    features : callable
        ``(train, dataset, seed) -> (n, ...)``.
    estimator : callable
        Makes an unfitted estimator from a seed.
    n_labels : int, optional
        Learn from at most so many labels, drawn by the seed.
    """

    features: Features
    estimator: Callable[[int], Any]
    n_labels: int | None = None

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """See `sustain.baselines.baseline.Baseline.fit_predict`."""
        x, y = self.features(train, train, seed), train.labels
        if self.n_labels is not None and self.n_labels < len(y):
            drawn = np.random.default_rng(seed).choice(len(y), self.n_labels, replace=False)
            x, y = x[drawn], y[drawn]
        return _predict(_fitted(self.estimator, seed, epochs, x, y), self.features(train, test, seed))


@dataclass(frozen=True)
class OnPixels:
    """Features of each pixel of a tile, then an estimator.

    Parameters
    ----------
    features : callable
        ``(dataset, i) -> (H * W, ...)``, pixels row by row.
    estimator : callable
        Makes an unfitted estimator from a seed.
    per_tile : int
        Labelled pixels of a tile and class to learn from, at most.
    """

    features: Callable[[Any, int], NDArray[np.float32]]
    estimator: Callable[[int], Any]
    per_tile: int = 40

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """See `sustain.baselines.baseline.Baseline.fit_predict`."""
        rng = np.random.default_rng(seed)
        xs, ys = [], []
        for i in range(len(train)):
            mask = train.mask(i).ravel()
            chosen = [
                rng.permutation(np.flatnonzero(mask == label))[: self.per_tile]
                for label in np.unique(mask)
                if label != train.ignore_index
            ]
            if chosen:
                pixels = np.concatenate(chosen)
                xs.append(self.features(train, i)[pixels])
                ys.append(mask[pixels])
        if not xs:
            raise DataError(f"no pixel of the {len(train)} training tiles has a label.")
        model = _fitted(self.estimator, seed, epochs, np.concatenate(xs), np.concatenate(ys))
        masks = (
            np.asarray(_predict(model, self.features(test, i)).values).reshape(test.mask(i).shape)
            for i in range(len(test))
        )
        return Prediction(masks)


def _fitted(
    estimator: Callable[[int], Any], seed: int, epochs: int | None, x: NDArray[np.float32], y: NDArray[Any]
) -> Any:
    model = estimator(seed)
    if epochs is not None and hasattr(model, "epochs"):
        model.epochs = epochs
    return model.fit(_as_asked(model, x), y)


def _predict(model: Any, x: NDArray[np.float32]) -> Prediction:
    x = _as_asked(model, x)
    values = np.asarray(model.predict(x))
    if not hasattr(model, "predict_proba") or list(getattr(model, "classes_", [])) != [0, 1]:
        return Prediction(values)
    return Prediction(values, np.asarray(model.predict_proba(x))[:, 1])


def _as_asked(model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Series stay ``(n, C, T)`` for networks; scikit-learn takes rows of numbers."""
    return x if hasattr(model, "epochs") else x.reshape(len(x), -1)


def forest_classifier(seed: int) -> Any:
    """Random forest of 200 trees, classes weighted by rarity in each tree's sample."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        200, min_samples_leaf=3, class_weight="balanced_subsample", random_state=seed, n_jobs=1
    )


def forest_regressor(seed: int) -> Any:
    """Random forest of 300 trees on a third of the features a split."""
    from sustain.models.simple import forest

    return forest(seed)


def boosting(seed: int) -> Any:
    """Gradient-boosted trees on binned features."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=300, learning_rate=0.05, random_state=seed)


def ridge(seed: int) -> Any:
    """Ridge regression on standardised features, its penalty chosen by leave-one-out within the training part."""
    from sustain.models import simple

    return simple.ridge()


def linear_probe(seed: int) -> Any:
    """Logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, random_state=seed))
