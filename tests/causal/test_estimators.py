"""Estimators: equal to regression packages, and unmoved by what must not move them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.treatment.treatment_effects import TreatmentEffect

from sustain.causal import estimate_effect
from sustain.causal.estimators import propensity
from sustain.errors import EffectError


def make_trial(seed: int = 0, n: int = 200, groups: int = 15) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.uniform(-1, 1, n)
    treated = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.8 * x))).astype(int)
    treated[:4] = 0, 0, 1, 1
    district = rng.integers(0, groups, n)
    wealth = 0.4 * treated + 0.7 * x - 0.3 * z + rng.normal(size=groups)[district] * 0.2 + rng.normal(size=n)
    return pd.DataFrame(
        {
            "wealth": wealth,
            "treated": treated,
            "x": x,
            "z": z,
            "district": np.char.add("d", district.astype(str)),
            "w": rng.uniform(0.2, 3, n),
            "lat": rng.uniform(4, 14, n),
            "lon": rng.uniform(3, 14, n),
        }
    )


def effect_of(data: pd.DataFrame, **arguments):
    return estimate_effect(data, outcome="wealth", treatment="treated", **arguments)


class TestLeastSquares:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), n=st.integers(12, 120), weighted=st.booleans())
    def test_equals_statsmodels(self, seed, n, weighted):
        data = make_trial(seed, n, groups=5)
        data.loc[[0, 1], "district"] = ["d0", "d1"]
        weights = data["w"] if weighted else np.ones(n)
        design = sm.add_constant(data[["x", "z", "treated"]])
        model = sm.WLS(data["wealth"], design, weights=weights)
        for vcov, kind in (("HC1", {"cov_type": "HC1"}), ({"CRV1": "district"}, None)):
            codes = pd.factorize(data["district"])[0]
            kind = kind or {"cov_type": "cluster", "cov_kwds": {"groups": codes}}
            theirs = model.fit(**kind, use_t=True)
            ours = effect_of(
                data, covariates=["x", "z"], estimator="ols", vcov=vcov, weights="w" if weighted else None
            )
            assert ours.estimate == pytest.approx(theirs.params["treated"], rel=1e-10, abs=1e-12)
            assert ours.std_error == pytest.approx(theirs.bse["treated"], rel=1e-9)
            assert ours.pvalue == pytest.approx(theirs.pvalues["treated"], rel=1e-8)
            np.testing.assert_allclose(
                ours.conf_int(), theirs.conf_int().loc["treated"], rtol=1e-8, atol=1e-10
            )

    def test_difference_in_means_is_regression_on_treatment(self):
        data = make_trial()
        arms = data.groupby("treated")["wealth"].mean()
        difference = effect_of(data)
        assert difference.estimate == pytest.approx(arms[1] - arms[0], rel=1e-12)
        assert difference.std_error == pytest.approx(effect_of(data, estimator="ols").std_error, rel=1e-12)

    def test_large_covariate_scale(self):
        data = make_trial()
        data["income"] = 1e9 + 1e7 * data["x"]
        one = effect_of(data, covariates=["x"], estimator="ols")
        other = effect_of(data, covariates=["income"], estimator="ols")
        assert other.estimate == pytest.approx(one.estimate, rel=1e-9)
        assert other.std_error == pytest.approx(one.std_error, rel=1e-9)

    @pytest.mark.parametrize("kind", ["category", "object", "str"])
    def test_text_becomes_dummies(self, kind):
        data = make_trial(groups=4)
        dummies = pd.get_dummies(data["district"], drop_first=True, dtype=float)
        theirs = sm.OLS(data["wealth"], sm.add_constant(dummies.assign(treated=data["treated"]))).fit()
        data["district"] = data["district"].astype(kind)
        ours = effect_of(data, covariates=["district"], estimator="ols")
        assert ours.estimate == pytest.approx(theirs.params["treated"], rel=1e-10)

    def test_category_that_no_row_has(self):
        data = make_trial(groups=4)
        data["district"] = pd.Categorical(data["district"], categories=["d0", "d1", "d2", "d3", "d99"])
        assert np.isfinite(effect_of(data, covariates=["district"], estimator="ols").estimate)


class TestInversePropensity:
    def test_equals_statsmodels(self):
        data = make_trial(3, 400)
        design = sm.add_constant(data[["x", "z"]])
        propensity = sm.Logit(data["treated"], design).fit(disp=0, tol=1e-12)
        outcome = sm.OLS(data["wealth"], design)
        theirs = TreatmentEffect(outcome, data["treated"].to_numpy(), results_select=propensity).ipw()
        ours = effect_of(data, covariates=["x", "z"], estimator="ipw")
        assert ours.estimate == pytest.approx(theirs.effect[0], rel=1e-8)
        # Theirs is the same sandwich, by GMM, without the small-sample factor.
        assert ours.std_error * np.sqrt((400 - 4) / 400) == pytest.approx(theirs.sd[0], rel=1e-6)

    def test_without_covariates_is_the_difference(self):
        data = make_trial()
        ours, plain = effect_of(data, estimator="ipw", weights="w"), effect_of(data, weights="w")
        assert ours.estimate == pytest.approx(plain.estimate, rel=1e-10)
        assert ours.std_error == pytest.approx(plain.std_error, rel=1e-10)

    def test_separation(self):
        data = make_trial()
        data["decides"] = data["treated"] + 0.1 * data["z"]
        with pytest.raises(EffectError, match="who is treated"):
            effect_of(data, covariates=["decides"], estimator="ipw")

    def test_a_cell_where_all_are_treated(self):
        data = make_trial().assign(rare=lambda d: np.where(np.arange(len(d)) < 6, "rare", "common"))
        data.loc[:5, "treated"] = 1
        with pytest.raises(EffectError, match="who is treated"):
            effect_of(data, covariates=["rare"], estimator="ipw")

    def test_one_heavy_unit_is_said(self):
        data = make_trial()
        data.loc[0, "w"] = 500.0
        assert any(note.kind == "overlap" for note in effect_of(data, estimator="ipw", weights="w").notes)


def make_places(columns: str, n: int = 2000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A trial with confounding by a cubic in time or place: columns as they come, and the same ones standardised."""
    rng = np.random.default_rng(11)
    u, v = rng.uniform(-1, 1, (2, n))
    if columns == "years":
        year = rng.integers(1995, 2020, n)
        u = (year - 2007) / 7
        score, level = 1.2 * u - u**2 + 0.5 * u**3, 2 * u - u**2
        raw = {"u": year.astype(float)}
    else:
        score, level = 1.2 * u - v + u**2, 2 * u - v + 1.5 * u**2
        degrees, metres = (36.825 + 0.075 * u, -1.285 + 0.065 * v), (2.5e5 + 8e3 * u, 9.857e6 + 7e3 * v)
        raw = dict(zip("uv", degrees if columns == "degrees" else metres, strict=True))
    treated = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(int)
    wealth = 0.5 * treated + level + rng.normal(size=n)
    centred = pd.DataFrame({"wealth": wealth, "treated": treated, "u": u, "v": v})
    return centred.assign(**raw), centred


CUBICS = {
    "years": "u + I(u**2) + I(u**3)",
    "degrees": "(u + v)**2 + I(u**2) + I(v**2) + I(u**3) + I(v**3) + I(u**2 * v) + I(u * v**2)",
}
CUBICS["metres"] = CUBICS["degrees"]


class TestColumnsOfAnyScale:
    @pytest.mark.parametrize("estimator", ["ols", "ipw", "aipw"])
    @pytest.mark.parametrize("columns", CUBICS)
    def test_powers_of_what_is_not_centred(self, columns, estimator):
        raw, centred = make_places(columns)
        formula = f"wealth ~ treated + {CUBICS[columns]}"
        ours, same = (estimate_effect(data, formula, estimator=estimator) for data in (raw, centred))
        # A cubic in metres is known to 1e-16 of its size, of which what tells units apart is 1e-10.
        assert ours.estimate == pytest.approx(same.estimate, rel=1e-4)
        assert ours.std_error == pytest.approx(same.std_error, rel=1e-4)

    def test_years_by_statsmodels(self):
        raw, centred = make_places("years")
        u, t, y = (centred[name].to_numpy(dtype=float) for name in ("u", "treated", "wealth"))
        z = np.column_stack([np.ones_like(u), u, u**2, u**3])
        fit = sm.GLM(t, z, family=sm.families.Binomial()).fit(tol=1e-14, maxiter=300)
        one, other = t / fit.fittedvalues, (1 - t) / (1 - fit.fittedvalues)
        estimate = np.average(y, weights=one) - np.average(y, weights=other)
        ours = estimate_effect(raw, f"wealth ~ treated + {CUBICS['years']}", estimator="ipw")
        assert ours.estimate == pytest.approx(estimate, rel=1e-7)
        unadjusted = y[t == 1].mean() - y[t == 0].mean()
        assert abs(estimate - unadjusted) > 10 * ours.std_error

    @pytest.mark.parametrize("estimator", ["ols", "ipw", "aipw"])
    @pytest.mark.parametrize("offset", [1e3, 1e5, 1e7, -1e8])
    def test_an_offset_changes_nothing(self, estimator, offset):
        data = make_trial(4, 400)
        arguments = {"estimator": estimator, "covariates": ["x", "z"], "weights": "w"}
        plain, moved = (effect_of(data.assign(x=data["x"] + by), **arguments) for by in (0, offset))
        assert moved.estimate == pytest.approx(plain.estimate, rel=1e-6)
        assert moved.std_error == pytest.approx(plain.std_error, rel=1e-6)

    def test_a_fit_that_does_not_converge_is_an_error(self, monkeypatch):
        monkeypatch.setattr(propensity, "CONVERGED", 0.0)
        with pytest.raises(EffectError, match="has not converged"):
            effect_of(make_trial(), estimator="ipw", covariates=["x", "z"])


ESTIMATORS = [("difference", ()), ("ols", ("x", "z")), ("ipw", ("x", "z"))]
VCOVS = ["HC1", {"CRV1": "district"}, {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 200}}]


@pytest.mark.parametrize(("estimator", "covariates"), ESTIMATORS)
@pytest.mark.parametrize("vcov", VCOVS, ids=["HC1", "CRV1", "conley"])
class TestInvariants:
    def test_order_of_rows_and_index(self, estimator, covariates, vcov):
        data = make_trial()
        shuffled = data.sample(frac=1, random_state=0)
        shuffled.index = np.zeros(len(data), dtype=int)
        one = effect_of(data, estimator=estimator, covariates=covariates, vcov=vcov)
        other = effect_of(shuffled, estimator=estimator, covariates=covariates, vcov=vcov)
        assert (other.estimate, other.std_error) == (
            pytest.approx(one.estimate, rel=1e-9),
            pytest.approx(one.std_error, rel=1e-9),
        )

    def test_equal_weights_are_no_weights(self, estimator, covariates, vcov):
        data = make_trial()
        plain = effect_of(data, estimator=estimator, covariates=covariates, vcov=vcov)
        for weights in (np.ones(len(data)), np.full(len(data), 7.3)):
            weighted = effect_of(data, estimator=estimator, covariates=covariates, vcov=vcov, weights=weights)
            assert weighted.estimate == pytest.approx(plain.estimate, rel=1e-9)
            assert weighted.std_error == pytest.approx(plain.std_error, rel=1e-9)

    def test_units_of_the_outcome(self, estimator, covariates, vcov):
        data = make_trial()
        plain = effect_of(data, estimator=estimator, covariates=covariates, vcov=vcov)
        moved = effect_of(
            data.assign(wealth=50 - 3 * data["wealth"]), estimator=estimator, covariates=covariates, vcov=vcov
        )
        assert moved.estimate == pytest.approx(-3 * plain.estimate, rel=1e-8)
        assert moved.std_error == pytest.approx(3 * plain.std_error, rel=1e-8)

    def test_zero_weight_is_absence(self, estimator, covariates, vcov):
        data = make_trial()
        weights = np.where(np.arange(len(data)) % 7 == 0, 0.0, 1.0)
        absent = effect_of(data[weights > 0], estimator=estimator, covariates=covariates, vcov=vcov)
        zero = effect_of(data, estimator=estimator, covariates=covariates, vcov=vcov, weights=weights)
        assert zero.estimate == pytest.approx(absent.estimate, rel=1e-12)
        assert zero.std_error == pytest.approx(absent.std_error, rel=1e-12)
        assert zero.n == absent.n


@pytest.mark.parametrize(("estimator", "covariates"), ESTIMATORS)
class TestDuplicates:
    def test_copies_in_one_cluster_change_nothing(self, estimator, covariates):
        data = make_trial()
        data["unit"] = np.arange(len(data))
        arguments = {"estimator": estimator, "covariates": covariates, "vcov": {"CRV1": "unit"}}
        one, two = effect_of(data, **arguments), effect_of(pd.concat([data, data]), **arguments)
        assert two.estimate == pytest.approx(one.estimate, rel=1e-9)
        assert two.std_error == pytest.approx(one.std_error, rel=0.02)  # up to the factor (n-1)/(n-k)

    def test_copies_as_units_halve_the_variance(self, estimator, covariates):
        data = make_trial()
        one = effect_of(data, estimator=estimator, covariates=covariates)
        two = effect_of(pd.concat([data, data]), estimator=estimator, covariates=covariates)
        k = 2 + len(covariates) if estimator != "ipw" else 4
        n = len(data)
        assert two.std_error**2 * (2 * n - k) / (2 * n) == pytest.approx(
            one.std_error**2 * (n - k) / n / 2, rel=1e-9
        )
