"""Tests of the two assumptions: against peers, by properties, in size and power, simulated and on real tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from sustain.causal import assumption_tests
from sustain.debias.diagnosis.curves import Spline, knots_for, same_curve
from sustain.errors import EffectError
from tests.debias.samples import real

ROLES = {"label": "y", "prediction": "f", "treatment": "t"}
NUMBERS = ("gap", "gap_std_error", "slope_gap", "slope_gap_std_error", "p_value", "df", "seen")


def labelled(seed, *, visible, n=3000):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 2, n)
    if visible:
        f = rng.normal(size=n) + 0.8 * t
        y = f + 0.75 * rng.normal(size=n)
    else:
        y = 1.25 * rng.normal(size=n) + 1.2 * t
        f = 0.64 * y + 0.6 * rng.normal(size=n)
    return pd.DataFrame({"t": t, "f": f, "y": y, "g": np.arange(n) // 10})


def bent(seed, n=300, effect=0.5, noise=0.0):
    """Predictions follow a logarithm of a skewed truth, in both arms alike."""
    rng = np.random.default_rng(seed)
    t = rng.permutation(n) % 2
    truth = rng.gamma(1.5, size=n) + effect * t
    f = np.log(0.2 + truth) + 0.3 * rng.normal(size=n)
    return pd.DataFrame({"t": t, "f": f, "y": truth + noise**0.5 * rng.normal(size=n)})


def numbers(found):
    return [[getattr(test, name) for name in NUMBERS] for test in (found.measurement, found.outcome)]


class TestCurve:
    def test_is_the_regression_of_statsmodels(self):
        data = bent(0)
        found = assumption_tests(data, **ROLES).measurement
        y, t = data["y"].to_numpy(), data["t"].to_numpy()
        spline = Spline.of(y, knots_for(300, None))
        x = sm.add_constant(np.column_stack([t, t * (y - y.mean()), spline(y)]))
        fitted = sm.OLS(data["f"].to_numpy(), x).fit(cov_type="HC2", use_t=True)
        assert (found.gap, found.slope_gap) == pytest.approx(tuple(fitted.params[1:3]))
        assert (found.gap_std_error, found.slope_gap_std_error) == pytest.approx(tuple(fitted.bse[1:3]))
        squared = 2 * float(fitted.f_test(np.eye(x.shape[1])[[1, 2]]).fvalue)  # Hotelling's, of df + 1
        assert found.p_value == pytest.approx(
            stats.f.sf(squared * found.df / (2 * found.df + 2), 2, found.df)
        )

    def test_few_values(self):
        """Of a truth of three values the curve is their means."""
        data = bent(0).assign(y=lambda d: np.digitize(d["y"], [0.7, 1.7]))
        found = assumption_tests(data, **ROLES).measurement
        assert found.knots == 3
        assert np.isfinite(found.p_value)


class TestSize:
    def test_a_bent_curve_does_not_refute(self):
        """With a straight line measurement stability would be refuted in most of these."""
        refuted = {"curve": 0, "line": 0}
        for seed in range(200):
            data = bent(seed, effect=1.0)
            refuted["curve"] += assumption_tests(data, **ROLES).measurement.p_value < 0.05
            x = sm.add_constant(data[["t", "y"]].assign(both=data["t"] * data["y"]))
            fitted = sm.OLS(data["f"], x).fit(cov_type="HC1")
            refuted["line"] += float(fitted.f_test(np.eye(4)[[1, 3]]).pvalue) < 0.05
        assert refuted["curve"] <= 18
        assert refuted["line"] > 100

    @pytest.mark.parametrize(("clusters", "rows"), [(6, 20), (10, 20), (40, 10)])
    def test_whole_clusters_treated(self, clusters, rows):
        refuted = 0
        group = np.repeat(np.arange(clusters), rows)
        t = (group % 2).astype(float)
        for seed in range(200):
            rng = np.random.default_rng([seed, clusters])
            y = rng.gamma(1.5, size=t.size) + 0.5 * rng.normal(size=clusters)[group] + 0.5 * t
            f = np.log1p(np.maximum(y, 0)) + 0.2 * rng.normal(size=clusters)[group]
            f += 0.3 * rng.normal(size=t.size)
            found = same_curve(f, y, t, np.empty((t.size, 0)), ("y", "t"), group.astype(np.intp))
            refuted += found.p_value < 0.05
        assert refuted <= 20

    @pytest.mark.parametrize("country", ["togo", "senegal", "nigeria"])
    @pytest.mark.parametrize("through", ["truth", "prediction"])
    def test_donors_of_a_real_table(self, country, through):
        """Arms draw real places at equal truth (or prediction): the assumption holds by construction."""
        rows = real("yeh_dhs_incountry.parquet")
        rows = rows[rows["country"] == country]
        given, response = rows["y_true"].to_numpy(), rows["p_resnet_18_msnl_concat"].to_numpy()
        if through == "prediction":
            given, response = response, given
        order = np.argsort(given)
        given, response = given[order], response[order]
        refuted = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            half = np.sort(rng.permutation(given.size)[: given.size // 2])
            units = rng.choice(np.flatnonzero(given[half] + 0.5 < np.quantile(given, 0.98)), 100)
            t = rng.permutation(100) % 2
            place = np.searchsorted(given[half], given[half][units] + 0.5 * t) + rng.integers(-3, 4, 100)
            place = half[np.clip(place, 0, half.size - 1)]
            code = np.unique(place, return_inverse=True)[1]
            found = same_curve(
                response[place], given[place], t * 1.0, np.empty((100, 0)), (through, "t"), code
            )
            refuted += found.p_value < 0.05
        assert refuted <= 13


class TestPower:
    @pytest.mark.parametrize("visible", [True, False])
    def test_tells_the_assumptions_apart(self, visible):
        found = [assumption_tests(labelled(s, visible=visible, n=1000), **ROLES) for s in range(60)]
        rejected = np.mean([[f.outcome.p_value < 0.05, f.measurement.p_value < 0.05] for f in found], axis=0)
        right, wrong = (0, 1) if visible else (1, 0)
        assert rejected[right] < 0.14
        assert rejected[wrong] == 1.0

    def test_what_is_seen_is_seen_in_four_of_five(self):
        seen = np.mean([assumption_tests(bent(s), **ROLES).measurement.seen for s in range(20)])
        refuted = [
            assumption_tests(bent(s).assign(f=lambda d: d["f"] + seen * d["t"]), **ROLES).measurement.p_value
            < 0.05
            for s in range(200)
        ]
        assert np.mean(refuted) == pytest.approx(0.8, abs=0.09)

    def test_a_slope_of_its_own_is_seen(self):
        flatter = bent(0, n=800).assign(f=lambda d: d["f"] - 0.3 * d["t"] * (d["f"] - d["f"].mean()))
        found = assumption_tests(flatter, **ROLES).measurement
        assert found.p_value < 0.01
        assert found.slope_gap < 0


class TestProperties:
    @pytest.mark.parametrize("noise", [0.0, 0.2])
    @pytest.mark.parametrize("clusters", [None, "g"])
    def test_order_of_rows(self, noise, clusters):
        data = bent(0, noise=0.2).assign(g=np.arange(300) // 3)
        arguments = {"target_noise_var": noise, "clusters": clusters}
        before = numbers(assumption_tests(data, **ROLES, **arguments))
        after = numbers(assumption_tests(data.sample(frac=1, random_state=1), **ROLES, **arguments))
        np.testing.assert_allclose(after, before, rtol=1e-6)

    @pytest.mark.parametrize("noise", [0.0, 0.2])
    @pytest.mark.parametrize(("shift", "scale"), [(1e5, 1e3), (-3.0, 1e-5)])
    def test_units(self, noise, shift, scale):
        data = bent(0, noise=0.2)
        other = data.assign(y=shift + scale * data["y"], f=7 + 3 * data["f"])
        before = assumption_tests(data, **ROLES, target_noise_var=noise)
        after = assumption_tests(other, **ROLES, target_noise_var=noise * scale**2)
        for test, response, given in (("measurement", 3, scale), ("outcome", scale, 3)):
            a, b = getattr(before, test), getattr(after, test)
            assert b.p_value == pytest.approx(a.p_value, rel=1e-5)
            assert b.df == pytest.approx(a.df, rel=1e-5)
            assert b.gap == pytest.approx(a.gap * response, rel=1e-5)
            assert b.slope_gap == pytest.approx(a.slope_gap * response / given, rel=1e-5)
            assert b.seen == pytest.approx(a.seen * response, rel=1e-5)

    def test_a_curve_of_both_arms_changes_nothing(self):
        """A natural cubic of what is given, on the same knots, is taken up by the curve."""
        data = bent(0)
        spline = Spline.of(data["y"].to_numpy(), knots_for(300, None))
        added = data.assign(f=data["f"] + spline(data["y"].to_numpy()) @ np.arange(1.0, 1 + spline.width))
        before, after = (assumption_tests(d, **ROLES).measurement for d in (data, added))
        assert after.gap == pytest.approx(before.gap, rel=1e-6)
        assert after.p_value == pytest.approx(before.p_value, rel=1e-6)

    def test_clusters_and_covariates(self):
        rng = np.random.default_rng(0)
        group = np.repeat(np.arange(30), 20)
        common = rng.normal(size=30)[group]
        data = labelled(0, visible=True, n=600).assign(t=group % 2, g=group)
        data["y"] = data["f"] + common + 0.3 * rng.normal(size=600)
        plain, clustered = (assumption_tests(data, **ROLES, clusters=g) for g in (None, "g"))
        assert clustered.outcome.gap == pytest.approx(plain.outcome.gap, abs=0.05)
        assert clustered.outcome.gap_std_error > 2.5 * plain.outcome.gap_std_error
        held = assumption_tests(data.assign(c=common), **ROLES, covariates=["c"])
        assert held.outcome.gap_std_error < plain.outcome.gap_std_error


class TestNoiseOfLabels:
    def test_does_not_refute_measurement_stability(self):
        """At equal *noisy* truth predictions differ as the truth does between the arms: that is taken off."""
        refuted, gaps = {0.0: 0, 0.4: 0}, []
        for seed in range(30):
            data = bent(seed, effect=1.0, noise=0.4)
            for noise in refuted:
                found = assumption_tests(data, **ROLES, target_noise_var=noise).measurement
                refuted[noise] += found.p_value < 0.05
            gaps.append(found.gap)
        assert refuted[0.0] >= 15
        assert refuted[0.4] <= 4
        assert abs(np.mean(gaps)) < 0.05

    def test_covariates_may_explain_the_truth(self):
        refuted = 0
        for seed in range(8):
            rng = np.random.default_rng(seed)
            survey, t = rng.integers(0, 2, 300), rng.permutation(300) % 2
            y = rng.normal(size=300) + survey + t
            f = 0.6 * y + 0.5 * survey + 0.3 * rng.normal(size=300)
            data = pd.DataFrame({"f": f, "t": t, "y": y + 0.5 * rng.normal(size=300), "survey": survey})
            found = assumption_tests(data, **ROLES, covariates=["survey"], target_noise_var=0.25)
            refuted += found.measurement.p_value < 0.05
        assert refuted <= 2

    def test_little_noise_is_none(self):
        data = bent(3)
        exact, noisy = (assumption_tests(data, **ROLES, target_noise_var=v).measurement for v in (0.0, 1e-4))
        assert noisy.gap == pytest.approx(exact.gap, abs=exact.gap_std_error)
        assert noisy.gap_std_error == pytest.approx(exact.gap_std_error, rel=0.3)

    def test_a_note_says_what_it_would_do(self):
        """The gap that the note names for a reliability of 0.9 is what such labels make."""
        rng = np.random.default_rng(0)
        t = np.arange(4000) % 2
        y = rng.normal(size=4000) + t
        data = pd.DataFrame({"t": t, "f": 0.7 * y + 0.3 * rng.normal(size=4000), "y": y})
        data["y"] += (1 / 9) ** 0.5 * rng.normal(size=4000)
        found = assumption_tests(data, **ROLES)
        (note,) = found.notes
        assert note.kind == "label_noise"
        named = float(str(note).split("gap of about ")[1].split(" ")[0])
        assert named == pytest.approx(found.measurement.gap, abs=2 * found.measurement.gap_std_error)
        assert "one of 0.9" in str(note)
        told = assumption_tests(data.iloc[:400], **ROLES, target_noise_var=1 / 9)
        assert "Reliability of the labels 0.9" in str(told.notes[0])
        alike = data.assign(y=y - t)  # no effect, so that noise makes no gap
        alike["y"] -= alike.groupby("t")["y"].transform("mean")
        assert assumption_tests(alike, **ROLES).notes == ()

    def test_too_much_is_said(self):
        data = bent(0)
        for noise in (50.0, -1.0):
            with pytest.raises(EffectError, match="target_noise_var"):
                assumption_tests(data, **ROLES, target_noise_var=noise)


class TestWords:
    def test_an_exact_curve_decides_nothing(self):
        data = bent(0).assign(f=lambda d: 0.5 * d["y"])
        assert "Nothing can be said" in assumption_tests(data, **ROLES).verdict()

    def test_verdicts(self):
        assert "do not correct" in assumption_tests(labelled(0, visible=True), **ROLES).verdict()
        assert "measurement stability is not: correct" in str(
            assumption_tests(labelled(1, visible=False), **ROLES)
        )
        mixed = labelled(3, visible=False).assign(f=lambda d: d["f"] + 1.5 * d["t"])
        assert "Both assumptions are refuted" in assumption_tests(mixed, **ROLES).verdict()

    def test_few_labels_and_clusters(self):
        data = bent(0, n=24).assign(g=np.arange(24) // 4)
        few = assumption_tests(data, **ROLES)
        assert "few_labels: 24 labels leave a test" in str(few)
        assert "6 clusters with labels" in str(assumption_tests(data, **ROLES, clusters="g"))

    @pytest.mark.parametrize(
        ("changes", "arguments", "match"),
        [
            ({"t": 1}, {}, "both arms need 10"),
            ({"t": 3}, {}, "0 and 1 only"),
            ({"g": 1}, {"clusters": "g"}, "the treated rows lie in a single cluster"),
            ({}, {"clusters": "t"}, "the treated rows lie in a single cluster"),
            ({"f": 1.0}, {}, "singular design: prediction"),
            ({"y": 1.0}, {}, "singular design"),
            ({"y": "a"}, {}, "column 'y': expected numbers"),
            ({"f": np.inf}, {}, "column 'f': 300 of 300 values are NaN or infinite"),
            ({}, {"covariates": ["w"]}, "no column 'w'"),
        ],
    )
    def test_bad_input(self, changes, arguments, match):
        with pytest.raises(EffectError, match=match):
            assumption_tests(bent(0).assign(**changes), **ROLES, **arguments)
