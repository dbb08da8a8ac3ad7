import json
import shutil

import numpy as np
import pandas as pd
import pytest

from sustain.config import PredictParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import ModelError
from sustain.models.features.tiles import mean_nightlights
from sustain.models.predictor import TilePredictor
from sustain.models.simple import SIMPLE_MODELS, NearestLights
from sustain.models.survey import predict_survey, regression_metrics


@pytest.fixture(scope="module")
def store(packed_tiles):
    return TileStore.open(packed_tiles)


@pytest.fixture(scope="module")
def predictions(packed_tiles, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("predictions") / "survey"
    predict_survey(packed_tiles, trained, out, PredictParams(batch_size=50))
    return out


def test_metrics_by_hand():
    metrics = regression_metrics([1.0, 2.0, 3.0, 4.0], [2.0, 2.5, 3.0, 3.5])
    # Errors 1, .5, 0, -.5; the line is exact, so the correlation is 1 while r2 is not.
    assert metrics == pytest.approx(
        {"r2": 1 - 1.5 / 5, "pearson_r2": 1.0, "rmse": np.sqrt(1.5 / 4), "slope": 0.5}
    )


def test_every_site_with_its_prediction(predictions, store, trained):
    survey = pd.read_parquet(predictions / "survey.parquet")
    assert list(survey.columns) == [
        *("id", "lat", "lon", "year", "country", "urban", "n", "block", "split"),
        *("y_true", "y_pred", "model", "out_of_sample"),
        *(f"y_pred_{name}" for name in SIMPLE_MODELS),
    ]
    assert (survey["out_of_sample"] == survey["split"].isin(["calibration", "test"])).all()
    assert set(survey["model"]) == {TilePredictor.load(trained).id}
    assert survey["id"].is_monotonic_increasing
    np.testing.assert_array_equal(survey["y_true"], store.index["label"])
    expected = TilePredictor.load(trained).predict(store.read(np.arange(len(store))), batch_size=50)
    np.testing.assert_allclose(survey["y_pred"], expected, rtol=1e-5)


def test_metrics_are_those_of_the_table_and_the_cnn_beats_the_lights(predictions):
    survey = pd.read_parquet(predictions / "survey.parquet")
    metrics = json.loads((predictions / "metrics.json").read_text())
    assert set(metrics) == {"calibration", "test"}
    for split, values in metrics.items():
        rows = survey[survey["split"] == split]
        assert values["n"] == len(rows)
        assert values["cnn"] == pytest.approx(regression_metrics(rows["y_true"], rows["y_pred"]))
        for name in SIMPLE_MODELS:
            expected = regression_metrics(rows["y_true"], rows[f"y_pred_{name}"])
            assert values[name] == pytest.approx(expected)
        assert values["cnn"]["r2"] > values["nightlights"]["r2"] + 0.1


def test_the_same_bytes_again(predictions, packed_tiles, trained, tmp_path):
    predict_survey(packed_tiles, trained, tmp_path / "again", PredictParams(batch_size=50))
    for name in ("survey.parquet", "metrics.json"):
        assert (tmp_path / "again" / name).read_bytes() == (predictions / name).read_bytes()


def spoil(model, **entries):
    page = json.loads((model / "model.json").read_text()) | entries
    (model / "model.json").write_text(json.dumps(page))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"pixel_m": 10.0}, "pixel_m is 30.0, not 10.0"),
        (
            {"target": {"name": "women_bmi", "unit": "kg m-2"}},
            "label is asset_index; the model predicts women_bmi",
        ),
    ],
)
def test_a_model_of_other_tiles_is_refused(packed_tiles, trained, tmp_path, entries, message):
    model = shutil.copytree(trained, tmp_path / "model")
    spoil(model, **entries)
    with pytest.raises(ModelError, match=message):
        predict_survey(packed_tiles, model, tmp_path / "out", PredictParams())
    assert not (tmp_path / "out").exists()


def test_mean_nightlights_over_valid_pixels(store):
    lights = np.stack([store.format.decode(store.read([k]), "NIGHTLIGHTS")[0] for k in range(len(store))])
    np.testing.assert_allclose(mean_nightlights(store), lights.mean(axis=(1, 2), dtype=np.float64), rtol=1e-5)


def test_missing_lights_are_left_out_of_the_mean(packed_tiles, tmp_path):
    folder = shutil.copytree(packed_tiles, tmp_path / "tiles")
    for shard in folder.glob("shard-*.npy"):
        tiles = np.load(shard)
        tiles[:, 7] = 301
        tiles[:, 7, :8] = 0
        tiles[0] = 0
        np.save(shard, tiles)
    store = TileStore.open(folder)
    means = mean_nightlights(store)
    first = (store.index["row"] == 0).to_numpy()
    assert np.isnan(means[first]).all()
    np.testing.assert_allclose(means[~first], 3.0, rtol=1e-5)
    assert np.isfinite(NearestLights().fit(store).predict(store)).all()


def test_the_number_of_neighbours_is_the_best_on_validation(store):
    baseline = NearestLights().fit(store)
    rows = store.rows("val")
    truth = store.index["label"].to_numpy()[rows]

    def error(model):
        return np.mean((model.predict(store)[rows] - truth) ** 2)

    alone = [
        error(NearestLights(neighbours=(k,)).fit(store))
        for k in baseline.neighbours
        if k <= len(store.rows("train"))
    ]
    assert error(baseline) == pytest.approx(min(alone))
    assert baseline.k == baseline.neighbours[int(np.argmin(alone))]
