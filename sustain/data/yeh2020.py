"""Yeh et al. (2020): survey wealth beside the published predictions of thirteen models, as one table.

Source: https://doi.org/10.1038/s41467-020-16185-w, manifest ``yeh2020``. Places are DHS clusters of 43 surveys in 23
African countries, 2009-2016; predictions are out of sample, from five spatial folds within countries. These folds are
published as a pickle only, which is not read here: the folds given here are new ones, of whole spatial blocks.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from sustain.config import Params, SurveyPredictionsParams
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import ConfigError, FileFormatError
from sustain.tables import read_table

__all__ = [
    "ADMIN2_FILE",
    "PREDICTIONS_FILE",
    "RASTERS",
    "TARGET",
    "imported_predictions",
    "model_key",
    "models_of",
    "read_survey",
    "survey_predictions",
]

PREDICTIONS_FILE = "data/predictions/dhs_incountry_preds.csv"
ADMIN2_FILE = "data/output/cluster_pred_dhs_indices_gadm2.csv"
# The wall-to-wall maps of Nigeria, by the model of the same name.
RASTERS = {
    "resnet_18_ms": "data/predictions/nigeria_2012_2014_ms_vals.tif",
    "resnet_18_msnl_concat": "data/predictions/nigeria_2012_2014_msnl_vals.tif",
    "resnet_18_nl": "data/predictions/nigeria_2012_2014_nl_vals.tif",
}
TARGET = {"name": "asset_wealth_index", "unit": "index points"}

_PLACE = ("lat", "lon")
_SURVEY_COLUMNS = (*_PLACE, "country", "year", "urban", "label")
_ADMIN2_COLUMNS = (*_PLACE, "geolev", "survey", "svyid")
_SAME_LABEL = 1e-5  # both tables print about eight digits
_WORDS = ("country", "geolev", "svyid")


def model_key(title: str) -> str:
    """Turn a model's published name into a column name.

    >>> model_key("Resnet-18 MS+NL concat")
    'resnet_18_msnl_concat'
    """
    return re.sub(r"[^a-z0-9]+", "_", title.lower().replace("+", "")).strip("_")


def imported_predictions(params: Params) -> SurveyPredictionsParams:
    """Return the section `predict` of a profile that brings its own predictions.

    Raises
    ------
    ConfigError
        When the profile has no such section, predicts with a model of its own, or names a model without a raster.
    """
    if not isinstance(params.predict, SurveyPredictionsParams):
        raise ConfigError(
            f"profile {params.source!r}: the section predict needs model, the published model that made the map."
        )
    if params.predict.model not in RASTERS:
        raise ConfigError(
            f"profile {params.source!r}: predict.model is {params.predict.model!r}, but rasters are published of "
            f"{', '.join(RASTERS)}."
        )
    return params.predict


def models_of(table: pd.DataFrame) -> list[str]:
    """Names of the models whose predictions a table holds, from its columns ``y_pred_<model>``."""
    prefix = "y_pred_"
    return [str(column).removeprefix(prefix) for column in table if str(column).startswith(prefix)]


def read_survey(raw: str | Path) -> pd.DataFrame:
    """Read the published tables and join them.

    Parameters
    ----------
    raw : str or Path
        Folder of the source ``yeh2020``.

    Returns
    -------
    DataFrame
        One row a survey cluster, sorted by ``id``: ``id`` (survey and running number by place), ``survey`` (such as
        ``"NG2013"``), ``country``, ``year``, ``lat``, ``lon`` (degrees, displaced by DHS), ``urban``, ``adm2`` (key of
        the GADM admin-2 unit), ``y_true`` (asset wealth index) and ``y_pred_<model>`` for every model.

    Raises
    ------
    FileNotFoundError
        When a table is not there.
    FileFormatError
        When a column is missing, a value is missing or out of range, or the two tables do not match.
    """
    survey = _read(Path(raw) / PREDICTIONS_FILE, _SURVEY_COLUMNS, others=True)
    admin2 = _read(Path(raw) / ADMIN2_FILE, _ADMIN2_COLUMNS, others=False)
    titles = [str(column) for column in survey if column not in _SURVEY_COLUMNS]
    if not titles:
        raise FileFormatError(
            f"{PREDICTIONS_FILE}: no column of predictions beside {', '.join(_SURVEY_COLUMNS)}."
        )
    joined = _join(survey, admin2)
    joined = joined.sort_values(["svyid", *_PLACE], ignore_index=True)
    number = joined.groupby("svyid").cumcount() + 1
    table = pd.DataFrame(
        {
            "id": joined["svyid"] + "-" + number.astype(str).str.zfill(4),
            "survey": joined["svyid"],
            "country": joined["country"],
            "year": joined["year"].astype("int64"),
            "lat": joined["lat"],
            "lon": joined["lon"],
            "urban": joined["urban"].astype(bool),
            "adm2": joined["geolev"],
            "y_true": joined["label"],
        }
    )
    return table.assign(**{f"y_pred_{model_key(title)}": joined[title] for title in titles})


def survey_predictions(raw: str | Path, params: SurveyPredictionsParams, seed: int) -> pd.DataFrame:
    """Build the house's table of predictions beside labels, with blocks, folds and the held-out country.

    Parameters
    ----------
    raw : str or Path
        Folder of the source ``yeh2020``.
    params : SurveyPredictionsParams
        Which model made the map, which country is held out, size of blocks and number of folds.
    seed : int
        Seed of the folds.

    Returns
    -------
    DataFrame
        `read_survey` with ``n`` (households; not published, so missing), ``block``, ``fold`` (``"f0"`` to ...),
        ``split`` (``"test"`` in the held-out country, else ``"calibration"``) and ``y_pred`` (the map's model).

    Raises
    ------
    ConfigError
        When the model or the country is not in the tables.
    FileNotFoundError, FileFormatError
        As `read_survey`.
    """
    table = read_survey(raw)
    models, countries = models_of(table), sorted(table["country"].unique())
    if params.model not in models:
        raise ConfigError(f"predict.model is {params.model!r}; the published models are {', '.join(models)}.")
    if params.hold_out_country is not None and params.hold_out_country not in countries:
        raise ConfigError(
            f"predict.hold_out_country is {params.hold_out_country!r}; the countries are {', '.join(countries)}."
        )
    table["n"] = pd.array([pd.NA] * len(table), dtype="Int64")
    table["block"] = spatial_block(table["lat"], table["lon"], params.block_km)
    shares = {f"f{fold}": 1 / params.folds for fold in range(params.folds)}
    table["fold"] = assign_splits(table["block"], shares, seed)
    table["split"] = np.where(table["country"] == params.hold_out_country, "test", "calibration")
    table["y_pred"] = table[f"y_pred_{params.model}"]
    return table


def _read(path: Path, required: tuple[str, ...], *, others: bool) -> pd.DataFrame:
    """Read and check a table of places; with `others`, columns beside the required ones are models' predictions."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file. Fetch the source first (stage acquire).")
    table = read_table(path)
    missing = [column for column in required if column not in table]
    if missing:
        raise FileFormatError(
            f"{path}: lacks column(s) {', '.join(missing)}; it has {', '.join(map(str, table))}."
        )
    if not others:
        table = table[list(required)]
    if table.empty:
        raise FileFormatError(f"{path}: has a header and no rows. Fetch it again.")
    holes = table.isna().sum()
    if holes.any():
        first = str(holes[holes > 0].index[0])
        raise FileFormatError(
            f"{path}: {int(holes[first])} value(s) of {first!r} are missing, the first in row "
            f"{int(table[first].isna().to_numpy().argmax()) + 1}. The published table has none; fetch it again."
        )
    words = [
        str(column) for column in table if column not in _WORDS and table[column].dtype.kind not in "bif"
    ]
    if words:
        raise FileFormatError(
            f"{path}: column {words[0]!r} holds something other than numbers. Fetch it again."
        )
    twice = table.duplicated(list(_PLACE))
    if twice.any():
        raise FileFormatError(
            f"{path}: {int(twice.sum())} place(s) occur more than once; each must be one cluster."
        )
    return table


def _join(survey: pd.DataFrame, admin2: pd.DataFrame) -> pd.DataFrame:
    """Join on coordinates, and check by label and year that the same clusters met."""
    joined = survey.merge(admin2, on=list(_PLACE), how="left", validate="one_to_one")
    alone = joined["svyid"].isna()
    if alone.any() or len(admin2) != len(survey):
        raise FileFormatError(
            f"{ADMIN2_FILE} and {PREDICTIONS_FILE} do not hold the same places: {int(alone.sum())} of {len(survey)} "
            f"places have no admin-2 unit ({len(admin2)} are listed). Fetch both again."
        )
    year = pd.to_numeric(joined["svyid"].str[-4:], errors="coerce")
    apart = (year != joined["year"]) | ((joined["survey"] - joined["label"]).abs() > _SAME_LABEL)
    if apart.any():
        raise FileFormatError(
            f"{ADMIN2_FILE} and {PREDICTIONS_FILE} give another year or label for {int(apart.sum())} place(s) with "
            "the same coordinates. Fetch both again."
        )
    return joined
