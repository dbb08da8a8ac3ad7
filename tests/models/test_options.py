"""What a training can be asked for beside the defaults: heads, extras, cross-fitting, devices, precision, memory."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sustain.config import PredictParams, TrainParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import ConfigError, DataError, HardwareError, HardwareWarning, ModelError
from sustain.models.backbones.by_name import BACKBONES
from sustain.models.folds import fold_sites, main_rows, plan_folds
from sustain.models.inputs import TileInputs
from sustain.models.network import TileNetwork
from sustain.models.predictor import TilePredictor
from sustain.models.statistics import band_statistics
from sustain.models.survey import predict_survey, predict_table
from sustain.models.training.fit import fit_network, reproducible
from sustain.models.training.loader import TileBatches
from sustain.models.training.model import train
from sustain.models.training.regression import Regression


@pytest.fixture(scope="module")
def store(packed_tiles):
    return TileStore.open(packed_tiles)


def quick(tiles, out, seed=5, **changes):
    defaults = {"epochs": 2, "batch_size": 32, "threads": 1}
    train(tiles, out, TrainParams(**{**defaults, **changes}), seed)
    return TilePredictor.load(out)


def r2(truth, predicted):
    return 1 - np.mean((truth - predicted) ** 2) / truth.var()


@pytest.fixture(scope="module")
def uncertain(packed_tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("uncertain") / "model"
    quick(packed_tiles, out, epochs=10, loss="beta_gaussian", members=2, views=4, average=0.9)
    return out


def test_a_variance_is_learned_that_matches_the_errors(uncertain, packed_tiles, store, tmp_path):
    predictor = TilePredictor.load(uncertain)
    assert predictor.has_sd
    predict_survey(packed_tiles, uncertain, tmp_path / "out", PredictParams())
    survey = pd.read_parquet(tmp_path / "out" / "survey.parquet")
    held_out = survey[survey["out_of_sample"]]
    error = held_out["y_true"] - held_out["y_pred"]
    assert 0.5 < (error / held_out["y_pred_sd"]).std() < 2
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    covered = (error.abs() <= 1.96 * held_out["y_pred_sd"])[held_out["split"] == "test"].mean()
    assert metrics["test"]["cnn"]["sd_coverage_95"] == pytest.approx(covered)
    assert r2(held_out["y_true"], held_out["y_pred"]) > 0.4
    tiles = store.read([0, 1])
    mean, sd = predictor.predict_with_sd(tiles)
    np.testing.assert_allclose(mean, survey["y_pred"][:2], rtol=1e-4)
    np.testing.assert_allclose(sd, survey["y_pred_sd"][:2], rtol=1e-4)
    tiles[0] = 0
    assert np.isnan(predictor.predict_with_sd(tiles)[1]).tolist() == [True, False]


def test_a_mean_alone_has_no_sd(trained, store):
    with pytest.raises(ModelError, match="gives a mean alone"):
        TilePredictor.load(trained).predict_with_sd(store.read([0]))


def test_a_model_of_two_members_is_their_mean(packed_tiles, store, tmp_path):
    both = quick(packed_tiles, tmp_path / "both", members=2)
    first = quick(packed_tiles, tmp_path / "first")
    tiles = store.read(np.arange(20))
    alone = first.predict(tiles)
    network = both._network
    network.backbones = network.backbones[:1]
    np.testing.assert_allclose(both.predict(tiles), alone, rtol=1e-4, atol=1e-5)
    curves = [pd.read_csv(tmp_path / name / "curves.csv") for name in ("both", "first")]
    assert curves[0]["epoch"].tolist() == [1, 2]
    assert not np.allclose(curves[0]["val_loss"], curves[1]["val_loss"])


def test_whole_tiles_are_predicted_after_training_on_their_parts(packed_tiles, store, tmp_path):
    predictor = quick(packed_tiles, tmp_path / "parts", epochs=12, average=0.9, crop_px=store.tile_px // 2)
    rows = np.concatenate([store.rows("calibration"), store.rows("test")])
    truth = store.index["label"].to_numpy()[rows]
    assert r2(truth, predictor.predict(store.read(rows))) > 0.3
    with pytest.raises(ConfigError, match="crop_px is"):
        quick(packed_tiles, tmp_path / "wider", crop_px=store.tile_px + 1)
    with pytest.raises(ModelError, match="crop_px leaves"):
        quick(packed_tiles, tmp_path / "valid", backbone="resnet_valid", crop_px=store.tile_px // 2)


def test_ratledge_trains(packed_tiles, tmp_path):
    quick(packed_tiles, tmp_path / "a", loss="ratledge", bias_weight=5.0)
    quick(packed_tiles, tmp_path / "b")
    losses = [pd.read_csv(tmp_path / name / "curves.csv")["val_loss"] for name in "ab"]
    assert (losses[0] > losses[1]).all()  # a bias is added


@pytest.fixture(scope="module")
def crossfitted(packed_tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crossfitted")
    quick(packed_tiles, folder / "model", epochs=6, crossfit=3)
    predict_survey(packed_tiles, folder / "model", folder / "out", PredictParams())
    return folder


def test_every_site_gets_a_prediction_of_a_model_that_never_saw_its_block(crossfitted, store):
    survey = pd.read_parquet(crossfitted / "out" / "survey.parquet")
    assert survey["out_of_sample"].all()
    folds = plan_folds(store, 3, 5)
    assert ((folds == -1) == (survey["split"] == "test")).all()
    blocks = pd.Series(folds).groupby(store.index["block"].to_numpy()).nunique()
    assert (blocks == 1).all()
    main = TilePredictor.load(crossfitted / "model")
    assert set(survey["model"][survey["split"] == "test"]) == {main.id}
    everything = np.arange(len(store))
    for fold in range(3):
        model = TilePredictor.load(crossfitted / "model" / "folds" / str(fold))
        assert set(survey["model"][folds == fold]) == {model.id} != {main.id}
        expected = model.predict(store.read(everything), sites=store.index)
        np.testing.assert_allclose(
            survey["y_pred"][folds == fold], expected[folds == fold], rtol=1e-4, atol=1e-5
        )
        # The model's label statistics give away what it was trained on: no block of its own fold.
        sites = fold_sites(store, folds, fold, 5)
        assert model.description.label.mean == pytest.approx(
            survey["y_true"].to_numpy()[sites.training].mean()
        )
        seen = set(store.index["block"].iloc[np.concatenate([sites.training, sites.validation])])
        assert not seen & set(store.index["block"][folds == fold])
        assert not set(sites.training) & set(sites.validation)
    held_out = survey[survey["split"] != "test"]
    assert held_out["y_true"].corr(held_out["y_pred"]) > 0.5
    labels = survey["y_true"].to_numpy()[main_rows(store, True)]
    assert main.description.label.mean == pytest.approx(labels.mean())


def test_baselines_that_were_fitted_on_a_split_are_not_judged_on_it(crossfitted):
    metrics = json.loads((crossfitted / "out" / "metrics.json").read_text())
    assert set(metrics["calibration"]) == {"cnn", "n"}
    assert {"cnn", "nightlights", "ridge_statistics"} < set(metrics["test"])


def test_more_folds_than_blocks_are_refused(packed_tiles, tmp_path):
    with pytest.raises(DataError, match="cannot fill 1000 parts"):
        quick(packed_tiles, tmp_path / "model", crossfit=1000)
    with pytest.raises(ValidationError, match="at least 2 folds"):
        TrainParams(crossfit=1)


def test_year_and_place_are_learned_from_when_asked_for(packed_tiles, store, tmp_path):
    predictor = quick(packed_tiles, tmp_path / "model", inputs=("year", "location"))
    rows = np.arange(5)
    tiles, sites = store.read(rows), store.index.iloc[rows]
    here = predictor.predict(tiles, sites=sites)
    assert not np.allclose(here, predictor.predict(tiles, sites=sites.assign(year=sites["year"] + 30)))
    with pytest.raises(ModelError, match="looks at year, lat, lon beside the pixels: pass sites"):
        predictor.predict(tiles)
    with pytest.raises(ModelError, match="column lat of sites must hold 5 finite"):
        predictor.predict(tiles, sites=sites.assign(lat=np.nan))


def test_a_scene_of_one_year(packed_tiles, store, tmp_path):
    predictor = quick(packed_tiles, tmp_path / "model", inputs=("year",))
    tiles = store.read([0, 1])
    expected = predictor.predict(tiles, sites=pd.DataFrame({"year": [2015, 2015]}))
    np.testing.assert_array_equal(predictor.for_year(2015).predict(tiles), expected)
    # Finished blocks of a map are kept under it: another year is another map.
    assert predictor.for_year(2015).fingerprint == predictor.for_year(2015).fingerprint
    assert len({predictor.fingerprint, *(predictor.for_year(year).fingerprint for year in (2005, 2015))}) == 3
    with pytest.raises(ModelError, match="pass sites"):
        predictor.predict(tiles)


def test_lights_of_two_sensors_are_a_channel_each(packed_tiles, tmp_path):
    tiles = shutil.copytree(packed_tiles, tmp_path / "tiles")
    index = pd.read_parquet(tiles / "index.parquet")
    index.assign(year=np.where(index.index % 2, 2005, 2015)).to_parquet(tiles / "index.parquet")
    predictor = quick(tiles, tmp_path / "model", inputs=("lights_by_sensor",))
    lights = predictor.description.extras.lights
    assert set(lights) == {"dmsp", "viirs"}
    assert lights["dmsp"].mean != lights["viirs"].mean
    pixels = TileStore.open(tiles).read(np.arange(5))
    old, new = (predictor.for_year(year).predict(pixels) for year in (2005, 2015))
    assert not np.allclose(old, new)
    with pytest.raises(ModelError, match="looks at year beside the pixels: pass sites"):
        predictor.predict(pixels)


@pytest.mark.parametrize(("year", "sensor"), [(2005, "VIIRS"), (2015, "DMSP")])
def test_lights_of_one_sensor_cannot_be_told_apart(packed_tiles, tmp_path, year, sensor):
    tiles = shutil.copytree(packed_tiles, tmp_path / "tiles")
    pd.read_parquet(tiles / "index.parquet").assign(year=year).to_parquet(tiles / "index.parquet")
    message = f"lights_by_sensor needs training sites before and from 2012 on; there is none with {sensor}"
    with pytest.raises(DataError, match=message):
        quick(tiles, tmp_path / "model", inputs=("lights_by_sensor",))
    assert not (tmp_path / "model").exists()


def test_the_other_layout_comes_close(packed_tiles, store, trained, small_params, tmp_path):
    tiles = store.read(np.arange(100))
    reference = TilePredictor.load(trained).predict(tiles)
    train(packed_tiles, tmp_path / "layout", small_params.model_copy(update={"channels_last": False}), seed=5)
    found = TilePredictor.load(tmp_path / "layout").predict(tiles)
    assert np.corrcoef(found, reference)[0, 1] > 0.9


def test_bfloat16_on_a_cpu_is_float32_and_said_once(packed_tiles, tmp_path):
    with pytest.warns(HardwareWarning, match=r"train\.precision is bfloat16.* on a CPU, in float32") as said:
        half = quick(
            packed_tiles, tmp_path / "half", precision="bfloat16", accelerator="cpu", crossfit=2, members=2
        )
    assert len(said) == 1
    whole = quick(packed_tiles, tmp_path / "whole", accelerator="cpu", crossfit=2, members=2)
    assert half.description == whole.description  # the weights' hash is part of it
    assert half.description.params["precision"] == "float32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="bfloat16 is for GPUs, and there is none")
def test_bfloat16_on_a_gpu_comes_close(packed_tiles, store, tmp_path):
    tiles = store.read(np.arange(100))
    found = [
        quick(packed_tiles, tmp_path / precision, epochs=8, accelerator="gpu", precision=precision)
        for precision in ("float32", "bfloat16")
    ]
    assert [model.description.params["precision"] for model in found] == ["float32", "bfloat16"]
    assert np.corrcoef(*(model.predict(tiles) for model in found))[0, 1] > 0.9


def test_two_processes_learn_as_one_does(packed_tiles, store, tmp_path):
    script = (
        "import sys\nfrom sustain.config import TrainParams\nfrom sustain.models.training.model import train\n"
        "if __name__ == '__main__':\n"
        "    params = TrainParams(epochs=6, batch_size=16, devices=2, accelerator='cpu', threads=1)\n"
        "    train(sys.argv[1], sys.argv[2], params, 5)\n"
    )
    (tmp_path / "ddp.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "ddp.py", packed_tiles, tmp_path / "model"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = np.concatenate([store.rows("calibration"), store.rows("test")])
    predicted = TilePredictor.load(tmp_path / "model").predict(store.read(rows))
    assert r2(store.index["label"].to_numpy()[rows], predicted) > 0.3
    assert len(pd.read_csv(tmp_path / "model" / "curves.csv")) == 6


def test_accumulated_gradients_are_those_of_the_larger_batch(store, tmp_path, monkeypatch):
    def plain(in_channels, outputs):  # batch statistics would be of the smaller batch
        return nn.Sequential(
            nn.Conv2d(in_channels, 8, 3),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, outputs),
        )

    monkeypatch.setitem(BACKBONES, "plain", plain)
    statistics = band_statistics(store, store.rows("train"))
    scale, offset = np.array(store.scale), np.array(store.offset)
    inputs = TileInputs(
        store.bands,
        (np.array(statistics.mean) - offset) / scale,
        np.array(statistics.std) / scale,
        store.nodata,
    )

    def batches(rows):
        return TileBatches(store, rows, store.index["label"].to_numpy()[rows], np.zeros((len(rows), 3)))

    def learn(batch_size, accumulate):
        place = tmp_path / f"{batch_size}-{accumulate}"
        place.mkdir()
        params = TrainParams(
            backbone="plain", epochs=3, batch_size=batch_size, accumulate=accumulate, average=0.5, threads=1
        )
        with reproducible(7, 1):
            network = TileNetwork("plain", inputs)
            # 64 tiles, so that two small batches are one large one.
            return fit_network(
                network, batches(store.rows("train")[:64]), batches(store.rows("val")), params, 7, place
            )

    large, small, other = learn(32, 1), learn(16, 2), learn(16, 1)
    pd.testing.assert_frame_equal(small.history, large.history, rtol=1e-4)
    for name, weight in large.weights.items():
        torch.testing.assert_close(small.weights[name], weight, rtol=1e-3, atol=1e-5)
    assert not np.allclose(other.history["val_loss"], large.history["val_loss"], rtol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_absent_is_said(packed_tiles, tmp_path):
    with pytest.raises(HardwareError, match=r"1 GPU\(s\) asked for, but torch .* sees 0.*accelerator to cpu"):
        quick(packed_tiles, tmp_path / "model", accelerator="gpu")
    assert not (tmp_path / "model").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_absent_is_said_in_prediction_too(packed_tiles, trained, tmp_path):
    message = r"1 GPU\(s\) asked for, but torch .* sees 0"
    with pytest.raises(HardwareError, match=message):
        TilePredictor.load(trained, device="cuda")
    with pytest.raises(HardwareError, match=message):
        predict_table(packed_tiles, trained, tmp_path / "out.csv", accelerator="gpu")
    assert not (tmp_path / "out.csv").exists()


def memory_for(limit):
    """Let a training step fail as a device does whose memory holds batches of `limit` tiles."""
    step = Regression.training_step

    def limited(self, batch, index):
        if len(batch.labels) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return step(self, batch, index)

    return limited


def test_too_little_memory_halves_the_batch_once_and_says_so(packed_tiles, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Regression, "training_step", memory_for(20))
        with pytest.warns(
            HardwareWarning, match="batch_size 40 does not fit .* going on with 20, and 2 batches a step"
        ):
            quick(packed_tiles, tmp_path / "halved", batch_size=40)
        with (
            pytest.raises(HardwareError, match="batch_size 40, half of what was asked"),
            pytest.warns(HardwareWarning),
        ):
            quick(packed_tiles, tmp_path / "never", batch_size=80)
    assert not (tmp_path / "never").exists()
    assert len(pd.read_csv(tmp_path / "halved" / "curves.csv")) == 2


def test_too_little_memory_in_prediction_halves_the_batch(trained, store, monkeypatch):
    predictor, tiles = TilePredictor.load(trained), store.read(np.arange(30))
    expected = predictor.predict(tiles)
    predict = TileNetwork.predict

    def limited(self, channels):
        if len(channels) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(self, channels)

    monkeypatch.setattr(TileNetwork, "predict", limited)
    with pytest.warns(HardwareWarning, match="32 tiles at once are too many .* 16"):
        np.testing.assert_allclose(predictor.predict(tiles, batch_size=32), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(HardwareWarning):
        predictor.predict(tiles, batch_size=128)


def test_another_error_of_the_runtime_is_not_taken_for_memory(packed_tiles, tmp_path, monkeypatch):
    def broken(self, batch, index):
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(Regression, "training_step", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        quick(packed_tiles, tmp_path / "model")
