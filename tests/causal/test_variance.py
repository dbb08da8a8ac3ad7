"""Variances: known answers, agreement with statsmodels, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from sustain.causal.correction.ratio import corrected_effect, corrected_mean
from sustain.causal.vcov.conley import conley_covariance, kernel_covariance
from sustain.errors import EffectError
from sustain.sphere import EARTH_RADIUS_KM
from sustain.stats.covariance import cluster_covariance, critical_value, p_value, robust_covariance
from sustain.stats.fieller import fieller_set

Z = critical_value(0.95, math.inf)


def _errors(covariance):
    return np.sqrt(np.diag(covariance))


@pytest.fixture(scope="module")
def plane():
    """The regression on which conleyreg, fixest and spreg were compared: coefficients, influence, coordinates."""
    i = np.arange(60)
    lon, lat, x = 7.3 * i % 10, 3.1 * i % 10, np.sin(i)
    y = 1 + 2 * x + np.cos(0.5 * i) + 0.3 * np.sin(lat) + 0.02 * lon
    design = np.column_stack([np.ones(60), x])
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ y
    return beta, (design @ inverse) * (y - design @ beta)[:, None], np.column_stack([lon, lat]), design, y


class TestConley:
    def test_known_answers(self, plane):
        beta, psi, points, _, _ = plane
        np.testing.assert_allclose(beta, [1.12332251, 2.04796756], atol=5e-9)
        for kernel, cutoff, expected in [
            ("bartlett", 1.5, [0.12210736, 0.15683203]),
            ("bartlett", 3.0, [0.09277873, 0.10950058]),
            ("uniform", 1.5, [0.14413179, 0.15926919]),
        ]:
            covariance = kernel_covariance(psi, points, cutoff, kernel=kernel)
            np.testing.assert_allclose(_errors(covariance), expected, atol=5e-9)

    def test_uniform_kernel_can_be_negative(self, plane):
        _, psi, points, _, _ = plane
        assert kernel_covariance(psi, points, 3.0, kernel="uniform")[0, 0] < 0

    def test_uniform_kernel_over_everything_is_zero(self, plane):
        _, psi, points, _, _ = plane
        np.testing.assert_allclose(kernel_covariance(psi, points, 1e9, kernel="uniform"), 0, atol=1e-15)

    def test_short_cutoff_is_hc0(self, plane):
        _, psi, points, _, _ = plane
        np.testing.assert_allclose(
            _errors(kernel_covariance(psi, points, 1e-9)), [0.09679, 0.13823142], atol=5e-6
        )
        np.testing.assert_allclose(kernel_covariance(psi, points, 1e-9), robust_covariance(psi), rtol=1e-12)

    def test_block_distances_are_cr0(self, plane):
        _, psi, _, _, _ = plane
        block = np.arange(60) // 7
        covariance = kernel_covariance(psi, 100.0 * block, 1.0, kernel="uniform")
        np.testing.assert_allclose(covariance, cluster_covariance(psi, block), rtol=1e-12)

    def test_sphere_equals_all_pairs(self):
        rng = np.random.default_rng(0)
        lat, lon, psi = rng.uniform(-60, 80, 300), rng.uniform(-180, 180, 300), rng.normal(size=300)
        lat[:20], lon[:20] = lat[20:40], lon[20:40]  # several units at one place
        phi, lam = np.radians(lat), np.radians(lon)
        haversine = (
            np.sin((phi[:, None] - phi) / 2) ** 2
            + np.cos(phi[:, None]) * np.cos(phi) * np.sin((lam[:, None] - lam) / 2) ** 2
        )
        km = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(haversine, 1)))
        for cutoff in (300.0, 3_000.0, 30_000.0):
            expected = psi @ np.clip(1 - km / cutoff, 0, None) @ psi
            np.testing.assert_allclose(conley_covariance(psi, lat, lon, cutoff)[0, 0], expected, rtol=1e-9)

    def test_date_line_is_no_border(self):
        east = conley_covariance([1.0, 1.0], [0, 0], [179.95, -179.95], 50.0)
        inland = conley_covariance([1.0, 1.0], [0, 0], [9.95, 10.05], 50.0)
        np.testing.assert_allclose(east, inland, rtol=1e-9)
        assert east[0, 0] > 2

    def test_blocks_of_pairs_do_not_matter(self, plane, monkeypatch):
        from sustain.causal.vcov import conley

        _, psi, points, _, _ = plane
        whole, pairs = kernel_covariance(psi, points, 3.0), conley._pairs
        monkeypatch.setattr(conley, "_pairs", lambda places, reach: pairs(places, reach, room=7))
        np.testing.assert_allclose(kernel_covariance(psi, points, 3.0), whole, rtol=1e-12)

    @pytest.mark.parametrize(
        ("lat", "lon"), [([91.0, 0], [0, 0]), ([np.nan, 0], [0, 0]), ([0, 0], [400.0, 0])]
    )
    def test_impossible_coordinates(self, lat, lon):
        with pytest.raises(EffectError, match="degrees"):
            conley_covariance([1.0, 1.0], lat, lon, 10.0)

    @pytest.mark.parametrize("cutoff", [0.0, -1.0, math.nan])
    def test_impossible_cutoff(self, cutoff):
        with pytest.raises(EffectError, match="cutoff"):
            kernel_covariance([1.0, 1.0], [[0.0], [1.0]], cutoff)


class TestRegressionPackages:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), n=st.integers(12, 60), groups=st.integers(2, 8))
    def test_hc1_and_crv1_equal_statsmodels(self, seed, n, groups):
        rng = np.random.default_rng(seed)
        design = sm.add_constant(rng.normal(size=(n, 3)))
        y, cluster = rng.normal(size=n), rng.integers(0, groups, n)
        cluster[:2] = 0, 1
        weights = rng.uniform(0.2, 3, n)
        model = sm.WLS(y, design, weights=weights)
        inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
        fit = model.fit(cov_type="HC1")
        psi = (weights[:, None] * design @ inverse) * (y - design @ fit.params)[:, None]
        np.testing.assert_allclose(robust_covariance(psi, 4), fit.cov_params(), rtol=1e-9, atol=1e-13)
        clustered = model.fit(cov_type="cluster", cov_kwds={"groups": cluster})
        np.testing.assert_allclose(
            cluster_covariance(psi, cluster, 4), clustered.cov_params(), rtol=1e-9, atol=1e-13
        )

    def test_two_ways_equal_statsmodels(self):
        rng = np.random.default_rng(0)
        one, other = rng.integers(0, 9, 200), rng.integers(0, 14, 200)
        design = sm.add_constant(rng.normal(size=(200, 2)))
        fit = sm.OLS(rng.normal(size=9)[one] + rng.normal(size=200), design).fit()
        theirs = cov_cluster_2groups(fit, one, other, use_correction=False)[0]
        psi = design @ np.linalg.inv(design.T @ design) * fit.resid[:, None]
        np.testing.assert_allclose(cluster_covariance(psi, (one, other)), theirs, rtol=1e-9, atol=1e-13)
        corrected = cluster_covariance(psi, (one, other), 3)
        np.testing.assert_allclose(corrected, theirs * 9 / 8 * 199 / 197, rtol=1e-9, atol=1e-13)

    def test_a_way_of_clusters_within_the_other_changes_nothing(self):
        rng = np.random.default_rng(1)
        psi, coarse = rng.normal(size=(60, 2)), np.arange(60) // 6
        np.testing.assert_allclose(
            cluster_covariance(psi, (np.arange(60) // 2, coarse), 2), cluster_covariance(psi, coarse, 2)
        )

    def test_single_cluster(self):
        with pytest.raises(EffectError, match="1 cluster"):
            cluster_covariance([1.0, -1.0], np.array([0, 0]), error=EffectError)
        with pytest.raises(EffectError, match="1 cluster"):
            cluster_covariance([1.0, -1.0], (np.array([0, 1]), np.array([0, 0])), error=EffectError)

    def test_codes_that_do_not_occur_are_no_clusters(self):
        psi, codes = np.random.default_rng(2).normal(size=40), np.arange(40) % 5
        assert cluster_covariance(psi, 3 * codes, 2) == pytest.approx(cluster_covariance(psi, codes, 2))

    def test_more_coefficients_than_units(self):
        with pytest.raises(EffectError, match="too few units"):
            robust_covariance([1.0, -1.0], 2, error=EffectError)


class TestCorrectedEffect:
    """The haemoglobin example of R's mecor (external calibration), from its summary numbers."""

    effect, effect_var = 7.76470163, 1.39249697**2
    slope, slope_var = 1.07435684, 0.0638543**2

    def test_delta(self):
        result = corrected_effect(self.effect, self.effect_var, self.slope, self.slope_var)
        assert result.estimate == pytest.approx(7.227302, abs=5e-7)
        assert result.std_error == pytest.approx(1.365448, abs=5e-7)
        assert result.estimate - Z * result.std_error == pytest.approx(4.551098, abs=5e-5)
        assert result.estimate + Z * result.std_error == pytest.approx(9.903506, abs=5e-5)
        assert math.sqrt(result.variance_trial) == pytest.approx(1.296121, abs=5e-7)  # "zero-variance"
        assert result.share_calibration == pytest.approx(1 - 1.296121**2 / 1.365448**2, abs=1e-6)

    def test_fieller(self):
        low, high = fieller_set(self.effect, self.effect_var, self.slope, self.slope_var, Z).hull
        assert (low, high) == (pytest.approx(4.630319, abs=1e-6), pytest.approx(10.023133, abs=1e-6))

    def test_fieller_of_the_internal_design(self):
        """Its slope and standard error follow from the published estimate and standard error, 6.973920 (1.287049)."""
        slope = self.effect / 6.973920
        slope_var = (1.287049**2 * slope**2 - self.effect_var) / 6.973920**2
        low, high = fieller_set(self.effect, self.effect_var, slope, slope_var, Z).hull
        assert (low, high) == (pytest.approx(4.492793, abs=5e-5), pytest.approx(9.557489, abs=5e-5))

    def test_assumed_slope_without_error(self):
        assert corrected_effect(self.effect, self.effect_var, 1.1, 0.0).estimate == pytest.approx(
            7.058819664, abs=1e-9
        )

    def test_rogan_gladen(self):
        """A proportion corrected for sensitivity and specificity (Cole et al. 2023; Delicatessen)."""
        y_star = np.repeat([0.0, 1.0, 0.0, 1.0], [71, 18, 38, 203])
        y = np.repeat([0.0, 0.0, 1.0, 1.0], [71, 18, 38, 203])
        n, trial_mean, trial_n = len(y), 680 / 950, 950
        slope = np.cov(y, y_star, bias=True)[0, 1] / y.var()
        intercept = y_star.mean() - slope * y.mean()
        assert (intercept, slope) == (pytest.approx(0.2022471910), pytest.approx(0.6400764604))
        residual = y_star - intercept - slope * y
        on_slope = (y - y.mean()) * residual / y.var()
        influence = np.column_stack([residual - y.mean() * on_slope, on_slope]) / n
        result = corrected_mean(
            trial_mean, trial_mean * (1 - trial_mean) / trial_n, intercept, slope, influence.T @ influence
        )
        assert result.estimate == pytest.approx(0.80231396, abs=5e-9)
        assert result.std_error == pytest.approx(0.0395155144, abs=5e-10)
        assert result.estimate - Z * 0.03951552 == pytest.approx(0.72486497, abs=2e-8)

    def test_zero_slope(self):
        with pytest.raises(EffectError, match="do not move with the truth"):
            corrected_effect(1.0, 1.0, 0.0, 0.1)

    def test_negative_variance(self):
        with pytest.raises(EffectError, match="negative"):
            corrected_effect(1.0, -1.0, 1.0, 0.1)


class TestFieller:
    @pytest.mark.parametrize(
        ("effect", "slope", "kind"), [(5.0, 5.0, "bounded"), (5.0, 1.0, "exclusive"), (0.5, 0.5, "line")]
    )
    def test_kinds(self, effect, slope, kind):
        result = fieller_set(effect, 1.0, slope, 1.0, 1.96)
        assert result.kind == kind
        assert math.isfinite(result.hull[0]) == (kind == "bounded")
        assert ("unbounded" in str(result)) == (kind != "bounded")

    @settings(deadline=None)
    @given(
        effect=st.floats(-5, 5),
        slope=st.floats(-3, 3).filter(lambda b: abs(b) > 1e-3),
        effect_var=st.floats(0.01, 4),
        slope_var=st.floats(0.001, 4),
        value=st.floats(-20, 20),
    )
    def test_holds_what_the_test_does_not_reject(self, effect, slope, effect_var, slope_var, value):
        distance = (effect - value * slope) ** 2 - 1.96**2 * (effect_var + value**2 * slope_var)
        if abs(distance) > 1e-6:
            assert (value in fieller_set(effect, effect_var, slope, slope_var, 1.96)) == (distance < 0)

    def test_certain_slope_is_the_delta_interval(self):
        low, high = fieller_set(2.0, 0.3, 0.7, 0.0, 1.96).hull
        delta = corrected_effect(2.0, 0.3, 0.7, 0.0)
        assert low == pytest.approx(delta.estimate - 1.96 * delta.std_error)
        assert high == pytest.approx(delta.estimate + 1.96 * delta.std_error)


class TestCriticalValue:
    def test_known(self):
        assert critical_value(0.95, math.inf) == pytest.approx(1.959963985)
        assert critical_value(0.95, 7) == pytest.approx(2.364624252)

    def test_p_value_is_its_inverse(self):
        for df in (3.0, 20.0, math.inf):
            assert p_value(critical_value(0.9, df), df) == pytest.approx(0.1)

    @pytest.mark.parametrize("level", [0, 1, 95, -0.5])
    def test_impossible_level(self, level):
        with pytest.raises(EffectError, match=r"between 0 and 1"):
            critical_value(level, 10, EffectError)
