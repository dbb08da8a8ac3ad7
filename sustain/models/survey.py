"""Predictions beside the labels at every survey site, and how good they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import linregress
from sklearn.metrics import r2_score, root_mean_squared_error
from tqdm import tqdm

from sustain.config import PredictParams
from sustain.data.tiles import TileStore
from sustain.errors import ModelError
from sustain.files import atomic_directory, write_json
from sustain.models.baselines import NightlightsKNN
from sustain.models.predictor import TilePredictor

__all__ = ["predict_survey", "regression_metrics"]

_SITE_COLUMNS = ["id", "lat", "lon", "year", "country", "urban", "n", "block", "split"]


def predict_survey(tiles: str | Path, model: str | Path, out: str | Path, params: PredictParams) -> None:
    """Predict all sites of packed tiles with the model and the nightlights baseline.

    Predictions of the splits ``train`` and ``val`` are in-sample (fitted, or used to choose the epoch); those of
    ``calibration`` and ``test`` are out-of-sample, and only these have metrics.

    Parameters
    ----------
    tiles : str or Path
        Folder of packed tiles.
    model : str or Path
        Folder of the model.
    out : str or Path
        Folder to write: ``survey.parquet`` (id, lat, lon, year, country, urban, n, block, split, y_true, y_pred,
        y_pred_nightlights; sorted by id) and ``metrics.json`` (`regression_metrics` by split and model).
    params : PredictParams
        Batch size.

    Raises
    ------
    ModelError
        When the model is altered, or was trained on tiles of another format or label.
    """
    store = TileStore.open(tiles)
    predictor = TilePredictor.load(model)
    predictor.require_format(store.format, f"{tiles}")
    if predictor.target.name != store.label_name:
        raise ModelError(
            f"{tiles}: the label is {store.label_name}; the model predicts {predictor.target.name}."
        )
    survey = store.index[_SITE_COLUMNS].copy()
    survey["y_true"] = store.index["label"]
    survey["y_pred"] = _predict_all(store, predictor, params.batch_size)
    survey["y_pred_nightlights"] = NightlightsKNN().fit(store).predict(store)
    metrics: dict[str, dict[str, dict[str, float] | int]] = {}
    for split in ("calibration", "test"):
        rows = survey.iloc[store.rows(split)]
        metrics[split] = {
            "cnn": regression_metrics(rows["y_true"], rows["y_pred"]),
            "nightlights": regression_metrics(rows["y_true"], rows["y_pred_nightlights"]),
            "n": len(rows),
        }
    with atomic_directory(out) as folder:
        survey.to_parquet(folder / "survey.parquet", index=False)
        write_json(folder / "metrics.json", metrics)


def _predict_all(store: TileStore, predictor: TilePredictor, batch_size: int) -> NDArray[np.float64]:
    predicted = np.empty(len(store))
    with tqdm(total=len(store), desc="predict sites", unit="tile", disable=None) as bar:
        for start in range(0, len(store), batch_size):
            rows = np.arange(start, min(start + batch_size, len(store)))
            predicted[rows] = predictor.predict(store.read(rows), batch_size)
            bar.update(len(rows))
    return predicted


def regression_metrics(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, float]:
    """Say how good predictions are.

    Returns
    -------
    dict
        ``r2``, the share of variance explained (negative when worse than the mean); ``pearson_r2``, the squared
        correlation, which SustainBench reports and which forgives any shrinkage; ``rmse``, in the label's unit;
        ``slope`` of prediction on truth, below 1 when predictions are shrunken.
    """
    truth, prediction = pd.Series(y_true, dtype=float), pd.Series(y_pred, dtype=float)
    line = linregress(truth, prediction)
    return {
        "r2": float(r2_score(truth, prediction)),
        "pearson_r2": float(line.rvalue**2),
        "rmse": float(root_mean_squared_error(truth, prediction)),
        "slope": float(line.slope),
    }
