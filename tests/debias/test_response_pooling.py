"""Populations of a response: drawn towards others as far as they know little of themselves; several factors at once."""

import numpy as np
import pandas as pd
import pytest

from sustain.debias import build_card
from sustain.debias.card.response import model_of, response_part
from sustain.debias.response.pooling import pool
from sustain.debias.response.population import fit_model
from sustain.debias.sample import as_sample
from sustain.debias.table import quantiles_of
from sustain.errors import CalibrationError
from sustain.stats.combinations import combined_label, read_combinations
from sustain.stats.natural_spline import NaturalSpline
from tests.debias.samples import real

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model"}


def _values(population):
    return population.values  # noqa: PD011 - no pandas object


def curve(model, population, truth):
    return NaturalSpline.on(model.knots)((truth - model.centre) / model.scale) @ _values(population)


def slope(model, population):
    low, high = curve(model, population, np.array([-0.5, 0.5]) * model.scale + model.centre)
    return (high - low) / model.scale


def world(sizes, seed=0, level_sd=0.2, slope_sd=0.15, spread=0.3):
    """Predictions, truths, names, and the level and slope of each population."""
    rng = np.random.default_rng(seed)
    level, rise = rng.normal(0, level_sd, len(sizes)), 0.6 + rng.normal(0, slope_sd, len(sizes))
    code = np.repeat(np.arange(len(sizes)), sizes)
    truth = rng.normal(size=code.size)
    predicted = level[code] + rise[code] * truth + spread * rng.normal(size=code.size)
    return predicted, truth, np.array([f"c{k:02d}" for k in code]), level, rise


# Random effects


def test_equal_sampling_variances_have_the_closed_form():
    """With V the same for all, T solves (n - 1) (S^-1 - S^-1 C S^-1) = T^-1; S = T + V, and C is the covariance."""
    rng = np.random.default_rng(0)
    estimates = rng.multivariate_normal([1.0, -2.0], [[0.5, 0.2], [0.2, 0.4]], 40)
    variance = np.array([[0.10, 0.03], [0.03, 0.05]])
    found = pool(estimates, np.tile(variance, (40, 1, 1)))
    total = np.linalg.inv(found.own + variance)
    score = 39 * (total - total @ np.cov(estimates, rowvar=False) @ total)
    np.testing.assert_allclose(score, np.linalg.inv(found.own), rtol=0.03, atol=0.05)
    np.testing.assert_allclose(found.mean, estimates.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.mean_cov, (found.own + variance) / 40, rtol=1e-6)
    gain = found.own @ total
    wanted = estimates.mean(axis=0) + (estimates - estimates.mean(axis=0)) @ gain.T
    np.testing.assert_allclose(found.found, wanted, rtol=1e-6)


def test_one_quantity_is_that_of_a_mixed_model():
    """Rows y_ij = a + u_i + e_ij by statsmodels' restricted likelihood, against their means with the same variance."""
    statsmodels = pytest.importorskip("statsmodels.formula.api")
    rng = np.random.default_rng(1)
    code = np.repeat(np.arange(60), rng.integers(5, 40, 60))
    table = pd.DataFrame({"i": code, "y": rng.normal(0, 0.7, 60)[code] + rng.normal(size=code.size)})
    mixed = statsmodels.mixedlm("y ~ 1", table, groups="i").fit(reml=True)
    means, counts = table.groupby("i").y.mean().to_numpy(), np.bincount(code)
    found = pool(means[:, None], (mixed.scale / counts)[:, None, None])
    assert found.own[0, 0] == pytest.approx(float(mixed.cov_re.iloc[0, 0]), rel=0.04)
    assert found.mean[0] == pytest.approx(float(mixed.fe_params.iloc[0]), abs=1e-3)
    effects = np.array([float(mixed.random_effects[k].iloc[0]) for k in range(60)])
    np.testing.assert_allclose(found.found[:, 0] - found.mean[0], effects, atol=0.02)


def test_two_factors_are_told_apart():
    rng = np.random.default_rng(2)
    first, second = (item.ravel() for item in np.meshgrid(np.arange(60), np.arange(8), indexing="ij"))
    u, v = rng.normal(0, 1.0, 60), rng.normal(0, 2.0, 8)
    truth = u[first] + v[second] + rng.normal(0, 0.5, first.size)
    estimates = truth + rng.normal(0, 0.3, first.size)
    found = pool(estimates[:, None], np.full((first.size, 1, 1), 0.09), [first, second])
    assert found.factors[0][0, 0] == pytest.approx(u.var(ddof=1), rel=0.15)
    assert found.factors[1][0, 0] == pytest.approx(v.var(ddof=1), rel=0.3)  # the prior shows
    assert found.own[0, 0] == pytest.approx(0.25, rel=0.25)
    assert np.mean((found.found[:, 0] - truth) ** 2) < 0.9 * np.mean((estimates - truth) ** 2)


def test_units_of_the_quantities():
    rng = np.random.default_rng(3)
    estimates, unit = rng.normal(size=(12, 2)), np.array([1e-3, 50.0])
    variances = np.tile(0.2 * np.eye(2), (12, 1, 1))
    one, other = pool(estimates, variances), pool(estimates * unit, variances * np.outer(unit, unit))
    np.testing.assert_allclose(other.found, one.found * unit, rtol=1e-6)
    np.testing.assert_allclose(other.own, one.own * np.outer(unit, unit), rtol=1e-6)


@pytest.mark.parametrize("n", [12, 30])
def test_predictions_cover_what_they_predict(n):
    """Nominal 95% of populations' own coordinates, over 60 worlds."""
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = rng.uniform(0.02, 1.0, n)
        truth = rng.normal(0, 0.5, n)
        found = pool((truth + np.sqrt(size) * rng.normal(size=n))[:, None], size[:, None, None])
        inside.append(np.abs(found.found[:, 0] - truth) < 1.96 * np.sqrt(found.cov[:, 0, 0]))
    assert 0.90 < np.mean(inside) < 0.98


# Populations of a response


def test_few_rows_take_from_others_and_many_do_not():
    sizes = [30] * 12 + [1500] * 6
    errors = {"own": [], "pooled": [], "drawn": []}
    for seed in range(4):
        predicted, truth, name, _, rise = world(sizes, seed)
        model = fit_model(as_sample(predicted, truth, strata=name))
        for k in range(12):
            rows = name == f"c{k:02d}"
            errors["own"].append(np.polyfit(truth[rows], predicted[rows], 1)[0] - rise[k])
            errors["pooled"].append(slope(model, model.pooled) - rise[k])
            errors["drawn"].append(slope(model, model.population(f"c{k:02d}")) - rise[k])
        for k in range(12, 18):
            assert slope(model, model.population(f"c{k:02d}")) == pytest.approx(rise[k], abs=0.06)
    size = {key: np.sqrt(np.mean(np.square(values))) for key, values in errors.items()}
    assert size["drawn"] < size["own"] < size["pooled"]


def test_populations_that_are_alike_have_the_pooled_curve():
    predicted, truth, name, _, _ = world([40] * 20, level_sd=0.0, slope_sd=0.0)
    model = fit_model(as_sample(predicted, truth, strata=name))
    found = np.array([slope(model, item) for item in model.populations.values()])
    own = [np.polyfit(truth[name == key], predicted[name == key], 1)[0] for key in model.populations]
    assert np.std(found) < 0.8 * np.std(own)
    assert np.mean(found) == pytest.approx(slope(model, model.pooled), abs=0.02)


@pytest.mark.parametrize("rows", [30, 300])
def test_intervals_of_levels_and_slopes_cover(rows):
    inside = []
    for seed in range(12):
        predicted, truth, name, level, rise = world([rows] * 15, seed)
        model = fit_model(as_sample(predicted, truth, strata=name))
        basis = NaturalSpline.on(model.knots)((np.array([-1.0, 1.0]) - model.centre) / model.scale)
        for k in range(15):
            population = model.population(f"c{k:02d}")
            off = basis @ _values(population) - level[k] - rise[k] * np.array([-1.0, 1.0])
            inside.append(np.abs(off) < 1.96 * np.sqrt(np.diag(basis @ population.cov @ basis.T)))
    assert 0.91 < np.mean(inside) < 0.98


def test_a_population_elsewhere_lies_within_the_spread():
    """Curves of populations that are not in the sample, at two truths, by Student's t with one less than there are."""
    inside = []
    for seed in range(40):
        predicted, truth, name, level, rise = world([200] * 12, seed)
        seen = name != "c00"
        model = fit_model(as_sample(predicted[seen], truth[seen], strata=name[seen]))
        assert model.between.n == 11
        at = np.array([-1.0, 1.0])
        basis = NaturalSpline.on(model.knots)((at - model.centre) / model.scale)
        cov = basis @ (model.pooled.cov + model.between.cov) @ basis.T
        off = basis @ _values(model.pooled) - level[0] - rise[0] * at
        inside.append(np.abs(off) < 2.228 * np.sqrt(np.diag(cov)))
    assert 0.86 < np.mean(inside) <= 1.0


def test_scatter_is_each_populations_own_as_far_as_rows_tell():
    rng = np.random.default_rng(5)
    name = np.repeat(["quiet", "loud", "small", "other"], [800, 800, 30, 800])
    truth = rng.normal(size=name.size)
    scatter = np.select([name == "quiet", name == "loud"], [0.2, 0.6], 0.4)
    model = fit_model(as_sample(0.6 * truth + scatter * rng.normal(size=name.size), truth, strata=name))
    spread = {key: item.spread for key, item in model.populations.items()}
    assert spread["loud"] / spread["quiet"] == pytest.approx(3.0, rel=0.1)
    assert spread["quiet"] < spread["small"] < spread["loud"]


def test_few_rows_have_the_shape_of_all_truths():
    rng = np.random.default_rng(6)
    name = np.repeat(["many", "few"], [2000, 60])
    truth = rng.gamma(2.0, 1.0, name.size) + 3 * (name == "few")
    model = fit_model(as_sample(0.7 * truth + 0.3 * rng.normal(size=name.size), truth, strata=name))
    few = model.population("few")
    median = np.interp(0.5, few.shares, few.quantiles)
    assert median == pytest.approx(np.median(truth[name == "few"]), abs=0.5)
    ends = np.interp([0.1, 0.9], few.shares, few.quantiles) - median
    assert ends[1] > 1.5 * -ends[0]


@pytest.mark.parametrize("unit", [(1e3, -5e3), (1e-4, 0.2)])
def test_units_of_truth_and_predictions(unit):
    scale, offset = unit
    predicted, truth, name, _, _ = world([60] * 8)
    one = fit_model(as_sample(predicted, truth, strata=name)).population("c03")
    other = fit_model(as_sample(predicted * scale + offset, truth * scale + offset, strata=name)).population(
        "c03"
    )
    np.testing.assert_allclose(_values(other), _values(one) * scale + offset, rtol=1e-4, atol=1e-4 * scale)
    np.testing.assert_allclose(other.cov, one.cov * scale**2, rtol=1e-2, atol=1e-5 * scale**2)
    assert other.spread == pytest.approx(one.spread, rel=1e-3)


def test_order_of_rows():
    predicted, truth, name, _, _ = world([60] * 8)
    order = np.random.default_rng(0).permutation(truth.size)
    one = fit_model(as_sample(predicted, truth, strata=name)).population("c03")
    other = fit_model(as_sample(predicted[order], truth[order], strata=name[order])).population("c03")
    np.testing.assert_allclose(_values(other), _values(one), atol=1e-6)


def test_clusters_widen_a_population():
    rng = np.random.default_rng(7)
    predicted, truth, name, _, _ = world([200] * 8, seed=7)
    block = np.arange(truth.size) // 10
    predicted = predicted + rng.normal(0, 0.4, block.max() + 1)[block]
    alone = fit_model(as_sample(predicted, truth, strata=name)).population("c02")
    clustered = fit_model(as_sample(predicted, truth, strata=name, groups=block)).population("c02")
    middle = NaturalSpline.on(np.linspace(-2, 2, alone.cov.shape[0]))(np.zeros(1))[0]
    assert middle @ clustered.cov @ middle > 2 * middle @ alone.cov @ middle


# Several columns of strata


def crossed(seed=0, n=4000, countries=12):
    rng = np.random.default_rng(seed)
    country, town = rng.integers(0, countries, n), rng.integers(0, 2, n)
    rise = 0.6 + rng.normal(0, 0.1, countries)[country] - 0.25 * town
    truth = rng.normal(size=n) + town
    predicted = 0.3 * town + rise * truth + 0.3 * rng.normal(size=n)
    strata = pd.DataFrame({"country": [f"k{code:02d}" for code in country], "town": town == 1})
    return predicted, truth, strata


def test_combinations_are_named_by_their_labels():
    strata = pd.DataFrame({"country": ["kenya", "mali", "kenya"], "urban": [1.0, 0.0, 0.0]})
    found = read_combinations(as_sample_reader(), "strata", strata)
    assert found.names == ("kenya, 0", "kenya, 1", "mali, 0")
    assert [found.names[code] for code in found.codes] == ["kenya, 1", "mali, 0", "kenya, 0"]
    assert found.parts[1] == ("kenya", "1")
    assert combined_label(("kenya", True)) == "kenya, 1"
    one = read_combinations(as_sample_reader(), "strata", ["b", "a", "b"])
    assert one.names == ("a", "b")
    assert one.codes.tolist() == [1, 0, 1]


def as_sample_reader():
    from sustain.debias.sample import read

    return read


def test_columns_come_as_table_mapping_list_or_array():
    predicted, truth, strata = crossed(n=400)
    names = as_sample(predicted, truth, strata=strata).stratum_names
    for other in (dict(strata), [strata["country"], strata["town"]], strata.astype(str).to_numpy()):
        found = as_sample(predicted, truth, strata=other)
        assert [len(part) for part in found.stratum_parts] == [2] * len(names)
    assert as_sample(predicted, truth, strata=dict(strata)).stratum_names == names


def test_two_combinations_of_one_name_are_refused():
    strata = pd.DataFrame({"a": ["x, y", "x"] * 20, "b": ["z", "y, z"] * 20})
    with pytest.raises(CalibrationError, match="would both be named 'x, y, z'"):
        as_sample(np.arange(40.0), np.arange(40.0), strata=strata)


@pytest.mark.parametrize("strata", [[np.zeros(40), np.zeros(39)], {}, np.zeros((39, 2))])
def test_columns_of_another_length_or_none_are_refused(strata):
    with pytest.raises(CalibrationError, match="strata"):
        as_sample(np.arange(40.0), np.arange(40.0), strata=strata)


def test_an_index_of_another_order_is_refused():
    predicted, truth, strata = crossed(n=400)
    with pytest.raises(CalibrationError, match="different indexes"):
        as_sample(pd.Series(predicted), truth, strata=strata.iloc[::-1])


def test_combinations_have_curves_of_their_own_and_first_labels_too():
    predicted, truth, strata = crossed()
    model = fit_model(as_sample(predicted, truth, strata=strata))
    assert len(model.populations) == 12 + 24
    apart = [
        slope(model, model.population((f"k{k:02d}", 0))) - slope(model, model.population((f"k{k:02d}", 1)))
        for k in range(12)
    ]
    assert np.mean(apart) == pytest.approx(0.25, abs=0.04)
    assert model.population(("k03",)) is model.population("k03")
    assert model.population(("k03", True)) is model.population("k03, 1")


def test_an_unknown_combination_is_its_first_labels_with_more_spread():
    predicted, truth, strata = crossed()
    seen = ~((strata["country"] == "k04") & strata["town"])
    model = fit_model(as_sample(predicted[seen], truth[seen.to_numpy()], strata=strata[seen]))
    found, known = model.population(("k04", 1)), model.population("k04")
    np.testing.assert_array_equal(found.values, known.values)
    assert (np.diag(found.cov) > np.diag(known.cov)).all()
    assert found.df <= model.within.n - 1
    with pytest.raises(CalibrationError, match="'k99, 1' is not known"):
        model.population(("k99", 1))


def test_a_rare_combination_takes_from_both_its_factors():
    """Thirty rows of one combination: its slope is drawn towards its country's and its kind's, not the pooled one."""
    errors = {"pooled": [], "drawn": []}
    for seed in range(6):
        predicted, truth, strata = crossed(seed)
        rare = np.flatnonzero((strata["country"] == "k00") & strata["town"])
        kept = np.setdiff1d(np.arange(truth.size), rare[30:])
        full = fit_model(as_sample(predicted, truth, strata=strata))
        model = fit_model(as_sample(predicted[kept], truth[kept], strata=strata.iloc[kept]))
        wanted = slope(full, full.population(("k00", 1)))
        errors["drawn"].append(slope(model, model.population(("k00", 1))) - wanted)
        errors["pooled"].append(slope(model, model.pooled) - wanted)
    assert np.mean(np.abs(errors["drawn"])) < 0.07 < np.mean(np.abs(errors["pooled"]))


def test_strata_of_few_rows_are_left_to_their_first_label():
    predicted, truth, strata = crossed()
    rare = np.flatnonzero((strata["country"] == "k05") & strata["town"])
    kept = np.setdiff1d(np.arange(truth.size), rare[19:])
    model = fit_model(as_sample(predicted[kept], truth[kept], strata=strata.iloc[kept]))
    assert "k05, 1" not in model.populations
    assert model.population(("k05", 1)).n == model.population("k05").n


def test_one_stratum_is_all_rows():
    predicted, truth, _, _, _ = world([100])
    model = fit_model(as_sample(predicted, truth, strata=["here"] * 100))
    assert model.population("here") is model.pooled
    assert model.between is None


def test_a_card_keeps_them():
    predicted, truth, strata = crossed()
    model = fit_model(as_sample(predicted, truth, strata=strata))
    read = model_of(response_part(model))
    assert read.populations.keys() == model.populations.keys()
    for name, item in model.populations.items():
        np.testing.assert_allclose(read.populations[name].values, item.values, rtol=1e-5, atol=1e-5)
    for one, other in ((read.between, model.between), (read.within, model.within)):
        assert one.n == other.n
        np.testing.assert_allclose(one.cov, other.cov, rtol=1e-4, atol=1e-6)


def test_linear_corrects_combinations():
    from sustain.debias import LinearCalibration

    predicted, truth, strata = crossed()
    fitted = LinearCalibration().fit(predicted, truth, strata=strata)
    inside = ((strata["country"] == "k01") & strata["town"]).to_numpy()
    corrected = fitted.transform(predicted[inside], strata="k01, 1", check_support=False)
    assert np.polyfit(truth[inside], corrected, 1)[0] == pytest.approx(1.0, abs=0.1)


# Real tables


def test_a_card_of_countries_and_towns_is_small():
    survey = real("yeh_dhs_incountry.parquet")
    card = build_card(
        survey["p_resnet_18_ms"],
        survey["y_true"],
        strata=survey[["country", "urban"]],
        n_boot=20,
        methods=("linear", "response"),
        **ABOUT,
    )
    model = card.response_model
    assert len(model.populations) == 23 + 46
    assert model.between.n == 23
    assert len(card.response.model_dump_json()) < 90_000


def test_a_hundred_rows_of_a_country_are_nearer_with_others_beside_them():
    """Slopes of half a point in eight countries, from a hundred rows with all other countries, and from these alone."""
    survey = real("yeh_dhs_incountry.parquet")
    truth, predicted = survey["y_true"].to_numpy(), survey["p_resnet_18_msnl_concat"].to_numpy()
    together, alone = [], []
    for country in ("kenya", "nigeria", "rwanda", "angola", "uganda", "zambia", "mali", "cameroon"):
        inside = (survey["country"] == country).to_numpy()
        low, high = quantiles_of(truth[inside], np.ones(inside.sum()), np.array([0.05, 0.95]))
        ends = np.array([low, high])

        def rise(model, population, ends=ends):
            return float(np.diff(curve(model, population, ends))[0])

        whole = fit_model(as_sample(predicted[inside], truth[inside]))
        wanted = rise(whole, whole.pooled)
        for seed in range(3):
            some = np.random.default_rng(seed).choice(np.flatnonzero(inside), 100, replace=False)
            rows = np.concatenate([np.flatnonzero(~inside), some])
            model = fit_model(as_sample(predicted[rows], truth[rows], strata=survey["country"].iloc[rows]))
            together.append(rise(model, model.population(country)) / wanted - 1)
            by_itself = fit_model(as_sample(predicted[some], truth[some]))
            alone.append(rise(by_itself, by_itself.pooled) / wanted - 1)
    assert np.mean(np.square(together)) < np.mean(np.square(alone))
    assert np.abs(np.mean(together)) < 0.05
