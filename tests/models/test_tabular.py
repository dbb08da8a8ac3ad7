"""Ridge, forest and nearest lights as models: kept without pickles, predicting as scikit-learn does, mapped."""

import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from sustain.config import PredictParams, TrainParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, DataWarning, ModelError
from sustain.models import load_model, train_model
from sustain.models.simple import SIMPLE_MODELS, predict_simple_models
from sustain.models.statistics import band_statistics
from sustain.models.survey import predict_survey, predict_table
from tests.in_process import sustain


@pytest.fixture(scope="module")
def store(packed_tiles):
    return TileStore.open(packed_tiles)


@pytest.fixture(scope="module")
def models(packed_tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simple")
    for kind in SIMPLE_MODELS:
        train_model(packed_tiles, folder / kind, TrainParams(backbone=kind), seed=0)
    return folder


def test_every_kind_predicts_what_scikit_learn_does(models, store):
    rows = store.rows("train")
    expected = predict_simple_models(store, rows, band_statistics(store, rows))
    tiles = store.read(np.arange(len(store)))
    for kind in SIMPLE_MODELS:
        np.testing.assert_allclose(
            load_model(models / kind).predict(tiles, 37), expected[kind], rtol=1e-5, atol=1e-6
        )


def test_a_tile_without_imagery_has_no_prediction_and_others_are_refused(models, store):
    model = load_model(models / "forest_statistics")
    tiles = store.read([0, 1])
    tiles[0] = 0
    assert np.isnan(model.predict(tiles)[0])
    assert np.isfinite(model.predict(tiles)[1])
    with pytest.raises(ModelError, match=r"tiles are float64 .* takes uint16 DN"):
        model.predict(tiles.astype(float))


def test_the_same_bytes_again(models, packed_tiles, tmp_path):
    train_model(packed_tiles, tmp_path / "again", TrainParams(backbone="forest_statistics"), seed=0)
    for name in ("weights.npz", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (models / "forest_statistics" / name).read_bytes()


def spoiled(models, tmp_path, kind, **arrays):
    """A model whose arrays are others, and whose page says so."""
    from sustain.files import sha256_of

    folder = shutil.copytree(models / kind, tmp_path / "spoiled")
    with np.load(folder / "weights.npz") as found:
        np.savez(folder / "weights.npz", **(dict(found) | arrays))
    page = json.loads((folder / "model.json").read_text())
    page["weights_sha256"] = sha256_of(folder / "weights.npz")
    (folder / "model.json").write_text(json.dumps(page))
    return folder


@pytest.mark.parametrize(
    ("kind", "arrays"),
    [
        ("ridge_statistics", {"weight": np.ones(3)}),
        ("ridge_statistics", {"bias": np.array([{}], dtype=object)}),  # a pickle
        ("ridge_statistics", {"other": np.ones(3)}),
        ("forest_statistics", {"left": np.zeros(5, dtype=np.int32)}),
        ("forest_statistics", {"root": np.array([10**6], dtype=np.int32)}),
        ("nightlights", {"k": np.array(10**6)}),
    ],
)
def test_arrays_that_are_no_model_are_refused(models, tmp_path, kind, arrays):
    folder = spoiled(models, tmp_path, kind, **arrays)
    with pytest.raises(ModelError, match=f"weights.npz: holds no {kind} .* Train it again"):
        load_model(folder)


def test_a_tree_that_goes_in_circles_is_refused(models, tmp_path):
    with np.load(models / "forest_statistics" / "weights.npz") as found:
        left = found["left"].copy()
    left[left > 0] = 0
    with pytest.raises(ModelError, match="no regression trees"):
        load_model(spoiled(models, tmp_path, "forest_statistics", left=left))


def test_altered_weights_and_other_tiles_are_refused(models, packed_tiles, tmp_path):
    folder = shutil.copytree(models / "ridge_statistics", tmp_path / "model")
    (folder / "weights.npz").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"weights\.npz: sha256 is .* truncated, altered"):
        load_model(folder)
    page = json.loads((models / "ridge_histograms" / "model.json").read_text()) | {"pixel_m": 10.0}
    other = shutil.copytree(models / "ridge_histograms", tmp_path / "other")
    (other / "model.json").write_text(json.dumps(page))
    with pytest.raises(ModelError, match=r"pixel_m is 30\.0, not 10\.0"):
        predict_table(packed_tiles, other, tmp_path / "out.csv")


def test_cross_fitted_predictions_come_from_models_that_never_saw_the_block(packed_tiles, tmp_path):
    train_model(
        packed_tiles, tmp_path / "model", TrainParams(backbone="ridge_statistics", crossfit=3), seed=2
    )
    predict_survey(packed_tiles, tmp_path / "model", tmp_path / "survey", PredictParams())
    survey = pd.read_parquet(tmp_path / "survey" / "survey.parquet")
    assert survey["out_of_sample"].all()
    assert survey.loc[survey["split"] != "test", "model"].nunique() == 3
    assert survey.groupby("block")["model"].nunique().max() == 1


def test_lights_are_asked_of_tiles_that_have_them(packed_tiles, tmp_path):
    tiles = shutil.copytree(packed_tiles, tmp_path / "tiles")
    page = json.loads((tiles / "tiles.json").read_text())
    page["bands"] = [band.replace("NIGHTLIGHTS", "LIGHTS") for band in page["bands"]]
    (tiles / "tiles.json").write_text(json.dumps(page))
    with pytest.raises(DataError, match=r"has no band NIGHTLIGHTS; it has .*LIGHTS"):
        train_model(tiles, tmp_path / "model", TrainParams(backbone="nightlights"), seed=0)


LABEL = ("--target", "asset_index", "--unit", "1", "--n-boot", 20)


def test_from_tiles_to_a_card_without_a_join(packed_tiles, tmp_path, monkeypatch):
    """Train, predict the calibration part, fit: each command takes what the one before wrote."""
    monkeypatch.chdir(tmp_path)
    for command in (
        ("train", packed_tiles, "model", "--backbone", "ridge_statistics", "--seed", 3),
        ("predict", packed_tiles, "model", "all.csv"),
        ("predict", packed_tiles, "model", "sample.parquet", "--split", "calibration"),
        ("debias", "fit", "sample.parquet", "-o", "card.json", *LABEL, "--groups", "block"),
    ):
        done = sustain(*command)
        assert done.returncode == 0, done.stderr
        assert "learned from" not in done.stderr
    everything, sample = pd.read_csv("all.csv"), pd.read_parquet("sample.parquet")
    store = TileStore.open(packed_tiles)
    assert list(everything) == [
        *("id", "lat", "lon", "year", "country", "urban", "n", "block", "split"),
        *("y_true", "y_pred", "model", "out_of_sample"),
    ]
    np.testing.assert_allclose(everything["y_true"], store.index["label"])
    assert everything["out_of_sample"].tolist() == store.index["split"].isin(["calibration", "test"]).tolist()
    assert sample["id"].tolist() == store.index["id"][store.rows("calibration")].tolist()
    assert sample["out_of_sample"].all()
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["sample"]["n"] == len(sample)
    # And the whole table would be told of.
    whole = sustain(
        "debias",
        "fit",
        "all.csv",
        "-o",
        "other.json",
        "--target",
        "asset_index",
        "--unit",
        "1",
        "--n-boot",
        20,
    )
    assert "places that the model learned from" in whole.stderr


def test_outputs_behind_links_are_written_where_they_point(
    packed_tiles, scene_of_tiles, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    for name in ("model", "out.csv", "map.tif"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    for command in (
        ("train", packed_tiles, "model", "--backbone", "ridge_statistics"),
        ("predict", packed_tiles, "model", "out.csv"),
        ("map", scene_of_tiles, "map.tif", "--model", "model"),
    ):
        for _ in range(2):  # a second run replaces what the first wrote
            done = sustain(*command)
            assert done.returncode == 0, done.stderr
    for name in ("model", "out.csv", "map.tif"):
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "disk" / name).exists()


def test_labels_of_something_else_are_not_taken_for_the_truth(models, packed_tiles, tmp_path):
    tiles = shutil.copytree(packed_tiles, tmp_path / "tiles")
    page = json.loads((tiles / "tiles.json").read_text())
    page["label"] = {"name": "women_bmi", "unit": "kg m-2"}
    (tiles / "tiles.json").write_text(json.dumps(page))
    with pytest.warns(DataWarning, match="its label is women_bmi, but the model predicts asset_index"):
        table = predict_table(tiles, models / "ridge_statistics", tmp_path / "out.csv")
    assert "y_true" not in table


def test_an_unknown_part_of_the_split_is_named(models, packed_tiles, tmp_path):
    with pytest.raises(
        DataError, match="no site in split 'calib'; the splits are calibration, test, train, val"
    ):
        predict_table(packed_tiles, models / "ridge_statistics", tmp_path / "out.csv", splits=["calib"])


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if any((name + ".").startswith(part + ".") for part in {absent!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = {arguments!r}
from sustain.cli import main
main()
"""


def run_without(absent, *arguments, cwd):
    text = textwrap.dedent(WITHOUT).format(absent=list(absent), arguments=["sustain", *map(str, arguments)])
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=cwd, check=False)


def test_a_simple_model_is_trained_predicts_and_maps_without_torch(packed_tiles, tmp_path, scene_of_tiles):
    """The base install suffices; and the map's cells are the predictions of their tiles."""
    import rasterio

    absent = ("torch", "torchvision", "lightning", "safetensors", "timm", "distributed", "odc.stac")
    for command in (
        ("train", packed_tiles, "model", "--backbone", "forest_statistics"),
        ("predict", packed_tiles, "model", "out.csv", "--split", "test"),
        ("map", scene_of_tiles, "map.tif", "--model", "model", "--spacing-px", "16"),
    ):
        done = run_without(absent, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    model = load_model(tmp_path / "model")
    with rasterio.open(tmp_path / "map.tif") as raster, rasterio.open(scene_of_tiles) as scene:
        first = scene.read()[None, :, : model.tile_px, : model.tile_px]
        assert raster.read(1)[0, 0] == pytest.approx(float(model.predict(first)[0]))
        assert raster.tags()["SUSTAIN_PREDICTOR"] == model.id


WORKERS = ("map", "{scene}", "out.tif", "--model", "{network}", "--workers", "2")


@pytest.mark.parametrize(
    ("absent", "command", "extra"),
    [
        ("torch", ("train", "{tiles}", "m", "--backbone", "resnet18", "--params", "{params}"), "train"),
        ("lightning", ("train", "{tiles}", "m", "--params", "{params}"), "train"),
        ("torch", ("predict", "{tiles}", "{network}", "out.csv"), "train"),
        ("torch", ("map", "{scene}", "out.tif", "--model", "{network}"), "train"),
        ("distributed", WORKERS, "pipeline"),
        ("odc.stac", ("map", "{items}", "out.tif", "--model", "{network}"), "pipeline"),
    ],
)
def test_what_is_not_installed_is_one_sentence_that_names_the_extra(
    packed_tiles, trained, scene_of_tiles, tmp_path, absent, command, extra
):
    (tmp_path / "params.yaml").write_text(
        json.dumps({"source": "x", "seed": 3, "profiles": {"x": {"train": {}}}})
    )
    (tmp_path / "items.json").write_text(
        json.dumps({"type": "Feature", "stac_version": "1.0.0", "id": "a", "geometry": None, "links": [], "assets": {},
                    "properties": {"datetime": "2020-01-01T00:00:00Z"}})
    )  # fmt: skip
    places = {"tiles": packed_tiles, "network": trained, "scene": scene_of_tiles}
    places |= {"params": tmp_path / "params.yaml", "items": tmp_path / "items.json"}
    done = run_without([absent], *(part.format(**places) for part in command), cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"error: this command needs {absent.replace('.', '-')}" in done.stderr
    assert f"pip install 'sustain[{extra}]'" in done.stderr


@pytest.fixture(scope="module")
def scene_of_tiles(store, tmp_path_factory):
    """A small scene of tiles side by side."""
    from tests.maps.fakes import write_scene

    tiles = store.read(np.arange(6)).reshape(2, 3, *store.format.shape)
    pixels = tiles.transpose(2, 0, 3, 1, 4).reshape(len(store.bands), 2 * store.tile_px, 3 * store.tile_px)
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    return write_scene(path, np.ascontiguousarray(pixels), store.bands, store.scale, store.offset)
