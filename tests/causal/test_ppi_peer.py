"""Our prediction-powered inference equals that of its authors (ppi_py) on random data, one-sided intervals apart."""

from __future__ import annotations

import math

import numpy as np
import ppi_py
import pytest

from sustain.causal import ppi_mean, ppi_ols

LEVELS = [0.8, 0.95]


def draw(seed: int):
    """Labelled and unlabelled units of one population, in random numbers of each."""
    rng = np.random.default_rng(seed)
    n, n_u, k = int(rng.integers(20, 200)), int(rng.integers(200, 2000)), int(rng.integers(1, 4))
    x = np.column_stack([np.ones(n + n_u), rng.normal(size=(n + n_u, k))])
    truth = x @ rng.normal(size=k + 1) + rng.gamma(1.0, 1.0, size=n + n_u)
    f = rng.uniform(0.1, 1.5) * truth + rng.uniform(0.1, 2) * rng.normal(size=n + n_u) + rng.normal()
    return x[:n], truth[:n], f[:n], x[n:], f[n:]


def tuned_again(point, x, y, f, x_u, f_u) -> float:
    """The tuning formula once more, at the tuned coefficients: what ppi_py's intervals use."""
    n, n_u = len(y), len(f_u)
    inverse = np.linalg.inv((x.T @ x + x_u.T @ x_u) / (n + n_u))
    g, g_f, g_u = ((z * (z @ point - v)[:, None]) for z, v in ((x, y), (x, f), (x_u, f_u)))
    cross = (g - g.mean(0)).T @ (g_f - g_f.mean(0)) / n
    spread = np.cov(np.vstack([g_f, g_u]).T)
    share = np.trace(inverse @ (cross + cross.T) @ inverse) / (2 * np.trace(inverse @ spread @ inverse))
    return float(np.clip(share / (1 + n / n_u), 0, 1))


@pytest.mark.parametrize("seed", range(20))
class TestEqualsPeer:
    @pytest.mark.parametrize("lam", [None, 0.0, 0.4, 1.0])
    def test_mean(self, seed, lam):
        _, y, f, _, f_u = draw(seed)
        ours = ppi_mean(y, f, f_u, lam=lam, clip=True)
        assert ours.estimate == pytest.approx(
            ppi_py.ppi_mean_pointestimate(y, f, f_u, lam=lam).item(), rel=1e-10, abs=1e-12
        )
        for level in LEVELS:
            theirs = ppi_py.ppi_mean_ci(y, f, f_u, alpha=1 - level, lam=lam)
            np.testing.assert_allclose(ours.conf_int(level), np.ravel(theirs), rtol=1e-9)

    @pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
    def test_regression(self, seed, lam):
        x, y, f, x_u, f_u = draw(seed)
        ours = ppi_ols(x, y, f, x_u, f_u, lam=lam)
        theirs = ppi_py.ppi_ols_pointestimate(x, y, f, x_u, f_u, lam=lam)
        np.testing.assert_allclose([r.estimate for r in ours], theirs, rtol=1e-8, atol=1e-10)
        for level in LEVELS:
            low, high = ppi_py.ppi_ols_ci(x, y, f, x_u, f_u, alpha=1 - level, lam=lam)
            np.testing.assert_allclose(
                [r.conf_int(level) for r in ours], np.column_stack([low, high]), rtol=1e-8
            )

    def test_regression_tuned(self, seed):
        x, y, f, x_u, f_u = draw(seed)
        ours = ppi_ols(x, y, f, x_u, f_u, clip=True)
        theirs = ppi_py.ppi_ols_pointestimate(x, y, f, x_u, f_u)
        np.testing.assert_allclose([r.estimate for r in ours], theirs, rtol=1e-8, atol=1e-10)
        lam = tuned_again(np.array([r.estimate for r in ours]), x, y, f, x_u, f_u)
        again = ppi_ols(x, y, f, x_u, f_u, lam=lam)
        low, high = ppi_py.ppi_ols_ci(x, y, f, x_u, f_u, alpha=0.05)
        # Their second interval of the tuned point: same width, at the point that the second tuning gives.
        ours_width = [2 * 1.959963984540054 * r.std_error for r in again]
        np.testing.assert_allclose(ours_width, high - low, rtol=1e-6)

    @pytest.mark.parametrize("side", ["larger", "smaller"])
    def test_one_sided_with_a_given_factor(self, seed, side):
        _, y, f, _, f_u = draw(seed)
        theirs = [np.ravel(end)[0] for end in ppi_py.ppi_mean_ci(y, f, f_u, 0.05, side, lam=0.5)]
        np.testing.assert_allclose(ppi_mean(y, f, f_u, lam=0.5).conf_int(0.95, side), theirs, rtol=1e-9)


def test_one_sided_with_a_tuned_factor_is_one_sided():
    """ppi_py 0.2.3 drops `alternative` when it tunes; ours has the one-sided bound of its own tuned factor.

    That these bounds cover as they say is simulated in test_ppi.py.
    """
    _, y, f, _, f_u = draw(0)
    ours = ppi_mean(y, f, f_u, clip=True)
    low, high = ours.conf_int(0.95, "larger")
    assert high == math.inf
    given = ppi_py.ppi_mean_ci(y, f, f_u, 0.05, "larger", lam=ours.lam[0])
    assert low == pytest.approx(given[0].item())
