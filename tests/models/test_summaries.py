"""Statistics and histograms of pixels against NumPy's own, and a known answer."""

import numpy as np
import pytest

from sustain.models.features.summaries import QUANTILES, histograms, statistics


def test_statistics_are_numpys_and_leave_out_what_is_missing():
    values = np.random.default_rng(0).normal(size=(3, 4, 50))
    values[np.random.default_rng(1).random(values.shape) < 0.3] = np.nan
    found = statistics(values).reshape(3, 7, 4)
    expected = [np.nanmean(values, 2), np.nanstd(values, 2), *np.nanquantile(values, QUANTILES, axis=2)]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-12)


def test_histograms_share_out_the_valid_pixels_and_keep_the_outer_bins_open():
    shares = histograms(np.array([[[-9.0, -2.99, 0.01, np.nan], [np.nan] * 4]])).reshape(2, 16)
    np.testing.assert_allclose(shares[0, [0, 8]], [2 / 3, 1 / 3])
    assert shares[0].sum() == pytest.approx(1)
    assert (shares[1] == 0).all()
