import numpy as np
import torch
from scipy.stats import moment

from sustain.models.features.moments import band_moments, n_moments
from sustain.models.stack import LimitedRidge


def test_moments_by_scipy():
    x = np.random.default_rng(0).gamma(2, size=(3, 3, 5, 5))
    found = band_moments(torch.from_numpy(x)).numpy()
    pixels = x.reshape(3, 3, -1)
    together = [[np.cov(tile, bias=True)[pair] for pair in ((0, 1), (0, 2), (1, 2))] for tile in pixels]
    expected = [pixels.mean(axis=2), pixels.std(axis=2), np.cbrt(moment(pixels, 3, axis=2)), together]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1))
    assert found.shape == (3, n_moments(3))


def test_what_two_bands_do_together_is_seen():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(400, 2, 8, 8))
    share = rng.uniform(-0.9, 0.9, size=(400, 1, 1))
    # As bright and as varied whatever the share is.
    plain[:, 1] = share * plain[:, 0] + np.sqrt(1 - share**2) * plain[:, 1]
    channels = torch.from_numpy(plain).float()
    regression = LimitedRidge(n_moments(2))
    regression.fit(band_moments(channels).double().numpy(), share[:, 0, 0])
    told = regression(band_moments(channels)).numpy()
    assert np.corrcoef(told, share[:, 0, 0])[0, 1] > 0.9
