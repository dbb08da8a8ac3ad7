"""Our prediction-powered inference is that of its authors (ppi_py) on random data, small-sample factors apart.

ppi_py divides variances by n and takes normal quantiles, which is right for many labels. Ours have factors and degrees
of freedom, which are taken off here by brute force, with matrices of all units.
"""

from __future__ import annotations

import math

import numpy as np
import ppi_py
import pytest

from sustain.causal import ppi_mean, ppi_ols

NORMAL = 1.959963984540054


def draw(seed: int):
    """Labelled and unlabelled units of one population, in random numbers of each."""
    rng = np.random.default_rng(seed)
    n, n_u, k = int(rng.integers(20, 200)), int(rng.integers(200, 2000)), int(rng.integers(1, 4))
    x = np.column_stack([np.ones(n + n_u), rng.normal(size=(n + n_u, k))])
    truth = x @ rng.normal(size=k + 1) + rng.gamma(1.0, 1.0, size=n + n_u)
    f = rng.uniform(0.1, 1.5) * truth + rng.uniform(0.1, 2) * rng.normal(size=n + n_u) + rng.normal()
    return x[:n], truth[:n], f[:n], x[n:], f[n:]


def expected(x, loading) -> tuple[float, float]:
    """Factor and degrees of freedom of a part: squared residuals under independent errors of variance one."""
    maker = np.eye(len(x)) - x @ np.linalg.pinv(x)
    spread = loading[:, None] * maker * loading
    return float(loading @ loading / np.trace(spread)), float(np.trace(spread) ** 2 / np.sum(spread**2))


def taken_off(results, x, x_u, *, tuned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Variances of both parts without factors, shape (k, 2), and the degrees of freedom that results should have."""
    n, k = x.shape
    every = x if results[0].lam[0] == 0 else np.vstack([x, x_u])
    inverse = np.linalg.inv(every.T @ every)
    kept = (n - k - 1) / (n - k) if tuned else 1.0
    bare, dfs = [], []
    for place, result in enumerate(results):
        variances = [float(part @ part) for part in np.split(result.influence, [n])]
        parts = [expected(z, z @ inverse[:, place]) for z in (x, x_u)]
        shares = np.array(variances) / sum(variances)
        dfs.append(1 / (shares**2 / [parts[0][1] * kept, parts[1][1]]).sum())
        bare.append([variances[0] / parts[0][0] * kept, variances[1] / parts[1][0]])
        assert result.std_error == pytest.approx(math.sqrt(sum(variances)))
    return np.array(bare), np.array(dfs)


@pytest.mark.parametrize("seed", range(20))
class TestEqualsPeer:
    @pytest.mark.parametrize("lam", [None, 0.0, 0.4, 1.0])
    def test_mean(self, seed, lam):
        _, y, f, _, f_u = draw(seed)
        ours = ppi_mean(y, f, f_u, lam=lam, clip=True)
        assert ours.estimate == pytest.approx(
            ppi_py.ppi_mean_pointestimate(y, f, f_u, lam=lam).item(), rel=1e-10, abs=1e-12
        )
        parts, df = taken_off([ours], np.ones((len(y), 1)), np.ones((len(f_u), 1)), tuned=lam is None)
        low, high = np.ravel(ppi_py.ppi_mean_ci(y, f, f_u, alpha=0.05, lam=lam))
        assert 2 * NORMAL * math.sqrt(parts.sum()) == pytest.approx(high - low, rel=1e-9)
        assert ours.df == pytest.approx(df[0])

    @pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
    def test_regression(self, seed, lam):
        x, y, f, x_u, f_u = draw(seed)
        ours = ppi_ols(x, y, f, x_u, f_u, lam=lam)
        theirs = ppi_py.ppi_ols_pointestimate(x, y, f, x_u, f_u, lam=lam)
        np.testing.assert_allclose([r.estimate for r in ours], theirs, rtol=1e-8, atol=1e-10)
        parts, df = taken_off(ours, x, x_u, tuned=False)
        low, high = ppi_py.ppi_ols_ci(x, y, f, x_u, f_u, alpha=0.05, lam=lam)
        sizes = np.array([len(y), len(f_u)])  # of scores ppi_py divides the squares by n - 1
        errors = np.sqrt(parts @ (sizes / (sizes - 1)))
        np.testing.assert_allclose(2 * NORMAL * errors, high - low, rtol=1e-8)
        np.testing.assert_allclose([r.df for r in ours], df, rtol=1e-8)

    def test_regression_tuned(self, seed):
        x, y, f, x_u, f_u = draw(seed)
        ours = ppi_ols(x, y, f, x_u, f_u, clip=True)
        theirs = ppi_py.ppi_ols_pointestimate(x, y, f, x_u, f_u)
        np.testing.assert_allclose([r.estimate for r in ours], theirs, rtol=1e-8, atol=1e-10)
        _, df = taken_off(ours, x, x_u, tuned=True)
        np.testing.assert_allclose([r.df for r in ours], df, rtol=1e-8)


def test_one_sided_with_a_tuned_factor_is_one_sided():
    """ppi_py 0.2.3 drops `alternative` when it tunes; ours is the end of the two-sided interval that leaves 10% out.

    That these bounds cover as they say is simulated in test_ppi.py.
    """
    _, y, f, _, f_u = draw(0)
    ours = ppi_mean(y, f, f_u, clip=True)
    low, high = ours.conf_int(0.95, "larger")
    assert high == math.inf
    assert low == pytest.approx(ours.conf_int(0.9)[0])
    given = ppi_py.ppi_mean_ci(y, f, f_u, 0.05, "larger", lam=ours.lam[0])
    assert low == pytest.approx(given[0].item(), rel=0.05)
