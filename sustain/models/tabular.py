"""A ridge regression, a forest or nearest lights as a model: trained on packed tiles, kept as a folder, mapped.

They are what a network has to beat (`sustain.models.simple`), and need neither torch nor a GPU.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.config import TrainParams
from sustain.data.tiles.packed import TileStore
from sustain.data.tiles.shards import TileFormat
from sustain.errors import DataError, ModelError
from sustain.files import atomic_directory, require_replaceable, sha256_of, write_json
from sustain.models.description import (
    MODEL_FILE,
    Described,
    Description,
    LabelStatistics,
    Target,
    read_description,
)
from sustain.models.features.tiles import features_of, lights_of, tile_features
from sustain.models.folds import Sites, fold_folder, fold_sites, main_rows, plan_folds, seed_of
from sustain.models.regressors import Forest, Line, Neighbours, Regressor
from sustain.models.simple import NearestLights, forest, ridge
from sustain.models.statistics import LIGHTS, BandStatistics, band_statistics

__all__ = ["ARRAYS_FILE", "SimplePredictor", "train_simple"]

ARRAYS_FILE = "weights.npz"

_KINDS: dict[str, type[Regressor]] = {
    "nightlights": Neighbours,
    "ridge_histograms": Line,
    "ridge_statistics": Line,
    "forest_statistics": Forest,
}
_FEATURES: dict[
    str, Callable[[NDArray[np.uint16], TileFormat, BandStatistics], NDArray[np.floating[Any]]]
] = {
    "nightlights": lambda tiles, form, bands: lights_of(tiles, form)[:, None],
    "ridge_histograms": lambda tiles, form, bands: features_of(tiles, form, bands).histograms,
    "ridge_statistics": lambda tiles, form, bands: features_of(tiles, form, bands).statistics,
    "forest_statistics": lambda tiles, form, bands: features_of(tiles, form, bands).statistics,
}


class SimplePredictor(Described):
    """Predict the target of tiles with a simple model; used like `sustain.models.predictor.TilePredictor`.

    Attributes
    ----------
    description : Description
        Its ``backbone`` is one of `sustain.models.simple.SIMPLE_MODELS`.
    has_sd : bool
        False: it gives no standard deviation.
    """

    has_sd = False
    receptive_field = None
    stride = None

    def __init__(self, regressor: Regressor, description: Description) -> None:
        self.description = description
        self.format = description
        self._regressor = regressor

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load a folder that `train_simple` wrote; no pickled code is ever run.

        Raises
        ------
        ModelError
            When a file is missing, damaged, or not the other's.
        """
        description = read_description(folder, Description, ARRAYS_FILE)
        path = Path(folder) / ARRAYS_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                regressor = _KINDS[description.backbone](**arrays)
            empty = np.zeros((1, *description.shape), dtype=np.uint16)
            features = _FEATURES[description.backbone](empty, description, description.statistics)
            regressor.require(features.shape[1])
        except (ValueError, TypeError, KeyError, zipfile.BadZipFile, EOFError, ModelError) as error:
            raise ModelError(f"{path}: holds no {description.backbone} ({error}). Train it again.") from error
        return cls(regressor, description)

    @property
    def fingerprint(self) -> str:
        """sha256 of all that predictions depend on."""
        return hashlib.sha256(self.description.model_dump_json().encode()).hexdigest()

    def for_year(self, year: float) -> Self:
        """Return this predictor: it looks at pixels alone."""
        return self

    def predict(
        self, tiles: NDArray[np.uint16], batch_size: int = 256, sites: pd.DataFrame | None = None
    ) -> NDArray[np.float32]:
        """Predict tiles.

        Parameters
        ----------
        tiles : ndarray of uint16, shape (n, C, H, W)
            DN, north-up, bands in the order of `bands`; `nodata` is missing.
        batch_size : int
            Tiles at once.
        sites : DataFrame, optional
            Not looked at.

        Returns
        -------
        ndarray of float32, shape (n,)
            In the unit of `target`; NaN for a tile without one valid value.

        Raises
        ------
        ModelError
            When type or shape are not those of the model.
        """
        tiles = self.checked(tiles)
        found = np.empty(len(tiles), dtype=np.float32)
        features = _FEATURES[self.description.backbone]
        for start in range(0, len(tiles), batch_size):
            part = tiles[start : start + batch_size]
            predicted = self._regressor.predict(features(part, self.format, self.description.statistics))
            found[start : start + batch_size] = np.where(
                (part == self.nodata).all(axis=(1, 2, 3)), np.nan, predicted
            )
        return found


def train_simple(tiles: str | Path, out: str | Path, params: TrainParams, seed: int) -> None:
    """Train the simple model that ``params.backbone`` names, on the split ``train``.

    Parameters
    ----------
    tiles : str or Path
        Folder of packed tiles.
    out : str or Path
        Folder to write: ``weights.npz``, ``model.json``, and with ``params.crossfit`` ``folds/K/`` alike, as
        `sustain.models.training.train` does. It appears whole or not at all.
    params : TrainParams
        What is of networks alone is not looked at.
    seed : int
        Of the forest and of the folds.

    Raises
    ------
    DataError
        When `out` is a folder of something else, a split is empty, labels do not vary, a band has no valid pixel in
        the training split, or night lights are asked for and the tiles have none.
    """
    out = Path(out)
    require_replaceable(out, MODEL_FILE)
    store = TileStore.open(tiles)
    if params.backbone == "nightlights" and LIGHTS not in store.bands:
        raise DataError(f"{store.folder}: has no band {LIGHTS}; it has {', '.join(store.bands)}.")
    plans = {".": Sites(main_rows(store, params.crossfit > 0), store.rows("val"))}
    if params.crossfit:
        folds = plan_folds(store, params.crossfit, seed)
        plans |= {fold_folder(k): fold_sites(store, folds, k, seed) for k in range(params.crossfit)}
    with atomic_directory(out) as folder:
        for number, (name, sites) in enumerate(plans.items()):
            (folder / name).mkdir(parents=True, exist_ok=True)
            _write(folder / name, store, sites, params, seed_of(seed, number))


def _write(folder: Path, store: TileStore, sites: Sites, params: TrainParams, seed: int) -> None:
    labels = store.index["label"].to_numpy(dtype=np.float64)[sites.training]
    if not labels.std() > 0:
        raise DataError(
            f"{store.folder}: the {len(labels)} training labels do not vary; there is nothing to learn."
        )
    bands = band_statistics(store, sites.training)
    regressor = _fit(params.backbone, store, sites, bands, labels, seed)
    np.savez(folder / ARRAYS_FILE, allow_pickle=False, **asdict(regressor))
    description = Description(
        **store.format.model_dump(),
        backbone=params.backbone,
        statistics=bands,
        label=LabelStatistics(mean=float(labels.mean()), std=float(labels.std())),
        target=Target(name=store.label_name, unit=store.label_unit),
        weights_sha256=sha256_of(folder / ARRAYS_FILE),
        params={"backbone": params.backbone, "crossfit": params.crossfit},
        seed=seed,
        versions={name: version(name) for name in ("sustain", "numpy", "scikit-learn")},
    )
    write_json(folder / MODEL_FILE, description.model_dump())


def _fit(
    kind: str,
    store: TileStore,
    sites: Sites,
    bands: BandStatistics,
    labels: NDArray[np.float64],
    seed: int,
) -> Regressor:
    if kind == "nightlights":
        return NearestLights().fit(store, sites.training, sites.validation).fitted
    features = tile_features(store, bands)
    if kind == "forest_statistics":
        return Forest.of(forest(seed).fit(features.statistics[sites.training], labels))
    chosen = features.histograms if kind == "ridge_histograms" else features.statistics
    return Line.of(ridge().fit(chosen[sites.training], labels))
