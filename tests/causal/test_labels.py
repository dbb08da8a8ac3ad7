"""Labels in the trial beyond PPI++: cross-prediction, predict-then-debias, combination, what labels are worth."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import ppi_py
import pytest

from sustain.causal import (
    assumption_tests,
    combined_effect,
    cross_ppi_effect,
    cross_predict,
    least_squares,
    power,
    ppi_effect,
    ppi_mean,
    predict_then_debias,
)
from sustain.debias import build_card
from sustain.errors import EffectError

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "m"}


@pytest.fixture(scope="module")
def card():
    rng = np.random.default_rng(0)
    f = rng.normal(size=1500)
    return build_card(f, f + 0.75 * rng.normal(size=1500), **ABOUT, n_boot=60)


def trial(seed: int, *, n: int = 1500, n_labels: int = 200, effect: float = 0.5, visible: float = 0.0):
    """Mediated effect; `visible` adds to the prediction of treated units beyond their truth."""
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, n)
    truth = 1.25 * rng.normal(size=n) + effect * treated
    f = 0.64 * truth + 0.6 * rng.normal(size=n) + visible * treated
    return pd.DataFrame({"t": treated, "f": f, "y": np.where(np.arange(n) < n_labels, truth, np.nan)})


ROLES = {"label": "y", "prediction": "f", "treatment": "t"}


class TestCrossPrediction:
    features = tuple(f"x{k}" for k in range(8))

    def frame(self, seed, n=1200, n_labels=150):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 8))
        treated = rng.integers(0, 2, n)
        truth = x @ np.linspace(1, 0, 8) + 0.5 * treated + rng.normal(size=n)
        table = pd.DataFrame(x, columns=[f"x{k}" for k in range(8)])
        return table.assign(
            t=treated, y=np.where(np.arange(n) < n_labels, truth, np.nan), g=np.arange(n) // 10
        )

    def test_no_unit_is_predicted_from_its_own_label(self):
        data = self.frame(0)
        base = cross_predict(data, label="y", features=self.features)
        moved = data.assign(y=data["y"].where(data.index != 3, data["y"] + 100))
        shifted = cross_predict(moved, label="y", features=self.features)
        assert shifted[3] == pytest.approx(base[3], abs=1e-9)
        assert abs(shifted[500] - base[500]) > 1e-3  # the others learn from it

    def test_clusters_are_kept_whole(self):
        data = self.frame(1)
        base = cross_predict(data, label="y", features=self.features, clusters="g")
        moved = data.assign(y=data["y"].where(data.index != 3, data["y"] + 100))
        shifted = cross_predict(moved, label="y", features=self.features, clusters="g")
        np.testing.assert_allclose(shifted[:10], base[:10])

    def test_equals_the_peer_given_the_predictions(self):
        """One arm and no tuning is ppi_py's cross-prediction."""
        data = self.frame(2)
        predicted = cross_predict(data, label="y", features=self.features)
        has = data["y"].notna().to_numpy()
        ours = ppi_mean(data["y"][has], predicted[has], predicted[~has], lam=1.0)
        theirs = ppi_py.crossppi_mean_ci(
            data["y"][has].to_numpy(), predicted[has], predicted[~has][:, None], alpha=0.05
        )
        low, high = np.ravel(theirs)
        assert ours.estimate == pytest.approx((low + high) / 2)
        assert ours.std_error == pytest.approx(
            (high - low) / 2 / 1.959964, rel=0.004
        )  # 150 labels: n / (n - 1)

    def test_covers_and_is_shorter_than_labels_alone(self):
        covered, gain = [], []
        for seed in range(200):
            data = self.frame(seed)
            result = cross_ppi_effect(data, label="y", features=self.features, treatment="t", seed=seed)
            low, high = result.conf_int()
            covered.append(low <= 0.5 <= high)
            alone = ppi_effect(data.assign(f=data["x7"]), **ROLES, lam=0.0)
            gain.append(result.std_error / alone.std_error)
        assert np.mean(covered) == pytest.approx(0.95, abs=0.055)
        assert np.mean(gain) < 0.75

    def test_bad_input(self):
        data = self.frame(0)
        with pytest.raises(EffectError, match="no column 'x9'"):
            cross_predict(data, label="y", features=["x9"])
        with pytest.raises(EffectError, match="without the label"):
            cross_predict(data, label="y", features=["y"])
        with pytest.raises(EffectError, match="feature 'x0': 1200 of 1200 values are NaN"):
            cross_predict(data.assign(x0=np.nan), label="y", features=["x0"])
        with pytest.raises(EffectError, match="feature 'x0': expected numbers"):
            cross_predict(data.assign(x0="a"), label="y", features=["x0"])
        with pytest.raises(EffectError, match="n_folds: got 5 for 3 labelled units"):
            cross_predict(data.assign(y=data["y"].where(data.index < 3)), label="y", features=self.features)


class TestPredictThenDebias:
    def test_the_mean_is_that_of_ppi(self):
        data = trial(0, n=600, n_labels=150)
        result = predict_then_debias(data, least_squares("y", []), predicted={"y": "f"}, n_boot=1500)
        has = data["y"].notna()
        powered = ppi_mean(data["y"][has], data["f"][has], data["f"][~has])
        assert result.omega[0, 0] == pytest.approx(powered.lam[0], rel=0.1)
        assert result.estimates[0] == pytest.approx(powered.estimate, abs=0.2 * powered.std_error)
        assert result.std_errors[0] == pytest.approx(powered.std_error, rel=0.07)

    def test_useless_predictions_do_no_harm(self):
        data = trial(1)
        noise = data.assign(f=np.random.default_rng(0).normal(size=len(data)))
        result = predict_then_debias(noise, least_squares("y", ["t"]), predicted={"y": "f"})
        np.testing.assert_allclose(result.estimates, result.labels_only, atol=0.03)

    def test_does_not_depend_on_the_scale_of_predictions(self):
        data = trial(2)
        estimator = least_squares("y", ["t"])
        one = predict_then_debias(data, estimator, predicted={"y": "f"}, n_boot=100)
        other = predict_then_debias(
            data.assign(f=3 * data["f"] - 2), estimator, predicted={"y": "f"}, n_boot=100, tuning="full"
        )
        full = predict_then_debias(data, estimator, predicted={"y": "f"}, n_boot=100, tuning="full")
        np.testing.assert_allclose(other.estimates, full.estimates, atol=1e-9)
        assert one.std_errors[1] < one.labels_only_std_error[1]

    def test_a_mapped_regressor(self):
        """The map as a regressor, not an outcome: the naive slope is wrong, the debiased one covers."""
        covered = naive = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=800)
            mapped = 0.6 * x + 0.6 * rng.normal(size=800)
            y = x + rng.normal(size=800)
            data = pd.DataFrame({"y": y, "x": np.where(np.arange(800) < 150, x, np.nan), "xm": mapped})
            result = predict_then_debias(
                data, least_squares("y", ["x"]), predicted={"x": "xm"}, n_boot=80, seed=seed
            )
            low, high = result.conf_int()[1]
            covered += low <= 1 <= high
            naive += abs(result.naive[1] - 1) < 2 * result.std_errors[1]
        assert covered >= 52
        assert naive < 30

    def test_clusters_cover_where_rows_do_not(self):
        clustered = plain = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            group = np.repeat(np.arange(40), 10)
            truth = rng.normal(size=40)[group] + 0.5 * rng.normal(size=400)
            data = pd.DataFrame({"t": group % 2, "f": 0.6 * truth + 0.3 * rng.normal(size=400), "g": group})
            data["y"] = np.where(rng.uniform(size=400) < 0.4, truth, np.nan)
            arguments = {"predicted": {"y": "f"}, "n_boot": 80, "seed": seed}
            low, high = predict_then_debias(
                data, least_squares("y", ["t"]), clusters="g", **arguments
            ).conf_int()[1]
            clustered += low <= 0 <= high
            low, high = predict_then_debias(data, least_squares("y", ["t"]), **arguments).conf_int(
                method="percentile"
            )[1]
            plain += low <= 0 <= high
        assert clustered / 60 == pytest.approx(0.94, abs=0.07)
        assert plain / 60 < 0.75

    def test_same_seed_same_numbers(self):
        data = trial(3)
        one, two = (
            predict_then_debias(data, least_squares("y", ["t"]), predicted={"y": "f"}, n_boot=60, seed=4)
            for _ in range(2)
        )
        np.testing.assert_array_equal(one.draws, two.draws)

    def test_weights(self):
        data = trial(4).assign(w=1.0)
        arguments = {"predicted": {"y": "f"}, "n_boot": 60}
        one = predict_then_debias(data, least_squares("y", ["t"]), **arguments)
        other = predict_then_debias(data, least_squares("y", ["t"], "w"), **arguments)
        np.testing.assert_allclose(one.estimates, other.estimates)

    def test_bad_input(self):
        data, estimator = trial(0), least_squares("y", ["t"])
        with pytest.raises(EffectError, match="no column 'map'"):
            predict_then_debias(data, estimator, predicted={"y": "map"})
        with pytest.raises(EffectError, match="name at least one"):
            predict_then_debias(data, estimator, predicted={})
        with pytest.raises(EffectError, match="n_boot: got 10"):
            predict_then_debias(data, estimator, predicted={"y": "f"}, n_boot=10)
        with pytest.raises(EffectError, match="tuning: got 'lots'"):
            predict_then_debias(data, estimator, predicted={"y": "f"}, tuning="lots")
        with pytest.raises(EffectError, match="f hold missing values"):
            predict_then_debias(data.assign(f=np.nan), estimator, predicted={"y": "f"})
        with pytest.raises(EffectError, match="1500 labelled and 0 unlabelled"):
            predict_then_debias(data.assign(y=1.0), estimator, predicted={"y": "f"})
        with pytest.raises(EffectError, match="expected finite numbers"):
            predict_then_debias(data, lambda rows: np.nan, predicted={"y": "f"})
        with pytest.raises(EffectError, match="a single cluster or unit decides"):
            predict_then_debias(data.assign(g=1), estimator, predicted={"y": "f"}, clusters="g")
        result = predict_then_debias(data, estimator, predicted={"y": "f"}, n_boot=50)
        with pytest.raises(EffectError, match="'basic'"):
            result.conf_int(method="basic")
        assert f"{result.std_errors[0]:.4g}" in str(result).splitlines()[2]


class TestCombination:
    def test_weighs_when_the_correction_holds(self, card):
        errors = {"corrected": [], "powered": [], "combined": []}
        covered, passed = [], []
        for seed in range(200):
            both = combined_effect(trial(seed), **ROLES, calibration=card)
            low, high = both.conf_int()
            covered.append(low <= 0.5 <= high)
            passed.append(both.passed)
            errors["corrected"].append(both.test.corrected - 0.5)
            errors["powered"].append(both.test.powered - 0.5)
            errors["combined"].append(both.estimate - 0.5)
        rmse = {name: np.sqrt(np.mean(np.square(values))) for name, values in errors.items()}
        assert rmse["combined"] < 0.9 * rmse["powered"]
        assert np.mean(covered) > 0.85  # a test beforehand costs some: 0.90 was measured
        assert np.mean(passed) > 0.82

    def test_takes_the_labels_when_it_does_not(self, card):
        both = combined_effect(trial(0, visible=1.5), **ROLES, calibration=card)
        assert not both.passed
        assert "the correction does not hold here" in str(both.test)
        assert str(both).startswith(f"{both.estimate:.4g} (standard error")
        assert both.weight == 0
        assert both.estimate == ppi_effect(trial(0, visible=1.5), **ROLES).estimate
        assert both.std_error == pytest.approx(ppi_effect(trial(0, visible=1.5), **ROLES).std_error)
        assert both.note.startswith("Not combined")

    @pytest.mark.parametrize("method", ["linear", "tweedie"])
    def test_weights_are_those_of_least_variance(self, card, method):
        both = combined_effect(trial(2), **ROLES, calibration=card, method=method)
        assert both.passed
        test = assumption_tests(trial(2), **ROLES, calibration=card, method=method).correction
        assert both.test == test
        assert both.estimate == pytest.approx(both.weight * test.corrected + (1 - both.weight) * test.powered)
        powered = ppi_effect(trial(2), **ROLES)
        assert both.std_error < powered.std_error

    def test_level(self, card):
        with pytest.raises(EffectError, match="test_level: got 5"):
            combined_effect(trial(0), **ROLES, calibration=card, test_level=5)


class TestPower:
    def test_all_labels_are_a_survey(self, card):
        plan = power(100, 100, 1.0, calibration=card, n_labelled=200)
        assert plan.labels == pytest.approx(plan.surveyed) == pytest.approx(plan.both)
        assert plan.surveyed == pytest.approx(0.396, abs=5e-4)
        assert plan.label_is_worth == pytest.approx(1.0)

    def test_what_labels_are_worth(self, card):
        plan = power(500, 500, 1.25, calibration=card, n_labelled=200)
        assert plan.surveyed < plan.both < plan.labels
        assert plan.correlation**2 == pytest.approx(0.64, abs=0.03)
        assert plan.label_is_worth == pytest.approx(1000 / (200 + 800 * (1 - plan.correlation**2)))
        # As many labels as the map is worth find, alone, what it finds.
        again = power(500, 500, 1.25, calibration=card, n_labelled=plan.map_is_worth)
        assert again.labels == pytest.approx(plan.mapped)

    @pytest.mark.parametrize("with_map", [True, False])
    def test_labels_needed(self, card, with_map):
        plan = power(700, 300, 1.25, calibration=card)
        needed = plan.labels_needed(0.4, with_map=with_map)
        found = power(700, 300, 1.25, calibration=card, n_labelled=needed)
        assert (found.both if with_map else found.labels) == pytest.approx(0.4)
        assert plan.labels_needed(0.01) == math.inf

    def test_no_labels(self, card):
        plan = power(500, 500, 1.25, calibration=card)
        assert plan.labels == plan.both == math.inf
        assert math.isnan(plan.label_is_worth)
        assert "The map alone is worth" in str(plan)

    def test_promised_power_is_found(self, card):
        """Simulated with the effect that the plan names: about 80% of the intervals exclude zero."""
        plan = power(750, 750, 1.25, calibration=card, n_labelled=200)
        found = [ppi_effect(trial(seed, effect=plan.both), **ROLES).conf_int()[0] > 0 for seed in range(400)]
        assert np.mean(found) == pytest.approx(0.8, abs=0.06)

    def test_table(self, card):
        plan = power(500, 500, 1.25, calibration=card)
        table = plan.table([0, 100, 1000])
        assert table["both"].is_monotonic_decreasing
        assert table["worth"].tolist()[2] == pytest.approx(1000)

    def test_impossible(self, card):
        with pytest.raises(EffectError, match="between 0 and the 20 units"):
            power(10, 10, 1.0, calibration=card, n_labelled=50)
        with pytest.raises(EffectError, match="above 0"):
            power(10, 10, 1.0, calibration=card).labels_needed(0)
