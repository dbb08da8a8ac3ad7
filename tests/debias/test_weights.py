"""What weights may and may not change: rows of no weight are absent, and only ratios count."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.debias import (
    ContrastFamily,
    LevelCalibration,
    LinearCalibration,
    TweedieCalibration,
    build_card,
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
