import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, ModelError
from sustain.files import sha256_of, write_json
from sustain.models.predictor import TilePredictor


@pytest.fixture(scope="module")
def predictor(trained):
    return TilePredictor.load(trained)


@pytest.fixture(scope="module")
def tiles(packed_tiles):
    return TileStore.open(packed_tiles).read(np.arange(40))


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the trained model to spoil."""
    return shutil.copytree(trained, tmp_path / "model")


def edit(model, **entries):
    page = json.loads((model / "model.json").read_text())
    write_json(model / "model.json", page | entries)


def test_it_says_what_it_takes_and_gives(predictor, packed_tiles, trained):
    store = TileStore.open(packed_tiles)
    for name in ("bands", "scale", "offset", "nodata", "tile_px", "pixel_m"):
        assert getattr(predictor, name) == getattr(store, name)
    assert (predictor.target.name, predictor.target.unit) == ("asset_index", "index points")
    assert predictor.id == f"resnet_narrow-{sha256_of(trained / 'weights.safetensors')[:12]}"


def test_a_prediction_does_not_depend_on_the_batch(predictor, tiles):
    together = predictor.predict(tiles)
    assert together.shape == (40,)
    assert together.dtype == np.float32
    np.testing.assert_allclose(predictor.predict(tiles, batch_size=1), together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predictor.predict(tiles[::-1])[::-1], together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predictor.predict(tiles[7:8]), together[7:8], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(predictor.predict(tiles), together)
    assert predictor.predict(tiles[:0]).shape == (0,)


def test_views_and_read_only_arrays_are_taken(predictor, tiles):
    frozen = tiles.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(predictor.predict(frozen), predictor.predict(tiles))
    swapped = np.ascontiguousarray(tiles.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(predictor.predict(swapped), predictor.predict(tiles))


def test_the_label_s_scale_is_put_back(predictor, trained, tiles, model):
    page = json.loads((trained / "model.json").read_text())
    edit(model, label={"mean": page["label"]["mean"] + 10, "std": page["label"]["std"]})
    np.testing.assert_allclose(
        TilePredictor.load(model).predict(tiles), predictor.predict(tiles) + 10, rtol=1e-5
    )


def test_missing_pixels_count_as_average_ground_and_an_empty_tile_has_no_prediction(predictor, tiles):
    holed = tiles[:3].copy()
    holed[0, :, :4, :4] = 0
    holed[1] = 0
    predicted = predictor.predict(holed)
    assert np.isfinite(predicted[[0, 2]]).all()
    assert np.isnan(predicted[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.astype(np.float32),
        lambda t: t.astype(np.int16),
        lambda t: t[:, :7],
        lambda t: t[:, :, :-1],
        lambda t: t[0],
    ],
)
def test_tiles_of_another_kind_are_refused(predictor, tiles, change):
    with pytest.raises(ModelError, match=r"takes uint16 DN of shape \(n, 8, 16, 16\)"):
        predictor.predict(change(tiles))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("bands", tuple("ABCDEFGH")),
        ("scale", (1.0,) * 8),
        ("offset", (0.0,) * 8),
        ("pixel_m", 10.0),
        ("tile_px", 32),
    ],
)
def test_another_format_is_refused_by_what_differs(predictor, packed_tiles, entry, value):
    form = TileStore.open(packed_tiles).format
    predictor.require_format(form, "these tiles")
    with pytest.raises(ModelError, match=f"these tiles does not fit the model .*: {entry} is "):
        predictor.require_format(form.model_copy(update={entry: value}), "these tiles")


def test_truncated_weights_are_refused(model):
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelError, match=r"weights.safetensors: sha256 is .* truncated, altered"):
        TilePredictor.load(model)


def test_altered_weights_are_refused(model):
    path = model / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="sha256 is"):
        TilePredictor.load(model)


def sign(model):
    edit(model, weights_sha256=sha256_of(model / "weights.safetensors"))


def test_weights_of_another_architecture_are_refused_even_when_signed(model):
    edit(model, backbone="resnet18")
    with pytest.raises(ModelError, match="does not fit the backbone 'resnet18'"):
        TilePredictor.load(model)
    edit(model, backbone="vgg")
    with pytest.raises(ModelError, match="expected one of"):
        TilePredictor.load(model)


def test_weights_of_another_shape_are_refused(model):
    weights = load_file(model / "weights.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: torch.zeros(3)}, model / "weights.safetensors")
    sign(model)
    with pytest.raises(ModelError, match="does not fit the backbone"):
        TilePredictor.load(model)


def test_a_pickle_in_the_place_of_weights_is_not_run(model, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w').close()",))

    torch.save({"x": Hostile()}, model / "weights.safetensors")
    sign(model)
    with pytest.raises(ModelError, match="does not fit the backbone"):
        TilePredictor.load(model)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "entries",
    [
        {"bands": ["BLUE"]},
        {"statistics": {"mean": [0.0], "std": [1.0]}},
        {"statistics": {"mean": [0.0] * 8, "std": [0.0] * 8}},
        {"label": {"mean": 0.0, "std": 0.0}},
        {"weights_sha256": None},
    ],
)
def test_a_page_that_contradicts_itself_is_refused(model, entries):
    edit(model, **entries)
    with pytest.raises(ModelError, match=r"model\.json: wrong or missing entries"):
        TilePredictor.load(model)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: no such file. Run the train stage"):
        TilePredictor.load(model)


def test_a_page_that_is_not_json_is_refused(model):
    (model / "model.json").write_text("{")
    with pytest.raises(DataError, match="not a JSON file"):
        TilePredictor.load(model)
