"""Slopes by level: each found, whatever the noise of group means; real ones as published; the card's side."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sustain.debias import CalibrationCard, ContrastFamily, LevelCalibration, build_card
from sustain.errors import CalibrationError, CardError, SupportWarning, WeakCalibrationWarning
from tests.debias.samples import real

SLOPES = {"between country": 0.95, "between region": 0.8, "within region": 0.5}
ABOUT = {"target": {"name": "w", "unit": "i"}, "predictor": "m", "methods": ("linear",), "n_boot": 50}


def nested(seed=0, countries=20, regions=12, places=4):
    """Truth varies at three levels and reaches the prediction with three slopes; regions hold few places."""
    rng = np.random.default_rng(seed)
    country = np.repeat(np.arange(countries), regions * places)
    region = np.tile(np.repeat(np.arange(regions), places), countries)
    parts = [
        rng.normal(size=countries)[country],
        rng.normal(size=(countries, regions))[country, region],
        1.5 * rng.normal(size=country.size),
    ]
    predicted = sum(slope * part for slope, part in zip(SLOPES.values(), parts, strict=True))
    predicted = predicted + rng.normal(scale=0.4, size=country.size)
    return predicted, sum(parts), {"country": country, "region": region}


def towns(seed=0, surveys=40):
    """Town against country moves predictions by 0.9, other differences by 0.5."""
    rng = np.random.default_rng(seed)
    survey = np.repeat(np.arange(surveys), 30)
    town = rng.random(survey.size) < 0.4
    gap = (1 + 0.5 * rng.normal(size=surveys))[survey] * town
    rest = rng.normal(size=survey.size)
    return 0.9 * gap + 0.5 * rest + rng.normal(scale=0.3, size=survey.size), gap + rest, survey, town


def test_each_level_has_its_slope_on_average():
    """Over replications: unbiased, though means of four places carry much of the variation below them."""
    found = {name: [] for name in SLOPES}
    naive = []
    for seed in range(40):
        x, y, levels = nested(seed)
        for name, item in LevelCalibration().fit(x, y, levels).levels_.items():
            found[name].append(item.slope)
        cell = levels["country"] * 12 + levels["region"]
        means = [np.bincount(cell, weights=v) / 4 for v in (x, y)]
        centred = [m - np.repeat(m.reshape(20, 12).mean(axis=1), 12) for m in means]
        naive.append(centred[0] @ centred[1] / (centred[1] @ centred[1]))
    for name, slope in SLOPES.items():
        assert np.mean(found[name]) == pytest.approx(slope, abs=0.02), name
    assert np.mean(naive) < 0.7  # group means as they are: 0.8 diluted towards 0.5


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover(clustered):
    covered = dict.fromkeys((*SLOPES, "town - country"), 0)
    for seed in range(100):
        x, y, levels = nested(seed)
        found = LevelCalibration().fit(x, y, levels, groups=levels["country"] if clustered else None).levels_
        x, y, survey, town = towns(seed)
        family = ContrastFamily.treated("town - country", town, survey)
        fitted = LevelCalibration().fit(x, y, groups=survey if clustered else None, families=[family])
        for name, item in (found | fitted.levels_).items():
            low, high = item.interval()
            covered[name] += low < {**SLOPES, "town - country": 0.9}[name] < high
    assert all(88 <= count <= 100 for count in covered.values()), covered


def test_label_noise_matters_only_within():
    x, y, levels = nested()
    noisy = y + np.random.default_rng(1).normal(size=y.size)
    plain = LevelCalibration().fit(x, noisy, levels).levels_
    allowed = LevelCalibration().fit(x, noisy, levels, target_noise_var=1.0).levels_
    assert allowed["between region"] == plain["between region"]
    assert plain["within region"].slope < 0.42
    assert allowed["within region"].slope == pytest.approx(0.5, abs=0.04)


def test_matched_contrasts_have_their_own_slope():
    x, y, survey, town = towns()
    family = ContrastFamily.treated("town - country", town, survey)
    fitted = LevelCalibration().fit(x, y, {"survey": survey})
    found = fitted.matched(family)
    assert (found.n_units, found.df) == (40, 39)
    assert found.slope == pytest.approx(0.9, abs=0.08)
    assert found.interval()[0] < 0.9 < found.interval()[1]
    assert fitted.pooled_.slope < 0.75
    by_cluster = LevelCalibration().fit(x, y, {"survey": survey}, groups=survey).matched(family)
    for name in ("slope", "std_error"):  # the contrasts are the clusters
        assert getattr(by_cluster, name) == pytest.approx(getattr(found, name), rel=1e-9)


def test_strata_are_a_level_within_the_coarsest():
    x, y, survey, town = towns()
    found = LevelCalibration().fit(x, y, {"survey": survey}, strata=town).levels_
    assert found["within stratum"].slope == pytest.approx(0.5, abs=0.04)
    assert found["within survey"].slope > found["within stratum"].slope + 0.05


def test_transform_divides_contrasts_and_keeps_the_mean():
    x, y, levels = nested()
    fitted = LevelCalibration().fit(x, y, levels)
    for name, item in fitted.levels_.items():
        corrected = fitted.transform(x, level=name)
        assert corrected.mean() == pytest.approx(y.mean())
        assert np.ptp(corrected) == pytest.approx(np.ptp(x) / item.slope)
    assert np.isnan(fitted.transform(np.array([np.nan]), level="within region"))[0]
    assert fitted.transform(x.astype("f4"), level="within region").dtype == np.float32
    with pytest.warns(SupportWarning, match=r"100\.0% of 2 predictions lie outside"):
        fitted.transform(np.array([50.0, 60.0]), level="within region")
    with pytest.raises(CalibrationError, match="'village' is unknown; there are between country"):
        fitted.transform(x, level="village")


def test_a_slope_that_may_be_zero_corrects_nothing():
    x, y, levels = nested()
    noise = np.random.default_rng(0).normal(size=y.size)
    fitted = LevelCalibration().fit(noise, y, levels)
    with pytest.raises(CalibrationError, match="not above zero"):
        fitted.transform(x, level="between country")
    within_only = 0.5 * (y - (np.bincount(levels["country"], y) / 48)[levels["country"]]) + 0.3 * noise
    card = build_card(within_only, y, levels=levels, **ABOUT)
    assert card.level("between country").draws is None
    assert "between country" not in card.level_names
    with pytest.raises(CardError, match="may be zero"):
        card.transform(x, "level", level="between country")


@given(shift=st.floats(-50, 50), scale=st.floats(0.01, 100), seed=st.integers(0, 5))
def test_slopes_scale_with_predictions_and_do_not_feel_shifts_or_order(shift, scale, seed):
    x, y, levels = nested(seed, countries=6, regions=4)
    family = ContrastFamily.one_against_rest("region - rest", levels["region"], levels["country"])
    before = LevelCalibration().fit(x, y, levels, families=[family])
    moved = LevelCalibration().fit(shift + scale * x, y, levels, families=[family])
    order = np.random.default_rng(seed).permutation(y.size)
    mixed_levels = {name: labels[order] for name, labels in levels.items()}
    mixed_family = ContrastFamily.one_against_rest(
        "region - rest", levels["region"][order], levels["country"][order]
    )
    mixed = LevelCalibration().fit(x[order], y[order], mixed_levels, families=[mixed_family])
    for name, item in before.levels_.items():
        assert moved.levels_[name].slope == pytest.approx(scale * item.slope, rel=1e-6)
        assert moved.levels_[name].std_error == pytest.approx(scale * item.std_error, rel=1e-6)
        assert mixed.levels_[name].slope == pytest.approx(item.slope, rel=1e-6)
    np.testing.assert_allclose(mixed.cov_, before.cov_, rtol=1e-5)


def test_the_covariance_of_all_slopes_gives_their_errors():
    x, y, levels = nested()
    fitted = LevelCalibration().fit(x, y, levels, groups=levels["country"])
    errors = [item.std_error for item in fitted.levels_.values()]
    np.testing.assert_allclose(np.sqrt(np.diag(fitted.cov_)), errors)
    correlation = fitted.cov_ / np.outer(errors, errors)
    assert np.abs(correlation - np.eye(3)).max() < 1
    assert np.linalg.eigvalsh(fitted.cov_)[0] > 0


def test_few_or_empty_levels_are_left_out_or_refused():
    x, y, levels = nested(countries=3)
    found = LevelCalibration().fit(x, y, levels).levels_
    assert "between country" not in found
    assert "between region" in found
    assert LevelCalibration().fit(x, y, {"place": np.arange(x.size)}).levels_ == {}
    with pytest.raises(CalibrationError, match="levels: expected at least one"):
        LevelCalibration().fit(x, y)
    with pytest.raises(CalibrationError, match=r"levels\['region'\]: has shape \(2,\)"):
        LevelCalibration().fit(x, y, {"region": [1, 2]})
    unknown = np.where(np.arange(x.size) == 3, None, "a")
    with pytest.raises(CalibrationError, match=r"levels\['region'\]: 1 values are missing"):
        LevelCalibration().fit(x, y, {"region": unknown})
    with pytest.raises(CalibrationError, match="strata: 1 values are missing"):
        LevelCalibration().fit(x, y, strata=unknown)
    with pytest.raises(CalibrationError, match="labels: 1 values are missing"):
        ContrastFamily.one_against_rest("region", unknown)
    with pytest.raises(CalibrationError, match="'one' has fewer than five contrasts"):
        LevelCalibration().fit(x, y, levels).matched(ContrastFamily.treated("one", y > 0))
    with pytest.raises(CalibrationError, match="not fitted"):
        LevelCalibration().matched(ContrastFamily.treated("one", y > 0))
    with pytest.raises(CalibrationError, match="must hold 0 and 1 only"):
        ContrastFamily.treated("one", x)


def test_card_carries_levels_and_corrects_by_them(tmp_path):
    x, y, survey, town = towns()
    family = ContrastFamily.treated("town - country", town, survey)
    card = build_card(x, y, groups=survey, levels={"survey": survey}, families=[family], **ABOUT)
    own = LevelCalibration().fit(x, y, {"survey": survey}, groups=survey, families=[family])
    assert {i.name: (i.n_units, i.df) for i in card.levels} == {
        k: (v.n_units, v.df) for k, v in own.levels_.items()
    }
    card = CalibrationCard.load(card.save(tmp_path / "card.json"))
    name = "town - country"
    assert name in card.level_names
    np.testing.assert_allclose(card.transform(x, "level", level=name), own.transform(x, name), atol=1e-5)
    np.testing.assert_allclose(card.derivative(x, "level", level=name), 1 / own.levels_[name].slope)
    draws = card.draws("level", level=name)
    assert len(draws) == 50
    factors = np.diff(draws(np.array([0.0, 1.0])), axis=1)[:, 0]
    expected = own.levels_[name].std_error / own.levels_[name].slope ** 2
    assert factors.std() == pytest.approx(expected, rel=0.35)
    assert card.level(name).interval() == pytest.approx(own.levels_[name].interval(), rel=1e-5)
    error = card.standard_error(np.array([0.0]), "level", level=name)
    assert error > card.level(name).residual_sd
    with pytest.raises(CardError, match="needs the level at which the treatment varies"):
        card.transform(x, "level")
    with pytest.raises(CardError, match="'village' is not in this card"):
        card.transform(x, "level", level="village")
    with pytest.raises(CardError, match="goes with method='level'"):
        card.transform(x, "linear", level=name)
    content = json.loads(card.to_json())
    content["levels"][0]["draws"][0] = -0.1
    with pytest.raises(CardError, match="not all above zero"):
        CalibrationCard.from_json(json.dumps(content))
    again = own.to_card(target={"name": "w", "unit": "i"}, predictor="m", n_boot=20)
    assert again.level_names == card.level_names


def test_published_slopes_by_level():
    """ResNet-18 MS on DHS wealth, 43 surveys in 23 countries."""
    rows = real("yeh_dhs_incountry.parquet")
    survey = rows["country"] + rows["year"].astype(str)
    x, y = rows["p_resnet_18_ms"], rows["y_true"]
    family = ContrastFamily.treated("urban - rural", rows["urban"], survey)
    found = LevelCalibration().fit(x, y, {"survey": survey}, strata=rows["urban"], families=[family])
    by_cell = LevelCalibration().fit(x, y, {"survey": survey, "cell": rows["cell1"]})
    assert found.pooled_.slope == pytest.approx(0.705, abs=0.005)
    assert found.levels_["between survey"].slope == pytest.approx(0.69, abs=0.005)
    assert found.levels_["within stratum"].slope == pytest.approx(0.48, abs=0.005)
    assert found.levels_["urban - rural"].slope == pytest.approx(0.90, abs=0.005)
    assert by_cell.levels_["within cell"].slope == pytest.approx(0.64, abs=0.005)


@pytest.mark.parametrize(
    ("family", "min_arm", "model", "naive", "linear", "matched"),
    [
        ("towns", 10, "resnet_18_ms", 0.229, 0.455, 0.236),
        ("towns", 10, "ridge_ms_hist", 0.800, 0.654, 0.542),
        ("cells", 5, "resnet_18_ms", 0.243, 0.331, 0.292),
    ],
)
def test_matched_slope_on_other_folds(family, min_arm, model, naive, linear, matched):
    """Mean absolute error of contrasts within survey and fold, in sd of truth; matched by least squares and here."""
    rows = real("yeh_dhs_incountry.parquet")
    survey, fold = rows["country"] + rows["year"].astype(str), rows["fold"].to_numpy()
    x, y = rows[f"p_{model}"].to_numpy(), rows["y_true"].to_numpy()
    design = {
        "towns": ContrastFamily.treated("towns", rows["urban"], survey),
        "cells": ContrastFamily.one_against_rest("cells", rows["cell1"], survey),
    }[family]
    errors = {"naive": [], "linear": [], "matched": [], "matched here": []}
    for name in np.unique(fold):
        inside = fold == name
        rest, held = design.on(~inside, min_arm), design.on(inside, min_arm)
        gap_x, gap_y = rest.differences(x), rest.differences(y)
        slopes = {
            "naive": 1.0,
            "linear": np.polyfit(y[~inside], x[~inside], 1)[0],
            "matched": gap_x @ gap_y / (gap_y @ gap_y),
            "matched here": LevelCalibration().fit(x, y, families=[rest]).levels_[family].slope,
        }
        for method, slope in slopes.items():
            errors[method] += list(np.abs(held.differences(x) / slope - held.differences(y)) / y.std())
    found = {method: np.mean(values) for method, values in errors.items()}
    known = {"naive": naive, "linear": linear, "matched": matched}
    assert {method: found[method] for method in known} == pytest.approx(known, abs=0.0015)
    # Without the noise of the arms the slope is steeper, and so the error of single contrasts smaller.
    assert found["matched here"] <= matched + 0.003


def test_few_rows_and_flat_slopes_are_warned_of():
    """As by every other calibration, and the slopes of levels too; a healthy sample warns of nothing."""
    rng = np.random.default_rng(0)
    region, within = np.repeat(np.arange(60), 10), rng.normal(size=600)
    between = 2 * rng.normal(size=60)[region]
    noise = 0.05 * rng.normal(size=600)

    def fit(x, rows=600):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = LevelCalibration().fit(
                x[:rows], (between + within)[:rows], levels={"region": region[:rows]}
            )
        assert {item.category for item in caught} <= {WeakCalibrationWarning}
        assert {item.filename for item in caught} <= {__file__}
        return found, [str(item.message).split(": below")[0] for item in caught]

    assert fit(0.8 * between + 0.6 * within + noise)[1] == []
    assert fit(0.8 * between + 0.6 * within + noise, 90)[1] == ["few pairs: 90 calibration pairs are few"]
    found, said = fit(0.8 * between + 0.1 * within + noise)
    assert said == [
        f"weak slope: the slope of prediction on truth is {found.levels_['within region'].slope:.3g} (within region)"
    ]
    assert found.levels_["within region"].slope == pytest.approx(0.1, abs=0.01)
    found, said = fit(0.15 * (between + within) + noise)
    assert [text.split("(")[-1] for text in said] == ["all pairs)", "within region)"]
    card = found.to_card(target={"name": "w", "unit": "i"}, predictor="m", n_boot=20)
    assert "all pairs" in card.diagnostics["verdicts"]["weak slope"]
