"""Fitted simple models as plain arrays: files without pickles, and the predictions of scikit-learn's own objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsRegressor

from sustain.errors import ModelError

__all__ = ["Forest", "Line", "Neighbours", "Regressor"]


@dataclass(frozen=True)
class Line:
    """A ridge regression on standardised features, as one line.

    Attributes
    ----------
    weight : ndarray, shape (n_features,)
    bias : ndarray, shape ()
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def of(cls, pipeline: Any) -> Self:
        """Take the line from a fitted pipeline of a scaler and a ridge regression."""
        scaler, ridge = (step for _, step in pipeline.steps)
        weight = ridge.coef_ / scaler.scale_
        return cls(weight, np.asarray(ridge.intercept_ - scaler.mean_ @ weight))

    def require(self, n_features: int) -> None:
        """Raise `ModelError` where the arrays are no line in so many features."""
        if self.weight.shape != (n_features,) or self.bias.shape != ():
            raise ModelError(
                f"expected {n_features} weights and a bias; got {self.weight.shape}, {self.bias.shape}."
            )

    def predict(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Predict from features (n, n_features)."""
        return features.astype(np.float64) @ self.weight + self.bias


@dataclass(frozen=True)
class Forest:
    """Regression trees one after the other; a leaf is its own child.

    Attributes
    ----------
    root : ndarray of int, shape (n_trees,)
        Each tree's first node.
    left, right, feature : ndarray of int, shape (n_nodes,)
        Children, and the feature that divides them: left where it is at most `threshold`.
    threshold, value : ndarray of float, shape (n_nodes,)
    """

    root: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]

    @classmethod
    def of(cls, forest: Any) -> Self:
        """Take the trees from a fitted random forest."""
        trees = [tree.tree_ for tree in forest.estimators_]
        root = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])])[:-1]

        def children(side: str) -> NDArray[np.int32]:
            parts = []
            for tree, first in zip(trees, root, strict=True):
                found = getattr(tree, side)
                parts.append(np.where(found < 0, np.arange(tree.node_count), found) + first)
            return np.concatenate(parts).astype(np.int32)

        return cls(
            root.astype(np.int32),
            children("children_left"),
            children("children_right"),
            np.concatenate([np.maximum(tree.feature, 0) for tree in trees]).astype(np.int32),
            np.concatenate([tree.threshold for tree in trees]),
            np.concatenate([tree.value[:, 0, 0] for tree in trees]),
        )

    def require(self, n_features: int) -> None:
        """Raise `ModelError` where the arrays are no trees on so many features."""
        nodes = np.arange(len(self.value))
        alike = {part.shape for part in (self.left, self.right, self.feature, self.threshold, self.value)}
        if (
            alike != {nodes.shape}
            or not self.root.size
            or not ((self.root >= 0) & (self.root < len(nodes))).all()
            or not ((self.left >= nodes) & (self.left < len(nodes))).all()
            or not ((self.right >= nodes) & (self.right < len(nodes))).all()
            or not ((self.feature >= 0) & (self.feature < n_features)).all()
        ):
            raise ModelError(f"the arrays are no regression trees on {n_features} features.")

    def predict(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Predict from features (n, n_features): the mean over the trees."""
        seen = np.asarray(features, dtype=np.float32)  # as scikit-learn's trees see them
        rows = np.arange(len(seen))[:, None]
        node = np.repeat(self.root[None], len(seen), axis=0)
        while True:  # children come after their parents, so it ends
            below = np.where(
                seen[rows, self.feature[node]] <= self.threshold[node], self.left[node], self.right[node]
            )
            if np.array_equal(below, node):
                return np.asarray(self.value[node].mean(axis=1))
            node = below


@dataclass(frozen=True)
class Neighbours:
    """Mean label of the `k` training tiles whose mean night lights are nearest.

    Attributes
    ----------
    lights, labels : ndarray, shape (n,)
        Of the training tiles.
    k : ndarray of int, shape ()
    filler : ndarray, shape ()
        Lights of a tile that has none: the mean of the training tiles.
    """

    lights: NDArray[np.float64]
    labels: NDArray[np.float64]
    k: NDArray[np.int64]
    filler: NDArray[np.float64]

    def require(self, n_features: int) -> None:
        """Raise `ModelError` where the arrays are no neighbours in one feature."""
        shapes = self.lights.ndim, self.lights.shape == self.labels.shape, self.k.shape, self.filler.shape
        if shapes != (1, True, (), ()) or not 1 <= self.k <= len(self.lights) or n_features != 1:
            raise ModelError("the arrays are no nearest neighbours in mean night lights.")

    def predict(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Predict from mean night lights (n, 1); NaN counts as `filler`."""
        model = KNeighborsRegressor(int(self.k)).fit(self._filled(self.lights[:, None]), self.labels)
        predicted: NDArray[np.float64] = model.predict(self._filled(features))
        return predicted

    def _filled(self, lights: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return np.where(np.isfinite(lights), lights, self.filler)


Regressor = Line | Forest | Neighbours
