"""What a CNN has to beat: night lights alone, and simple models of a tile's statistics and histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sustain.data.tiles.packed import TileStore
from sustain.models.features.tiles import mean_nightlights, tile_features
from sustain.models.regressors import Neighbours
from sustain.models.statistics import LIGHTS, BandStatistics

__all__ = ["SIMPLE_MODELS", "NearestLights", "forest", "predict_simple_models", "ridge"]

SIMPLE_MODELS = ("nightlights", "ridge_histograms", "ridge_statistics", "forest_statistics")

_PENALTIES = np.logspace(-2, 6, 17)


@dataclass
class NearestLights:
    """Nearest neighbours in mean nightlights, SustainBench's published baseline for its DHS tasks.

    Attributes
    ----------
    k : int
        Number of neighbours, chosen by squared error on the validation split.
    fitted : Neighbours
        As arrays.
    """

    neighbours: tuple[int, ...] = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)

    def fit(
        self, store: TileStore, rows: NDArray[np.int64] | None = None, held: NDArray[np.int64] | None = None
    ) -> Self:
        """Fit on some rows (by default the split ``train``); choose the number of neighbours on `held` (``val``)."""
        lights = mean_nightlights(store)
        labels = store.index["label"].to_numpy(dtype=np.float64)
        rows = store.rows("train") if rows is None else rows
        held = store.rows("val") if held is None else held
        # A tile without lights data is predicted as one of average lights.
        filler = float(np.nanmean(lights[rows])) if np.isfinite(lights[rows]).any() else 0.0
        candidates = [
            Neighbours(lights[rows], labels[rows], np.asarray(k), np.asarray(filler))
            for k in self.neighbours
            if k <= len(rows)
        ]
        errors = [mean_squared_error(labels[held], model.predict(lights[held, None])) for model in candidates]
        self.fitted = candidates[int(np.argmin(errors))]
        self.k = int(self.fitted.k)
        return self

    def predict(self, store: TileStore) -> NDArray[np.float64]:
        """Predict every tile of a store; shape ``(n,)``, in the label's unit."""
        return self.fitted.predict(mean_nightlights(store)[:, None])


def ridge() -> RidgeCV:
    """Ridge regression on standardised features, its penalty chosen by leave-one-out within the training rows."""
    return make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))


def forest(seed: int = 0) -> RandomForestRegressor:
    """Random forest of 300 trees on a third of the features a split."""
    return RandomForestRegressor(300, max_features=1 / 3, min_samples_leaf=3, random_state=seed)


def predict_simple_models(
    store: TileStore, rows: NDArray[np.int64], bands: BandStatistics
) -> dict[str, NDArray[np.float64]]:
    """Fit every simple model on some rows and predict all tiles.

    Parameters
    ----------
    store : TileStore
    rows : ndarray of int
        What the CNN was trained on.
    bands : BandStatistics
        Of those rows.

    Returns
    -------
    dict
        Name of `SIMPLE_MODELS` -> predictions ``(n,)`` in the label's unit; night lights only where tiles have them.
    """
    labels = store.index["label"].to_numpy()
    features = tile_features(store, bands)
    predicted = {}
    if LIGHTS in store.bands:
        predicted["nightlights"] = NearestLights().fit(store, rows).predict(store)
    for name, model, x in (
        ("ridge_histograms", ridge(), features.histograms),
        ("ridge_statistics", ridge(), features.statistics),
        ("forest_statistics", forest(), features.statistics),
    ):
        predicted[name] = np.asarray(model.fit(x[rows], labels[rows]).predict(x), dtype=np.float64)
    return predicted
