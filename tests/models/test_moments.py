import numpy as np
import torch
from scipy.stats import moment

from sustain.config import TrainParams
from sustain.data.tiles import TileStore
from sustain.models.moments import MomentRegression, band_moments, n_moments
from sustain.models.predictor import TilePredictor
from sustain.models.train import train


def test_moments_by_scipy():
    x = np.random.default_rng(0).gamma(2, size=(3, 3, 5, 5))
    found = band_moments(torch.from_numpy(x)).numpy()
    pixels = x.reshape(3, 3, -1)
    together = [[np.cov(tile, bias=True)[pair] for pair in ((0, 1), (0, 2), (1, 2))] for tile in pixels]
    expected = [pixels.mean(axis=2), pixels.std(axis=2), np.cbrt(moment(pixels, 3, axis=2)), together]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1))
    assert found.shape == (3, n_moments(3))


def test_a_line_is_found_again_and_a_constant_band_does_no_harm():
    rng = np.random.default_rng(0)
    channels = torch.from_numpy(rng.normal(size=(300, 2, 6, 6)) * rng.gamma(2, size=(300, 2, 1, 1))).float()
    channels[:, 1] = 0.0
    moments = band_moments(channels).double().numpy()
    labels = 2 * moments[:, 2] - 0.5 + rng.normal(scale=0.01, size=300)
    regression = MomentRegression(2)
    regression.fit(moments, labels)
    line = regression.line(channels)
    np.testing.assert_allclose(line.numpy(), 2 * moments[:, 2] - 0.5, atol=0.02)
    network = torch.randn(300)
    torch.testing.assert_close(regression(channels, network), network)  # alone, until they are stacked
    regression.weigh(network, line, 0.3 * network + 0.7 * line)
    torch.testing.assert_close(regression(channels, network), 0.3 * network + 0.7 * line)
    regression.weigh(network, line, line)
    torch.testing.assert_close(regression(channels, network), line)
    assert not list(regression.parameters())  # fixed, once fitted
    assert set(regression.state_dict()) == {"weight", "bias", "share"}


def test_what_two_bands_do_together_is_seen():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(400, 2, 8, 8))
    share = rng.uniform(-0.9, 0.9, size=(400, 1, 1))
    # As bright and as varied whatever the share is.
    plain[:, 1] = share * plain[:, 0] + np.sqrt(1 - share**2) * plain[:, 1]
    channels = torch.from_numpy(plain).float()
    regression = MomentRegression(2)
    regression.fit(band_moments(channels).double().numpy(), share[:, 0, 0])
    told = regression.line(channels).numpy()
    assert np.corrcoef(told, share[:, 0, 0])[0, 1] > 0.9


def test_a_stacked_model_predicts_sites_that_it_never_saw(packed_tiles, tmp_path):
    params = TrainParams(epochs=8, batch_size=32, threads=1, moments=True, members=2, views=2, average=0.9)
    train(packed_tiles, tmp_path / "model", params, seed=5)
    predictor = TilePredictor.load(tmp_path / "model")
    assert predictor.receptive_field is None
    store = TileStore.open(packed_tiles)
    rows = np.concatenate([store.rows("calibration"), store.rows("test")])
    truth = store.index["label"].to_numpy()[rows]
    predicted = predictor.predict(store.read(rows))
    assert 1 - np.mean((predicted - truth) ** 2) / truth.var() > 0.4
