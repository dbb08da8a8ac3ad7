"""Few labels, few clusters: intervals that cover, notes that say so, errors where nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from sustain.causal import (
    assumption_tests,
    combined_effect,
    cross_ppi_effect,
    least_squares,
    ppi_effect,
    ppi_mean,
    ppi_ols,
    predict_then_debias,
)
from sustain.debias import build_card
from sustain.errors import EffectError

ROLES = {"label": "y", "prediction": "f", "treatment": "t"}


def few_labels(seed: int, labels: int, n: int = 200) -> pd.DataFrame:
    """No effect; `labels` of each arm's `n` units have one."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=2 * n)
    f = 0.6 * y + 0.4 * rng.normal(size=2 * n)
    rank = np.arange(2 * n) // 2
    return pd.DataFrame({"y": np.where(rank < labels, y, np.nan), "f": f, "t": np.arange(2 * n) % 2})


def villages(seed: int, with_labels: int, without: int = 0, units: int = 15) -> pd.DataFrame:
    """No effect; whole villages treated, of which `with_labels` an arm hold labels on 30% of their units."""
    rng = np.random.default_rng(seed)
    total = 2 * (with_labels + without)
    village = np.repeat(np.arange(total), units)
    y = 0.7 * rng.normal(size=total)[village] + 0.7 * rng.normal(size=village.size)
    f = 0.6 * y + 0.2 * rng.normal(size=total)[village] + 0.3 * rng.normal(size=village.size)
    has = (village // 2 < with_labels) & (np.arange(village.size) % 3 == 0)
    return pd.DataFrame({"y": np.where(has, y, np.nan), "f": f, "t": village % 2, "village": village})


def coverage(results) -> float:
    intervals = [result.conf_int() for result in results]
    return float(np.mean([low <= 0 <= high for low, high in intervals]))


class TestCoverage:
    """Nominally 0.95; with a normal interval 0.58, 0.73, 0.84, 0.91 for 2, 3, 5, 10 labels an arm."""

    @pytest.mark.parametrize(
        ("labels", "lam", "least"), [(2, 1.0, 0.93), (3, None, 0.95), (5, None, 0.94), (10, None, 0.925)]
    )
    def test_labels(self, labels, lam, least):
        found = coverage(ppi_effect(few_labels(s, labels), **ROLES, lam=lam) for s in range(600))
        assert least <= found

    @pytest.mark.parametrize("without", [0, 10])
    @pytest.mark.parametrize("clusters", [2, 3, 5, 10])
    def test_clusters(self, clusters, without):
        found = coverage(
            ppi_effect(villages(s, clusters, without), **ROLES, clusters="village") for s in range(300)
        )
        assert found >= 0.91

    def test_a_single_treated_pair_of_villages_among_many(self):
        """Two treated villages, twenty controls: one degree of freedom, not twenty-one."""
        results = []
        for seed in range(300):
            data = villages(seed, 20)
            kept = data[(data["t"] == 0) | (data["village"] < 4)]
            results.append(ppi_effect(kept, **ROLES, clusters="village"))
        assert np.median([result.df for result in results]) < 2
        assert coverage(results) >= 0.92

    def test_regression_on_a_rare_arm(self):
        """A dummy with four labels among 60: degrees of freedom are of the four."""
        inside, df = [], []
        for seed in range(300):
            rng = np.random.default_rng(seed)
            n = 400
            t = (np.arange(n) % 15 == 0) * 1.0
            y = rng.normal(size=n)
            f, x = 0.6 * y + 0.4 * rng.normal(size=n), np.column_stack([np.ones(n), t])
            result = ppi_ols(x[:60], y[:60], f[:60], x[60:], f[60:])[1]
            low, high = result.conf_int()
            inside.append(low <= 0 <= high)
            df.append(result.df)
        assert np.mean(inside) >= 0.92
        assert np.median(df) < 5

    def test_predict_then_debias(self):
        inside = []
        for seed in range(60):
            result = predict_then_debias(
                villages(seed, 5),
                least_squares("y", ["t"]),
                predicted={"y": "f"},
                clusters="village",
                n_boot=60,
            )
            low, high = result.conf_int()[1]
            inside.append(low <= 0 <= high)
            assert result.df[1] < 9
        assert np.mean(inside) >= 0.88


class TestByBruteForce:
    """Factors and degrees of freedom with matrices of all units, unequal clusters that both parts share."""

    @pytest.mark.parametrize("lam", [None, 0.7])
    def test_a_mean_with_clusters(self, lam):
        rng = np.random.default_rng(5)
        group = rng.choice(9, 260, p=np.arange(1, 10) / 45)
        y = rng.normal(size=9)[group] + rng.normal(size=260)
        f, has = 0.6 * y + 0.5 * rng.normal(size=260), rng.uniform(size=260) < 0.3
        result = ppi_mean(
            *(y[has], f[has], f[~has]), lam=lam, clusters=group[has], clusters_unlabelled=group[~has]
        )
        used, n = result.lam[0], int(has.sum())
        kept = (n - 2) / (n - 1) if lam is None else 1.0
        scores, spreads, variances = [], [], []
        for rows, values, scale, left in ((has, y - used * f, 1.0, kept), (~has, used * f, used, 1.0)):
            m = int(rows.sum())
            loading = np.full(m, scale / m)
            maker = np.eye(m) - 1 / m
            inside = (group[rows] == np.arange(9)[:, None]) * 1.0
            spread = inside @ (loading[:, None] * maker * loading) @ inside.T
            factor = loading @ loading / np.trace(spread) / left
            score = inside @ (values[rows] - values[rows].mean()) / m * math.sqrt(factor)
            scores.append(score)
            variances.append(score @ score)
            spreads.append(spread / np.trace(spread))
        both = [[np.sum(one * other) for other in spreads] for one in spreads]
        both[0][0] /= kept
        total = np.array(variances)
        assert result.std_error == pytest.approx(np.linalg.norm(scores[0] + scores[1]))
        assert result.df == pytest.approx(total.sum() ** 2 / (total @ both @ total))


class TestNotes:
    def test_few_labels(self):
        result = ppi_effect(few_labels(0, 4), **ROLES)
        assert [note.kind for note in result.notes] == ["few_labels"]
        assert "4 control labels, 4 treated labels" in str(result)
        assert ppi_effect(few_labels(0, 30), **ROLES).notes == ()

    def test_few_clusters(self):
        data = villages(0, 4)
        card = build_card(
            data["f"], data["f"] * 1.2, target={"name": "w", "unit": "u"}, predictor="m", n_boot=30
        )
        for result in (
            ppi_effect(data, **ROLES, clusters="village"),
            cross_ppi_effect(data, label="y", features=["f"], treatment="t", clusters="village", n_folds=4),
            assumption_tests(data, **ROLES, calibration=card, clusters="village").correction,
            combined_effect(data, **ROLES, calibration=card, clusters="village"),
            predict_then_debias(
                data, least_squares("y", ["t"]), predicted={"y": "f"}, clusters="village", n_boot=60
            ),
        ):
            assert result.notes[0].kind == "few_clusters"
            assert "few_clusters: Little is known of how clusters differ" in str(result)


class TestNothingCanBeSaid:
    @pytest.fixture(scope="class")
    def data(self):
        data = villages(0, 10)
        return data.assign(
            arm=np.where(data["t"] == 1, "T", data["village"].astype(str)),
            both=data["t"],
            narrow=data["y"].where(data["village"].isin([0, 1])),
        )

    @pytest.fixture(scope="class")
    def calls(self, data):
        card = build_card(
            data["f"], data["f"] * 1.2, target={"name": "w", "unit": "u"}, predictor="m", n_boot=30
        )

        def effect(label, clusters):
            return ppi_effect(data, label=label, prediction="f", treatment="t", clusters=clusters)

        def cross(label, clusters):
            return cross_ppi_effect(
                data, label=label, features=["f"], treatment="t", clusters=clusters, n_folds=2
            )

        def combine(label, clusters):
            return combined_effect(
                data, label=label, prediction="f", treatment="t", calibration=card, clusters=clusters
            )

        def debias(label, clusters):
            return predict_then_debias(
                data, least_squares(label, ["t"]), predicted={label: "f"}, clusters=clusters, n_boot=60
            )

        return {
            "ppi_effect": effect,
            "cross_ppi_effect": cross,
            "combined_effect": combine,
            "predict_then_debias": debias,
        }

    @pytest.mark.parametrize(
        "function",
        ["ppi_effect", "cross_ppi_effect", "combined_effect", "predict_then_debias"],
    )
    @pytest.mark.parametrize(("label", "clusters"), [("y", "arm"), ("y", "both"), ("narrow", "village")])
    def test_an_arm_or_its_labels_in_one_cluster(self, calls, function, label, clusters):
        with pytest.raises(EffectError, match="a single cluster"):
            calls[function](label, clusters)

    def test_a_mean_and_a_regression(self, data):
        has = data["narrow"].notna()
        one = data[data["t"] == 0]
        seen = one["narrow"].notna()
        with pytest.raises(EffectError, match="the labelled units lie in a single cluster"):
            ppi_mean(
                *(one.loc[seen, "narrow"], one.loc[seen, "f"], one.loc[~seen, "f"]),
                clusters=one.loc[seen, "village"],
                clusters_unlabelled=one.loc[~seen, "village"],
            )
        x = sm.add_constant(data[["t"]].astype(float))
        with pytest.raises(EffectError, match="each coefficient is decided by a single cluster"):
            ppi_ols(
                *(x[has], data.loc[has, "narrow"], data.loc[has, "f"], x[~has], data.loc[~has, "f"]),
                clusters=data.loc[has, "village"],
                clusters_unlabelled=data.loc[~has, "village"],
            )

    def test_a_coefficient_that_one_cluster_decides_has_no_error(self, data):
        has = data["y"].notna()
        x = sm.add_constant(data[["t"]].astype(float))
        constant, effect = ppi_ols(
            *(x[has], data.loc[has, "y"], data.loc[has, "f"], x[~has], data.loc[~has, "f"]),
            clusters=data.loc[has, "arm"],
            clusters_unlabelled=data.loc[~has, "arm"],
        )
        assert constant.std_error > 0
        assert math.isnan(effect.std_error)
        assert math.isnan(effect.pvalue())
        assert [note.kind for note in effect.notes] == ["single_cluster"]
        assert "single_cluster: A single cluster decides" in str(effect)

    def test_two_labels_cannot_tune(self):
        data = few_labels(0, 2)
        with pytest.raises(EffectError, match="2 labelled control units cannot tune"):
            ppi_effect(data, **ROLES)
        assert ppi_effect(data, **ROLES, lam=1).df < 3
        with pytest.raises(EffectError, match="cannot tune a factor"):
            x = np.column_stack([np.ones(50), np.arange(50)])
            ppi_ols(x[:3], np.arange(3.0) ** 2, np.arange(3.0), x[3:], np.arange(47.0))


class TestRegressors:
    """Regressors of any scale; scaled ones give the right answer."""

    @pytest.fixture(scope="class")
    def data(self):
        rng = np.random.default_rng(2)
        n = 2300
        year, east = rng.integers(2000, 2021, n).astype(float), rng.uniform(3e5, 3.2e5, n)
        north, gdp = rng.uniform(9.8e6, 9.82e6, n), rng.lognormal(27, 1, n)
        t = rng.integers(0, 2, n)
        y = 1 + 0.5 * t + 0.3 * np.log(gdp) + 0.02 * (year - 2010) ** 2 + rng.normal(size=n)
        data = pd.DataFrame({"truth": y, "f": 0.6 * y + 0.5 * rng.normal(size=n), "t": t, "gdp": gdp})
        return data.assign(
            y=np.where(np.arange(n) < 300, y, np.nan),
            gdp12=gdp / 1e12,
            **{f"year{k}": year**k for k in (1, 2, 3)},
            **{f"c{k}": (year - 2010) ** k for k in (1, 2, 3)},
            east=east,
            north=north,
            product=east * north,
            e=(east - 3.1e5) / 1e4,
            n=(north - 9.81e6) / 1e4,
            en=(east - 3.1e5) * (north - 9.81e6) / 1e8,
        )

    PAIRS = (
        (["gdp"], ["gdp12"]),
        (["year1", "year2", "year3"], ["c1", "c2", "c3"]),
        (["east", "north", "product"], ["e", "n", "en"]),
    )

    @pytest.mark.parametrize(("raw", "scaled"), PAIRS)
    def test_ppi_ols(self, data, raw, scaled):
        has = data["y"].notna()
        found = []
        for names in (raw, scaled):
            x = sm.add_constant(data[["t", *names]].astype(float))
            # A given factor: the tuned one depends on the units of the regressors, in the paper too.
            found.append(
                ppi_ols(x[has], data.loc[has, "y"], data.loc[has, "f"], x[~has], data.loc[~has, "f"], lam=0.8)
            )
        assert found[0][1].estimate == pytest.approx(found[1][1].estimate, rel=1e-7)
        assert found[0][1].std_error == pytest.approx(found[1][1].std_error, rel=1e-7)
        assert found[0][1].df == pytest.approx(found[1][1].df, rel=1e-6)
        alone = ppi_ols(x[has], data.loc[has, "y"], data.loc[has, "f"], x[~has], data.loc[~has, "f"], lam=0)
        fit = sm.OLS(data.loc[has, "y"], x[has]).fit(cov_type="HC0")
        np.testing.assert_allclose([r.estimate for r in alone], fit.params, rtol=1e-8)
        assert alone[1].std_error == pytest.approx(fit.bse["t"], rel=0.03)

    @pytest.mark.parametrize(("raw", "scaled"), PAIRS)
    def test_predict_then_debias(self, data, raw, scaled):
        one, other = (
            predict_then_debias(data, least_squares("y", ["t", *names]), predicted={"y": "f"}, n_boot=50)
            for names in (raw, scaled)
        )
        has = data["y"].notna()
        fit = sm.OLS(data.loc[has, "y"], sm.add_constant(data.loc[has, ["t", *scaled]])).fit()
        assert one.labels_only[1] == pytest.approx(fit.params["t"], rel=1e-7)
        assert one.estimates[1] == pytest.approx(other.estimates[1], rel=1e-6)
        assert one.std_errors[1] == pytest.approx(other.std_errors[1], rel=1e-6)

    @pytest.mark.parametrize("noise", [0.0, 0.3])
    @pytest.mark.parametrize(("raw", "scaled"), PAIRS)
    def test_assumption_tests(self, data, raw, scaled, noise):
        one, other = (
            assumption_tests(
                data,
                label="truth",
                prediction="f",
                treatment="t",
                covariates=names,
                target_noise_var=noise,
            )
            for names in (raw, scaled)
        )
        for test in ("measurement", "outcome"):
            for name in ("gap", "gap_std_error", "slope_gap", "slope_gap_std_error", "p_value"):
                assert getattr(getattr(one, test), name) == pytest.approx(
                    getattr(getattr(other, test), name), rel=1e-5
                )

    def test_dependent_columns_are_named(self, data):
        has = data["y"].notna()
        x = sm.add_constant(data[["t", "gdp"]].astype(float)).assign(again=2 * data["gdp"] + 1)
        with pytest.raises(EffectError, match="singular design: again is constant or a linear combination"):
            ppi_ols(x[has], data.loc[has, "y"], data.loc[has, "f"], x[~has], data.loc[~has, "f"])
        with pytest.raises(EffectError, match="singular design: again"):
            predict_then_debias(
                data.assign(again=x["again"]), least_squares("y", ["gdp", "again"]), predicted={"y": "f"}
            )

    def test_columns_are_matched_by_name(self):
        rng = np.random.default_rng(0)
        kind, y = rng.choice(list("ABC"), 400), rng.normal(size=400)
        f, has = 0.7 * y + 0.3 * rng.normal(size=400), np.arange(400) < 100
        dummies = pd.get_dummies(pd.Series(kind), dtype=float)
        arguments = (dummies[has], y[has], f[has])
        right = ppi_ols(*arguments, dummies[~has], f[~has])
        turned = ppi_ols(*arguments, dummies.loc[~has, ["C", "A", "B"]], f[~has])
        assert [r.estimate for r in turned] == pytest.approx([r.estimate for r in right])
        other = dummies[~has].rename(columns={"A": "D"})
        with pytest.raises(EffectError, match="only x has 'A'; only x_unlabelled has 'D'"):
            ppi_ols(*arguments, other, f[~has])


class TestColumns:
    def test_clusters_of_other_types_are_the_same(self):
        data = villages(1, 12)
        has = data["y"].notna()
        arguments = (data.loc[has, "y"], data.loc[has, "f"], data.loc[~has, "f"])
        x, x_u = np.ones((has.sum(), 1)), np.ones(((~has).sum(), 1))
        kinds = [data["village"].astype(kind) for kind in (int, float, str, object, "category", "Int64")]
        errors = {
            (
                ppi_mean(*arguments, clusters=one[has], clusters_unlabelled=other[~has]).std_error,
                ppi_ols(
                    x, *arguments[:2], x_u, arguments[2], clusters=one[has], clusters_unlabelled=other[~has]
                )[0].std_error,
            )
            for one in kinds
            for other in kinds[:3]
        }
        first, *others = errors
        for other in others:
            assert other == pytest.approx(first)
        mixed = data["village"].astype(object)
        mixed[::2] = mixed[::2].astype(float)
        plain = ppi_effect(data, **ROLES, clusters="village")
        assert ppi_effect(data.assign(g=mixed), **ROLES, clusters="g").std_error == plain.std_error

    @pytest.mark.parametrize(
        "changes",
        [
            {"t": "bool"},
            {"t": "boolean"},
            {"t": "Int64"},
            {"t": "category"},
            {"t": object},
            {"y": "Float64", "f": "Float64"},
            {"y": object, "f": object},
        ],
    )
    def test_types(self, changes):
        data = few_labels(0, 30)
        plain, other = (ppi_effect(table, **ROLES) for table in (data, data.astype(changes)))
        assert (other.estimate, other.std_error, other.df) == (plain.estimate, plain.std_error, plain.df)

    def test_columns_in_another_order(self):
        data = villages(1, 12)
        has = data["y"].notna()
        y, f, f_u = data.loc[has, "y"], data.loc[has, "f"], data.loc[~has, "f"]
        g, g_u = data.loc[has, "village"], data.loc[~has, "village"]
        x, x_u = (sm.add_constant(data.loc[rows, ["t"]]) for rows in (has, ~has))
        for name, changed in (
            ("clusters", {"clusters": g[::-1], "clusters_unlabelled": g_u}),
            ("clusters_unlabelled", {"clusters": g, "clusters_unlabelled": g_u[::-1]}),
        ):
            with pytest.raises(EffectError, match=f"and {name} are pandas objects with different indexes"):
                ppi_mean(y, f, f_u, **changed)
            with pytest.raises(EffectError, match=f"and {name} are pandas objects with different indexes"):
                ppi_ols(x, y, f, x_u, f_u, **changed)
        with pytest.raises(EffectError, match="y_pred are pandas objects"):
            ppi_mean(y, f[::-1], f_u)

    def test_values_that_are_no_numbers(self):
        data = few_labels(0, 30)
        has = data["y"].notna()
        y, f, f_u = data.loc[has, "y"], data.loc[has, "f"], data.loc[~has, "f"]
        with pytest.raises(EffectError, match="lam: got nan"):
            ppi_mean(y, f, f_u, lam=math.nan)
        with pytest.raises(EffectError, match="lam: got 'x'"):
            ppi_effect(data, **ROLES, lam="x")
        assert ppi_mean(y, f, f_u, lam=np.float32(1)).estimate == ppi_mean(y, f, f_u, lam=1).estimate
        with pytest.raises(EffectError, match="column 'z': expected numbers"):
            predict_then_debias(data.assign(z="a"), least_squares("y", ["z"]), predicted={"y": "f"})
        with pytest.raises(EffectError, match=r"column 'w': .* NaN"):
            predict_then_debias(data.assign(w=np.nan), least_squares("y", ["t"], "w"), predicted={"y": "f"})
        with pytest.raises(EffectError, match="x: expected numbers"):
            ppi_ols(np.full((has.sum(), 1), "a"), y, f, np.ones(((~has).sum(), 1)), f_u)
