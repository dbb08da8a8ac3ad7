"""Comparing corrections: the right one is named in each world, nothing leaks, and doing nothing can win."""

import json
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

from sustain.debias import (
    ContrastFamily,
    DonorTrials,
    LevelCalibration,
    LinearCalibration,
    TweedieCalibration,
    compare,
)
from sustain.debias.judge.comparison import Comparison
from sustain.debias.judge.held_out import ReadsEffects, cross_fit_level
from sustain.debias.judge.scores import recommended, scores_of
from sustain.errors import CalibrationError
from tests.debias.samples import pairs, real

matplotlib.use("agg")

LINEAR = {"linear": LinearCalibration()}


def world(seed=0, surveys=40, places=50, shown=1.0):
    """Town against country reaches the prediction by `shown`, all else by half."""
    rng = np.random.default_rng(seed)
    survey = np.repeat(np.arange(surveys), places)
    town = rng.random(survey.size) < 0.4
    gap = (1 + 0.5 * rng.normal(size=surveys))[survey] * town
    rest = rng.normal(size=survey.size)
    x = shown * gap + 0.5 * rest + rng.normal(scale=0.2, size=survey.size)
    return x, gap + rest, ContrastFamily.treated("town - country", town, survey), survey % 5


def test_nothing_wins_where_the_image_shows_the_contrast():
    x, y, family, folds = world(shown=1.0)
    found = compare(x, y, design=family, folds=folds)
    assert set(found.recommended) == {"none", "level"}
    assert found.score("none").share == pytest.approx(1, abs=0.06)
    assert found.score("linear").share > 1.2
    assert found.level_slope == pytest.approx(1, abs=0.06)
    assert (found.n_contrasts, found.n_folds, found.family) == (40, 5, "town - country")


def test_the_matched_slope_wins_between_none_and_all():
    x, y, family, folds = world(shown=0.75)
    # A pooled slope far below that of the contrast, and far from none.
    found = compare(x, y, design=family, folds=folds, methods=LINEAR)
    assert found.recommended == ("level",)
    assert found.score("level").share == pytest.approx(1, abs=0.06)
    assert abs(found.score("level").bias) < min(-found.score("none").bias, found.score("linear").bias) / 2


def test_a_correction_wins_for_effects_through_the_truth():
    rng = np.random.default_rng(0)
    y = rng.normal(size=4000)
    x = 0.5 * y + rng.normal(scale=0.2, size=y.size)
    design = DonorTrials(y, 1.0, n_units=1000, n_trials=10)
    found = compare(x, y, design=design, folds=np.arange(y.size) % 5)
    assert "none" not in found.recommended
    assert found.score("none").share == pytest.approx(0.5, abs=0.03)
    for method in ("response", "linear", "tweedie", "level"):
        assert found.score(method).share == pytest.approx(1, abs=0.06)
    assert "a correction is due" in found.explain() or found.first == "level"


def test_scores_are_what_they_say():
    x, y, family, folds = world()
    found = compare(x, y, design=family, folds=folds, methods=LINEAR)
    errors = family.differences(x) - family.differences(y)  # a survey lies inside one fold
    none = found.score("none")
    assert none.mae == pytest.approx(np.abs(errors).mean())
    assert none.rmse == pytest.approx(np.sqrt((errors**2).mean()))
    assert [(i.biased, i.mae) for i in found.scores] == sorted((i.biased, i.mae) for i in found.scores)
    assert found.first == found.scores[0].method == found.recommended[0]
    assert found.scores[0].behind == 0
    linear = np.empty_like(x)
    for fold in range(5):
        rest = folds != fold
        line = np.polyfit(y[rest], x[rest], 1)
        linear[~rest] = (x[~rest] - line[1]) / line[0]
    expected = np.abs(family.differences(linear) - family.differences(y)).mean()
    assert found.score("linear").mae == pytest.approx(expected)


def test_a_fold_does_not_see_its_own_labels():
    x, y, family, folds = world()
    before, _ = cross_fit_level(x, y, family, folds)
    changed = np.where(folds == 0, 5 * y + 1, y)
    after, _ = cross_fit_level(x, changed, family, folds)
    np.testing.assert_allclose(after[folds == 0], before[folds == 0], rtol=1e-12)
    assert not np.allclose(after[folds == 1], before[folds == 1])


def test_strata_are_used():
    rng = np.random.default_rng(0)
    stratum = np.arange(4000) % 2
    y = rng.normal(size=4000)
    x = np.where(stratum == 1, 0.8, 0.3) * y + rng.normal(scale=0.1, size=4000)
    design = DonorTrials(y, 1.0, population=stratum, n_units=1000, n_trials=10)
    folds = rng.integers(5, size=4000)
    pooled = compare(x, y, design=design, folds=folds, methods=LINEAR)
    own = compare(x, y, design=design, folds=folds, methods=LINEAR, strata=stratum)
    assert own.score("linear").rmse < pooled.score("linear").rmse / 3


def test_printed_drawn_and_stored():
    x, y, family, folds = world()
    found = compare(x, y, design=family, folds=folds, methods=LINEAR)
    content = json.loads(json.dumps(found.to_dict()))
    assert content["recommended"] == list(found.recommended)
    assert {item["method"] for item in content["scores"]} == {"none", "linear", "level"}
    assert "nothing is switched" in str(found)
    assert f"<b>{found.first}</b>" in found._repr_html_()
    axes = found.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == [s.method for s in found.scores][::-1]
    with pytest.raises(CalibrationError, match="'x' was not compared"):
        found.score("x")


def test_what_cannot_be_compared_is_refused_or_noted():
    x, y, family, folds = world()
    with pytest.raises(CalibrationError, match="'none' and 'level' are always compared"):
        compare(x, y, design=family, folds=folds, methods={"none": LinearCalibration()})
    with pytest.raises(CalibrationError, match=r"40 contrasts|0 contrasts"):
        compare(x, y, design=family, folds=folds, methods=LINEAR, min_arm=100)
    with pytest.raises(CalibrationError, match="at least two folds"):
        compare(x, y, design=family, folds=np.zeros(y.size), methods=LINEAR)
    few = ContrastFamily("few", family.arms[:6])
    found = compare(x, y, design=few, folds=np.where(np.arange(y.size) < 300, 0, 1), methods=LINEAR)
    assert "level" not in {item.method for item in found.scores}
    assert found.level_slope is None
    assert "matched slope is left out" in found.notes[0]


def test_donor_trials_are_what_they_promise():
    rng = np.random.default_rng(0)
    y = rng.normal(size=3000)
    population = np.arange(3000) % 3
    rows = population != 2
    design = DonorTrials(y, 0.5, population=population, n_units=400, n_trials=4, seed=3)
    family = design.on(rows, 10)
    assert len(family) == 8
    for on, off in family.arms:
        assert rows[np.concatenate([on, off])].all()
        assert np.unique(population[np.concatenate([on, off])]).size == 1
        assert on.size == off.size == 200
    assert family.differences(y).mean() == pytest.approx(0.5, abs=0.1)
    again = design.on(rows, 10)
    np.testing.assert_array_equal(again.arms[3][0], family.arms[3][0])


def test_contrasts_between_places():
    label = np.array(["a", "a", "b", "b", "c", "d"])
    group = np.array([0, 0, 0, 0, 1, 1])
    family = ContrastFamily.one_against_rest("place", label, group)
    values = np.array([1.0, 1, 3, 5, 0, 7])
    np.testing.assert_allclose(family.differences(values), [-3, 3, -7, 7])
    assert len(family.on(np.ones(6, dtype=bool), 2)) == 2
    assert len(family.on(group == 1, 1)) == 2


@pytest.mark.parametrize(("model", "best"), [("resnet_18_ms", "none"), ("ridge_ms_hist", "level")])
def test_towns_on_real_predictions(model, best):
    """The image shows towns to a good model; a weak one needs the slope of towns, not that of all places."""
    rows = real("yeh_dhs_incountry.parquet")
    survey = rows["country"] + rows["year"].astype(str)
    family = ContrastFamily.treated("urban - rural", rows["urban"], survey)
    found = compare(rows[f"p_{model}"], rows["y_true"], design=family, folds=rows["fold"])
    assert found.first == best
    sd = rows["y_true"].std()
    known = {"resnet_18_ms": (0.229, 0.455, 0.236), "ridge_ms_hist": (0.800, 0.654, 0.542)}[model]
    errors = tuple(found.score(method).mae / sd for method in ("none", "linear", "level"))
    assert errors == pytest.approx(known, abs=0.003)


def test_donor_trials_on_real_predictions_need_a_correction():
    rows = real("yeh_dhs_incountry.parquet")
    design = DonorTrials(rows["y_true"], 0.5, n_units=800, n_trials=8)
    found = compare(
        rows["p_resnet_18_msnl_concat"],
        rows["y_true"],
        design=design,
        folds=rows["fold"],
        methods={
            **LINEAR,
            "tweedie": TweedieCalibration(),
        },
    )
    assert "none" not in found.recommended
    # With every place as a unit once: 0.326 in the predictions for 0.499 in the truth.
    assert found.score("none").share == pytest.approx(0.654, abs=0.04)
    assert found.score("level").share == pytest.approx(1, abs=0.05)


def test_donors_that_were_chosen_by_noisy_labels_are_refused():
    x, y = pairs(400, 0)
    design = DonorTrials(y, 0.5)
    arguments = {"design": design, "folds": np.arange(400) % 4, "target_noise_var": 0.1}
    with pytest.raises(CalibrationError, match="overstate the effects"):
        compare(x, y, **arguments)
    with pytest.raises(CalibrationError, match="overstate the effects"):
        LevelCalibration().fit(x, y, families=[design], target_noise_var=0.1)
    fitted = LevelCalibration().fit(x, y, {"region": np.arange(400) // 8}, target_noise_var=0.1)
    with pytest.raises(CalibrationError, match="overstate the effects"):
        fitted.matched(design)


def test_arms_of_a_family_are_zero_and_one():
    """What else came as a treatment was truth by Python's rules: "0", 2 and missing were all treated."""
    rows = np.array([4, 7, 9, 2])
    for treated in ([1, 0, 0, 1], [True, False, False, True], np.array([1.0, 0.0, 0.0, 1.0])):
        family = ContrastFamily.of("aid", [SimpleNamespace(rows=rows, treated=treated)])
        assert [arm.tolist() for arm in family.arms[0]] == [[4, 2], [7, 9]]
    good = SimpleNamespace(rows=rows, treated=[1, 0, 0, 1])
    for treated in (["1", "0", "0", "1"], [1.0, np.nan, 0.0, 1.0], [2, 0, 0, 1], [1, 0]):
        with pytest.raises(CalibrationError, match=r"contrasts\[1\]\.treated"):
            ContrastFamily.of("aid", [good, SimpleNamespace(rows=rows, treated=treated)])
    for wrong in (rows > 3, rows / 2, rows[:, None]):
        with pytest.raises(CalibrationError, match=r"contrasts\[0\]\.rows: .* expected the numbers of rows"):
            ContrastFamily.of("aid", [SimpleNamespace(rows=wrong, treated=[1, 0, 0, 1])])


def test_a_clearly_biased_method_gives_way_though_it_is_nearest():
    """Shrunken contrasts come nearest to each truth, and hold two thirds of them all."""
    rng = np.random.default_rng(0)
    truth, fold = rng.normal(size=500), np.repeat(np.arange(10), 50)
    found = {
        "none": 0.67 * truth + 0.2 * rng.normal(size=500),
        "linear": truth + 0.6 * rng.normal(size=500),
        "tweedie": 1.6 * truth + 0.6 * rng.normal(size=500),
    }
    scores = scores_of(found, truth, fold)
    assert [item.method for item in scores] == ["linear", "none", "tweedie"]
    assert [item.biased for item in scores] == [False, True, True]
    assert scores[1].behind < 0 < scores[2].behind
    assert recommended(scores) == ("linear",)
    alone = scores_of({"none": found["none"], "tweedie": found["tweedie"]}, truth, fold)
    assert recommended(alone) == ("none",)  # all are biased: the nearest, and who is not clearly behind


def test_the_text_names_who_is_nearer_over_many_contrasts():
    """A quarter is lost in small noisy arms: nothing done is nearest, and the matched slope is right on average."""
    rng = np.random.default_rng(0)
    truth, fold = rng.normal(size=300), np.repeat(np.arange(5), 60)
    noise = 0.5 * rng.normal(size=300)
    found = {"none": 0.85 * (truth + noise), "level": truth + noise}
    scores = scores_of(found, truth, fold)
    assert scores[0].method == "none"
    text = Comparison("regions", 300, 5, scores, 0.85, ()).explain()
    assert "large arms, the slope matched to these contrasts is nearer the truth: 10" in text
    even = scores_of({"none": 0.97 * truth + noise, "level": truth + 2 * noise}, truth, fold)
    assert "nearer the truth" not in Comparison("regions", 300, 5, even, 0.85, ()).explain()


def test_what_cannot_be_told_apart_is_named_together():
    rng = np.random.default_rng(0)
    truth, fold = rng.normal(size=200), np.repeat(np.arange(5), 40)
    shared = 0.3 * rng.normal(size=200)
    found = {name: truth + shared + 0.05 * rng.normal(size=200) for name in ("none", "linear")}
    found["tweedie"] = truth + 3 * shared
    scores = scores_of(found, truth, fold)
    assert set(recommended(scores)) == {"none", "linear"}
    assert scores[-1].behind_low > 0


@pytest.mark.parametrize("folds", [5, 20])
def test_intervals_of_share_and_distance_cover(folds):
    """Errors that a fold shares: the clustered intervals hold the truth in 95% of replications, by chance 90 to 99."""
    covered, told_apart = 0, 0
    fold = np.repeat(np.arange(folds), 20)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = 1 + 0.5 * rng.normal(size=fold.size)
        off = 0.1 * rng.normal(size=(2, folds))[:, fold]
        noise = 0.2 * rng.normal(size=(2, fold.size))
        found = dict(zip(("a", "b"), (0.8 + off) * truth + noise, strict=True))
        scores = scores_of(found, truth, fold)
        a = next(item for item in scores if item.method == "a")
        covered += a.share_low < 0.8 < a.share_high
        told_apart += len(recommended(scores)) == 1
    assert 0.9 < covered / 300 < 0.99
    assert told_apart / 300 < 0.07  # by symmetry neither is better: the first is so by luck


def test_intervals_by_hand():
    truth, fold = np.array([1.0, 2.0, 1.0, 2.0]), np.array([0, 0, 1, 1])
    found = {"a": np.array([1.0, 2.0, 0.0, 1.0]), "b": truth + 2}
    score = {item.method: item for item in scores_of(found, truth, fold)}
    assert score["a"].share == pytest.approx(0.7)
    # Folds' influences: (5 - .7 * 5) / 10 and its negative; t of one degree of freedom.
    margin = 12.7062 * 0.15 * np.sqrt(2 * 2)
    assert score["a"].share_high - 0.7 == pytest.approx(margin, rel=1e-4)
    # Distances in absolute error are 2, 2, 1, 1.
    assert score["b"].behind == 1.5
    assert score["b"].behind_high - 1.5 == pytest.approx(12.7062 * 0.25 * np.sqrt(2 * 2), rel=1e-4)
    alone = scores_of(found, truth, np.zeros(4, dtype=int))[0]
    assert (alone.share_low, alone.share_high) == (-np.inf, np.inf)


class Ratio:
    """Reads an effect as the difference of the arms' mean predictions over a slope, and corrects no place."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def get_params(self, deep=True):
        return {"factor": self.factor}

    def fit(self, y_pred, y_true, *, sample_weight=None, target_noise_var=0.0):
        self.slope_ = np.polyfit(y_true, y_pred, 1, w=np.sqrt(sample_weight))[0]
        return self

    def effect(self, y_pred_treated, y_pred_control):
        return self.factor * (np.mean(y_pred_treated) - np.mean(y_pred_control)) / self.slope_


@pytest.mark.parametrize("kind", ["places", "donors"])
def test_a_method_may_read_effects_off_the_arms(kind):
    """What divides by the same slope as the linear correction scores as it does, smoothed donors included."""
    x, y, family, folds = world()
    design = family if kind == "places" else DonorTrials(y, 1.0, n_units=500, n_trials=4)
    assert isinstance(Ratio(), ReadsEffects)
    assert not isinstance(LinearCalibration(), ReadsEffects)
    methods = {**LINEAR, "ratio": Ratio(), "twice": Ratio(2.0)}
    found = compare(x, y, design=design, folds=folds, methods=methods)
    assert found.score("ratio").share == pytest.approx(found.score("linear").share, rel=1e-6)
    assert found.score("ratio").mae == pytest.approx(found.score("linear").mae, rel=1e-6)
    assert found.score("twice").share == pytest.approx(2 * found.score("linear").share, rel=1e-6)
    strata = compare(x, y, design=design, folds=folds, methods=methods, strata=folds % 2)
    assert "ratio is learned over all strata" in strata.notes[0]


def test_effects_that_are_no_numbers_are_noted():
    x, y, family, folds = world()
    found = compare(x, y, design=family, folds=folds, methods={**LINEAR, "odd": Ratio(np.nan)})
    assert "odd is left out: effect: gave 40 contrasts that are no number" in found.notes[0]


def test_smoothing_takes_the_luck_of_donors_off_and_leaves_the_effect():
    """Over samples the shares vary a third as much, about the same mean; a straight line is its own regression."""
    plain, smooth = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=400)
        x = y + rng.normal(size=400)
        everyone, design = np.ones(400, dtype=bool), DonorTrials(y, 0.5, n_units=4000, n_trials=1, seed=seed)
        trials = design.on(everyone)
        for values, kept in ((x, plain), (design.smooth(x, everyone), smooth)):
            kept.append(trials.differences(values)[0] / trials.differences(y)[0])
        np.testing.assert_allclose(design.smooth(3 - 2 * y, everyone), 3 - 2 * y, atol=1e-9)
    assert np.mean(smooth) == pytest.approx(1, abs=0.05)
    assert np.std(smooth) < 0.6 * np.std(plain)


def test_smoothing_stays_within_populations_and_rows():
    rng = np.random.default_rng(0)
    y = rng.normal(size=900)
    population, rows = np.repeat([0, 1, 2], 300), np.tile([True, True, False], 300)
    x = y + 10 * population
    design = DonorTrials(y, 0.5, population=population)
    found = design.smooth(x, rows)
    np.testing.assert_allclose(found, x, atol=1e-9)  # a line in each; one over all would not be
    few = np.flatnonzero(rows)[:50]
    mask = np.isin(np.arange(900), few)
    noisy = x + rng.normal(size=900)
    np.testing.assert_array_equal(design.smooth(noisy, mask), noisy)
    assert not np.allclose(design.smooth(noisy, rows)[rows], noisy[rows])
    np.testing.assert_array_equal(design.smooth(noisy, rows)[~rows], noisy[~rows])
