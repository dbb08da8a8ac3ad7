"""Doubly robust, difference-in-differences, instruments and CR2: against formulas written out at length."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression
from statsmodels.sandbox.regression.gmm import IV2SLS
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from sustain.causal import estimate_effect
from sustain.causal.estimators.doubly_robust import augmented, doubly_robust, make_folds
from sustain.causal.estimators.least_squares import Adjustment
from sustain.causal.vcov import few_clusters
from sustain.errors import EffectError


def effect_of(data: pd.DataFrame, **arguments):
    return estimate_effect(data, outcome="wealth", treatment="treated", **arguments)


def make_trial(seed: int, n: int, groups: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.uniform(-1, 1, n)
    group = rng.integers(0, groups, n)
    treated = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.8 * x))).astype(int)
    wealth = (
        0.4 * treated * (1 + z)
        + 0.7 * x
        - 0.3 * z
        + 0.3 * rng.normal(size=groups)[group]
        + rng.normal(size=n)
    )
    return pd.DataFrame(
        {"wealth": wealth, "treated": treated, "x": x, "z": z, "group": group, "w": rng.uniform(0.3, 2, n)}
    )


class TestDoublyRobust:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_equals_the_formula(self, weighted):
        data = make_trial(0, 300)
        w = data["w"].to_numpy() if weighted else np.ones(300)
        z, t, y = data[["x", "z"]].to_numpy(), data["treated"].to_numpy(), data["wealth"].to_numpy()
        p, m1, m0 = np.empty((3, 300))
        for rows, rest in make_folds(t.astype(float), 5, 7):
            logit = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
            p[rows] = logit.fit(z[rest], t[rest], sample_weight=w[rest]).predict_proba(z[rows])[:, 1]
            for arm, fitted in ((0, m0), (1, m1)):
                part = rest[t[rest] == arm]
                line = LinearRegression().fit(z[part], y[part], sample_weight=w[part])
                fitted[rows] = line.predict(z[rows])
        one, other = w * t / p, w * (1 - t) / (1 - p)
        regression = np.average(m1 - m0, weights=w)
        left = np.average(y - m1, weights=one), np.average(y - m0, weights=other)
        estimate = regression + left[0] - left[1]
        psi = w / w.sum() * (m1 - m0 - regression)
        psi += one / one.sum() * (y - m1 - left[0]) - other / other.sum() * (y - m0 - left[1])
        error = np.sqrt(np.sum(psi**2) * 300 / 299)
        ours = effect_of(
            data,
            estimator="aipw",
            covariates=["x", "z"],
            weights="w" if weighted else None,
            n_folds=5,
            seed=7,
        )
        assert ours.estimate == pytest.approx(estimate, rel=1e-5)
        assert ours.std_error == pytest.approx(error, rel=1e-4)

    @pytest.mark.parametrize("chance", [0.2, 0.5, 0.9])
    def test_only_ratios_of_weights_within_an_arm_count(self, chance):
        """Any propensity that is the same for all units gives the same estimate: residuals are averaged, not summed."""
        data = make_trial(0, 300)
        t, x, w = (data[name].to_numpy(dtype=float) for name in ("treated", "x", "w"))

        def estimate(p: float) -> float:
            def alike(_, rows):
                return np.full(len(rows), p)

            given = Adjustment(t, x[:, None], ("x",), w)
            return doubly_robust(given, classify=alike).estimate(data["wealth"].to_numpy())

        assert estimate(chance) == pytest.approx(estimate(0.37), rel=1e-12)

    def test_influence_is_the_derivative_by_each_units_weight(self):
        data = make_trial(3, 300)
        t, y, w = (data[name].to_numpy(dtype=float) for name in ("treated", "wealth", "w"))
        base = doubly_robust(Adjustment(t, data[["x"]].to_numpy(), ("x",), w), n_folds=2)
        m1, m0, p = np.random.default_rng(0).uniform(0.1, 0.9, (3, 300))  # nuisances, whatever they are

        def estimate(weights):
            arms = weights * t / p, weights * (1 - t) / (1 - p)
            return augmented(
                base.folds,
                weights / weights.sum(),
                [arm / arm.sum() for arm in arms],
                y,
                lambda fold, arm, _: (m1, m0)[arm][fold.rows],
            )

        derivative = np.empty(300)
        for unit in range(300):
            more, less = w.copy(), w.copy()
            more[unit] *= 1 + 1e-4
            less[unit] *= 1 - 1e-4
            derivative[unit] = (estimate(more)[0] - estimate(less)[0]) / 2e-4
        np.testing.assert_allclose(estimate(w)[1], derivative, rtol=1e-6, atol=1e-10)

    def test_fitting_the_nuisances_adds_little_to_the_influence(self):
        """Everything fitted anew when a unit counts more: nearly the influence that takes the nuisances as given."""
        data = make_trial(3, 4000)
        t, y, w = (data[name].to_numpy(dtype=float) for name in ("treated", "wealth", "w"))

        def found(weights):
            given = Adjustment(t, data[["x", "z"]].to_numpy(), ("x", "z"), weights)
            return doubly_robust(given, n_folds=2, seed=1)

        base, some = found(w), np.arange(0, 4000, 40)
        derivative = np.empty(len(some))
        for place, unit in enumerate(some):
            more = w.copy()
            more[unit] *= 1.01
            derivative[place] = (found(more).estimate(y) - base.estimate(y)) / 0.01
        psi = base.influence(y)[some]
        assert np.corrcoef(derivative, psi)[0, 1] > 0.99
        assert np.sum(derivative**2) == pytest.approx(np.sum(psi**2), rel=0.15)

    def test_covers(self):
        """Confounded treatment with an effect of 0.4 on average: nominal 95%, 200 replications."""
        covered = naive = 0
        for seed in range(200):
            data = make_trial(1000 + seed, 400, groups=400)
            low, high = effect_of(data, estimator="aipw", covariates=["x", "z"], n_folds=2).conf_int()
            covered += low <= 0.4 <= high
            low, high = effect_of(data).conf_int()
            naive += low <= 0.4 <= high
        assert covered / 200 == pytest.approx(0.95, abs=0.05)
        assert naive / 200 < 0.3

    def test_propensities_that_stand_for_too_many_are_said(self):
        data = make_trial(0, 300)
        treated = data["treated"].to_numpy(dtype=float)

        def notes(least: float) -> list[str]:
            one = np.flatnonzero(treated)[0]

            def classify(_, rows):
                return np.where(rows == one, least, treated.mean())

            given = Adjustment(treated, data[["x"]].to_numpy(), ("x",), np.ones(300))
            return [kind for kind, _ in doubly_robust(given, classify=classify).notes]

        assert notes(0.2) == []
        assert notes(0.004) == ["overlap", "overlap"]  # one heavy unit, and its 250 beside 300

    def test_seed_and_folds(self):
        data = make_trial(0, 300)
        one = effect_of(data, estimator="aipw", covariates=["x"], seed=1)
        assert effect_of(data, estimator="aipw", covariates=["x"], seed=1).to_dict() == one.to_dict()
        other = effect_of(data, estimator="aipw", covariates=["x"], seed=2)
        assert other.estimate != one.estimate
        assert abs(other.estimate - one.estimate) < one.std_error

    def test_folds(self):
        treated = (np.arange(103) % 3 == 0).astype(float)
        folds = make_folds(treated, 4, 0)
        assert sorted(np.concatenate([fold.rows for fold in folds])) == list(range(103))
        assert {int(treated[fold.rows].sum()) for fold in folds} <= {8, 9}
        clusters = np.arange(103) // 5
        for fold in make_folds(treated, 4, 0, [clusters]):
            assert sorted((*fold.rows, *fold.rest)) == list(range(103))
            assert not set(clusters[fold.rows]) & set(clusters[fold.rest])

    def test_folds_of_two_kinds_of_clusters(self):
        ways = np.arange(120) % 10, np.arange(120) // 8
        folds = make_folds(np.arange(120) % 2.0, 3, 0, ways)
        assert len(folds) == 9
        assert sorted(np.concatenate([fold.rows for fold in folds])) == list(range(120))
        for fold in folds:
            assert len(fold.rest) > 40
            for clusters in ways:
                assert not set(clusters[fold.rows]) & set(clusters[fold.rest])

    def test_impossible_folds(self):
        data = make_trial(0, 300)
        with pytest.raises(EffectError, match="2 or more"):
            effect_of(data, estimator="aipw", n_folds=1)
        with pytest.raises(EffectError, match="folds of 12 clusters"):
            effect_of(data, estimator="aipw", n_folds=13, vcov={"CRV1": "group"})
        with pytest.raises(EffectError, match="arm of 3 units"):
            effect_of(data.assign(treated=(np.arange(300) < 3).astype(int)), estimator="aipw")


def make_panel(
    seed: int, units: int = 40, periods: int = 5, *, staggered: bool = False, drop: int = 0
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    start = (
        rng.integers(1, periods + 1, units) if staggered else np.where(np.arange(units) % 2, periods - 2, 99)
    )
    unit, time = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
    treated = (time >= start[unit]).astype(int)
    wealth = rng.normal(size=units)[unit] + 0.2 * time + 0.5 * treated + rng.normal(size=len(unit))
    data = pd.DataFrame({"unit": unit, "time": 2000 + time, "treated": treated, "wealth": wealth})
    data["x"], data["w"], data["region"] = (
        rng.normal(size=len(unit)),
        rng.uniform(0.5, 2, len(unit)),
        unit % 9,
    )
    return data.drop(index=rng.choice(len(data), drop, replace=False)).reset_index(drop=True)


PANEL = {"estimator": "did", "unit": "unit", "time": "time"}


class TestDifferenceInDifferences:
    def test_two_periods_are_a_difference_of_differences(self):
        data = make_panel(0, periods=2)
        data["treated"] = ((data["unit"] % 2 == 1) & (data["time"] == 2001)).astype(int)
        wide = data.pivot_table(index="unit", columns="time", values="wealth")
        change = (wide[2001] - wide[2000]).groupby(wide.index % 2).mean()
        ours = effect_of(data, **PANEL)
        assert ours.estimate == pytest.approx(change[1] - change[0], rel=1e-10)
        # Clustered by unit it is the regression of changes on the group, up to the small-sample factor.
        changes = effect_of(
            pd.DataFrame({"wealth": wide[2001] - wide[2000], "treated": wide.index % 2}), vcov="HC1"
        )
        factor = np.sqrt(40 / 39 * 79 / 77) / np.sqrt(40 / 38)
        assert ours.std_error == pytest.approx(changes.std_error * factor, rel=1e-9)
        assert ours.df == 39

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), drop=st.integers(0, 30), weighted=st.booleans())
    def test_equals_regression_on_dummies(self, seed, drop, weighted):
        data = make_panel(seed, staggered=True, drop=drop)
        dummies = pd.get_dummies(data[["unit", "time"]].astype(str), drop_first=True, dtype=float)
        design = sm.add_constant(dummies.assign(x=data["x"], treated=data["treated"]))
        weights = data["w"] if weighted else np.ones(len(data))
        model = sm.WLS(data["wealth"], design, weights=weights)
        arguments = PANEL | {"covariates": ["x"], "weights": "w" if weighted else None}
        ours = effect_of(data, vcov="HC1", **arguments)
        theirs = model.fit(cov_type="HC1", use_t=True)
        assert ours.estimate == pytest.approx(theirs.params["treated"], rel=1e-8)
        assert ours.std_error == pytest.approx(theirs.bse["treated"], rel=1e-8)
        # Clusters that hold whole units: unit effects are not counted as coefficients.
        clustered = model.fit(cov_type="cluster", cov_kwds={"groups": data["region"]})
        n, k, units = len(data), design.shape[1], data["unit"].nunique()
        factor = np.sqrt((n - k) / (n - (k - units + 1)))
        ours = effect_of(data, vcov={"CRV1": "region"}, **arguments)
        assert ours.std_error == pytest.approx(clustered.bse["treated"] * factor, rel=1e-8)

    def test_clusters_across_units_count_unit_effects(self):
        data = make_panel(0)
        data["region"] = np.arange(len(data)) % 7
        dummies = pd.get_dummies(data[["unit", "time"]].astype(str), drop_first=True, dtype=float)
        model = sm.OLS(data["wealth"], sm.add_constant(dummies.assign(treated=data["treated"])))
        clustered = model.fit(cov_type="cluster", cov_kwds={"groups": data["region"]})
        ours = effect_of(data, vcov={"CRV1": "region"}, **PANEL)
        assert ours.std_error == pytest.approx(clustered.bse["treated"], rel=1e-8)

    def test_countries_surveyed_in_different_years(self):
        """Two panels that share no period: the constant of each is its own, and the estimate pools both."""
        data = make_panel(5, units=40, periods=2)
        data["treated"] = ((data["unit"] % 4 == 1) & (data["time"] == 2001)).astype(int)
        data["time"] += 5 * (data["unit"] >= 20)
        dummies = [pd.get_dummies(data[name], dtype=float) for name in ("unit", "time")]
        design = np.column_stack([*dummies, data["treated"]])
        estimate = np.linalg.lstsq(design, data["wealth"], rcond=None)[0][-1]
        ours = effect_of(data, **PANEL)
        assert ours.estimate == pytest.approx(estimate, rel=1e-9)
        # Dummies of units lie within the clusters: four periods and the effect are counted.
        residual = data["wealth"] - design @ np.linalg.lstsq(design, data["wealth"], rcond=None)[0]
        score = (np.linalg.pinv(design)[-1] * residual).groupby(data["unit"]).sum()
        assert ours.std_error == pytest.approx(np.sqrt((score**2).sum() * 40 / 39 * 79 / 75), rel=1e-9)
        alone = [effect_of(part, **PANEL).estimate for _, part in data.groupby(data["unit"] >= 20)]
        assert min(alone) < ours.estimate < max(alone)

    @pytest.mark.parametrize("clusters", ["time", "half"])
    def test_effects_of_periods_within_clusters_are_not_counted(self, clusters):
        data = make_panel(2, staggered=True, drop=20).assign(half=lambda frame: frame["time"] // 2)
        dummies = pd.get_dummies(data[["unit", "time"]].astype(str), drop_first=True, dtype=float)
        design = sm.add_constant(dummies.assign(x=data["x"], treated=data["treated"]))
        fit = sm.OLS(data["wealth"], design).fit(cov_type="cluster", cov_kwds={"groups": data[clusters]})
        n, k = design.shape
        factor = np.sqrt((n - k) / (n - (k - data["time"].nunique() + 1)))
        arguments = {"covariates": ["x"], "vcov": {"CRV1": clusters}}
        did = effect_of(data, **PANEL, **arguments)
        assert did.std_error == pytest.approx(fit.bse["treated"] * factor, rel=1e-8)
        absorbed = effect_of(data, estimator="ols", fixed_effects=["unit", "time"], **arguments)
        assert (did.estimate, did.std_error) == (absorbed.estimate, absorbed.std_error)

    def test_labels_of_one_unit_are_one_label(self):
        data = make_panel(0)
        mixed = data["unit"].astype(object).where(data.index % 3 > 0, data["unit"].astype(float))
        one, other = (effect_of(frame, **PANEL) for frame in (data, data.assign(unit=mixed)))
        assert (other.estimate, other.std_error, other.vcov) == (one.estimate, one.std_error, one.vcov)

    def test_clusters_of_units_by_default(self):
        assert effect_of(make_panel(0), **PANEL).vcov == "CRV1 by unit (40 clusters)"

    def test_negative_weights_are_said(self):
        kinds = [note.kind for note in effect_of(make_panel(1, staggered=True), **PANEL).notes]
        assert "negative_weights" in kinds
        assert "negative_weights" not in [note.kind for note in effect_of(make_panel(1), **PANEL).notes]

    def test_negative_weights_are_said_of_absorbed_effects_too(self):
        effects = {"estimator": "ols", "fixed_effects": [PANEL["unit"], PANEL["time"]]}
        for staggered in (True, False):
            panel = make_panel(1, staggered=staggered)
            notes, others = (effect_of(panel, **design).notes for design in (effects, PANEL))
            said, other = ([str(n) for n in kept if n.kind == "negative_weights"] for kept in (notes, others))
            assert said == other
            assert bool(said) == staggered

    def test_singletons_are_said(self):
        data = make_panel(0)
        data = data[(data["unit"] > 0) | (data["time"] == 2000)]
        assert "1 units occur in one period" in " ".join(effect_of(data, **PANEL).notes)

    def test_bad_panels(self):
        data = make_panel(0)
        with pytest.raises(EffectError, match="never changes within a unit"):
            effect_of(data.assign(treated=data["unit"] % 2), **PANEL)
        with pytest.raises(EffectError, match="units and periods explain it fully"):
            effect_of(data.assign(treated=(data["time"] > 2002).astype(int)), **PANEL)
        with pytest.raises(EffectError, match="unit 3 occurs 2 times in period 2001"):
            effect_of(pd.concat([data, data[(data["unit"] == 3) & (data["time"] == 2001)]]), **PANEL)
        with pytest.raises(EffectError, match="a single period"):
            effect_of(data[data["time"] == 2004], **PANEL)
        with pytest.raises(EffectError, match="needs both columns"):
            effect_of(data, estimator="did", unit="unit")
        with pytest.raises(EffectError, match="no other estimator takes them"):
            effect_of(data, unit="unit", time="time")
        with pytest.raises(EffectError, match="singular design: fixed"):
            effect_of(data.assign(fixed=data["unit"] * 1.0), covariates=["fixed"], **PANEL)


def make_encouragement(seed: int, n: int = 400, strength: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    hidden, x = rng.normal(size=n), rng.normal(size=n)
    nudge, second = rng.integers(0, 2, n), rng.normal(size=n)
    treated = (strength * (2 * nudge - 1) + 0.4 * strength * second + hidden + rng.normal(size=n) > 0).astype(
        int
    )
    wealth = 0.6 * treated + 0.5 * x + hidden + rng.normal(size=n)
    columns = {"wealth": wealth, "treated": treated, "x": x, "nudge": nudge, "second": second}
    return pd.DataFrame(columns | {"w": rng.uniform(0.5, 2, n), "group": rng.integers(0, 20, n)})


class TestInstruments:
    @pytest.mark.parametrize("instrument", ["nudge", ["nudge", "second"]])
    def test_equals_statsmodels(self, instrument):
        data = make_encouragement(0)
        design = sm.add_constant(data[["x", "treated"]]).to_numpy()
        moving = data[[instrument] if isinstance(instrument, str) else instrument].to_numpy()
        instruments = np.column_stack([np.ones(400), data["x"], moving])
        theirs = IV2SLS(data["wealth"].to_numpy(), design, instruments).fit()
        ours = effect_of(data, estimator="iv", covariates=["x"], instrument=instrument)
        assert ours.estimate == pytest.approx(theirs.params[2], rel=1e-10)
        hat = instruments @ np.linalg.lstsq(instruments, design, rcond=None)[0]
        residual = data["wealth"].to_numpy() - design @ theirs.params
        bread = np.linalg.inv(hat.T @ hat)
        sandwich = bread @ (hat * residual[:, None] ** 2).T @ hat @ bread
        assert ours.std_error == pytest.approx(np.sqrt(sandwich[2, 2] * 400 / 397), rel=1e-10)

    def test_wald_ratio(self):
        data = make_encouragement(1)
        means = data.groupby("nudge")[["wealth", "treated"]].mean()
        ratio = (means["wealth"][1] - means["wealth"][0]) / (means["treated"][1] - means["treated"][0])
        assert effect_of(data, estimator="iv", instrument="nudge").estimate == pytest.approx(ratio, rel=1e-10)

    def test_treatment_as_its_own_instrument_is_least_squares(self):
        data = make_encouragement(2).assign(copy=lambda frame: frame["treated"])
        for vcov in ("HC1", {"CRV1": "group"}):
            arguments = {"covariates": ["x"], "weights": "w", "vcov": vcov}
            iv = effect_of(data, estimator="iv", instrument="copy", **arguments)
            ols = effect_of(data, estimator="ols", **arguments)
            assert iv.estimate == pytest.approx(ols.estimate, rel=1e-9)
            assert iv.std_error == pytest.approx(ols.std_error, rel=1e-9)

    def test_first_stage_f_is_the_squared_robust_t(self):
        data = make_encouragement(3)
        t = (
            sm.OLS(data["treated"], sm.add_constant(data[["x", "nudge"]]))
            .fit(cov_type="HC1")
            .tvalues["nudge"]
        )
        result = effect_of(data, estimator="iv", covariates=["x"], instrument="nudge")
        assert f"(robust first-stage F {t**2:.4g})" in result.estimator
        assert "weak_instrument" not in [note.kind for note in result.notes]

    def test_first_stage_f_is_clustered_where_errors_are(self):
        data = make_encouragement(3)
        design = sm.add_constant(data[["x", "nudge"]])
        fit = sm.OLS(data["treated"], design).fit(cov_type="cluster", cov_kwds={"groups": data["group"]})
        arguments = {"covariates": ["x"], "instrument": "nudge", "vcov": {"CRV1": "group"}}
        result = effect_of(data, estimator="iv", **arguments)
        assert f"(clustered first-stage F {fit.tvalues['nudge'] ** 2:.4g})" in result.estimator

    @pytest.mark.parametrize("weights", [None, "w"])
    def test_first_stage_counts_absorbed_effects(self, weights):
        """Matched pairs: half of the rows are spent on them, and F is about half of what it is without counting."""
        data = make_encouragement(6, 300, strength=0.35)
        data["pair"], data["nudge"] = np.arange(300) // 2, np.arange(300) % 2
        arguments = {"estimator": "iv", "instrument": "nudge", "weights": weights}
        absorbed = effect_of(data, fixed_effects="pair", **arguments)
        dummies = pd.get_dummies(data["pair"].astype(str), dtype=float).assign(nudge=data["nudge"])
        model = sm.WLS(data["treated"], dummies, weights=1.0 if weights is None else data["w"])
        f = model.fit(cov_type="HC1").tvalues["nudge"] ** 2
        assert f < 10
        assert f"(robust first-stage F {f:.4g})" in absorbed.estimator
        assert "weak_instrument" in [note.kind for note in absorbed.notes]
        # Pairs within clusters are not counted, as in the second stage.
        clustered = effect_of(data, fixed_effects="pair", vcov={"CRV1": "pair"}, **arguments)
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": data["pair"]})
        f = fit.tvalues["nudge"] ** 2 / ((300 - 151) / (300 - 2))
        assert f"(clustered first-stage F {f:.4g})" in clustered.estimator

    def test_removes_hidden_confounding(self):
        data = make_encouragement(4, 20_000)
        assert effect_of(data, estimator="iv", instrument="nudge").estimate == pytest.approx(0.6, abs=0.15)
        assert effect_of(data).estimate > 1.0

    def test_weak(self):
        result = effect_of(make_encouragement(5, strength=0.02), estimator="iv", instrument="nudge")
        assert "weak_instrument" in [note.kind for note in result.notes]

    def test_bad_instruments(self):
        data = make_encouragement(0)
        with pytest.raises(EffectError, match="needs an instrument"):
            effect_of(data, estimator="iv")
        with pytest.raises(EffectError, match="no other estimator takes one"):
            effect_of(data, instrument="nudge")
        with pytest.raises(EffectError, match="singular design: copy"):
            effect_of(data.assign(copy=data["x"]), estimator="iv", covariates=["x"], instrument="copy")
        with pytest.raises(EffectError, match="no column 'push'"):
            effect_of(data, estimator="iv", instrument="push")
        with pytest.raises(EffectError, match="holds the treatment"):
            effect_of(data, estimator="iv", instrument="treated")


def _dense_cr2(
    design: np.ndarray, weights: np.ndarray, y: np.ndarray, clusters: np.ndarray
) -> tuple[float, float]:
    """CR2 and its degrees of freedom for the last coefficient, with n by n matrices."""
    root = np.sqrt(weights)
    x, y = root[:, None] * design, root * y
    inverse = np.linalg.inv(x.T @ x)
    annihilator = np.eye(len(y)) - x @ inverse @ x.T
    residual = annihilator @ y
    contrast = inverse[-1]
    columns, variance = [], 0.0
    for name in np.unique(clusters):
        rows = clusters == name
        values, vectors = np.linalg.eigh(annihilator[np.ix_(rows, rows)])
        half = np.where(values > 1e-9, 1 / np.sqrt(np.maximum(values, 1e-9)), 0)
        loading = (vectors * half) @ vectors.T @ x[rows] @ contrast
        variance += (loading @ residual[rows]) ** 2
        columns.append(annihilator[:, rows] @ loading)
    gram = np.column_stack(columns).T @ np.column_stack(columns)
    eigenvalues = np.linalg.eigvalsh(gram)
    return variance, eigenvalues.sum() ** 2 / (eigenvalues**2).sum()


class TestFewClusters:
    @settings(max_examples=20, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        n=st.integers(20, 60),
        groups=st.integers(3, 9),
        weighted=st.booleans(),
    )
    def test_equals_dense_matrices(self, seed, n, groups, weighted):
        data = make_trial(seed, n, groups)
        data.loc[:3, "treated"] = [0, 1, 0, 1]
        data.loc[:2, "group"] = [0, 1, 2]
        w = data["w"].to_numpy() if weighted else np.ones(n)
        design = sm.add_constant(data[["x", "z", "treated"]]).to_numpy(dtype=float)
        variance, df = _dense_cr2(design, w, data["wealth"].to_numpy(), data["group"].to_numpy())
        ours = effect_of(
            data,
            estimator="ols",
            covariates=["x", "z"],
            vcov={"CR2": "group"},
            weights="w" if weighted else None,
        )
        assert ours.std_error == pytest.approx(np.sqrt(variance), rel=1e-7)
        assert ours.df == pytest.approx(df, rel=1e-6)

    def test_every_unit_its_own_cluster_is_welch(self):
        """HC2 of a difference in means is s1^2/n1 + s0^2/n0; the df for 3 treated of 30 is 2.5 (Imbens and Kolesar)."""
        rng = np.random.default_rng(0)
        treated = (np.arange(30) < 3).astype(int)
        data = pd.DataFrame({"treated": treated, "wealth": rng.normal(size=30), "unit": np.arange(30)})
        result = effect_of(data, vcov={"CR2": "unit"})
        arms = data.groupby("treated")["wealth"].agg(["var", "size"])
        assert result.std_error**2 == pytest.approx((arms["var"] / arms["size"]).sum(), rel=1e-12)
        assert result.df == pytest.approx(30**2 * 26 * 2 / (9 * 2 + 27**2 * 26), rel=1e-9)
        assert round(result.df, 1) == 2.5
        assert "few_clusters" in [note.kind for note in result.notes]

    def test_covers_where_crv1_does_not(self):
        """Three of twelve clusters treated, strong dependence within."""
        covered = {"CR2": 0, "CRV1": 0}
        for seed in range(300):
            rng = np.random.default_rng(seed)
            group = np.repeat(np.arange(12), 8)
            wealth = rng.normal(size=12)[group] + 0.5 * rng.normal(size=96)
            data = pd.DataFrame({"treated": (group < 3).astype(int), "wealth": wealth, "group": group})
            for kind in covered:
                low, high = effect_of(data, vcov={kind: "group"}).conf_int()
                covered[kind] += low <= 0 <= high
        assert covered["CR2"] / 300 == pytest.approx(0.95, abs=0.04)
        assert covered["CRV1"] / 300 < 0.90

    def test_not_for_other_estimators(self):
        with pytest.raises(EffectError, match="Use 'CRV1'"):
            effect_of(make_trial(0, 100), estimator="ipw", covariates=["x"], vcov={"CR2": "group"})


class TestFewClustersInPanels:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("across", [False, True], ids=["whole units", "across units"])
    def test_equals_dense_matrices_with_every_dummy(self, weighted, across):
        """Effects that are not nested in the clusters come back as columns: periods, or units too."""
        data = make_panel(3, units=18, periods=4, staggered=True)
        if across:
            data["region"] = np.arange(len(data)) % 7
        w = data["w"].to_numpy() if weighted else np.ones(len(data))
        dummies = pd.get_dummies(data[["unit", "time"]].astype(str), drop_first=True, dtype=float)
        design = sm.add_constant(dummies.assign(x=data["x"], treated=data["treated"])).to_numpy(dtype=float)
        variance, df = _dense_cr2(design, w, data["wealth"].to_numpy(), data["region"].to_numpy())
        arguments = {"covariates": ["x"], "weights": "w" if weighted else None, "vcov": {"CR2": "region"}}
        ours = effect_of(data, **PANEL, **arguments)
        assert ours.std_error == pytest.approx(np.sqrt(variance), rel=1e-7)
        assert ours.df == pytest.approx(df, rel=1e-5)
        assert ours.vcov == f"CR2 by region ({7 if across else 9} clusters)"

    def test_too_many_levels_across_clusters(self, monkeypatch):
        monkeypatch.setattr(few_clusters, "MOST_LEVELS", 40)
        data = make_panel(3).assign(region=lambda frame: np.arange(len(frame)) % 7)
        with pytest.raises(EffectError, match="effects of 45 levels that cut across the clusters"):
            effect_of(data, vcov={"CR2": "region"}, **PANEL)

    def test_other_designs(self):
        data = make_trial(0, 300)
        with pytest.raises(EffectError, match="CR2 is for the estimators"):
            effect_of(data, estimator="ipw", covariates=["x"], vcov={"CR2": "group"})


class TestLabels:
    """A label is its text: how a join or a file changed a column's type moves no cluster and no fixed effect."""

    @pytest.mark.parametrize(
        "typed",
        [
            lambda c: c.astype(float),
            lambda c: c.astype("category"),
            lambda c: c.astype("Int64"),
            lambda c: c.astype(str),
            lambda c: c.astype(object).where(c.index % 2 > 0, c.astype(float)),
        ],
        ids=["float", "category", "Int64", "text", "mixed"],
    )
    @pytest.mark.parametrize(
        "arguments",
        [
            {"vcov": {"CRV1": "group"}},
            {"vcov": {"CR2": "group"}},
            {"vcov": {"CRV1": ["group", "wave"]}},
            {"estimator": "ols", "covariates": ["x"], "fixed_effects": ["group", "wave"]},
            {"estimator": "ols", "covariates": ["x"], "fixed_effects": ["group^wave"]},
            {"estimator": "aipw", "covariates": ["x"], "vcov": {"CRV1": "group"}},
        ],
        ids=["CRV1", "CR2", "two ways", "effects", "joint effects", "folds"],
    )
    def test_types_do_not_matter(self, arguments, typed):
        data = make_trial(2, 300).assign(wave=np.arange(300) % 2)
        as_it_is, other = (
            effect_of(frame, **arguments)
            for frame in (data, data.assign(group=typed(data["group"]), wave=typed(data["wave"])))
        )
        assert other.estimate == pytest.approx(as_it_is.estimate, rel=1e-12)
        assert other.std_error == pytest.approx(as_it_is.std_error, rel=1e-12)
        assert other.vcov == as_it_is.vcov

    def test_booleans_are_zero_and_one(self):
        data = make_trial(2, 300).assign(flag=lambda d: d["x"] > 0)
        one, other = (
            effect_of(frame, estimator="ols", fixed_effects="flag", vcov={"CRV1": "group"})
            for frame in (data, data.assign(flag=data["flag"].astype(int)))
        )
        assert (other.estimate, other.std_error) == (one.estimate, one.std_error)


class TestTwoWayClusters:
    def trial(self, **columns) -> pd.DataFrame:
        rng = np.random.default_rng(8)
        data = make_trial(8, 600, 35).assign(
            wave=rng.integers(0, 32, 600), pair=np.arange(600) // 2, **columns
        )
        data["wealth"] += 0.5 * rng.normal(size=32)[data["wave"]]
        data["offer"] = data["treated"] + rng.normal(size=600)
        return data

    @pytest.mark.parametrize("weights", [None, "w"])
    def test_equals_statsmodels(self, weights):
        data = self.trial()
        design = sm.add_constant(data[["x", "treated"]])
        fit = sm.WLS(data["wealth"], design, weights=1.0 if weights is None else data["w"]).fit()
        groups = data["group"].to_numpy(), data["wave"].to_numpy()
        variance = cov_cluster_2groups(fit, *groups, use_correction=False)[0][2, 2]
        arguments = {"covariates": ["x"], "weights": weights, "vcov": {"CRV1": ["group", "wave"]}}
        ours = effect_of(data, estimator="ols", **arguments)
        assert ours.std_error**2 == pytest.approx(variance * 32 / 31 * 599 / 597, rel=1e-9)
        assert ours.df == 31
        assert ours.vcov == "CRV1 by group and wave (35 and 32 clusters)"

    def test_effects_within_either_are_not_counted(self):
        data = self.trial()
        dummies = pd.get_dummies(data["wave"].astype(str), dtype=float)
        fit = sm.OLS(data["wealth"], dummies.assign(x=data["x"], treated=data["treated"])).fit()
        groups = data["group"].to_numpy(), data["wave"].to_numpy()
        variance = cov_cluster_2groups(fit, *groups, use_correction=False)[0][-1, -1]
        ours = effect_of(
            data,
            estimator="ols",
            covariates=["x"],
            fixed_effects="wave",
            vcov={"CRV1": ["group", "wave"]},
        )
        assert ours.std_error**2 == pytest.approx(variance * 32 / 31 * 599 / (600 - 3), rel=1e-9)

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"estimator": "ipw", "covariates": ["x"]},
            {"estimator": "iv", "instrument": "offer", "covariates": ["x"]},
            {"estimator": "did", "unit": "pair", "time": "half"},
        ],
        ids=lambda arguments: arguments.get("estimator", "difference"),
    )
    def test_is_both_less_what_both_count(self, arguments):
        """V_a + V_b - V_ab, each without its own factor G / (G - 1), times that of the fewest."""
        data = self.trial(half=np.arange(600) % 2)
        data["both"] = data["group"].astype(str) + "x" + data["wave"].astype(str)
        group, wave, both = (
            effect_of(data, vcov={"CRV1": name}, **arguments).std_error ** 2 * (1 - 1 / data[name].nunique())
            for name in ("group", "wave", "both")
        )
        ours = effect_of(data, vcov={"CRV1": ("group", "wave")}, **arguments)
        assert ours.std_error**2 == pytest.approx((group + wave - both) * 32 / 31, rel=1e-9)

    def test_doubly_robust_keeps_both_kinds_out_of_a_fold(self):
        data = self.trial()
        arguments = {"estimator": "aipw", "covariates": ["x"], "seed": 3}
        ours = effect_of(data, vcov={"CRV1": ["group", "wave"]}, **arguments)
        assert "5 x 5 folds" in ours.estimator
        one = effect_of(data, vcov={"CRV1": "group"}, **arguments)
        assert abs(ours.estimate - one.estimate) < one.std_error
        assert ours.std_error == pytest.approx(one.std_error, rel=0.6)

    def test_covers(self):
        """Errors and treatment shared by rows and by columns of a table: one way is not enough, nominal 95%."""
        covered = {"two": 0, "one": 0}
        row, column = np.divmod(np.arange(900), 30)
        for seed in range(150):
            rng = np.random.default_rng(seed)
            treated = (rng.normal(size=30)[row] + rng.normal(size=30)[column] > 0).astype(int)
            wealth = rng.normal(size=30)[row] + rng.normal(size=30)[column] + rng.normal(size=900)
            data = pd.DataFrame({"treated": treated, "wealth": wealth, "row": row, "column": column})
            for name, clusters in (("two", ["row", "column"]), ("one", "row")):
                low, high = effect_of(data, vcov={"CRV1": clusters}).conf_int()
                covered[name] += low <= 0 <= high
        assert covered["two"] / 150 == pytest.approx(0.93, abs=0.05)
        assert covered["one"] / 150 < 0.86

    def test_few_of_either_are_said(self):
        data = self.trial(few=np.arange(600) % 6)
        for clusters in (["few", "group"], ["group", "few"]):
            result = effect_of(data, vcov={"CRV1": clusters})
            notes = [str(note) for note in result.notes if note.kind == "few_clusters"]
            assert result.df == 5
            assert any(note.startswith("Only 6 clusters in 'few'") for note in notes)
            assert not any("35 clusters in" in note or "CR2" in note for note in notes)

    def test_a_variance_that_is_not_positive_is_said(self):
        """Squares of two clusters by two, in each of which influences cancel along rows and along columns."""
        square = np.repeat([0, 1, 2], 4)
        data = pd.DataFrame(
            {"a": 2 * square + np.tile([0, 0, 1, 1], 3), "b": 2 * square + np.tile([0, 1, 0, 1], 3)}
        )
        data = data.assign(treated=np.tile([0, 1, 1, 0], 3), wealth=np.array([1.0, 2.0, -3.0])[square])
        with pytest.raises(EffectError, match="clustered by 'a' and 'b' is not positive"):
            effect_of(data, vcov={"CRV1": ["a", "b"]})

    @pytest.mark.parametrize(
        ("vcov", "match"),
        [
            ({"CRV1": ["group", "wave", "pair"]}, "expected one column of clusters, or two"),
            ({"CRV1": []}, "expected one column of clusters, or two"),
            ({"CRV1": {"lat": "x"}}, "expected one column of clusters, or two"),
            ({"CRV1": ["group", "group"]}, "'group' is named twice"),
            ({"CRV1": {"group", "wave"}}, "a set, which has no order"),
            ({"CR2": ["group", "wave"]}, "expected one column of clusters"),
            ({"CRV1": ["group", "single"]}, "'single' holds a single cluster"),
            ({"CRV1": ["group", "nowhere"]}, "no column 'nowhere'"),
        ],
    )
    def test_bad_input(self, vcov, match):
        with pytest.raises(EffectError, match=match):
            effect_of(self.trial(single="one"), vcov=vcov)

    def test_folds_by_hand_may_be_too_many(self):
        with pytest.raises(EffectError, match="33 folds of 32 clusters"):
            effect_of(*(self.trial(),), estimator="aipw", vcov={"CRV1": ["group", "wave"]}, n_folds=33)
