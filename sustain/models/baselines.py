"""What a CNN has to beat: wealth from the mean nightlights of a tile alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import mean_squared_error
from sklearn.neighbors import KNeighborsRegressor

from sustain.data.tiles import TileStore

__all__ = ["NightlightsKNN", "mean_nightlights"]

_CHUNK = 256


def mean_nightlights(store: TileStore) -> NDArray[np.float64]:
    """Mean of each tile's valid NIGHTLIGHTS pixels, in the band's unit; NaN where it has none; shape ``(n,)``."""
    means = np.full(len(store), np.nan)
    for start in range(0, len(store), _CHUNK):
        lights = store.format.decode(
            store.read(np.arange(start, min(start + _CHUNK, len(store)))), "NIGHTLIGHTS"
        )
        valid = np.isfinite(lights)
        n = valid.sum(axis=(1, 2))
        total = np.where(valid, lights, 0).sum(axis=(1, 2), dtype=np.float64)
        means[start : start + len(n)] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return means


@dataclass
class NightlightsKNN:
    """Nearest neighbours in mean nightlights, SustainBench's published baseline for its DHS tasks.

    Attributes
    ----------
    k : int
        Number of neighbours, chosen by squared error on the validation split.
    """

    neighbours: tuple[int, ...] = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)

    def fit(self, store: TileStore) -> Self:
        """Fit on the split ``train``, and choose the number of neighbours on ``val``."""
        lights = mean_nightlights(store)
        labels = store.index["label"].to_numpy()
        rows, held = store.rows("train"), store.rows("val")
        # A tile without lights data is predicted as one of average lights.
        self._filler = float(np.nanmean(lights[rows])) if np.isfinite(lights[rows]).any() else 0.0
        x = self._features(lights)
        candidates = [k for k in self.neighbours if k <= len(rows)]
        models = [KNeighborsRegressor(k).fit(x[rows], labels[rows]) for k in candidates]
        errors = [mean_squared_error(labels[held], model.predict(x[held])) for model in models]
        best = int(np.argmin(errors))
        self.k, self._model = candidates[best], models[best]
        return self

    def predict(self, store: TileStore) -> NDArray[np.float64]:
        """Predict every tile of a store; shape ``(n,)``, in the label's unit."""
        predicted: NDArray[np.float64] = self._model.predict(self._features(mean_nightlights(store)))
        return predicted

    def _features(self, lights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isfinite(lights), lights, self._filler)[:, None]
