"""The regressions beside the network: what they find, that they know their limits, and that they count a third each."""

import numpy as np
import pytest
import torch

from sustain.config import TrainParams
from sustain.data.tiles.packed import TileStore
from sustain.errors import ModelError
from sustain.models.features.convolutions import SMALLEST_TILE, RandomConvolutions
from sustain.models.inputs import TileInputs
from sustain.models.network import TileNetwork
from sustain.models.predictor import TilePredictor
from sustain.models.stack import LimitedRidge, Stack
from sustain.models.training.model import train


def fitted(features, labels):
    ridge = LimitedRidge(features.shape[1])
    ridge.fit(features, labels)
    return ridge


def test_a_line_is_found_again_and_a_constant_feature_does_no_harm():
    rng = np.random.default_rng(0)
    features = rng.uniform(-1, 1, size=(500, 3))
    features[:, 2] = 7.0
    labels = 2 * features[:, 0] - 0.5 + rng.normal(scale=0.01, size=500)
    ridge = fitted(features, labels)
    inside = np.quantile(features, (0.05, 0.5, 0.95), axis=0)
    np.testing.assert_allclose(ridge(torch.from_numpy(inside).float()), 2 * inside[:, 0] - 0.5, atol=0.03)
    assert not list(ridge.parameters())  # fixed, once fitted
    assert set(ridge.state_dict()) == {"low", "high", "weight", "bias"}


def test_beyond_nearly_all_training_tiles_it_stays_level():
    features = np.linspace(0, 1, 201)[:, None]
    ridge = fitted(features, features[:, 0])
    far, edge = ridge(torch.tensor([[50.0], [0.99]]))
    assert far == edge == pytest.approx(0.99, abs=0.01)
    assert ridge(torch.tensor([[-50.0]])).item() == pytest.approx(0.01, abs=0.01)


def textures(rng, n, side=16):
    """Tiles of two bands of the same means and spreads, whose grain is coarse in some and fine in others."""
    coarse = rng.random(n) < 0.5
    fine = rng.choice([-1.0, 1.0], size=(n, 2, side, side))
    grain = rng.choice([-1.0, 1.0], size=(n, 2, side // 4, side // 4)).repeat(4, axis=2).repeat(4, axis=3)
    return torch.from_numpy(np.where(coarse[:, None, None, None], grain, fine)).float(), coarse


def test_convolutions_see_a_grain_that_moments_do_not():
    tiles, coarse = textures(np.random.default_rng(0), 400)
    convolutions = RandomConvolutions(2)
    convolutions.draw(lambda: iter(tiles[:200].split(64)), seed=1)
    features = convolutions(tiles)
    assert features.shape == (400, convolutions.n_features)
    ridge = fitted(features[:200].double().numpy(), coarse[:200].astype(float))
    assert np.corrcoef(ridge(features[200:]), coarse[200:])[0, 1] > 0.95


def test_convolutions_depend_on_the_seed_and_not_on_the_batch():
    tiles, _ = textures(np.random.default_rng(0), 100)
    found = {}
    for seed, size in ((1, 30), (1, 100), (2, 30)):
        convolutions = RandomConvolutions(2)
        convolutions.draw(lambda size=size: iter(tiles.split(size)), seed)
        found[seed, size] = convolutions(tiles)
        torch.testing.assert_close(convolutions(tiles[37:38]), found[seed, size][37:38])
    torch.testing.assert_close(found[1, 30], found[1, 100])
    assert not torch.allclose(found[1, 30], found[2, 30])


def test_the_network_and_each_regression_count_a_third():
    tiles, coarse = textures(np.random.default_rng(0), 200)
    stack = Stack(2)
    stack.fit(lambda: iter(tiles.split(50)), coarse.astype(float), seed=0)
    network = torch.randn(200)
    apart = stack(tiles, network + 3) - stack(tiles, network)
    torch.testing.assert_close(apart, torch.ones(200))
    for line in (stack.by_moments, stack.by_convolutions):
        before = stack(tiles, network)
        line.bias += 3
        torch.testing.assert_close(stack(tiles, network) - before, torch.ones(200))


def test_tiles_too_small_for_a_patch_are_refused():
    inputs = TileInputs(("A", "B"), np.zeros(2), np.ones(2), 0)
    network = TileNetwork("resnet_narrow", inputs, stack=True)
    network.require_tile(SMALLEST_TILE)
    with pytest.raises(ModelError, match=r"train\.stack looks at patches of 12 pixels, but a tile has 11"):
        network.require_tile(SMALLEST_TILE - 1)


def test_a_stacked_model_predicts_sites_that_it_never_saw(packed_tiles, tmp_path):
    params = TrainParams(epochs=8, batch_size=32, threads=1, stack=True, members=2, views=2, average=0.9)
    train(packed_tiles, tmp_path / "model", params, seed=5)
    predictor = TilePredictor.load(tmp_path / "model")
    assert predictor.receptive_field is None
    store = TileStore.open(packed_tiles)
    rows = np.concatenate([store.rows("calibration"), store.rows("test")])
    truth, tiles = store.index["label"].to_numpy()[rows], store.read(rows)
    predicted = predictor.predict(tiles)

    def r2(values):
        return 1 - np.mean((values - truth) ** 2) / truth.var()

    predictor._network.stack = None
    assert r2(predicted) > max(r2(predictor.predict(tiles)), 0.4)
