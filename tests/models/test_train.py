import hashlib
import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from sustain.config import TrainParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, ModelError
from sustain.files import sha256_of
from sustain.models.predictor import TilePredictor
from sustain.models.statistics import band_statistics
from sustain.models.training.model import train


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def changed(packed_tiles, tmp_path):
    """A copy of the packed tiles to spoil."""
    return shutil.copytree(packed_tiles, tmp_path / "tiles")


def relabel(folder, **columns):
    index = pd.read_parquet(folder / "index.parquet").assign(**columns)
    index.to_parquet(folder / "index.parquet", index=False)


def test_it_learns_what_can_be_learned(packed_tiles, trained):
    store = TileStore.open(packed_tiles)
    rows = np.concatenate([store.rows("calibration"), store.rows("test")])
    truth = store.index["label"].to_numpy()[rows]
    predicted = TilePredictor.load(trained).predict(store.read(rows))
    assert 1 - np.mean((predicted - truth) ** 2) / truth.var() > 0.4


def test_the_folder_holds_what_it_should(packed_tiles, trained, small_params):
    assert sorted(path.name for path in trained.iterdir()) == [
        "curves.csv",
        "model.json",
        "weights.safetensors",
    ]
    page = json.loads((trained / "model.json").read_text())
    tiles = json.loads((packed_tiles / "tiles.json").read_text())
    for entry in ("bands", "scale", "offset", "nodata", "pixel_m", "tile_px"):
        assert page[entry] == tiles[entry]
    assert page["target"] == tiles["label"]
    assert page["weights_sha256"] == sha256_of(trained / "weights.safetensors")
    assert page["seed"] == 5
    assert (trained / "weights.safetensors").stat().st_mode & 0o444 == (
        trained / "model.json"
    ).stat().st_mode & 0o444
    assert TrainParams.model_validate(page["params"]) == small_params
    assert set(page["versions"]) == {"sustain", "torch", "timm", "lightning"}
    store = TileStore.open(packed_tiles)
    labels = store.index["label"].to_numpy()[store.rows("train")]
    assert page["label"] == {"mean": pytest.approx(labels.mean()), "std": pytest.approx(labels.std())}


def test_the_curves_show_a_schedule_that_anneals(trained, small_params):
    curves = pd.read_csv(trained / "curves.csv")
    assert list(curves.columns) == ["epoch", "train_loss", "val_loss", "learning_rate"]
    assert curves["epoch"].tolist() == list(range(1, small_params.epochs + 1))
    assert (curves["learning_rate"].diff().dropna() < 0).all()
    assert curves["learning_rate"].iloc[-1] < small_params.learning_rate / 100
    assert curves["train_loss"].iloc[-1] < 0.7 * curves["train_loss"].iloc[0]


def test_the_weights_are_those_of_the_best_epoch(changed, tmp_path):
    # Validation labels of the opposite sign: the better it learns, the worse it validates.
    index = pd.read_parquet(changed / "index.parquet")
    relabel(changed, label=index["label"].where(index["split"] != "val", -index["label"]))
    params = TrainParams(epochs=5, batch_size=16, threads=1, patience=5)
    train(changed, tmp_path / "model", params, seed=2)
    curves = pd.read_csv(tmp_path / "model" / "curves.csv")
    store = TileStore.open(changed)
    rows = store.rows("val")
    predictor = TilePredictor.load(tmp_path / "model")
    error = predictor.predict(store.read(rows)) - store.index["label"].to_numpy()[rows]
    loss = np.mean((error / predictor.description.label.std) ** 2)
    assert curves["val_loss"].iloc[-1] > 1.5 * curves["val_loss"].min()
    assert loss == pytest.approx(curves["val_loss"].min(), rel=1e-4)


def test_it_stops_when_nothing_gets_better(packed_tiles, tmp_path):
    params = TrainParams(epochs=40, batch_size=64, threads=1, learning_rate=1e-9, patience=2)
    train(packed_tiles, tmp_path / "model", params, seed=2)
    assert len(pd.read_csv(tmp_path / "model" / "curves.csv")) < 40


def test_twice_the_same_bytes_and_the_seed_decides(packed_tiles, trained, small_params, tmp_path):
    torch.manual_seed(99)  # the state of the global generator must not matter, nor be changed
    state = torch.get_rng_state()
    train(packed_tiles, tmp_path / "again", small_params, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert contents(tmp_path / "again") == contents(trained)
    short = small_params.model_copy(update={"epochs": 1})
    train(packed_tiles, tmp_path / "other", short, seed=6)
    train(packed_tiles, tmp_path / "short", short, seed=5)
    assert contents(tmp_path / "other") != contents(tmp_path / "short")


def test_nothing_is_left_behind(packed_tiles, tmp_path, monkeypatch, capfd):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    params = TrainParams(epochs=1, batch_size=64, threads=1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(packed_tiles, tmp_path / "model", params, seed=0)
    assert list(work.iterdir()) == []
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    assert not torch.are_deterministic_algorithms_enabled()
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_huber_is_another_loss(packed_tiles, tmp_path):
    params = TrainParams(epochs=1, batch_size=64, threads=1, loss="huber")
    train(packed_tiles, tmp_path / "model", params, seed=5)
    assert pd.read_csv(tmp_path / "model" / "curves.csv")["train_loss"].iloc[0] < 0.7


def test_statistics_by_numpy(packed_tiles):
    store = TileStore.open(packed_tiles)
    rows = store.rows("train")
    found = band_statistics(store, rows)
    for k, band in enumerate(store.bands):
        values = store.format.decode(store.read(rows), band).astype(np.float64)
        assert found.mean[k] == pytest.approx(np.nanmean(values), rel=1e-5)
        assert found.std[k] == pytest.approx(np.nanstd(values), rel=1e-4)


def test_an_empty_split_is_named(changed, tmp_path, small_params):
    relabel(changed, split="train")
    with pytest.raises(DataError, match="no site in split 'val'; the splits are train"):
        train(changed, tmp_path / "model", small_params, seed=0)
    assert not (tmp_path / "model").exists()


def test_labels_that_do_not_vary_are_refused(changed, tmp_path, small_params):
    relabel(changed, label=1.5)
    with pytest.raises(DataError, match="training labels do not vary"):
        train(changed, tmp_path / "model", small_params, seed=0)


def test_a_band_without_data_is_named(changed, tmp_path, small_params):
    for shard in changed.glob("shard-*.npy"):
        tiles = np.load(shard)
        tiles[:, 6] = 0
        np.save(shard, tiles)
    with pytest.raises(DataError, match="no valid pixel of NIR in the training split"):
        train(changed, tmp_path / "model", small_params, seed=0)


def test_a_band_that_never_varies_is_no_obstacle(changed, tmp_path):
    for shard in changed.glob("shard-*.npy"):
        tiles = np.load(shard)
        tiles[:, 7] = 1
        np.save(shard, tiles)
    train(changed, tmp_path / "model", TrainParams(epochs=1, threads=1), seed=0)
    assert TilePredictor.load(tmp_path / "model").description.statistics.std[7] == pytest.approx(0.01)


def test_a_training_that_diverges_says_so(packed_tiles, tmp_path):
    with pytest.raises(DataError, match="training diverged"):
        train(packed_tiles, tmp_path / "model", TrainParams(epochs=2, threads=1, learning_rate=1e30), seed=0)
    assert not (tmp_path / "model").exists()


def test_an_unknown_backbone_is_named(packed_tiles, tmp_path):
    with pytest.raises(ModelError, match="'vgg'; expected one of"):
        train(packed_tiles, tmp_path / "model", TrainParams(backbone="vgg"), seed=0)
