"""The published tables become the house's table: nothing lost, nothing leaked, nothing taken on trust."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sustain.config import Params, SurveyPredictionsParams
from sustain.data.yeh2020 import (
    ADMIN2_FILE,
    PREDICTIONS_FILE,
    RASTERS,
    imported_predictions,
    model_key,
    models_of,
    read_survey,
    survey_predictions,
)
from sustain.errors import ConfigError, FileFormatError
from tests.yeh2020_files import MODELS, write_published

SHARED = Path(__file__).parents[3] / "shared"
MIRROR = SHARED / "mirror" / "africa_poverty"
PARAMS = SurveyPredictionsParams(model="resnet_18_ms", hold_out_country="nigeria")
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="no published files in ../shared/mirror")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_published(tmp_path) / "yeh2020"


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Resnet-18 MS", "resnet_18_ms"),
        ("Resnet-18 MS+NL concat", "resnet_18_msnl_concat"),
        ("GBT NL mean scalar", "gbt_nl_mean_scalar"),
    ],
)
def test_model_names_become_column_names(title: str, key: str) -> None:
    assert model_key(title) == key


def test_every_published_value_is_kept(raw: Path) -> None:
    published = pd.read_csv(raw / PREDICTIONS_FILE)
    table = read_survey(raw)
    together = table.merge(published, on=["lat", "lon"], validate="one_to_one", suffixes=("", "_published"))
    assert len(together) == len(published)
    np.testing.assert_array_equal(together["y_true"], together["label"])
    for title in MODELS:
        np.testing.assert_array_equal(together[f"y_pred_{model_key(title)}"], together[title])
    assert (together["country"] == together["country_published"]).all()
    assert (together["year"] == together["survey"].str[-4:].astype(int)).all()


def test_admin2_units_are_joined_on_coordinates(raw: Path) -> None:
    units = pd.read_csv(raw / ADMIN2_FILE)
    together = read_survey(raw).merge(units, on=["lat", "lon"], suffixes=("", "_published"))
    assert (together["adm2"] == together["geolev"]).all()


def test_ids_are_unique_and_do_not_depend_on_the_order_of_rows(raw: Path) -> None:
    table = read_survey(raw)
    assert table["id"].is_unique
    assert table["id"].is_monotonic_increasing
    for file in (PREDICTIONS_FILE, ADMIN2_FILE):
        rows = pd.read_csv(raw / file)
        rows.iloc[::-1].to_csv(raw / file, index=False)
    pd.testing.assert_frame_equal(read_survey(raw), table)


def test_the_held_out_country_is_the_test_split(raw: Path) -> None:
    table = survey_predictions(raw, PARAMS, seed=1)
    assert set(table.loc[table["split"] == "test", "country"]) == {"nigeria"}
    assert "nigeria" not in set(table.loc[table["split"] == "calibration", "country"])
    np.testing.assert_array_equal(table["y_pred"], table["y_pred_resnet_18_ms"])
    assert table["n"].isna().all()  # not published: not invented
    none = survey_predictions(raw, PARAMS.model_copy(update={"hold_out_country": None}), seed=1)
    assert set(none["split"]) == {"calibration"}


def test_folds_are_of_whole_blocks_and_of_like_size(raw: Path) -> None:
    table = survey_predictions(raw, PARAMS, seed=1)
    assert table.groupby("block")["fold"].nunique().max() == 1
    assert table["fold"].nunique() == PARAMS.folds
    sizes = table["fold"].value_counts()
    assert sizes.max() - sizes.min() <= table["block"].value_counts().max()
    pd.testing.assert_frame_equal(survey_predictions(raw, PARAMS, seed=1), table)
    assert (survey_predictions(raw, PARAMS, seed=2)["fold"] != table["fold"]).any()


@pytest.mark.parametrize("changes", [{"model": "resnet_50"}, {"hold_out_country": "atlantis"}])
def test_an_unknown_model_or_country_lists_the_known(raw: Path, changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"resnet_18_ms|kenya"):
        survey_predictions(raw, PARAMS.model_copy(update=changes), seed=1)


def test_the_maps_model_must_have_a_raster() -> None:
    profile = Params(source="x", seed=0, predict=PARAMS)
    assert imported_predictions(profile).model in RASTERS
    with pytest.raises(ConfigError, match="rasters are published of"):
        imported_predictions(Params(source="x", seed=0, predict={"model": "ridge_ms_hist"}))
    with pytest.raises(ConfigError, match="predict needs model"):
        imported_predictions(Params(source="x", seed=0))


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_missing_files_and_columns_are_named(raw: Path) -> None:
    edit(raw / PREDICTIONS_FILE, lambda table: table.drop(columns="label"))
    with pytest.raises(FileFormatError, match=r"dhs_incountry_preds\.csv: lacks column.*label"):
        read_survey(raw)
    (raw / ADMIN2_FILE).unlink()
    (raw / PREDICTIONS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match="acquire"):
        read_survey(raw)


@pytest.mark.parametrize(
    ("file", "column", "value", "message"),
    [
        (PREDICTIONS_FILE, "label", None, "1 value.*'label' are missing, the first in row 4"),
        (PREDICTIONS_FILE, "Resnet-18 MS", None, "'Resnet-18 MS' are missing"),
        (PREDICTIONS_FILE, "Resnet-18 MS", "high", "something other than numbers"),
        (PREDICTIONS_FILE, "lat", 12.5, "do not hold the same places"),
        (PREDICTIONS_FILE, "label", 9.0, "another year or label for 1 place"),
        (PREDICTIONS_FILE, "year", 1999, "another year or label for 1 place"),
        (ADMIN2_FILE, "geolev", None, "'geolev' are missing"),
    ],
)
def test_damage_is_named(raw: Path, file: str, column: str, value: object, message: str) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[3, column] = value
        return table

    edit(raw / file, change)
    with pytest.raises(FileFormatError, match=message):
        read_survey(raw)


def test_a_truncated_table_is_refused(raw: Path) -> None:
    path = raw / PREDICTIONS_FILE
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(FileFormatError):
        read_survey(raw)
    path.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(FileFormatError, match="no rows"):
        read_survey(raw)
    path.write_text("")
    with pytest.raises(FileFormatError, match="is empty"):
        read_survey(raw)


def test_a_place_twice_is_refused(raw: Path) -> None:
    path = raw / PREDICTIONS_FILE
    table = pd.read_csv(path)
    pd.concat([table, table.head(1)]).to_csv(path, index=False)
    with pytest.raises(FileFormatError, match="more than once"):
        read_survey(raw)


@needs_mirror
def test_the_real_tables() -> None:
    table = survey_predictions(MIRROR, PARAMS, seed=20260101)
    assert len(table) == 19_669
    assert table["country"].nunique() == 23
    assert table["survey"].nunique() == 43
    assert table["adm2"].nunique() == 2678
    assert len(models_of(table)) == 13
    assert (table["split"] == "test").sum() == 1450
    slopes = {
        model: np.polyfit(table["y_true"], table[f"y_pred_{model}"], 1)[0] for model in models_of(table)
    }
    assert slopes["resnet_18_ms"] == pytest.approx(0.713, abs=5e-4)
    assert slopes["resnet_18_msnl_concat"] == pytest.approx(0.735, abs=5e-4)


@needs_mirror
@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="no tidy tables in ../shared/data")
def test_the_real_tables_agree_with_an_independent_reading() -> None:
    table = read_survey(MIRROR)
    other = pd.read_parquet(SHARED / "data" / "yeh_dhs_incountry.parquet")
    both = table.merge(other, on=["lat", "lon"], validate="one_to_one", suffixes=("", "_other"))
    assert len(both) == len(table)
    assert (both["adm2"] == both["adm2_other"]).all()
    assert (both["urban"] == both["urban_other"].astype(bool)).all()
    np.testing.assert_array_equal(both["y_true"], both["y_true_other"])
    for model in ("resnet_18_nl", "ridge_ms_hist", "gbt_nl_mean_scalar"):
        np.testing.assert_array_equal(both[f"y_pred_{model}"], both[f"p_{model}"])
