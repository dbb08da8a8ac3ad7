"""Diagnostics: right about made-up errors of a known kind."""

import json

import numpy as np
import pytest

from sustain.debias import diagnose
from sustain.errors import CalibrationError, InSampleWarning
from tests.debias.samples import pairs, real


def _berkson(n=2000, seed=0, sigma=0.75):
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=n)
    return predicted, predicted + rng.normal(scale=sigma, size=n)


def test_berkson_errors_pass_and_shrink():
    found = diagnose(*_berkson())
    assert found.berkson.p_value > 0.05
    assert found.linearity.p_value > 0.05
    assert found.shape.variance_trend.p_value > 0.05
    assert found.prediction_on_truth.low < 0.64 < found.prediction_on_truth.high
    assert found.truth_on_prediction.low < 1 < found.truth_on_prediction.high
    assert "at 6" in found.verdicts["shrinkage"]
    biases = [item.bias for item in found.deciles]
    assert biases[0] > 0.5 > -0.5 > biases[-1]
    assert biases == sorted(biases, reverse=True)
    assert sum(item.n for item in found.deciles) == found.n == 2000


def test_size_of_the_berkson_test():
    """At level 5% about one true null in twenty is rejected."""
    rejected = sum(diagnose(*_berkson(200, seed)).berkson.p_value < 0.05 for seed in range(200))
    assert 2 <= rejected <= 20


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda x, y: (x + 0.3, y), "berkson"),
        (lambda x, y: (0.8 * x, y), "berkson"),
        (lambda x, y: (x + 0.3 * y**2, y), "linearity"),
        (lambda x, y: (x, x + (y - x) * (1 + (x > 0))), "variance_trend"),
    ],
)
def test_each_fault_is_found(spoil, name):
    found = diagnose(*spoil(*_berkson()))
    tests = {
        "berkson": found.berkson,
        "linearity": found.linearity,
        "variance_trend": found.shape.variance_trend,
    }
    assert tests[name].p_value < 1e-3


def test_strata_with_slopes_of_their_own():
    x, y = _berkson()
    stratum = np.where(np.arange(2000) % 2, "urban", "rural")
    same = diagnose(x, y, strata=stratum)
    assert same.strata_differ.p_value > 0.01
    apart = diagnose(np.where(stratum == "urban", 0.5 * x, x), y, strata=stratum)
    assert apart.strata_differ.p_value < 1e-6
    assert "within strata" in apart.verdicts["strata"]
    assert apart.strata["urban"].slope == pytest.approx(apart.strata["rural"].slope / 2, rel=0.15)
    few = diagnose(x, y, strata=np.where(np.arange(2000) < 10, "few", "rest"))
    assert set(few.strata) == {"rest"}


def test_leaving_groups_out_matches_refitting():
    x, y = _berkson(100)
    group = np.arange(100) // 20
    slopes = [np.polyfit(y[group != g], x[group != g], 1)[0] for g in range(5)]
    found = diagnose(x, y, groups=group)
    assert found.slope_without_a_group == pytest.approx((min(slopes), max(slopes)))
    assert found.prediction_on_truth != diagnose(x, y).prediction_on_truth


def test_training_rows_are_found_out():
    x, y = _berkson()
    with pytest.warns(InSampleWarning, match="held-out"):
        found = diagnose(x, y, train=_berkson(sigma=0.4, seed=1))
    assert found.in_sample.ratio == pytest.approx(0.4 / 0.75, rel=0.05)
    assert "held-out rows only" in found.verdicts["in sample"]


def test_real_leak_is_found_out():
    rows = real("aiddata_ghana2014.parquet").dropna()
    with pytest.warns(InSampleWarning):
        found = diagnose(
            rows["p_rf_oof_spatial"], rows["y_true"], train=(rows["p_insample_authors"], rows["y_true"])
        )
    assert found.in_sample.ratio < 0.5


def test_real_predictions_need_strata():
    rows = real("yeh_dhs_incountry.parquet")
    found = diagnose(
        rows["p_resnet_18_ms"],
        rows["y_true"],
        groups=rows["country"] + rows["year"].astype(str),
        strata=rows["urban"],
    )
    assert found.prediction_on_truth.slope == pytest.approx(0.705, abs=5e-4)
    assert found.strata_differ.p_value < 1e-6


def test_perfect_and_binary_columns_do_not_break_it():
    _, y = pairs(100)
    perfect = diagnose(y, y)
    assert perfect.prediction_on_truth.slope == pytest.approx(1)
    assert np.isnan(perfect.berkson.p_value)
    assert np.isnan(perfect.linearity.p_value)
    binary = diagnose(np.tile([0.2, 0.8, 0.4, 0.6], 25), np.tile([0.0, 1.0], 50))
    assert np.isnan(binary.linearity.p_value)


def test_reports():
    found = diagnose(*_berkson(), groups=np.arange(2000) // 50)
    assert str(found).startswith("2000 pairs in 40 groups, r2 0.")
    assert "<table>" in found._repr_html_()
    assert (
        json.loads(json.dumps(found.to_dict()))["prediction_on_truth"]["slope"]
        == found.prediction_on_truth.slope
    )


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    ax = diagnose(*_berkson()).plot()
    assert ax.get_ylabel() == "prediction less truth"


def test_bad_rows_are_named():
    x, y = _berkson(50)
    with pytest.raises(CalibrationError, match=r"train\[1\]"):
        diagnose(x, y, train=(x, y[:-1]))
    with pytest.raises(CalibrationError, match="level"):
        diagnose(x, y, level=95)


def test_stability_names_the_assumption_that_holds():
    """A contrast that predictions show keeps the truth given them; one through the truth keeps them given it."""
    rng = np.random.default_rng(0)
    treated = (np.arange(4000) % 2).astype(float)
    x = rng.normal(size=4000) + treated
    shown = diagnose(x, x + rng.normal(scale=0.7, size=4000), treatment_like={"road": treated})
    assert shown.stability["road"].outcome_p > 0.05
    assert shown.stability["road"].measurement_p < 1e-6
    assert "leave such a contrast uncorrected" in shown.verdicts["stability: road"]
    y = rng.normal(size=4000) + treated
    through = diagnose(0.6 * y + rng.normal(scale=0.4, size=4000), y, treatment_like={"road": treated})
    assert through.stability["road"].measurement_p > 0.05
    assert through.stability["road"].outcome_p < 1e-6
    assert "a correction is due" in through.verdicts["stability: road"]
    with pytest.raises(CalibrationError, match="'road' is 1 in every row"):
        diagnose(x, y, treatment_like={"road": np.ones(4000)})


def test_stability_tests_have_their_size_when_clustered():
    """Covariate and errors are shared by clusters: without clusters the test would reject far too often."""
    rejected = {True: 0, False: 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        cluster = np.repeat(np.arange(40), 10)
        shared = rng.normal(size=40)[cluster]
        covariate = rng.normal(size=40)[cluster]
        y = rng.normal(size=400)
        x = 0.7 * y + 0.5 * shared + rng.normal(scale=0.3, size=400)
        for clustered in rejected:
            found = diagnose(x, y, groups=cluster if clustered else None, treatment_like={"z": covariate})
            rejected[clustered] += found.stability["z"].measurement_p < 0.05
    assert rejected[True] <= 13
    assert rejected[False] > 30


def test_levels_and_curvature_are_reported():
    rng = np.random.default_rng(0)
    region = np.repeat(np.arange(100), 20)
    between, within = rng.normal(size=100)[region], rng.normal(size=2000)
    x = 0.9 * between + 0.5 * within + rng.normal(scale=0.2, size=2000)
    found = diagnose(x, between + within, levels={"region": region})
    assert found.levels["between region"].slope == pytest.approx(0.9, abs=0.03)
    assert found.levels["within region"].slope == pytest.approx(0.5, abs=0.03)
    assert "between region 0.9" in found.verdicts["levels"]
    assert found.linearity.p_value > 0.01
    skewed = rng.gamma(1.0, size=2000)
    curved = diagnose(np.log1p(3 * skewed) + rng.normal(scale=0.1, size=2000), skewed)
    assert curved.linearity.p_value < 1e-6
    assert "is curved" in curved.verdicts["linearity"]
    json.dumps(found.to_dict())


def test_noise_of_labels_does_not_break_measurement_stability():
    """Truth differs with the covariate and predictions follow the truth: at equal noisy labels they still differ."""
    rejected = {0.0: 0, 0.5: 0}
    gaps = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        treated = (np.arange(1000) % 2).astype(float)
        truth = rng.normal(size=1000) + treated
        predicted = 0.6 * truth + rng.normal(scale=0.3, size=1000)
        labels = truth + rng.normal(scale=0.5**0.5, size=1000)
        for noise in rejected:
            found = diagnose(predicted, labels, treatment_like={"road": treated}, target_noise_var=noise)
            rejected[noise] += found.stability["road"].measurement_p < 0.05
        gaps.append(found.stability["road"].prediction_gap)
    assert rejected[0.0] == 12
    assert rejected[0.5] <= 3
    assert abs(np.mean(gaps)) < 0.04
    with pytest.raises(
        CalibrationError, match=r"target_noise_var: 1\.5 is not below 95% of the variance of the labels"
    ):
        diagnose(predicted, labels, treatment_like={"road": treated}, target_noise_var=1.5)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1e8, 1e6), (-3.0, 1e-6), (1e4, 1.0)])
def test_tests_and_verdicts_do_not_depend_on_the_unit(shift, scale):
    x, y = pairs(400, 2)
    plain, other = diagnose(x, y), diagnose(shift + scale * x, shift + scale * y)
    for name in ("berkson", "linearity"):
        assert getattr(other, name).p_value == pytest.approx(getattr(plain, name).p_value, rel=1e-4)
    assert other.berkson.p_value < 1e-6
    assert "recalibrate them" in other.verdicts["level and scale"]


def test_what_is_not_refuted_is_not_called_true():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    found = diagnose(x, x + rng.normal(size=300), strata=np.arange(300) % 2)
    assert found.verdicts["level and scale"].endswith("no sign that predictions are off in level or scale.")
    assert found.verdicts["strata"].endswith("no sign that they differ.")


def test_predictions_that_exaggerate_are_said_to():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    found = diagnose(1.5 * truth + 0.3 * rng.normal(size=300), truth)
    assert "predictions exaggerate" in found.verdicts["shrinkage"]
    assert "comes out at 15" in found.verdicts["shrinkage"]


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_an_exact_line_is_not_tested(slope):
    truth = np.random.default_rng(0).normal(size=300)
    found = diagnose(slope * truth, truth, treatment_like={"road": np.arange(300) % 2})
    assert np.isnan(found.stability["road"].measurement_p)
    for subject in ("level and scale", "linearity", "stability: road"):
        assert "cannot be tested" in found.verdicts[subject]
        assert "rejected" not in found.verdicts[subject]


def test_noise_of_labels_is_not_taken_for_curvature():
    """A skewed truth and a straight relation: at equal *labels* predictions bend, at equal truth they do not."""
    rejected = {0.0: 0, 0.5: 0}
    curved = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.gamma(1.0, size=1000)
        noise, labels = 0.3 * rng.normal(size=1000), truth + 0.5**0.5 * rng.normal(size=1000)
        for variance in rejected:
            found = diagnose(0.6 * truth + noise, labels, target_noise_var=variance)
            rejected[variance] += found.linearity.p_value < 0.05
        found = diagnose(np.log1p(3 * truth) + noise, labels, target_noise_var=0.5)
        curved += found.linearity.p_value < 0.05
    assert rejected[0.0] > 50
    assert rejected[0.5] <= 8
    assert curved > 50
