"""Effects on distributions of truth, unfolded from predictions."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sustain.causal import DistributionResult, estimate_distribution
from sustain.debias import CalibrationCard, build_card
from sustain.debias.response.distribution import unfold_sides, unfolding_moves
from sustain.debias.response.measures import Measure, headcount, mean_of_part, quantile, shortfall
from sustain.debias.table import Nodes
from sustain.errors import CardError, EffectError, SupportWarning

matplotlib.use("Agg")

ABOUT: dict[str, Any] = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model"}
LINES = (-0.8, 0.0)
GAIN = 0.5
CALL: dict[str, Any] = {"outcome": "wealth", "treatment": "treated", "lines": LINES}


def predict(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrunken predictions of a truth."""
    return np.asarray(0.6 * y + 0.5 * rng.normal(size=y.size))


@pytest.fixture(scope="module")
def card() -> CalibrationCard:
    rng = np.random.default_rng(0)
    y = rng.normal(size=4000)
    return build_card(predict(y, rng), y, methods=("linear", "response"), n_boot=20, **ABOUT)


def make_trial(n: int, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, n)
    y = rng.normal(size=n) + GAIN * treated
    return pd.DataFrame(
        {
            "wealth": predict(y, rng),
            "treated": treated,
            "x": rng.normal(size=n),
            "g": np.arange(n) % 40,
            "y": y,
        }
    )


@pytest.fixture(scope="module")
def found(card: CalibrationCard) -> DistributionResult:
    return estimate_distribution(make_trial(8000), calibration=card, **CALL)


def test_a_large_normal_trial_has_the_headcounts_and_quantiles_of_normal_distributions(
    found: DistributionResult,
) -> None:
    for line in LINES:
        item = found.get("headcount", line)
        assert item.control.estimate == pytest.approx(norm.cdf(line), abs=0.03)
        assert item.treated.estimate == pytest.approx(norm.cdf(line - GAIN), abs=0.03)
        gap = line * norm.cdf(line) + norm.pdf(line)  # mean of (line - y)+
        assert found.get("shortfall", line).control.estimate == pytest.approx(gap, abs=0.03)
    for share in (0.1, 0.5, 0.9):
        assert found.get("quantile", share).control.estimate == pytest.approx(norm.ppf(share), abs=0.15)
        assert found.get("quantile", share).effect.estimate == pytest.approx(GAIN, abs=0.12)
    for third in (1, 2, 3):
        assert found.get("gain", third).effect.estimate == pytest.approx(GAIN, abs=0.12)
    assert found.mean.effect.estimate == pytest.approx(GAIN, abs=0.06)
    assert "who gains more cannot be told" in " ".join(found.notes)


def test_shares_of_predictions_below_a_line_are_further_off(found: DistributionResult) -> None:
    trial = make_trial(8000)
    raw = trial.groupby("treated")["wealth"].apply(lambda x: float((x < LINES[0]).mean()))
    true = norm.cdf(LINES[0] - GAIN) - norm.cdf(LINES[0])
    ours = found.get("headcount", LINES[0]).effect.estimate
    assert abs(ours - true) < abs(raw[1] - raw[0] - true) / 2


@pytest.mark.parametrize(
    "make",
    [lambda t: headcount(t, 0.13), lambda t: shortfall(t, 0.13), lambda t: mean_of_part(t, 1 / 3, 2 / 3)],
)
def test_a_gradient_is_the_derivative_of_its_measure(make: Any) -> None:
    truth = Nodes(-3.0, 3.0, 61)
    item: Measure = make(truth)
    one, other = (norm.pdf(truth.x, at, sd) for at, sd in ((0.0, 1.0), (0.5, 0.8)))
    one, other = one / one.sum(), other / other.sum()
    step = 1e-4
    moved = float(item.value(one + step * (other - one)) - item.value(one - step * (other - one))) / (
        2 * step
    )
    assert item.gradient(one) @ (other - one) == pytest.approx(moved, rel=1e-6)


def test_quantiles_undo_headcounts_and_thirds_have_the_mean() -> None:
    truth = Nodes(-3.0, 3.0, 61)
    p = norm.pdf(truth.x) / norm.pdf(truth.x).sum()
    at = float(quantile(truth, 0.3).value(p))
    assert headcount(truth, at).value(p) == pytest.approx(0.3)
    thirds = [float(mean_of_part(truth, part / 3, (part + 1) / 3).value(p)) for part in range(3)]
    assert np.mean(thirds) == pytest.approx(p @ truth.x, abs=1e-12)
    assert thirds == sorted(thirds)


def test_moves_are_how_the_two_distributions_move_with_a_units_cell(card: CalibrationCard) -> None:
    model = card.response_model
    response = model.response(model.pooled)
    trial = make_trial(600)
    ones = np.ones(300)
    values = [trial.loc[trial["treated"] == arm, "wealth"].to_numpy()[:250] for arm in (0, 1)]
    shares = [response.shares(item, np.ones(item.size)) for item in values]
    control, treated = shares
    sides = unfold_sides(response, control, treated, 250, 250)
    moves = unfolding_moves(response, control, treated, 250, 250, sides)
    cells = response.cells(values[1])
    # Leaving one unit out moves the distribution by its influence, about.
    for unit in (0, 1, 2):
        less = response.shares(np.delete(values[1], unit), ones[:249])
        exact = unfold_sides(response, control, less, 250, 250).treated - sides.treated
        by_unit = -(moves.treated_by_treated[cells[unit]] - treated @ moves.treated_by_treated) / 249
        assert np.abs(np.cumsum(exact - by_unit)).max() < 0.25 * np.abs(np.cumsum(exact)).max()


def test_the_order_of_rows_does_not_matter(card: CalibrationCard) -> None:
    trial = make_trial(500)
    one = estimate_distribution(trial, calibration=card, **CALL).tidy()
    other = estimate_distribution(trial.sample(frac=1, random_state=0), calibration=card, **CALL).tidy()
    numbers = ["estimate", "std.error"]
    np.testing.assert_allclose(one[numbers], other[numbers], rtol=1e-6)


def test_units_of_truth_and_of_predictions_are_theirs() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=1000)
    x, trial = predict(y, rng), make_trial(500)
    plain = build_card(x, y, methods=("linear", "response"), n_boot=20, **ABOUT)
    scaled = build_card(70 * x - 3, 100 * y + 50, methods=("linear", "response"), n_boot=20, **ABOUT)
    one = estimate_distribution(trial, calibration=plain, **CALL).tidy()
    moved = trial.assign(wealth=70 * trial["wealth"] - 3)
    lines = {"lines": [100 * line + 50 for line in LINES]}
    other = estimate_distribution(moved, calibration=scaled, **{**CALL, **lines}).tidy()
    by = np.where(one["term"] == "headcount", 1.0, 100.0)
    by_arm = np.where((one["arm"] != "effect") & ~one["term"].isin(["headcount", "shortfall"]), 50.0, 0.0)
    np.testing.assert_allclose(other["estimate"], by * one["estimate"] + by_arm, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(other["std.error"], by * one["std.error"], rtol=0.02)


def test_a_weight_of_two_is_two_units(card: CalibrationCard) -> None:
    trial = make_trial(400)
    twice = pd.concat([trial, trial])
    clusters = {"CRV1": "g"}
    weighted = estimate_distribution(
        trial.assign(w=2.0), weights="w", calibration=card, vcov=clusters, **CALL
    )
    plain = estimate_distribution(trial, calibration=card, vcov=clusters, **CALL)
    np.testing.assert_allclose(weighted.tidy()["estimate"], plain.tidy()["estimate"], rtol=1e-8)
    # The tilt is held back a little less by twice the units.
    more = estimate_distribution(twice, calibration=card, vcov=clusters, **CALL)
    np.testing.assert_allclose(more.tidy()["estimate"], plain.tidy()["estimate"], atol=0.03)


@pytest.mark.parametrize("estimator", ["ols", "ipw", "aipw"])
def test_designs_with_a_covariate_that_says_nothing_agree(card: CalibrationCard, estimator: Any) -> None:
    trial = make_trial(2000)
    plain = estimate_distribution(trial, calibration=card, **CALL)
    adjusted = estimate_distribution(trial, covariates="x", estimator=estimator, calibration=card, **CALL)
    for line in LINES:
        one, other = plain.get("headcount", line).effect, adjusted.get("headcount", line).effect
        assert abs(one.estimate - other.estimate) < 0.3 * one.std_error
        assert other.std_error == pytest.approx(one.std_error, rel=0.1)


def test_populations_of_the_card_are_unfolded_each_by_its_own(card: CalibrationCard) -> None:
    rng = np.random.default_rng(3)
    y, place = rng.normal(size=4000), np.repeat(["north", "south"], 2000)
    x = predict(y, rng) + np.where(place == "north", 0.0, 0.6)
    split = build_card(x, y, strata=place, methods=("linear", "response"), n_boot=20, **ABOUT)
    treated = rng.integers(0, 2, 3000)
    truth = rng.normal(size=3000) + GAIN * treated
    where = np.repeat(["north", "south"], 1500)
    trial = pd.DataFrame(
        {"wealth": predict(truth, rng) + 0.6 * (where == "south"), "treated": treated, "place": where}
    )
    result = estimate_distribution(trial, calibration=split, strata="place", **CALL)
    assert result.get("headcount", 0.0).control.estimate == pytest.approx(0.5, abs=0.04)
    with pytest.raises(EffectError, match="treated or controls only"):
        estimate_distribution(
            trial[(trial["place"] == "north") | (trial["treated"] == 1)],
            calibration=split,
            strata="place",
            **CALL,
        )


def test_it_says_what_it_found_in_every_form(found: DistributionResult) -> None:
    table = found.tidy()
    assert set(table["arm"]) == {"control", "treated", "effect"}
    assert {"headcount", "shortfall", "quantile", "gain", "mean"} == set(table["term"])
    arms = {arm: part["estimate"].to_numpy() for arm, part in table.groupby("arm")}
    np.testing.assert_allclose(arms["treated"] - arms["control"], arms["effect"], atol=1e-12)
    bands = found.distributions()
    assert (bands["control"].diff().dropna() >= 0).all()
    assert ((bands["control.low"] <= bands["control"]) & (bands["control"] <= bands["control.high"])).all()
    assert found.to_dict()["measures"][0]["term"] == "headcount"
    assert "headcount below -0.8" in found.summary()
    assert "headcount below -0.8" in found._repr_html_()
    assert len(found.plot().lines) == 2 + len(LINES)
    with pytest.raises(EffectError, match="was not measured"):
        found.get("headcount", 17.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lines": (9.0,)}, "lines: got 9"),
        ({"lines": "poor"}, "lines: got .poor., expected finite numbers"),
        ({"lines": (0.0, float("nan"))}, "lines: got nan, expected finite numbers"),
        ({"quantiles": ["median"]}, "quantiles: got .median., expected finite numbers"),
        ({"quantiles": (1.0,)}, "quantiles: got 1"),
        ({"measures": ("gini",)}, "has no zero"),
        ({"measures": ("fgt2",)}, "weighs the tail"),
        ({"measures": ("mode",)}, "expected names among"),
        ({"lines": (), "measures": ("headcount",)}, "lines: none given"),
        ({"estimator": "did"}, "estimator"),
        ({"calibration": None}, "calibration"),
    ],
)
def test_what_cannot_be_given_is_refused(card: CalibrationCard, options: Any, message: str) -> None:
    with pytest.raises(EffectError, match=message):
        estimate_distribution(make_trial(200), **{"calibration": card, **CALL, **options})


def test_designs_that_compare_no_two_groups_are_refused(card: CalibrationCard) -> None:
    trial = make_trial(300).assign(z=lambda t: t["treated"])
    with pytest.raises(EffectError, match="'iv'"):
        estimate_distribution(trial, "wealth ~ 1 | treated ~ z", calibration=card, lines=0.0)
    with pytest.raises(EffectError, match="product of the treatment"):
        estimate_distribution(trial, "wealth ~ treated * x", treatment="treated", calibration=card, lines=0.0)
    # Covariates that nearly tell the arms apart put some treated on the controls' side.
    near = trial.assign(x=trial["treated"] + 0.3 * trial["x"] + (np.arange(300) == 7) * 9)
    with pytest.raises(EffectError, match="expected 1"):
        estimate_distribution(near, covariates="x", estimator="ols", calibration=card, **CALL)


def test_a_warning_of_support_points_at_the_call(card: CalibrationCard) -> None:
    trial = make_trial(300)
    trial["wealth"] += 3.0
    with pytest.warns(SupportWarning, match="outside") as seen:
        estimate_distribution(trial, calibration=card, **CALL)
    assert seen[0].filename == __file__


def test_a_card_without_a_response_is_refused() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    linear = build_card(predict(y, rng), y, methods=("linear",), n_boot=20, **ABOUT)
    with pytest.raises(CardError, match="response"):
        estimate_distribution(make_trial(200), calibration=linear, **CALL)


@pytest.mark.filterwarnings("ignore::sustain.errors.SupportWarning")
def test_intervals_cover_and_are_not_all_width(card: CalibrationCard) -> None:
    inside, errors = [], []
    for seed in range(25):
        result = estimate_distribution(
            make_trial(600, 100 + seed), calibration=card, measures=("headcount",), **CALL
        )
        for line in LINES:
            end = result.get("headcount", line).effect
            true = norm.cdf(line - GAIN) - norm.cdf(line)
            low, high = result.conf_int(end)
            inside.append(low <= true <= high)
            errors.append((end.estimate - true, end.std_error))
    error, said = np.array(errors).T
    assert 0.87 <= np.mean(inside) <= 1
    assert said.mean() < 2.5 * np.sqrt(np.mean(error**2))
    assert said.mean() > 0.9 * np.sqrt(np.mean(error**2))


def test_an_earlier_and_a_later_stop_widen_the_interval(found: DistributionResult) -> None:
    item = found.get("headcount", LINES[0])
    assert 0 < item.share_unfolding < 1
    assert item.share_unfolding + item.effect.share_calibration < 1
    assert "bias that unfolding may leave" in found.summary()
