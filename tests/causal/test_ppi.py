"""Prediction-powered inference: known answers, one-sided intervals, what it says about a correction; power."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sustain.causal import (
    assumption_tests,
    effective_sample_size,
    minimum_detectable_effect,
    ppi_effect,
    ppi_mean,
    ppi_ols,
)
from sustain.debias import build_card
from sustain.errors import EffectError

HERE, THERE = np.arange(1, 41), np.arange(1, 201)
Y, F = np.sin(HERE) + np.cos(2.7 * HERE), 0.6 * np.sin(HERE) + 0.9 * np.sin(5.1 * HERE)
F_U = 0.6 * np.sin(THERE + 0.3) + 0.9 * np.sin(5.1 * THERE + 0.7)
X, X_U = np.column_stack([np.ones(40), HERE % 2]), np.column_stack([np.ones(200), THERE % 2])


class TestKnownAnswers:
    """Of ppi_py, which our numbers equal but for the small-sample factors."""

    def test_mean(self):
        result = ppi_mean(Y, F, F_U)
        assert result.lam[0] == pytest.approx(0.382010434803, abs=1e-12)
        assert result.estimate == pytest.approx(0.040364104397, abs=1e-12)
        # ppi_py: standard error 0.147874368959, interval -0.249464332999 to 0.330192541793, with variances over n. Here
        # the 40 labels are worth 38 (a mean, a factor), the 200 others 199, and the interval is Student's t.
        rest, others = Y - result.lam[0] * F, result.lam[0] * F_U
        assert math.sqrt(rest.var() / 40 + others.var() / 200) == pytest.approx(0.147874368959, abs=1e-12)
        parts = np.array([np.square(rest - rest.mean()).sum() / 38 / 40, others.var(ddof=1) / 200])
        assert result.std_error == pytest.approx(math.sqrt(parts.sum()), rel=1e-12)
        assert result.df == pytest.approx(parts.sum() ** 2 / (parts**2 / [38, 199]).sum(), rel=1e-12)
        half = stats.t.ppf(0.975, result.df) * result.std_error
        np.testing.assert_allclose(
            result.conf_int(), [result.estimate - half, result.estimate + half], rtol=1e-12
        )

    def test_regression(self):
        results = ppi_ols(X, Y, F, X_U, F_U)
        assert [r.estimate for r in results] == pytest.approx([-0.027284239986, 0.135241452806], abs=1e-11)
        slope = ppi_ols(X, Y, F, X_U, F_U, lam=1.0)[1]
        assert slope.estimate == pytest.approx(0.154613330887, abs=1e-11)

    def test_effect(self):
        data = pd.DataFrame(
            {"y": np.concatenate([Y, np.full(200, np.nan)]), "f": np.concatenate([F, F_U])}
        ).assign(t=np.concatenate([HERE % 2, THERE % 2]))
        result = ppi_effect(data, label="y", prediction="f", treatment="t")
        assert result.estimate == pytest.approx(0.135207819165, abs=1e-12)
        # With variances over n it is 0.294971447756; here the 20 labels of an arm are worth 18.
        plain = factors = 0.0
        for arm, lam in enumerate(result.lam):
            rest, others = (Y - lam * F)[X[:, 1] == arm], lam * F_U[X_U[:, 1] == arm]
            plain += rest.var() / 20 + others.var() / 100
            factors += np.square(rest - rest.mean()).sum() / 18 / 20 + others.var(ddof=1) / 100
        assert math.sqrt(plain) == pytest.approx(0.294971447756, abs=1e-12)
        assert result.std_error == pytest.approx(math.sqrt(factors), rel=1e-12)
        assert (result.n_labelled, result.n_unlabelled) == (40, 200)

    def test_effective_sample_size(self):
        rho = 0.9750932104104678
        assert round(effective_sample_size(418, 5398, rho)) == 3557
        assert round(effective_sample_size(4115, 53100, rho)) == 34998
        assert round(effective_sample_size(3267, 9856, 0.49393859104677634)) == 4000


def make_sample(seed: int, n: int = 60, n_u: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n + n_u)
    f = 0.5 * truth + 0.3 * rng.normal(size=n + n_u) + 0.2
    return truth[:n], f[:n], f[n:]


class TestInvariants:
    def test_lam_zero_is_the_labels_alone(self):
        y, f, f_u = make_sample(0)
        result = ppi_mean(y, f, f_u, lam=0.0)
        assert result.estimate == pytest.approx(y.mean())
        assert result.std_error == pytest.approx(y.std(ddof=1) / math.sqrt(len(y)))
        test = stats.ttest_1samp(y, 0.1)
        assert result.pvalue(0.1) == pytest.approx(test.pvalue)
        np.testing.assert_allclose(result.conf_int(), test.confidence_interval())

    def test_lam_zero_of_an_effect_is_welch(self):
        data = make_labelled_trial(0, visible=False).drop(index=range(20))
        has = data.dropna()
        test = stats.ttest_ind(has["y"][has["t"] == 1], has["y"][has["t"] == 0], equal_var=False)
        result = ppi_effect(data, label="y", prediction="f", treatment="t", lam=0)
        assert result.df == pytest.approx(test.df)
        assert result.pvalue() == pytest.approx(test.pvalue)
        np.testing.assert_allclose(result.conf_int(), test.confidence_interval())

    @settings(deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
    def test_scale_of_the_prediction(self, seed, scale, shift):
        y, f, f_u = make_sample(seed)
        one, other = ppi_mean(y, f, f_u), ppi_mean(y, shift + scale * f, shift + scale * f_u)
        assert other.estimate == pytest.approx(one.estimate, abs=1e-8)
        assert other.std_error == pytest.approx(one.std_error, rel=1e-8)

    @settings(deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_regression_on_a_constant_is_the_mean(self, seed):
        y, f, f_u = make_sample(seed)
        (result,) = ppi_ols(np.ones((60, 1)), y, f, np.ones((400, 1)), f_u)
        assert result.estimate == pytest.approx(ppi_mean(y, f, f_u).estimate, abs=1e-10)
        assert result.lam[0] == pytest.approx(ppi_mean(y, f, f_u).lam[0], rel=1e-9)
        assert result.std_error == pytest.approx(ppi_mean(y, f, f_u).std_error, rel=1e-9)
        assert result.df == pytest.approx(ppi_mean(y, f, f_u).df, rel=1e-9)

    def test_tuned_is_shortest(self):
        y, f, f_u = make_sample(1, n=1000, n_u=9000)
        best = ppi_mean(y, f, f_u)
        for lam in np.linspace(0, 3, 13):
            assert ppi_mean(y, f, f_u, lam=lam).std_error >= 0.99 * best.std_error
        assert best.lam[0] > 1  # shrunken predictions
        assert ppi_mean(y, f, f_u, clip=True).lam == (1.0,)
        assert ppi_mean(y, -f, -f_u, clip=True).lam == (0.0,)

    def test_constant_predictions_weigh_nothing(self):
        y, _, _ = make_sample(0)
        assert ppi_mean(y, np.ones(60), np.ones(400)).lam == (0.0,)

    def test_each_unit_its_own_cluster(self):
        y, f, f_u = make_sample(2)
        plain = ppi_mean(y, f, f_u)
        alone = ppi_mean(y, f, f_u, clusters=np.arange(60), clusters_unlabelled=np.arange(100, 500))
        assert alone.std_error == pytest.approx(plain.std_error)
        assert alone.df == pytest.approx(plain.df)
        with pytest.raises(EffectError, match="or for neither"):
            ppi_mean(y, f, f_u, clusters=np.arange(60))


class TestIntervals:
    def test_one_sided_bounds_cover(self):
        """Nominal 95% lower and upper bounds of a mean of zero; ppi_py 0.2.3 returns the two-sided ones."""
        low = high = 0
        for seed in range(2000):
            result = ppi_mean(*make_sample(seed))
            low += result.conf_int(alternative="larger")[0] <= 0
            high += result.conf_int(alternative="smaller")[1] >= 0
        assert low / 2000 == pytest.approx(0.95, abs=0.02)
        assert high / 2000 == pytest.approx(0.95, abs=0.02)

    def test_sides_are_the_informative_ones(self):
        result = ppi_mean(Y, F, F_U)
        low, high = result.conf_int(0.9)
        assert result.conf_int(0.95, "larger") == (pytest.approx(low), math.inf)
        assert result.conf_int(0.95, "smaller") == (-math.inf, pytest.approx(high))

    @pytest.mark.parametrize("alternative", ["two-sided", "larger", "smaller"])
    def test_pvalue_goes_with_the_interval(self, alternative):
        result = ppi_mean(Y, F, F_U)
        low, high = result.conf_int(0.95, alternative)
        edge = low if math.isfinite(low) else high
        assert result.pvalue(edge, alternative) == pytest.approx(0.05)

    def test_unknown_alternative(self):
        with pytest.raises(EffectError, match="'greater'"):
            ppi_mean(Y, F, F_U).conf_int(alternative="greater")

    def test_clustered_intervals_cover(self):
        covered = plain = 0
        for seed in range(400):
            rng = np.random.default_rng(seed)
            group = np.repeat(np.arange(40), 12)
            truth = rng.normal(size=40)[group] + 0.5 * rng.normal(size=480)
            frame = pd.DataFrame(
                {"t": (group % 2), "f": 0.6 * truth + 0.3 * rng.normal(size=480), "g": group}
            )
            frame["y"] = np.where(rng.uniform(size=480) < 0.3, truth, np.nan)
            arguments = {"label": "y", "prediction": "f", "treatment": "t"}
            low, high = ppi_effect(frame, clusters="g", **arguments).conf_int()
            covered += low <= 0 <= high
            low, high = ppi_effect(frame, **arguments).conf_int()
            plain += low <= 0 <= high
        assert covered / 400 == pytest.approx(0.94, abs=0.035)
        assert plain / 400 < 0.7


def make_labelled_trial(seed: int, *, visible: bool, n: int = 3000) -> pd.DataFrame:
    """A trial with 300 labels, whose contrast the image shows by itself, or only through the truth."""
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, n)
    if visible:
        f = rng.normal(size=n) + 0.8 * treated
        truth = f + 0.75 * rng.normal(size=n)
    else:
        truth = 1.25 * rng.normal(size=n) + 1.2 * treated
        f = 0.64 * truth + 0.6 * rng.normal(size=n)
    label = np.where(np.arange(n) < 300, truth, np.nan)
    return pd.DataFrame({"t": treated, "f": f, "y": label})


@pytest.fixture(scope="module")
def card():
    rng = np.random.default_rng(0)
    f = rng.normal(size=1500)
    about = {"target": {"name": "wealth", "unit": "index"}, "predictor": "m"}
    return build_card(f, f + 0.75 * rng.normal(size=1500), **about, n_boot=60)


class TestStability:
    @pytest.mark.parametrize("method", ["linear", "tweedie"])
    def test_tells_a_visible_contrast_from_a_mediated_one(self, card, method):
        arguments = {"label": "y", "prediction": "f", "treatment": "t", "calibration": card}
        rejected = {
            (visible, chosen): np.mean(
                [
                    assumption_tests(
                        make_labelled_trial(s, visible=visible), method=chosen, **arguments
                    ).correction.pvalue
                    < 0.05
                    for s in range(60)
                ]
            )
            for visible in (False, True)
            for chosen in (method, "none")
        }
        assert rejected[False, method] < 0.17  # the correction holds
        assert rejected[True, "none"] < 0.17  # the map as it is holds
        assert rejected[True, method] > 0.9
        assert rejected[False, "none"] > 0.9

    def test_numbers(self, card):
        data = make_labelled_trial(0, visible=True)
        test = assumption_tests(data, label="y", prediction="f", treatment="t", calibration=card).correction
        assert test.difference == pytest.approx(test.corrected - test.powered)
        assert f"{test.powered:.4g}" in str(test)
        alone = ppi_effect(data, label="y", prediction="f", treatment="t")
        assert f"95% interval {alone.conf_int()[0]:.4g}" in str(alone)
        assert test.powered == ppi_effect(data, label="y", prediction="f", treatment="t").estimate


class TestPower:
    def test_surveyed(self):
        """Two arms of 100: 0.396 standard deviations, the figure of every textbook."""
        assert minimum_detectable_effect(100, 100, 1.0) == pytest.approx(0.396, abs=5e-4)
        assert minimum_detectable_effect(100, 100, 2.0) == pytest.approx(0.792, abs=1e-3)
        clustered = minimum_detectable_effect(100, 100, 1.0, icc=0.5, cluster_size=3)
        assert clustered == pytest.approx(0.396 * math.sqrt(2), abs=1e-3)

    def test_mapped(self):
        rng = np.random.default_rng(0)
        f = rng.normal(size=400)
        card = build_card(
            f, f + 0.75 * rng.normal(size=400), target={"name": "w", "unit": "u"}, predictor="m", n_boot=20
        )
        effect = minimum_detectable_effect(500, 500, 1.25, calibration=card)
        noise = (card.residual_sd / card.slope) ** 2
        variance = (1.25**2 + noise) * (2 / 500) + effect**2 * card.slope_cov[1, 1] / card.slope**2
        assert effect == pytest.approx((1.959964 + 0.841621) * math.sqrt(variance), rel=1e-6)
        assert effect > minimum_detectable_effect(500, 500, 1.25)
        few = build_card(
            f[:25],
            2 * rng.normal(size=25) + 2 * f[:25],
            target={"name": "w", "unit": "u"},
            predictor="m",
            n_boot=20,
        )
        assert minimum_detectable_effect(500, 500, 1.25, calibration=few, level=0.9999999) == math.inf

    def test_clusters_share_the_errors_of_the_map_too(self):
        """Errors of a map go together as wealth does: the effect that is found in 80% of such trials is larger."""
        rng = np.random.default_rng(0)
        truth = rng.normal(size=4000)
        card = build_card(
            0.6 * truth + 0.8 * rng.normal(size=4000),
            truth,
            target={"name": "w", "unit": "u"},
            predictor="m",
            n_boot=20,
        )
        effect = minimum_detectable_effect(250, 250, 1.0, calibration=card, icc=0.3, cluster_size=10)
        cluster = np.repeat(np.arange(50), 10)
        treated = cluster % 2

        def draw():
            common = math.sqrt(0.3) * rng.normal(size=50)[cluster]
            return common + math.sqrt(0.7) * rng.normal(size=500)

        found = 0
        for _ in range(400):
            data = pd.DataFrame({"f": 0.6 * (draw() + effect * treated) + 0.8 * draw()})
            gap = [data["f"][treated == arm].groupby(cluster[treated == arm]).mean() for arm in (1, 0)]
            error = math.sqrt(sum(means.var(ddof=1) / 25 for means in gap))
            found += (gap[0].mean() - gap[1].mean()) / error > 2.0106
        assert found / 400 == pytest.approx(0.8, abs=0.06)

    def test_impossible(self):
        with pytest.raises(EffectError, match="above 0"):
            minimum_detectable_effect(0, 10, 1.0)
        with pytest.raises(EffectError, match="shares between"):
            minimum_detectable_effect(10, 10, 1.0, power=80)
        with pytest.raises(EffectError, match="correlation"):
            effective_sample_size(10, 100, 1.5)


class TestBadInput:
    def test_columns_and_arms(self):
        data = make_labelled_trial(0, visible=False)
        with pytest.raises(EffectError, match="no column 'label'"):
            ppi_effect(data, label="label", prediction="f", treatment="t")
        with pytest.raises(EffectError, match="0 and 1 only"):
            ppi_effect(data.assign(t=data["t"] + 1), label="y", prediction="f", treatment="t")
        with pytest.raises(EffectError, match="use the labels as the outcome"):
            ppi_effect(data.assign(y=1.0), label="y", prediction="f", treatment="t")
        with pytest.raises(EffectError, match="column 'f': 3000 of 3000 values are NaN"):
            ppi_effect(data.assign(f=np.nan), label="y", prediction="f", treatment="t")

    def test_shapes(self):
        with pytest.raises(EffectError, match="y_pred: has 40 values, but y has 39"):
            ppi_mean(Y[:-1], F, F_U)
        with pytest.raises(EffectError, match="x: has 39 rows, but y has 40"):
            ppi_ols(X[:-1], Y, F, X_U, F_U)
        with pytest.raises(EffectError, match="table of shape"):
            ppi_ols(X[:, 0], Y, F, X_U, F_U)
