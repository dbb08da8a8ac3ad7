"""The spread between contrasts: a peer, simulations, what an effect makes of it, and real countries."""

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.meta_analysis import combine_effects

from sustain.causal import estimate_effect
from sustain.causal.correction.correct import combined_df
from sustain.debias import CalibrationCard, ContrastFamily, LevelCalibration, build_card
from sustain.debias.contrasts.spread import (
    NO_SPREAD,
    Pieces,
    new_slope,
    spread_of_contrasts,
    spread_of_slopes,
)
from sustain.stats.covariance import critical_value
from sustain.stats.fieller import fieller_set
from tests.debias.samples import real

NAME = "place - rest"


def pieces(rng, k, slope_sd, contrast_sd):
    """Contrasts of known spread; their noise is known and differs."""
    size, error = rng.normal(0.3, 0.6, k), rng.uniform(0.02, 0.1, k)
    found = (0.8 + slope_sd * rng.normal(size=k)) * size + contrast_sd * rng.normal(size=k)
    return Pieces(found + error * rng.normal(size=k), size, error**2, 0 * size, 0 * size)


def world(seed, slope_sd=0.2, contrast_sd=0.1, groups=60, n=60):
    """Two arms in every group; predictions show their contrast with a slope and an error of the group's own."""
    rng = np.random.default_rng(seed)
    group, treated = np.repeat(np.arange(groups), n), np.tile(np.arange(n) % 2, groups)
    gap, slope = rng.normal(0.3, 0.6, groups), 0.8 + slope_sd * rng.normal(size=groups)
    shown = slope * gap + contrast_sd * rng.normal(size=groups)
    within = rng.normal(size=group.size)
    y = gap[group] * treated + within
    x = shown[group] * treated + 0.8 * within + 0.3 * rng.normal(size=group.size)
    return x, y, group, treated


def fitted(seed, **options):
    x, y, group, treated = world(seed, **options)
    family = ContrastFamily.treated(NAME, treated, group)
    return LevelCalibration().fit(x, y, families=[family]).levels_[NAME]


@pytest.mark.parametrize(
    ("k", "slope_sd", "contrast_sd"), [(300, 0.2, 0.1), (100, 0.2, 0), (100, 0, 0.15), (300, 0.05, 0.3)]
)
def test_both_spreads_are_found(k, slope_sd, contrast_sd):
    """In the mean of squares; a part that is not there may take a little of the other's."""
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(200):
        part = pieces(rng, k, slope_sd, contrast_sd)
        slope = part.found @ part.size / (part.size @ part.size)
        found = spread_of_contrasts(part, slope, part.var_found)
        squares.append([found.slope_sd**2, found.contrast_sd**2])
        assert found.n == k
    assert np.sqrt(np.mean(squares, axis=0)) == pytest.approx([slope_sd, contrast_sd], abs=0.05)
    total = np.mean(squares, axis=0) @ [0.45, 1.0]  # at the mean square of the truths, 0.3^2 + 0.6^2
    assert math.sqrt(total) == pytest.approx(math.sqrt(0.45 * slope_sd**2 + contrast_sd**2), rel=0.03)


def test_spread_of_slopes_is_that_of_statsmodels():
    part = pieces(np.random.default_rng(1), 30, 0.3, 0.0)
    part = part._replace(size=np.abs(part.size) + 0.1)
    expected = combine_effects(part.found / part.size, part.var_found / part.size**2, method_re="dl")
    assert spread_of_slopes(part).slope_sd ** 2 == pytest.approx(expected.tau2)
    assert spread_of_slopes(Pieces(*(v[:4] for v in part))) == NO_SPREAD
    assert spread_of_contrasts(Pieces(*(v[:4] for v in part)), 0.8, np.ones(4)) == NO_SPREAD


def test_predictions_without_noise_have_no_spread():
    size = np.linspace(-1, 2, 9)
    nothing = np.zeros(9)
    exact = Pieces(0.5 * size, size, nothing, nothing, nothing)
    assert spread_of_contrasts(exact, 0.5, np.ones(9))[:2] == (0, 0)
    off = exact._replace(found=0.5 * size + np.array([0.1, -0.1, 0.1] * 3))
    assert spread_of_contrasts(off, 0.5, np.ones(9)).contrast_sd == pytest.approx(0.1, rel=0.1)


def test_a_family_finds_its_spread():
    """In arms of 200; in small ones some of the slope's spread, which needs the truth, goes to the contrasts' own."""
    found = [fitted(seed, n=400) for seed in range(40)]
    assert np.sqrt(np.mean([item.slope_sd**2 for item in found])) == pytest.approx(0.2, abs=0.03)
    assert np.sqrt(np.mean([item.contrast_sd**2 for item in found])) == pytest.approx(0.1, abs=0.03)
    assert {item.n_spread for item in found} == {60}
    none = [fitted(seed, slope_sd=0.0, contrast_sd=0.0) for seed in range(40)]
    assert np.sqrt(np.mean([item.slope_sd**2 for item in none])) < 0.05


def test_spreads_feel_units_and_nothing_else():
    x, y, group, treated = world(0)
    base = LevelCalibration().fit(x, y, families=[ContrastFamily.treated(NAME, treated, group)]).levels_[NAME]
    order = np.random.default_rng(1).permutation(y.size)
    moved = (
        LevelCalibration()
        .fit(
            7 + 3 * x[order],
            1 + 2 * y[order],
            families=[ContrastFamily.treated(NAME, treated[order], group[order])],
        )
        .levels_[NAME]
    )
    assert moved.slope_sd == pytest.approx(1.5 * base.slope_sd)
    assert moved.contrast_sd == pytest.approx(3 * base.contrast_sd)


@pytest.mark.parametrize("level", ["within region", "between region"])
def test_levels_have_a_spread_between_the_coarsest_groups(level):
    """Slopes that differ by survey with an sd of 0.2; and none where they do not."""
    for sd in (0.2, 0.0):
        squares, covered = [], 0
        for seed in range(30):
            rng = np.random.default_rng(seed)
            survey, region = np.repeat(np.arange(40), 100), np.repeat(np.arange(400), 10)
            slope = (0.7 + sd * rng.normal(size=41))[np.append(survey, 40)]
            between, within = rng.normal(size=400)[region], rng.normal(size=4000)
            x = slope[:-1] * (between + within) + 0.3 * rng.normal(size=4000)
            found = LevelCalibration().fit(x, between + within, {"survey": survey, "region": region})
            item = found.levels_[level]
            squares.append(item.slope_sd**2)
            low, high = item.new_interval()
            covered += low < slope[-1] < high
        assert math.sqrt(np.mean(squares)) == pytest.approx(sd, abs=0.04)
        assert found.levels_["between survey"].n_spread is None
        assert sd == 0 or covered >= 26


def card_of(seed=0, **about):
    x, y, group, treated = world(seed)
    family = ContrastFamily.treated(NAME, treated, group)
    return build_card(
        x,
        y,
        families=[family],
        target={"name": "w", "unit": "i"},
        predictor="m",
        methods=("linear",),
        **about,
    )


def test_an_effect_carries_the_spread_in_every_interval(tmp_path):
    card = CalibrationCard.load(card_of(n_boot=4000).save(tmp_path / "card.json"))
    level = card.level(NAME)
    assert min(level.slope_sd, level.contrast_sd) > 0.05
    error, df = new_slope(level.std_error, level.df, level.slope_sd, level.n_spread)
    assert (error, df) == (level.new_std_error, level.new_df)
    assert error == math.hypot(level.std_error, level.slope_sd)
    x, _, group, treated = world(3)
    trial = pd.DataFrame({"w": x, "t": treated, "g": group})
    arguments = {"outcome": "w", "treatment": "t", "calibration": card, "assumption": "measurement"}
    result = estimate_effect(trial, **arguments, method="level", card_level=NAME)
    d, variance = result.naive.estimate, result.naive.variance_trial
    b, t = level.slope, d / level.slope
    parts = np.array([variance, level.contrast_sd**2, (t * error) ** 2]) / b**2
    assert result.estimate == pytest.approx(t)
    assert result.std_error == pytest.approx(math.sqrt(parts.sum()))
    mixed = combined_df(parts[0], result.naive.df, parts[1], df)
    assert result.df == pytest.approx(combined_df(parts[0] + parts[1], mixed, parts[2], df))
    critical = critical_value(0.95, result.df)
    expected = fieller_set(d, variance + level.contrast_sd**2, b, error**2, critical).hull
    assert result.conf_int(method="fieller") == pytest.approx(expected)
    delta, boot = (np.ptp(result.conf_int(method=name)) for name in ("delta", "bootstrap"))
    assert boot == pytest.approx(delta, rel=0.05)
    sensitivity = result.sensitivity()
    assert sensitivity.visibility(1.0).std_error == pytest.approx(result.std_error)
    table = sensitivity.levels(card)
    assert table["slope_std_error"].item() == pytest.approx(error)


def test_an_old_card_has_no_spread():
    """What was written before there were spreads is read, keeps its hash, and means what it meant."""
    content = card_of(n_boot=20).model_dump(mode="json")
    for name in ("slope_sd", "contrast_sd", "n_spread"):
        del content["levels"][0][name]
    card = CalibrationCard.model_validate(content)
    text = card.to_json()
    assert "slope_sd" not in text
    level = CalibrationCard.from_json(text).level(NAME)
    assert (level.new_std_error, level.new_df) == (level.std_error, level.df)


@pytest.mark.parametrize("model", ["resnet_18_msnl_concat", "ridge_ms_hist"])
def test_town_contrasts_of_a_country_left_out(model):
    """Prediction intervals hold nine in ten or more of 43 surveys' contrasts; those of the mean slope, far fewer."""
    rows = real("yeh_dhs_incountry.parquet")
    country = rows["country"].to_numpy()
    family = ContrastFamily.treated(NAME, rows["urban"], rows["country"] + rows["year"].astype(str))
    x, y = rows[f"p_{model}"].to_numpy(), rows["y_true"].to_numpy()
    inside = {"new": [], "mean": []}
    for name in np.unique(country):
        rest, held = family.on(country != name, 10), family.on(country == name, 10)
        found = LevelCalibration().fit(x, y, groups=country, families=[rest]).levels_[NAME]
        for (on, off), dx, dy in zip(held.arms, held.differences(x), held.differences(y), strict=True):
            variance = x[on].var(ddof=1) / on.size + x[off].var(ddof=1) / off.size
            error, df = new_slope(found.std_error, found.df, found.slope_sd, found.n_spread)
            new = math.sqrt(variance + found.contrast_sd**2 + (dy * error) ** 2)
            mean = math.sqrt(variance + (dy * found.std_error) ** 2)
            miss = abs(dx - found.slope * dy) / critical_value(0.95, df)
            inside["new"].append(miss < new)
            inside["mean"].append(miss < mean)
    assert np.mean(inside["new"]) > 0.9
    assert np.mean(inside["mean"]) < 0.75
