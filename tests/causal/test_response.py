"""Effects that are read back through the response curve."""

import math

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card
from sustain.debias.response.influence import influence
from sustain.debias.response.unfolding import Arms, unfold_effect
from sustain.errors import CardError, EffectError

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model", "n_boot": 20}


def bent(y):
    """A response curve that is steep for the poor and flat for the rich."""
    return 1.2 * np.tanh(0.8 * y)


def rows(n, seed, curve=bent, noise=0.4, mean=0.0):
    rng = np.random.default_rng(seed)
    y = rng.normal(mean, 1.0, n)
    return curve(y) + noise * rng.normal(size=n), y


def trial(n, seed, gain=0.5, curve=bent, noise=0.4, mean=0.0):
    """A trial whose treatment moves the truth by `gain`, a number or a function of truth and generator."""
    rng = np.random.default_rng(seed)
    y = rng.normal(mean, 1.0, n)
    treated = rng.integers(0, 2, n)
    moved = gain(y, rng) if callable(gain) else gain
    after = y + treated * moved
    return pd.DataFrame(
        {
            "wealth": curve(after) + noise * rng.normal(size=n),
            "treated": treated,
            "x": y + rng.normal(size=n),
            "village": np.arange(n) // 10,
            "lat": rng.uniform(0, 5, n),
            "lon": rng.uniform(0, 5, n),
        }
    )


@pytest.fixture(scope="module")
def card():
    x, y = rows(4000, 1)
    return build_card(x, y, **ABOUT)


def effect_of(data, card, **arguments):
    asked = {"outcome": "wealth", "treatment": "treated", "assumption": "measurement"} | arguments
    return estimate_effect(data, calibration=card, **asked)


class TestKnownAnswers:
    def test_is_the_default_of_a_card_that_holds_a_response(self, card):
        assert effect_of(trial(400, 2), card).method == "response"
        x, y = rows(400, 1)
        assert effect_of(trial(400, 2), build_card(x, y, methods=["linear"], **ABOUT)).method == "linear"

    def test_of_a_straight_curve_is_the_linear_one(self):
        x, y = rows(20_000, 3, curve=lambda y: 0.6 * y + 0.1)
        line = build_card(x, y, **ABOUT)
        data = trial(20_000, 4, curve=lambda y: 0.6 * y + 0.1)
        response, linear = (effect_of(data, line, method=name) for name in ("response", "linear"))
        assert response.estimate == pytest.approx(linear.estimate, rel=0.01)
        assert response.std_error == pytest.approx(linear.std_error, rel=0.1)

    @pytest.mark.parametrize("gain", [0.3, 1.0, -0.5])
    @pytest.mark.parametrize("mean", [-0.7, 0.0, 0.7])
    def test_reads_effects_back_wherever_the_trial_lies(self, card, gain, mean):
        """Within 15% where the trial's truths lie .7 standard deviations from the calibration's; 7% in the middle."""
        data = trial(40_000, 5, gain=gain, mean=mean)
        room = 0.07 if mean == 0 else 0.15
        assert effect_of(data, card).estimate == pytest.approx(gain, rel=room)

    def test_is_nearer_than_the_linear_correction_where_the_curve_is_flat(self, card):
        data = trial(40_000, 5, gain=0.5, mean=0.7)
        response, linear = (effect_of(data, card, method=name).estimate for name in ("response", "linear"))
        assert linear < 0.43
        assert abs(response - 0.5) < abs(linear - 0.5)

    def test_half_respond(self, card):
        data = trial(40_000, 6, gain=lambda y, rng: 1.0 * (rng.random(y.size) < 0.5))
        result = effect_of(data, card)
        assert result.estimate == pytest.approx(0.5, abs=0.03)
        assert result.response.slope == pytest.approx(result.naive.estimate / result.estimate)

    def test_says_that_effects_differ_where_they_do(self, card):
        poor = trial(20_000, 7, gain=lambda y, rng: 1.5 * (y < -0.5), mean=-0.3)
        result = effect_of(poor, card)
        assert result.response.differs
        assert any(note.kind == "effects_differ" for note in result.notes)
        assert "If every unit gains alike" in result.summary()

    def test_says_so_rarely_where_all_gain_alike(self, card):
        said = [effect_of(trial(1500, seed), card).response.differs for seed in range(20, 50)]
        assert np.mean(said) <= 0.15

    def test_beyond_the_curve_is_said(self, card):
        result = effect_of(trial(2000, 8, gain=1.0, mean=2.2), card)
        assert result.response.extrapolated > 0.1
        assert any(note.kind == "extrapolated" for note in result.notes)

    def test_distributions_sum_to_one_and_have_the_right_means(self, card):
        found = effect_of(trial(20_000, 9, gain=0.5, mean=-0.5), card).response
        assert found.control.sum() == pytest.approx(1)
        assert found.treated.sum() == pytest.approx(1)
        assert found.control @ found.truth == pytest.approx(-0.5, abs=0.1)
        assert found.treated @ found.truth == pytest.approx(0.0, abs=0.1)


class TestVariance:
    def test_covers(self):
        """Trial and calibration drawn anew each time: 95% of the intervals hold the effect."""
        covered = []
        for seed in range(150):
            x, y = rows(400, 1000 + seed)
            drawn = build_card(x, y, methods=["linear", "response"], **ABOUT)
            low, high = effect_of(trial(500, 5000 + seed, mean=-0.4), drawn).conf_int()
            covered.append(low <= 0.5 <= high)
        assert np.mean(covered) == pytest.approx(0.95, abs=0.045)

    def test_the_trials_part_is_that_of_resampled_units(self, card):
        data = trial(800, 10)
        found = effect_of(data, card).response
        rng = np.random.default_rng(0)
        again = []
        for _ in range(200):
            sample = data.iloc[rng.integers(0, len(data), len(data))]
            result = effect_of(sample, card).response
            again.append((result.unfolded.estimate, result.alike.estimate))
        for end, spread in zip((found.unfolded, found.alike), np.std(again, axis=0), strict=True):
            assert math.sqrt(end.variance_trial) == pytest.approx(spread, rel=0.15)

    def test_the_calibrations_part_is_that_of_resampled_rows(self):
        data = trial(4000, 11, mean=-0.4)
        x, y = rows(600, 12)
        found = effect_of(data, build_card(x, y, methods=["linear", "response"], **ABOUT))
        rng = np.random.default_rng(0)
        again = []
        for _ in range(120):
            pick = rng.integers(0, 600, 600)
            again.append(
                effect_of(
                    data, build_card(x[pick], y[pick], methods=["linear", "response"], **ABOUT)
                ).estimate
            )
        assert math.sqrt(found.corrected.variance_calibration) == pytest.approx(np.std(again), rel=0.3)
        assert found.corrected.variance_draws == pytest.approx(found.corrected.variance_calibration, rel=0.4)

    def test_influence_is_the_derivative(self, card):
        """Moving some weight to one cell moves the effect by as much as the derivative says."""
        model = card.response_model
        response = model.response(model.pooled)
        data = trial(3000, 13)
        treated = data["treated"].to_numpy() == 1
        values = data["wealth"].to_numpy()
        arms = Arms(
            response.shares(values[~treated], np.ones((~treated).sum())),
            response.shares(values[treated], np.ones(treated.sum())),
        )
        difference = values[treated].mean() - values[~treated].mean()
        found = unfold_effect([response], [arms], difference)
        by = influence([response], [arms], found, difference)
        cell, little = 45, 0.01
        moved = (1 - little) * arms.treated + little * np.eye(arms.treated.size)[cell]
        after = unfold_effect([response], [arms._replace(treated=moved)], difference)
        for derivative, old, new in zip(
            by, (found.effect, found.shift), (after.effect, after.shift), strict=True
        ):
            slope = derivative.treated[0]
            expected = little * (slope[cell] - arms.treated @ slope)
            assert float(new - old) == pytest.approx(float(expected), rel=0.1, abs=2e-5)

    @pytest.mark.parametrize(
        "vcov",
        [
            {"CRV1": "village"},
            {"CR2": "village"},
            {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 20}},
            {"block": {"lat": "lat", "lon": "lon", "block_km": 60, "n_boot": 99}},
        ],
    )
    def test_every_covariance_serves(self, card, vcov):
        """Units are independent here, so that every variance is about that of independent units."""
        data = trial(2000, 14)
        plain, other = effect_of(data, card), effect_of(data, card, vcov=vcov)
        assert other.estimate == pytest.approx(plain.estimate, rel=0.02)
        assert other.std_error == pytest.approx(plain.std_error, rel=0.3)
        assert 0 < other.share_calibration < 1


class TestDesigns:
    @pytest.mark.parametrize(
        "design",
        [
            {"estimator": "ols", "covariates": "x"},
            {"estimator": "ipw", "covariates": "x"},
            {"estimator": "aipw", "covariates": "x"},
            {"estimator": "ols", "fixed_effects": "village"},
        ],
    )
    def test_find_the_effect(self, card, design):
        assert effect_of(trial(20_000, 15), card, **design).estimate == pytest.approx(0.5, abs=0.05)

    def test_an_instrument_gives_the_effect_of_those_it_moves(self, card):
        rng = np.random.default_rng(16)
        n = 60_000
        y, offer, complies = rng.normal(size=n), rng.integers(0, 2, n), rng.random(n) < 0.5
        treated = (offer == 1) & complies
        data = pd.DataFrame(
            {
                "wealth": bent(y + 0.6 * treated) + 0.4 * rng.normal(size=n),
                "treated": treated * 1,
                "offer": offer,
            }
        )
        result = effect_of(data, card, estimator="iv", instrument="offer")
        assert result.estimate == pytest.approx(0.6, abs=0.06)
        assert result.response.alike.estimate == pytest.approx(0.6, abs=0.06)

    def test_products_are_read_back_too(self, card):
        rng = np.random.default_rng(17)
        n = 40_000
        y, x, treated = rng.normal(-0.5, 0.8, n), rng.integers(0, 2, n), rng.integers(0, 2, n)
        after = y + treated * (0.3 + 0.4 * x)
        data = pd.DataFrame({"wealth": bent(after) + 0.4 * rng.normal(size=n), "treated": treated, "x": x})
        result = estimate_effect(data, "wealth ~ treated * x", calibration=card, assumption="measurement")
        found = result.coefficients.query("method == 'response'").set_index("term")["estimate"]
        assert found["treated"] == pytest.approx(0.3, abs=0.06)
        assert found["treated:x"] == pytest.approx(0.4, abs=0.08)

    def test_the_bracket_has_both_ends(self, card):
        result = effect_of(trial(2000, 18), card, assumption="bracket")
        assert result.bracket[0].method == "none"
        assert result.bracket[1].method == "response"
        path = result.path()
        assert path["estimate"].iloc[0] == pytest.approx(result.naive.estimate)
        assert path["estimate"].iloc[-1] == pytest.approx(result.corrected.estimate)


class TestInvariants:
    @pytest.fixture
    def data(self):
        return trial(900, 19)

    def test_order_of_rows(self, card, data):
        one, other = effect_of(data, card), effect_of(data.sample(frac=1, random_state=0), card)
        assert other.estimate == pytest.approx(one.estimate, rel=1e-9)
        assert other.std_error == pytest.approx(one.std_error, rel=1e-9)

    @pytest.mark.parametrize(("scale", "offset"), [(100.0, 0.0), (1.0, 1e4), (1e-3, 5.0)])
    def test_units_of_the_target(self, data, scale, offset):
        x, y = rows(1500, 20)
        plain = effect_of(data, build_card(x, y, **ABOUT))
        moved = build_card(scale * x + offset, scale * y + offset, **ABOUT)
        other = effect_of(data.assign(wealth=scale * data["wealth"] + offset), moved)
        assert other.estimate == pytest.approx(scale * plain.estimate, rel=1e-3)
        assert other.std_error == pytest.approx(scale * plain.std_error, rel=1e-2)

    def test_weights_are_repetitions(self, card, data):
        rng = np.random.default_rng(0)
        times = rng.integers(1, 4, len(data))
        repeated = effect_of(data.loc[data.index.repeat(times)], card).response
        weighted = effect_of(data.assign(w=times), card, weights="w").response
        assert weighted.unfolded.estimate == pytest.approx(repeated.unfolded.estimate, rel=1e-9)
        assert weighted.alike.estimate == pytest.approx(repeated.alike.estimate, rel=1e-9)

    def test_a_saved_card_says_the_same(self, card, data, tmp_path):
        read = CalibrationCard.load(card.save(tmp_path / "card.json"))
        assert effect_of(data, read).to_dict() == effect_of(data, card).to_dict()

    def test_twice_the_same(self, card, data):
        assert effect_of(data, card).to_dict() == effect_of(data, card).to_dict()


class TestPopulations:
    @pytest.fixture
    def stratified(self):
        x0, y0 = rows(1500, 21, curve=lambda y: 0.3 * y - 0.5, mean=-0.5)
        x1, y1 = rows(1500, 22, curve=lambda y: 0.7 * y + 0.5, mean=0.5)
        place = np.repeat(["rural", "urban"], 1500)
        return build_card(np.concatenate([x0, x1]), np.concatenate([y0, y1]), strata=place, **ABOUT)

    def test_each_unit_has_the_curve_of_its_own(self, stratified):
        rural = trial(20_000, 23, curve=lambda y: 0.3 * y - 0.5, mean=-0.5).assign(place="rural")
        urban = trial(20_000, 24, curve=lambda y: 0.7 * y + 0.5, mean=0.5).assign(place="urban")
        both = pd.concat([rural, urban], ignore_index=True)
        for data in (rural, urban, both):
            assert effect_of(data, stratified, strata="place").estimate == pytest.approx(0.5, abs=0.07)
        assert effect_of(rural, stratified).estimate < 0.4  # by the pooled curve

    def test_unequal_arms_of_a_population_are_no_effect(self, stratified):
        """With strata in the design, that the treated are more often urban does not count."""
        rural = trial(4000, 23, gain=0.5, curve=lambda y: 0.3 * y - 0.5, mean=-0.5).assign(place="rural")
        urban = trial(4000, 24, gain=0.5, curve=lambda y: 0.7 * y + 0.5, mean=0.5).assign(place="urban")
        kept = pd.concat(
            [rural[(rural["treated"] == 0) | (rural["village"] % 2 == 0)], urban], ignore_index=True
        )
        found = effect_of(kept, stratified, strata="place", estimator="ols", covariates="place")
        assert found.estimate == pytest.approx(0.5, abs=0.08)

    def test_unknown_populations_are_named(self, stratified):
        data = trial(400, 25).assign(place="coast")
        with pytest.raises(CardError, match=r"'coast'.*rural, urban"):
            effect_of(data, stratified, strata="place")


class TestRefusals:
    def test_a_card_without_a_response(self):
        x, y = rows(300, 26)
        with pytest.raises(CardError, match="holds no response"):
            effect_of(trial(300, 27), build_card(x, y, methods=["linear"], **ABOUT), method="response")

    def test_units_that_calibrated(self, card):
        x, y = rows(4000, 1)
        calibration = pd.DataFrame({"id": np.arange(4000), "y_pred": x, "y_true": y})
        data = trial(400, 28).assign(id=np.arange(400))
        with pytest.raises(EffectError, match="linear correction only"):
            effect_of(data, card, method="response", overlap={"id": "id", "rows": calibration})

    def test_fieller_names_another_way(self, card):
        with pytest.raises(EffectError, match="delta"):
            effect_of(trial(400, 29), card).conf_int(method="fieller")


def test_what_no_common_gain_explains_is_said(card):
    """Arms that the image tells apart by more than any gain along the curve."""
    data = trial(1000, 30, gain=0.0)
    data["wealth"] += 3.0 * data["treated"]
    result = effect_of(data, card)
    assert result.response.bounded
    assert result.response.weight_alike == 0
    assert any(note.kind == "bounded" for note in result.notes)
    assert not effect_of(trial(1000, 30), card).response.bounded


class TestTwoCurves:
    """Strata whose curves have different slopes: what differs between their predictions need not differ in truth."""

    @pytest.fixture
    def data(self):
        rng = np.random.default_rng(31)
        n = 20_000
        place, treated = np.arange(n) % 2, rng.integers(0, 2, n)
        after = rng.normal(size=n) + treated
        wealth = np.where(place == 1, 1.0, 0.5) * after + 0.5 * rng.normal(size=n)
        return pd.DataFrame({"wealth": wealth, "treated": treated, "place": place})

    def card_of(self, slope, n=6000, few=0, base=0.5):
        rng = np.random.default_rng(32)
        place = (np.arange(n) % 2).astype(object)
        place[:few] = "hardly seen"
        y = rng.normal(size=n)
        x = np.where(np.arange(n) % 2 == 1, slope, base) * y + 0.5 * rng.normal(size=n)
        return build_card(x, y, strata=place, **ABOUT)

    def test_a_product_with_the_stratum_is_zero_where_effects_are_equal(self, data):
        result = estimate_effect(
            data,
            "wealth ~ treated * place",
            calibration=self.card_of(1.0),
            strata="place",
            assumption="measurement",
        )
        found = result.coefficients.query("method == 'response'").set_index("term")
        assert found.loc["treated", "estimate"] == pytest.approx(1.0, abs=0.1)
        assert abs(found.loc["treated:place", "estimate"]) < 0.1  # that of predictions is 0.5

    @pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
    @pytest.mark.parametrize("slope", [0.0, -0.3])
    def test_a_flat_population_is_refused_by_name(self, data, slope):
        flat = self.card_of(slope, base=0.9)
        with pytest.raises(EffectError, match="strata: in '1' the slope of the response curve"):
            effect_of(data, flat, strata="place")

    @pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
    def test_a_stratum_of_few_rows_has_the_curve_of_all(self, data):
        found = effect_of(data.assign(place="hardly seen"), self.card_of(0.6, few=12), strata="place")
        pooled = effect_of(data, self.card_of(0.6, few=12))
        assert found.estimate == pytest.approx(pooled.estimate, rel=1e-6)

    def test_two_populations_stand_for_no_spread_elsewhere(self):
        rng = np.random.default_rng(33)
        group, place = np.arange(1800) % 30, np.arange(1800) % 2
        y = rng.normal(size=1800)
        x = rng.normal(0.7, 0.2, 30)[group] * y + 0.4 * rng.normal(size=1800)
        data = trial(800, 34, curve=lambda y: 0.7 * y)
        errors = [
            effect_of(
                data, build_card(x, y, groups=group, strata=strata, **ABOUT), transport="groups"
            ).std_error
            for strata in (None, place)
        ]
        assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_numbers_that_are_none_are_refused(card):
    for effect in (math.nan, math.inf, "a"):
        with pytest.raises(CardError, match="effect: got"):
            card.slope_for(effect)
