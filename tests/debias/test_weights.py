"""What weights may and may not change: rows of no weight are absent, and only ratios count."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.debias import (
    ContrastFamily,
    DonorTrials,
    LevelCalibration,
    LinearCalibration,
    TweedieCalibration,
    build_card,
    compare,
    diagnose,
)
from sustain.debias.card.slope_spread import slope_spread
from sustain.debias.sample import as_sample
from sustain.errors import CalibrationError
from sustain.stats.covariance import robust_or_clustered
from sustain.stats.least_squares import least_squares
from tests.debias.samples import pairs

few = settings(max_examples=10, deadline=None)


@few
@given(seed=st.integers(0, 2**32 - 1), clustered=st.booleans())
def test_rows_of_no_weight_and_their_clusters_are_absent(seed, clustered):
    x, y = pairs(240, seed)
    weight = np.where(np.arange(240) % 3 == 0, 0.0, 1.7)
    group = np.arange(240) % 60 if clustered else None  # clusters 0, 3, 6, ... have no weight at all
    kept = weight > 0
    whole = LinearCalibration().fit(x, y, weight, group)
    part = LinearCalibration().fit(x[kept], y[kept], weight[kept], None if group is None else group[kept])
    np.testing.assert_allclose(whole.cov_, part.cov_, rtol=1e-9)
    assert whole.prediction_on_truth_.df == part.prediction_on_truth_.df
    np.testing.assert_allclose(whole.sigma_, part.sigma_, rtol=1e-9)


def test_tweedies_noise_counts_rows_of_weight_only():
    x, y = pairs(300, 1)
    weight = np.append(np.ones(300), np.zeros(300))
    whole = TweedieCalibration().fit(np.append(x, x[::-1]), np.append(y, y), weight)
    assert whole.sigma_ == pytest.approx(TweedieCalibration().fit(x, y).sigma_, rel=1e-12)


def test_one_cluster_of_weight_is_refused():
    x, y = pairs(200, 0)
    group = np.arange(200) % 2
    with pytest.raises(CalibrationError, match="in one group"):
        LinearCalibration().fit(x, y, sample_weight=group, groups=group)


def test_spread_of_slopes_does_not_depend_on_how_weights_differ_between_groups():
    """Each group's variance is that of its own rows: multiplying all its weights by ten changes nothing."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 60)
    truth = rng.normal(size=720)
    predicted = rng.normal(0.6, 0.1, 12)[group] * truth + 0.3 * rng.normal(size=720)
    plain = slope_spread(as_sample(predicted, truth, None, group))
    heavy = slope_spread(as_sample(predicted, truth, np.where(group < 6, 10.0, 1.0), group))
    assert heavy.sd == pytest.approx(plain.sd, rel=1e-9)
    assert heavy.q == pytest.approx(plain.q, rel=1e-9)


def test_spread_of_slopes_leaves_out_groups_of_no_weight():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 30)
    truth = rng.normal(size=240)
    sample = as_sample(0.6 * truth + 0.3 * rng.normal(size=240), truth, group > 0, group)
    assert slope_spread(sample).n == 7


def test_influence_of_noisy_regressors_carries_the_weights():
    """The influence is the derivative with respect to the weight of a row, also where noise is taken off."""
    rng = np.random.default_rng(0)
    n, noise = 200, np.array([0.2, 0.0])
    columns = rng.normal(size=(n, 2))
    y, weight = 0.3 + columns @ [1.0, -0.5] + rng.normal(size=n), rng.uniform(0.2, 3.0, n)
    weight /= weight.mean()

    def fit(w):
        return least_squares(columns, ("a", "b"), y, w / w.mean(), None, noise)[0]

    rows = []
    for row in range(n):
        step = np.zeros(n)
        step[row] = 1e-5 * weight[row]
        rows.append((fit(weight + step) - fit(weight - step)) / 2e-5)
    np.testing.assert_allclose(
        least_squares(columns, ("a", "b"), y, weight, None, noise)[1],
        robust_or_clustered(np.array(rows), None)[0],
        rtol=1e-4,
    )


def test_a_stratum_that_varies_less_than_its_noise_does_not_stop_a_diagnosis():
    rng = np.random.default_rng(0)
    stratum = np.repeat(["flat", "steep"], 200)
    truth = np.where(stratum == "flat", 0.1, 1.0) * rng.normal(size=400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = diagnose(
            0.6 * truth + 0.3 * rng.normal(size=400), truth, strata=stratum, target_noise_var=0.05
        )
    assert list(found.strata) == ["steep"]


@pytest.mark.parametrize("weighted", [False, True])
def test_noise_within_groups_is_taken_off_by_weight(weighted):
    """Two labels a group, one with nine tenths of the weight: their deviations hold much less noise than half of it."""
    slopes = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(2000), 2)
        truth = rng.normal(size=2000)[group] + rng.normal(size=4000)
        predicted = 0.6 * truth + 0.3 * rng.normal(size=4000)
        weight = np.where(np.arange(4000) % 2, 9.0, 1.0) if weighted else None
        labels = truth + rng.normal(scale=0.5**0.5, size=4000)
        found = LevelCalibration().fit(
            predicted, labels, {"region": group}, sample_weight=weight, target_noise_var=0.5
        )
        slopes.append(found.levels_["within region"].slope)
    assert np.mean(slopes) == pytest.approx(0.6, abs=0.02)


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_of_no_weight_are_in_no_level_and_no_contrast(seed):
    rng = np.random.default_rng(seed)
    region, town = np.repeat(np.arange(40), 12), np.arange(480) % 2
    truth = rng.normal(size=40)[region] + 0.8 * town + rng.normal(size=480)
    predicted = 0.7 * truth + 0.3 * rng.normal(size=480)
    kept = rng.uniform(size=480) < 0.7

    def slopes(rows, weight):
        towns = ContrastFamily.treated("town", town[rows], within=region[rows] // 5)
        found = LevelCalibration().fit(
            predicted[rows], truth[rows], {"region": region[rows]}, weight, families=[towns]
        )
        levels = found.levels_.values()
        return [(item.slope, item.std_error, item.df, item.n_units) for item in levels]

    np.testing.assert_allclose(
        slopes(np.arange(480), 2.0 * kept), slopes(np.flatnonzero(kept), np.ones(kept.sum())), rtol=1e-8
    )


@pytest.mark.parametrize("clustered", [False, True])
def test_a_card_knows_nothing_of_rows_without_weight(clustered):
    """Two in three rows have no weight: sizes, strata and the draws' spread are those of the rest."""
    x, y = pairs(900, 3)
    kept = np.arange(900) % 3 == 0
    group = np.arange(900) // 10 * 3 + np.arange(900) % 3 if clustered else None
    stratum = np.where(np.arange(900) % 2, "a", "b")
    about = {"target": {"name": "w", "unit": "u"}, "predictor": "m", "methods": ["linear"], "n_boot": 400}
    whole = build_card(x, y, sample_weight=kept.astype(float), groups=group, strata=stratum, **about)
    part = build_card(
        x[kept], y[kept], groups=None if group is None else group[kept], strata=stratum[kept], **about
    )
    assert whole.sample == part.sample
    assert whole.strata == part.strata
    spread = [np.std(card.draws("linear")(np.array([0.5]))) for card in (whole, part)]
    assert spread[0] == pytest.approx(spread[1], rel=0.12)


def test_a_stratum_that_says_nothing_is_left_out_of_the_card():
    """One of labels that vary less than their noise, one without weight, one with a single cluster of weight."""
    x, y = pairs(400, 5)
    stratum = np.repeat(["noise", "none", "one", "rest"], [60, 60, 60, 220])
    group = np.where(stratum == "one", 99, np.arange(400) % 40)
    y = np.where(stratum == "noise", 0.05 * y, y)
    weight = (stratum != "none").astype(float)
    about = {"target": {"name": "w", "unit": "u"}, "predictor": "m", "methods": ["linear"], "n_boot": 20}
    card = build_card(
        x, y, sample_weight=weight, groups=group, strata=stratum, target_noise_var=0.04, **about
    )
    assert {item.name: item.prediction_on_truth.vcov for item in card.strata} == {
        "one": "HC1",
        "rest": "CRV1",
    }


# ---- rows of no weight are dropped when the sample is made; every part of the result is that of the other rows

ABOUT = {"target": {"name": "w", "unit": "u"}, "predictor": "m", "methods": ["linear"], "n_boot": 40}


def _thinned(seed=0, n=400):
    """Rows, of which the lowest labels but one, and a share of the others, have no weight."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    x = 0.5 * y + 0.3 * rng.normal(size=n)
    weight = (rng.random(n) < 0.75) * rng.uniform(0.5, 2.0, n)
    lowest = np.argsort(y)[:40]
    weight[lowest] = 0.0
    weight[lowest[5]] = 1.0
    return x, y, weight


def test_no_label_is_in_a_card_because_its_neighbours_have_no_weight():
    """Parts of twenty rows that count: one of thirty-nine rows of no weight and one other would print its label."""
    x, y, weight = _thinned()
    kept = weight > 0
    whole = build_card(x, y, sample_weight=weight, **ABOUT)
    part = build_card(x[kept], y[kept], sample_weight=weight[kept], **ABOUT)
    assert whole.to_json() == part.to_json()  # to the last draw
    assert not set(np.round(y, 4)) & set(np.round(whole.noise.truth, 4))
    order = np.argsort(y[kept])
    low = order[: order.size // 10]  # the first tenth of the rows that count
    line = np.polynomial.Polynomial.fit(y[kept][low], x[kept][low], 1, w=np.sqrt(weight[kept][low]))
    left = np.average((x[kept][low] - line(y[kept][low])) ** 2, weights=weight[kept][low])
    assert whole.noise.truth[0] == pytest.approx(
        np.average(y[kept][low], weights=weight[kept][low]), rel=1e-4
    )
    assert whole.noise.sd[0] == pytest.approx(np.sqrt(left * low.size / (low.size - 2)), rel=1e-4)
    assert len(whole.predictions.values) == np.count_nonzero(kept) // 20 - 1


def test_everything_beside_a_sample_loses_its_rows_of_no_weight_too():
    """Groups, strata, levels, places, families and covariates are passed whole, and results are as of the rest."""
    rng = np.random.default_rng(1)
    n = 900
    group, stratum = rng.integers(0, 30, n), rng.choice(["a", "b"], n)
    lon, lat, near = rng.uniform(0, 2, n), rng.uniform(0, 2, n), rng.integers(0, 2, n)
    y = rng.normal(size=30)[group] + near + rng.normal(size=n)
    x = 0.6 * y + 0.3 * rng.normal(size=n)
    weight = rng.uniform(0.5, 2.0, n) * (rng.random(n) < 0.6) * (group % 5 > 0)

    def results(rows):
        columns = {"sample_weight": weight[rows], "groups": group[rows], "strata": stratum[rows]}
        levels = {"region": group[rows]}
        families = [
            ContrastFamily.treated("near", near[rows], within=group[rows]),
            DonorTrials(y[rows], 0.5, n_trials=4),  # among the rows that count, wherever they stand
        ]
        card = build_card(
            x[rows],
            y[rows],
            **columns,
            levels=levels,
            families=families,
            lon=lon[rows],
            lat=lat[rows],
            **ABOUT,
        )
        found = diagnose(x[rows], y[rows], **columns, levels=levels, treatment_like={"near": near[rows]})
        matched = LevelCalibration().fit(x[rows], y[rows], levels, **columns).matched(families[0])
        return card.to_json(), found, matched

    whole, part = results(np.arange(n)), results(np.flatnonzero(weight))
    assert whole[0] == part[0]
    assert repr(whole[1]) == repr(part[1])
    assert whole[2] == part[2]
    assert str(whole[1]).startswith(f"{np.count_nonzero(weight)} pairs in 24 groups")


def test_a_cubic_is_not_tested_on_labels_that_only_rows_of_no_weight_have():
    """The labels that count are 0, 1 and 2. Almost no weight is as good as none for what can be tested."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400).astype(float)
    x = 0.5 * y + 0.3 * rng.normal(size=400)
    y[:50] = rng.normal(size=50)
    for least in (0.0, 1e-30):
        weight = np.where(np.arange(400) < 50, least, 1.0)
        assert np.isnan(diagnose(x, y, sample_weight=weight).linearity.statistic)
        card = build_card(x, y, sample_weight=weight, **ABOUT)
        assert card.diagnostics["linearity_p"] is None
        assert card.slope == pytest.approx(np.polyfit(y[50:], x[50:], 1)[0], rel=1e-9)


def test_groups_with_one_row_that_counts_carry_no_slope_within():
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(60), 5)
    y = rng.normal(size=60)[level] + rng.normal(size=300)
    x = 0.6 * y + 0.3 * rng.normal(size=300)
    weight = np.where((np.arange(300) % 5 > 0) & (level >= 20), 0.0, 1.0)
    found = LevelCalibration().fit(x, y, {"l": level}, sample_weight=weight)
    within = found.levels_["within l"]
    assert (within.df, within.n_units, found.pooled_.n_units) == (19, 20, 140)
    # The jackknife over the twenty groups of several rows, by hand.
    dx, dy = (values[:100] - values[:100].reshape(20, 5).mean(axis=1).repeat(5) for values in (x, y))
    xy, yy = ((dx * dy).reshape(20, 5).sum(axis=1), (dy**2).reshape(20, 5).sum(axis=1))
    without = (xy.sum() - xy) / (yy.sum() - yy)
    assert within.slope == pytest.approx(xy.sum() / yy.sum(), rel=1e-12)
    assert within.std_error == pytest.approx(
        np.sqrt(((without - without.mean()) ** 2).sum() * 19 / 20), rel=1e-9
    )


def test_rows_of_no_weight_stay_in_the_contrasts_that_corrections_are_judged_by():
    rng = np.random.default_rng(0)
    place = rng.integers(0, 30, 900)
    y = rng.normal(size=30)[place] + rng.normal(size=900)
    x = 0.6 * y + 0.3 * rng.normal(size=900)
    family = ContrastFamily.one_against_rest("place", place)
    weight = np.where(np.arange(900) % 3 == 0, 0.0, 1.0)
    rest = {"design": family, "folds": place % 5, "methods": {"linear": LinearCalibration()}, "min_arm": 2}
    found, plain = compare(x, y, sample_weight=weight, **rest), compare(x, y, **rest)
    errors = [{score.method: score.mae for score in item.scores} for item in (found, plain)]
    assert found.n_contrasts == plain.n_contrasts
    assert errors[0]["none"] == errors[1]["none"]
    assert errors[0]["linear"] != errors[1]["linear"]  # it is learned from the rows of weight
