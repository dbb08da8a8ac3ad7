"""What a correction recovers of an effect, group by group: closed forms, invariance, and the spread that is put in."""

import numpy as np
import pytest

from sustain.debias import CalibrationCard, LinearCalibration, build_card
from sustain.debias.diagnosis.recovery import MIN_GROUPS, recovered_share, recovery_spread
from sustain.debias.sample import as_sample

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "m", "n_boot": 20}


def identity(x):
    return x


def countries(slopes, n=300, seed=0, curve=identity):
    """Predictions of each country a line, or a curve of it, in truth, with noise; their truth, and the country."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(slopes)), n)
    y = rng.normal(size=group.size)
    return curve(np.asarray(slopes)[group] * y) + 0.3 * rng.normal(size=group.size), y, group


class TestShare:
    def test_of_a_line_is_its_slope(self):
        y = np.random.default_rng(0).normal(size=400)
        share, variance = recovered_share(as_sample(0.7 * y + 1, y), 0.7 * y + 1, 0.5)
        assert share == pytest.approx(0.7, rel=1e-9)
        assert variance == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("gain", [0.25, 0.5, -0.5])
    def test_of_a_parabola_is_its_mean_rise(self, gain):
        """E[(y + d)^2 - y^2] / d = 2 E[y] + d; a spline of four knots is near it, a slope is 5."""
        y = np.random.default_rng(1).gamma(4.0, 0.5, 20_000)
        share, _ = recovered_share(as_sample(y**2, y), y**2, gain)
        assert share == pytest.approx(2 * y.mean() + gain, rel=0.07)

    def test_with_few_rows_is_the_least_squares_slope(self):
        rng = np.random.default_rng(2)
        y = rng.normal(size=60)
        x = 0.6 * y + 0.3 * rng.normal(size=60)
        sample = as_sample(x, y)
        share, variance = recovered_share(sample, x, 0.5)
        assert share == pytest.approx(sample.prediction_on_truth.slope)
        assert variance == pytest.approx(sample.prediction_on_truth.cov[1, 1])  # HC1

    def test_variance_is_that_over_samples(self):
        found = []
        for seed in range(400):
            rng = np.random.default_rng(seed)
            y = rng.normal(size=200)
            x = np.exp(0.3 * y) + 0.4 * rng.normal(size=200) * (1 + np.abs(y)) / 2
            found.append(recovered_share(as_sample(x, y), x, 0.5))
        share, variance = np.array(found).T
        # The truth differs over samples too: that part, of g alone, is in the spread but not in the variance.
        assert np.sqrt(variance.mean()) == pytest.approx(share.std(), rel=0.15)

    def test_noise_of_labels_is_taken_off(self):
        rng = np.random.default_rng(3)
        y = rng.normal(size=20_000)
        x, label = 0.7 * y + 0.2 * rng.normal(size=y.size), y + 0.5 * rng.normal(size=y.size)
        assert recovered_share(as_sample(x, label), x, 0.5)[0] == pytest.approx(0.7 / 1.25, rel=0.03)
        noisy = as_sample(x, label, target_noise_var=0.25)
        assert recovered_share(noisy, x, 0.5)[0] == pytest.approx(0.7, rel=0.03)
        assert recovered_share(as_sample(x, label, target_noise_var=0.0).take(np.arange(30)), x[:30], 0.5)

    def test_does_not_depend_on_units(self):
        x, y, _ = countries([0.7])
        here = recovered_share(as_sample(x, y), x, 0.5)
        there = recovered_share(as_sample(10 * x + 3, 5 * y - 2), 5 * x + 1, 2.5)
        assert there == pytest.approx(here)

    def test_truth_that_says_nothing(self):
        sample = as_sample(np.arange(40.0), np.arange(40.0), target_noise_var=1.0)
        flat = sample.take(np.arange(40))
        object.__setattr__(flat, "y_true", np.full(40, 2.0))
        assert recovered_share(flat, flat.y_pred, 0.5) is None

    @pytest.mark.parametrize("values", [2, 3])
    def test_truth_of_few_values(self, values):
        """No curve can be told from two values or three: a line is taken."""
        rng = np.random.default_rng(4)
        y = rng.integers(0, values, 300).astype(float)
        x = 0.5 * y + 0.1 * rng.normal(size=300)
        assert recovered_share(as_sample(x, y), x, 0.5)[0] == pytest.approx(np.polyfit(y, x, 1)[0])


class TestSpread:
    def test_is_the_one_put_in(self):
        rng = np.random.default_rng(0)
        found = [
            recovery_spread(as_sample(x, y, groups=g), lambda v: v / 0.7)
            for x, y, g in (countries(0.7 + 0.15 * rng.normal(size=30), seed=seed) for seed in range(20))
        ]
        assert np.mean([spread.sd for spread in found]) == pytest.approx(0.15 / 0.7, rel=0.08)
        assert np.mean([spread.mean for spread in found]) == pytest.approx(1, abs=0.03)

    def test_is_none_where_groups_are_alike(self):
        found = [
            recovery_spread(as_sample(x, y, groups=g), lambda v: v / 0.7)
            for x, y, g in (countries([0.7] * 20, seed=seed) for seed in range(20))
        ]
        assert np.median([spread.sd for spread in found]) < 0.015
        assert np.mean([spread.p_value < 0.05 for spread in found]) <= 0.2

    def test_is_the_corrections_own(self):
        """Undoing a curve that all countries share leaves slopes that differ; a line leaves curves as well."""
        x, y, g = countries([0.7] * 12, n=1000, curve=np.exp)
        sample = as_sample(
            x, y + g % 3, groups=g
        )  # countries at three levels of truth, where a line has one slope
        line = recovery_spread(
            sample, lambda v: LinearCalibration().fit(x, y).transform(v, check_support=False)
        )
        assert line.sd < 0.05  # each country's own truth spans the curve alike
        shifted = as_sample(np.exp(0.7 * (y + g % 3)), y + g % 3, groups=g)
        apart = recovery_spread(shifted, lambda v: 0.5 * v)
        undone = recovery_spread(shifted, lambda v: np.log(v) / 0.7)
        assert undone is None or undone.sd < 1e-6
        assert apart.sd > 0.3

    def test_against_the_curve_of_all_groups(self):
        """Countries at three levels of truth that share one curve differ in slope, and not against the curve."""
        x, y, g = countries([1.0] * 12, n=400)
        y = y + g % 3
        x = np.exp(0.5 * y) + 0.1 * (x - y + g % 3)
        sample = as_sample(x, y, groups=g)
        assert recovery_spread(sample, identity).sd > 0.3
        against = recovery_spread(sample, identity, lambda truth: np.exp(0.5 * truth))
        assert against.sd < 0.03
        assert against.mean == pytest.approx(1, abs=0.05)  # a spline of four knots is straight in the tails
        doubled = recovery_spread(sample, identity, lambda truth: 2 * np.exp(0.5 * truth))
        assert doubled.mean == pytest.approx(against.mean / 2)

    @pytest.mark.parametrize("groups", [None, np.arange(400) % (MIN_GROUPS - 1), np.arange(400) // 10])
    def test_needs_groups_that_are_large(self, groups):
        rng = np.random.default_rng(0)
        y = rng.normal(size=400)
        assert recovery_spread(as_sample(y + rng.normal(size=400), y, groups=groups), identity) is None


class TestCard:
    def test_holds_one_for_each_correction(self, tmp_path):
        x, y, g = countries(np.linspace(0.5, 0.9, 8))
        urban = np.where(np.random.default_rng(0).random(g.size) < 0.4, "urban", "rural")
        card = build_card(x, y, groups=g, strata=urban, **ABOUT)
        assert set(card.recovered) == {
            f"{method}{place}" for method in ("linear", "tweedie") for place in ("", " in rural", " in urban")
        } | {"response"}
        sample = as_sample(x, y, groups=g)
        for method in ("linear", "tweedie"):
            expected = recovery_spread(sample, lambda v, m=method: card.transform(v, m, check_support=False))
            assert card.recovered_by(method).sd == pytest.approx(expected.sd, rel=1e-4)
        assert card.recovered_by("linear").sd == pytest.approx(card.slope_spread.sd / card.slope, rel=0.15)
        assert card.recovered_by("linear", "urban") == card.recovered["linear in urban"]
        assert card.recovered_by("linear", "camp") == card.recovered["linear"]
        assert card.recovered_by("cubic") is None
        assert CalibrationCard.load(card.save(tmp_path / "card.json")) == card

    def test_cards_without_it_keep_their_hash(self):
        x, y, _ = countries([0.7])
        card = build_card(x, y, **ABOUT)
        assert card.recovered == {}
        assert "recovered" not in card.to_json()
        assert CalibrationCard.from_json(card.to_json()).sha256 == card.sha256
