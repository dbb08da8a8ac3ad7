"""Predictions beside the labels at every survey site, and how good they are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import linregress
from sklearn.metrics import r2_score, root_mean_squared_error
from tqdm import tqdm

from sustain.config import PredictParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, DataWarning, ModelError
from sustain.files import atomic_directory, atomic_path, write_json
from sustain.models.folds import FOLDS, fold_folder, main_rows, plan_folds
from sustain.models.kinds import AnyPredictor, load_model
from sustain.models.simple import predict_simple_models
from sustain.models.sites import sites_of
from sustain.models.tabular import SimplePredictor

__all__ = ["predict_survey", "predict_table", "predict_tiles", "regression_metrics"]

_SITE_COLUMNS = ["id", "lat", "lon", "year", "country", "urban", "n", "block", "split"]


def predict_survey(tiles: str | Path, model: str | Path, out: str | Path, params: PredictParams) -> None:
    """Predict all sites of packed tiles with the model and the baselines.

    A site that the map's model learned from, or that chose its epoch, gets the prediction of the cross-fitted model
    that never saw its block, where there are such models; otherwise its prediction is in-sample, and marked so. Only
    out-of-sample predictions have metrics.

    Parameters
    ----------
    tiles : str or Path
        Folder of packed tiles.
    model : str or Path
        Folder of the model.
    out : str or Path
        Folder to write: ``survey.parquet`` (id, lat, lon, year, country, urban, n, block, split, y_true, y_pred,
        y_pred_sd where the model gives it, model: id of the model that made y_pred, out_of_sample: whether that model
        never saw the site's block, y_pred_NAME of each baseline; sorted by id) and ``metrics.json``
        (`regression_metrics` by split and model).
    params : PredictParams
        Batch size.

    Raises
    ------
    ModelError
        When the model is altered, or was trained on tiles of another format or label.
    """
    model = Path(model)
    store = TileStore.open(tiles)
    predictor = load_model(model)
    _require_tiles_of(predictor, store)
    survey = store.index[_SITE_COLUMNS].copy()
    survey["y_true"] = store.index["label"]
    predictions = predict_tiles(store, predictor, np.arange(len(store)), params.batch_size)
    survey = survey.join(predictions)
    survey["out_of_sample"] = survey["split"].isin(["calibration", "test"])
    crossfitted = (model / FOLDS).is_dir()
    if crossfitted:
        folds = plan_folds(store, int(predictor.description.params["crossfit"]), predictor.description.seed)
        for fold in range(folds.max() + 1):
            rows = np.flatnonzero(folds == fold)
            predictions = predict_tiles(store, load_model(model / fold_folder(fold)), rows, params.batch_size)
            survey.update(predictions)
        survey["out_of_sample"] = True
    fitted = main_rows(store, crossfitted)
    baselines = predict_simple_models(store, fitted, predictor.description.statistics)
    for name, values in baselines.items():
        survey[f"y_pred_{name}"] = values
    metrics: dict[str, dict[str, dict[str, float] | int]] = {}
    for split in ("calibration", "test"):
        sites = survey.iloc[store.rows(split)]
        names = {"cnn": "y_pred"}
        # A baseline that was fitted on these very sites has nothing to say here.
        if not np.isin(store.rows(split), fitted).any():
            names |= {name: f"y_pred_{name}" for name in baselines}
        scores = {name: regression_metrics(sites["y_true"], sites[column]) for name, column in names.items()}
        if predictor.has_sd:
            scores["cnn"]["sd_coverage_95"] = _coverage(sites)
        metrics[split] = {**scores, "n": len(sites)}
    with atomic_directory(out) as folder:
        survey.to_parquet(folder / "survey.parquet", index=False)
        write_json(folder / "metrics.json", metrics)


def predict_table(
    tiles: str | Path,
    model: str | Path,
    out: str | Path,
    batch_size: int = 256,
    accelerator: str = "auto",
    splits: Sequence[str] = (),
) -> pd.DataFrame:
    """Predict tiles of a folder of packed tiles beside their labels, and write a table.

    Parameters
    ----------
    tiles : str or Path
        Folder of packed tiles, in the bands, units and sizes that the model was trained on.
    model : str or Path
        Folder of the model.
    out : str or Path
        ``.csv`` or ``.parquet``: id, lat, lon, year, country, urban, n, block, split; y_true, where the tiles' label is
        what the model predicts; y_pred, y_pred_sd where the model gives it, model, and out_of_sample: whether the
        model did not learn from this part of the split, if these are the tiles that it was trained on.
    batch_size : int
        Tiles on the device at once.
    accelerator : {"auto", "cpu", "gpu"}
        Where to compute.
    splits : sequence of str
        Parts of the split to predict; by default all. ``["calibration"]`` is what a card is fitted on.

    Raises
    ------
    ModelError
        When the model is altered, or was trained on tiles of another format.
    HardwareError
        When a GPU is asked for and absent.
    DataError
        When `out` is neither a CSV nor a Parquet file, or there is no such part of the split.
    """
    out = Path(out)
    if out.suffix not in (".csv", ".parquet"):
        raise DataError(f"{out}: expected a name that ends in .csv or .parquet.")
    store = TileStore.open(tiles)
    predictor = load_model(model, accelerator)
    predictor.require_format(store.format, f"{tiles}")
    rows = np.sort(np.concatenate([store.rows(part) for part in dict.fromkeys(splits)])) if splits else None
    rows = np.arange(len(store)) if rows is None else rows
    table = store.index.iloc[rows][_SITE_COLUMNS].set_index(rows)
    if predictor.target.name == store.label_name:
        table["y_true"] = store.index["label"].to_numpy()[rows]
    else:
        warnings.warn(
            f"{tiles}: its label is {store.label_name}, but the model predicts {predictor.target.name}; the table has "
            "predictions without labels.",
            DataWarning,
            stacklevel=2,
        )
    table = table.join(predict_tiles(store, predictor, rows, batch_size))
    crossfitted = (Path(model) / FOLDS).is_dir()
    table["out_of_sample"] = table["split"].isin(["test"] if crossfitted else ["calibration", "test"])
    with atomic_path(out) as partial:
        if out.suffix == ".csv":
            table.to_csv(partial, index=False, lineterminator="\n")
        else:
            table.to_parquet(partial, index=False)
    return table


def predict_tiles(
    store: TileStore, predictor: AnyPredictor, rows: NDArray[np.int64], batch_size: int
) -> pd.DataFrame:
    """Predict some rows of a store.

    Returns
    -------
    DataFrame, one row each of `rows`
        ``y_pred`` in the unit of the predictor's target; ``y_pred_sd``, where the model gives one; ``model``, its id.
    """
    predicted, sd = np.empty(len(rows)), np.empty(len(rows))
    with tqdm(total=len(rows), desc="predict sites", unit="tile", disable=None) as bar:
        for start in range(0, len(rows), batch_size):
            part = slice(start, start + batch_size)
            batch, sites = store.read(rows[part]), sites_of(store, rows[part])
            if not isinstance(predictor, SimplePredictor) and predictor.has_sd:
                predicted[part], sd[part] = predictor.predict_with_sd(batch, batch_size, sites)
            else:
                predicted[part] = predictor.predict(batch, batch_size, sites)
            bar.update(len(batch))
    columns = {"y_pred": predicted} | ({"y_pred_sd": sd} if predictor.has_sd else {})
    return pd.DataFrame({**columns, "model": predictor.id}, index=rows)


def _require_tiles_of(predictor: AnyPredictor, store: TileStore) -> None:
    predictor.require_format(store.format, f"{store.folder}")
    if predictor.target.name != store.label_name:
        raise ModelError(
            f"{store.folder}: the label is {store.label_name}; the model predicts {predictor.target.name}."
        )


def _coverage(rows: pd.DataFrame) -> float:
    """Share of the truths within 1.96 predictive standard deviations."""
    return float(((rows["y_true"] - rows["y_pred"]).abs() <= 1.96 * rows["y_pred_sd"]).mean())


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
