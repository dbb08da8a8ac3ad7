"""`estimate_effect` with a calibration card: known answers, coverage, assumptions, results and bad input."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest

from sustain.causal import EffectResult, estimate_effect
from sustain.causal.correction.correct import combined_df
from sustain.debias import CalibrationCard, LinearCalibration, TweedieCalibration, build_card
from sustain.errors import (
    CardError,
    EffectError,
    MissingDataWarning,
    SupportWarning,
    WeakCalibrationWarning,
)

SIGMA = 0.75
SLOPE = 1 / (1 + SIGMA**2)  # prediction on truth, for predictions of variance one with Berkson errors
ABOUT = {"target": {"name": "wealth", "unit": "index points"}, "predictor": "resnet-0123"}


def make_calibration(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_pred = rng.normal(size=n)
    return y_pred, y_pred + SIGMA * rng.normal(size=n)


def make_trial(seed: int, n: int, effect: float = 1.5) -> pd.DataFrame:
    """Predictions with the calibration's P(prediction | truth), in both arms: measurement stability."""
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, n)
    truth = math.sqrt(1 + SIGMA**2) * rng.normal(size=n) + effect * (treated - 0.5)
    wealth = SLOPE * truth + math.sqrt(1 - SLOPE) * rng.normal(size=n)
    columns = {"wealth": wealth, "treated": treated, "truth": truth, "x": rng.normal(size=n)}
    columns |= {"area": rng.integers(0, 30, n), "nudge": treated + rng.normal(size=n)}
    return pd.DataFrame(columns | {"village": np.arange(n) // 2, "wave": np.arange(n) % 2})


@pytest.fixture(scope="module")
def card() -> CalibrationCard:
    y_pred, y_true = make_calibration(1, 600)
    return build_card(y_pred, y_true, **ABOUT, n_boot=100)


@pytest.fixture(scope="module")
def trial() -> pd.DataFrame:
    return make_trial(2, 2000)


def effect_of(data: pd.DataFrame, **arguments) -> EffectResult:
    arguments = {"outcome": "wealth", "treatment": "treated", "vcov": "HC1"} | arguments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SupportWarning)
        return estimate_effect(data, **arguments)


def kinds(result: EffectResult) -> list[str]:
    return [note.kind for note in result.notes]


DESIGNS = [
    {"estimator": "difference"},
    {"estimator": "ols", "covariates": ["x"]},
    {"estimator": "ipw", "covariates": ["x"]},
    {"estimator": "aipw", "covariates": ["x"]},
    {"estimator": "iv", "covariates": ["x"], "instrument": "nudge"},
]


class TestCorrection:
    def test_linear_is_division_by_the_slope(self, card, trial):
        naive = effect_of(trial)
        result = effect_of(trial, calibration=card, method="linear")
        assert result.estimate == pytest.approx(naive.estimate / card.slope, rel=1e-12)
        variance = (
            naive.std_error**2 / card.slope**2 + result.estimate**2 * card.slope_cov[1, 1] / card.slope**2
        )
        assert result.std_error == pytest.approx(math.sqrt(variance), rel=1e-12)
        assert result.naive.estimate == naive.estimate
        assert result.naive.std_error == naive.std_error
        assert result.share_trial + result.share_calibration == 1

    @pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design["estimator"])
    @pytest.mark.parametrize("method", ["linear", "tweedie"])
    def test_estimating_on_the_corrected_outcome_is_the_same(self, card, trial, design, method):
        arguments = design | {"vcov": {"CRV1": "area"}}
        result = effect_of(trial, calibration=card, method=method, **arguments)
        by_hand = effect_of(trial.assign(wealth=card.transform(trial["wealth"], method, False)), **arguments)
        assert result.estimate == pytest.approx(by_hand.estimate, rel=1e-8)
        assert result.main.variance_trial == pytest.approx(by_hand.std_error**2, rel=1e-8)

    def test_calibration_part_of_a_curve_is_the_spread_of_its_draws(self, card, trial):
        result = effect_of(trial, calibration=card, method="tweedie", estimator="ols", covariates=["x"])
        curves = card.draws("tweedie")(trial["wealth"].to_numpy())
        effects = [
            effect_of(trial.assign(wealth=c), estimator="ols", covariates=["x"]).estimate for c in curves
        ]
        assert result.main.variance_calibration == pytest.approx(
            np.var(effects, ddof=1) * 600 / 599, rel=1e-9
        )

    def test_bootstrap_of_a_line_is_near_the_delta_method(self, card, trial):
        result = effect_of(trial, calibration=card)
        assert result.main.variance_draws == pytest.approx(result.main.variance_calibration, rel=0.4)
        low, high = result.conf_int(method="bootstrap")
        assert (low + high) / 2 == pytest.approx(result.estimate)

    def test_does_not_depend_on_the_scale_of_the_prediction(self, trial):
        y_pred, y_true = make_calibration(1, 600)
        one = build_card(y_pred, y_true, **ABOUT, n_boot=40)
        other = build_card(20 + 3 * y_pred, y_true, **ABOUT, n_boot=40)
        for method in ("linear", "tweedie"):
            here = effect_of(trial, calibration=one, method=method)
            there = effect_of(trial.assign(wealth=20 + 3 * trial["wealth"]), calibration=other, method=method)
            assert there.estimate == pytest.approx(here.estimate, rel=1e-4)
            assert there.std_error == pytest.approx(here.std_error, rel=1e-2)

    def test_card_path_and_calibration_without_error(self, card, trial, tmp_path):
        path = card.save(tmp_path / "card.json")
        assert effect_of(trial, calibration=path).to_dict() == effect_of(trial, calibration=card).to_dict()
        assert effect_of(trial, calibration=str(path)).estimate == effect_of(trial, calibration=card).estimate

    def test_perfect_predictions_are_left_alone(self, trial):
        truth = np.random.default_rng(0).normal(size=200)
        card = build_card(truth, truth + 1e-9 * np.random.default_rng(1).normal(size=200), **ABOUT, n_boot=20)
        for method in ("linear", "tweedie"):
            result = effect_of(trial, calibration=card, method=method)
            assert result.estimate == pytest.approx(result.naive.estimate, rel=1e-6)
            assert result.share_calibration < 1e-6

    def test_corrects_on_average(self):
        """Mean over trials and calibrations, against a known effect of 1.5."""
        estimates = {"none": [], "linear": [], "tweedie": []}
        for seed in range(6):
            card = build_card(*make_calibration(seed, 1500), **ABOUT, n_boot=20)
            data = make_trial(1000 + seed, 8000)
            for method, values in estimates.items():
                values.append(effect_of(data, calibration=card, method=method).estimate)
        assert np.mean(estimates["none"]) == pytest.approx(1.5 * SLOPE, abs=0.03)
        assert np.mean(estimates["linear"]) == pytest.approx(1.5, abs=0.04)
        assert np.mean(estimates["tweedie"]) == pytest.approx(1.5, abs=0.05)


class TestCoverage:
    """Nominal 95% intervals at an effect of 1.5; the published figures are in the dossier's finding 7."""

    @pytest.mark.parametrize(("n_cal", "fixed"), [(80, 0.385), (250, 0.630)])
    def test_delta_and_fieller(self, n_cal, fixed):
        covered = {"delta": 0, "fieller": 0, "trial only": 0}
        replications = 400
        for seed in range(replications):
            y_pred, y_true = make_calibration(10_000 * n_cal + seed, n_cal)
            fit = LinearCalibration().fit(y_pred, y_true)
            naive = effect_of(make_trial(20_000 * n_cal + seed, 8000))
            result = _linear(naive, fit.slope_, fit.cov_[1, 1])
            for method in ("delta", "fieller"):
                low, high = result.conf_int(0.95, method)
                covered[method] += low <= 1.5 <= high
            covered["trial only"] += abs(result.estimate - 1.5) <= 1.96 * math.sqrt(result.variance_trial)
        shares = {name: count / replications for name, count in covered.items()}
        # Three Monte Carlo standard errors of a share near 0.95 are 0.033, of one near 0.5 0.075.
        assert shares["delta"] == pytest.approx(0.95, abs=0.033)
        assert shares["fieller"] == pytest.approx(0.95, abs=0.033)
        assert shares["trial only"] == pytest.approx(fixed, abs=0.09)

    def test_no_effect(self):
        """Size of the test at an effect of zero, with clusters of treatment."""
        rejected = 0
        card = build_card(*make_calibration(5, 250), **ABOUT, n_boot=20)
        for seed in range(300):
            rng = np.random.default_rng(seed)
            area = np.repeat(np.arange(20), 10)
            arm = rng.permutation(np.repeat([0, 1], 10))
            data = pd.DataFrame(
                {
                    "treated": arm[area],
                    "area": area,
                    "wealth": rng.normal(size=20)[area] + rng.normal(size=200),
                }
            )
            rejected += effect_of(data, calibration=card, vcov={"CRV1": "area"}).pvalue < 0.05
        assert rejected / 300 == pytest.approx(0.05, abs=0.04)


def _linear(naive: EffectResult, slope: float, slope_var: float):
    from sustain.causal.correction.ratio import corrected_effect
    from sustain.causal.estimate import Estimate

    effect = corrected_effect(naive.estimate, naive.std_error**2, slope, slope_var)
    return Estimate(
        "linear",
        effect.estimate,
        effect.variance_trial,
        effect.variance_calibration,
        df=math.inf,
        slope=slope,
        slope_var=slope_var,
    )


class TestAssumption:
    def test_none_named_says_both_and_what_decides(self, card, trial):
        result = effect_of(trial, calibration=card, method="linear")
        assert "assumption" in kinds(result)
        text = result.summary()
        assert f"{result.naive.estimate:.4g}" in text
        assert f"{result.estimate:.4g}" in text
        assert "measurement stability" in " ".join(text.split())

    def test_none_named_and_no_matter(self, card):
        data = make_trial(3, 2000, effect=0.0)
        data["wealth"] -= data["treated"] * effect_of(data).estimate  # naive and corrected are both zero
        assert "assumption" not in kinds(effect_of(data, calibration=card))

    def test_measurement_corrects_without_that_note(self, card, trial):
        result = effect_of(trial, calibration=card, method="linear", assumption="measurement")
        assert result.estimate == effect_of(trial, calibration=card, method="linear").estimate
        assert "assumption" not in kinds(result)

    def test_outcome_leaves_the_naive_effect(self, card, trial):
        result = effect_of(trial, calibration=card, method="tweedie", assumption="outcome")
        assert result.estimate == result.naive.estimate
        assert result.corrected is None
        assert "'tweedie' is not applied" in result.notes[-1]

    def test_outcome_says_when_the_predictions_are_off_scale(self, trial):
        y_pred, y_true = make_calibration(1, 600)
        card = build_card(2 * y_pred, y_true, **ABOUT, n_boot=20)
        assert "rises by 0.4" in effect_of(trial, calibration=card, assumption="outcome").notes[-1]

    def test_bracket(self, card, trial):
        result = effect_of(trial, calibration=card, assumption="bracket")
        naive, corrected = result.bracket
        assert (naive.estimate, corrected.estimate) == (result.naive.estimate, result.corrected.estimate)
        assert result.conf_int() == (naive.conf_int(0.95)[0], corrected.conf_int(0.95)[1])
        assert result.tidy()["estimate"].tolist() == [naive.estimate, corrected.estimate]
        assert "both ends" in result.summary()

    @pytest.mark.parametrize("assumption", ["measurement", "bracket"])
    def test_contradiction(self, card, trial, assumption):
        with pytest.raises(EffectError, match="method is 'none'"):
            effect_of(trial, calibration=card, method="none", assumption=assumption)
        with pytest.raises(EffectError, match="Pass calibration="):
            effect_of(trial, assumption=assumption)


class TestIntervals:
    def test_fieller(self, card, trial):
        result = effect_of(trial, calibration=card, method="linear", assumption="measurement")
        low, high = result.conf_int(method="fieller")
        assert low < result.estimate < high
        assert high - result.estimate > result.estimate - low  # the ratio's error is skewed upwards
        assert str(result.fieller()).startswith("[")

    def test_fieller_unbounded_is_said(self, trial):
        y_pred, y_true = make_calibration(0, 30)
        rng = np.random.default_rng(0)
        card = build_card(0.45 * y_pred + rng.normal(size=30), y_true, **ABOUT, n_boot=20)
        assert card.slope - 5 * math.sqrt(card.slope_cov[1, 1]) < 0
        with pytest.warns(WeakCalibrationWarning, match="unbounded"):
            result = effect_of(trial, calibration=card, method="linear", level=0.9999999)
        assert result.conf_int(method="fieller") == (-math.inf, math.inf)
        assert "weak_slope" in kinds(result)
        assert math.isfinite(result.conf_int(0.5, "fieller")[0])

    def test_fieller_of_a_curve(self, card, trial):
        with pytest.raises(EffectError, match="not a division by a slope"):
            effect_of(trial, calibration=card, method="tweedie").conf_int(method="fieller")

    def test_unknown_kind(self, trial):
        with pytest.raises(EffectError, match="'percentile'"):
            effect_of(trial).conf_int(method="percentile")

    def test_level(self, trial):
        result = effect_of(trial, level=0.9)
        assert result.conf_int() == result.conf_int(0.9)
        assert result.conf_int(0.99)[0] < result.conf_int()[0]
        with pytest.raises(EffectError, match="between 0 and 1"):
            effect_of(trial, level=95)

    def test_clusters_take_t_with_g_less_one(self, trial):
        assert effect_of(trial, vcov={"CRV1": "area"}).df == 29

    def test_degrees_of_freedom_of_a_sum(self):
        assert combined_df(1.0, 9.0, 0.0, 100.0) == pytest.approx(9)
        assert combined_df(0.0, 9.0, 1.0, 100.0) == pytest.approx(100)
        assert 9 < combined_df(1.0, 9.0, 1.0, 100.0) < 109
        assert combined_df(1.0, 9.0, 1.0, 9.0) == pytest.approx(18)
        assert combined_df(1.0, math.inf, 1.0, math.inf) == math.inf


@pytest.fixture(scope="module")
def result(card, trial) -> EffectResult:
    return effect_of(trial, calibration=card, method="tweedie", vcov={"CRV1": "area"})


class TestResult:
    def test_tidy(self, result):
        table = result.tidy()
        assert table.columns.tolist() == [
            "term",
            "estimate",
            "std.error",
            "statistic",
            "p.value",
            "conf.low",
            "conf.high",
            "card.r2",
        ]
        assert table["card.r2"].tolist() == [result.r2] == [result.to_dict()["card_r2"]]
        row = table.iloc[0]
        assert row["term"] == "treated"
        assert row["estimate"] == result.estimate
        assert (row["conf.low"], row["conf.high"]) == result.conf_int()
        assert row["p.value"] == result.pvalue

    def test_to_dict_is_json(self, result):
        content = json.loads(json.dumps(result.to_dict()))
        assert content["estimate"] == result.estimate
        assert content["naive"]["estimate"] == result.naive.estimate
        assert content["unit"] == "index points"
        assert {"kind", "text"} == set(content["notes"][0])

    def test_texts(self, result):
        assert "corrected (tweedie)" in result.summary()
        assert "CRV1 by area (30 clusters)" in str(result)
        assert max(map(len, result.summary().splitlines())) <= 100
        assert "EffectResult(treated on wealth" in repr(result)
        page = result._repr_html_()
        assert page.count("<li>") == len(result.notes)
        assert page.count("bold") == 1
        assert f"<td>{result.naive.estimate:.4g}</td>" in page
        assert f"<td>{result.estimate:.4g}</td>" in page

    def test_counts(self, result, trial, card):
        assert (result.n, result.n_treated) == (len(trial), trial["treated"].sum())
        assert result.n_control == (trial["treated"] == 0).sum()
        assert result.n_effective == pytest.approx(card.r2 * len(trial))

    def test_frozen(self, result):
        with pytest.raises(AttributeError):
            result.level = 0.5

    def test_plot(self, result):
        import matplotlib as mpl

        mpl.use("Agg")
        axes = result.plot()
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            "tweedie\n(measurement stability)",
            "naive\n(outcome stability)",
        ]


class TestWhatTheCardSays:
    """A card that is weak, or that advises otherwise, says so where it is used."""

    def sample(self, slope: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        y_true = rng.normal(size=n)
        return slope * y_true + 0.05 * rng.normal(size=n), y_true

    @pytest.mark.filterwarnings("ignore::sustain.errors.WeakCalibrationWarning")
    @pytest.mark.parametrize(
        ("slope", "n", "message"),
        [
            (0.15, 200, r"slope of prediction on truth is 0.1.*, under 0.2"),
            (0.6, 60, "has 60 rows, under 100"),
        ],
    )
    def test_a_weak_card_warns(self, trial, slope, n, message):
        weak = build_card(*self.sample(slope, n), **ABOUT, methods=("linear",), n_boot=20)
        with pytest.warns(WeakCalibrationWarning, match=message):
            result = effect_of(trial, calibration=weak, assumption="measurement")
        assert kinds(result).count("weak_calibration") == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", WeakCalibrationWarning)
            unused = effect_of(trial, calibration=weak, assumption="outcome")
        assert "weak_calibration" not in kinds(unused)

    @pytest.mark.filterwarnings("ignore::sustain.errors.WeakCalibrationWarning")
    @pytest.mark.parametrize("assumption", ["measurement", "outcome", "bracket", None])
    def test_a_weak_model_is_said_whatever_is_done(self, trial, assumption):
        """Also where nothing is corrected: what the map shows is mostly not the outcome."""
        rng = np.random.default_rng(0)
        y_true = rng.normal(size=2000)
        weak = build_card(
            0.8 * y_true + 2 * rng.normal(size=2000), y_true, **ABOUT, methods=("linear",), n_boot=20
        )
        assert 0.1 < weak.r2 < 0.2
        with pytest.warns(WeakCalibrationWarning, match=rf"explain {weak.r2:.1%} of the variance") as said:
            result = estimate_effect(trial, "wealth ~ treated", calibration=weak, assumption=assumption)
        assert [item.filename for item in said if "card's predictions" in str(item.message)] == [__file__]
        assert kinds(result).count("weak_model") == 1
        text = " ".join(result.summary().split())
        assert f"card: its predictions explain {weak.r2:.1%} of the variance of the labels (r2)" in text
        assert f"r2 of the card {weak.r2:.3f}" in result._repr_html_()

    def test_without_a_card_there_is_no_r2(self, trial):
        result = effect_of(trial)
        assert math.isnan(result.r2)
        assert math.isnan(result.tidy()["card.r2"].iloc[0])
        assert "r2" not in result.summary() + result._repr_html_()

    def test_a_card_of_use_does_not(self, trial, card):
        with warnings.catch_warnings():
            warnings.simplefilter("error", WeakCalibrationWarning)
            result = effect_of(trial, calibration=card, assumption="measurement")
        assert not {"weak_calibration", "weak_model"} & set(kinds(result))

    def test_calibrate_within_strata(self, trial):
        rng = np.random.default_rng(0)
        town = rng.integers(0, 2, 1000)
        y_true = rng.normal(size=1000) + town
        y_pred = np.where(town == 1, 0.9, 0.4) * y_true + 0.3 * rng.normal(size=1000)
        card = build_card(y_pred, y_true, strata=town, **ABOUT, methods=("linear",), n_boot=20)
        options = {"calibration": card, "assumption": "measurement"}
        data = trial.assign(town=(trial["x"] > 0).astype(float))
        said = [note for note in effect_of(data, **options).notes if note.kind == "card"]
        assert any("calibrate within strata" in note for note in said)
        within = effect_of(data, strata="town", **options)
        assert not any("calibrate within strata" in note for note in within.notes)
        naive = effect_of(data, calibration=card, assumption="outcome")
        assert "card" not in kinds(naive)

    @pytest.mark.filterwarnings("ignore::sustain.errors.WeakCalibrationWarning")
    def test_what_is_weak_about_a_curve_is_said_of_that_curve(self, trial):
        """Nine tenths of the predictions are zero: Tweedie's formula, for normal errors, is far off."""
        rng = np.random.default_rng(0)
        y_true = rng.normal(size=2000)
        y_pred = np.maximum(0.6 * y_true + 0.4 * rng.normal(size=2000) - 0.9, 0)
        card = build_card(y_pred, y_true, **ABOUT, methods=("linear", "tweedie"), n_boot=20)
        said = [
            text for subject, text in card.diagnostics["verdicts"].items() if subject.startswith("tweedie ")
        ]
        assert said
        for method, told in (("tweedie", True), ("linear", False)):
            notes = str(effect_of(trial, calibration=card, method=method, assumption="measurement").notes)
            assert all((text in notes) == told for text in said)

    def test_prefer_a_curve(self, trial):
        rng = np.random.default_rng(0)
        y_true = rng.exponential(size=2000)
        y_pred = np.minimum(y_true, 1.5) + 0.1 * rng.normal(size=2000)
        card = build_card(y_pred, y_true, **ABOUT, n_boot=20)
        notes = {
            method: str(effect_of(trial, calibration=card, method=method, assumption="measurement").notes)
            for method in ("linear", "tweedie")
        }
        assert "method='response' reads the effect back through the curve" in notes["linear"]
        assert "is curved" in notes["linear"]
        assert "is curved" not in notes["tweedie"]


class TestBadInput:
    def test_missing_column(self, trial):
        with pytest.raises(EffectError, match=r"no column 'income'.*wealth, treated"):
            effect_of(trial, outcome="income")

    def test_two_columns_of_one_name(self, trial):
        with pytest.raises(EffectError, match="more than one column named 'x'"):
            effect_of(pd.concat([trial, trial[["x"]]], axis=1), covariates=["x"], estimator="ols")

    def test_treatment_not_binary(self, trial):
        with pytest.raises(EffectError, match="holds 2"):
            effect_of(trial.assign(treated=trial["treated"] + 1))
        with pytest.raises(EffectError, match="expected numbers"):
            effect_of(trial.assign(treated=trial["treated"].map({0: "no", 1: "yes"})))

    def test_boolean_treatment(self, trial):
        assert effect_of(trial.assign(treated=trial["treated"] == 1)).estimate == effect_of(trial).estimate

    @pytest.mark.parametrize("arm", [0, 1])
    def test_empty_arm(self, trial, arm):
        with pytest.raises(EffectError, match=r"needs at least 2"):
            effect_of(trial[trial["treated"] == arm])

    def test_all_weight_in_one_unit(self, trial):
        weights = np.where(np.arange(len(trial)) == np.flatnonzero(trial["treated"])[0], 1.0, 0.0)
        with pytest.raises(EffectError, match="needs at least 2"):
            effect_of(trial, weights=weights + (trial["treated"].to_numpy() == 0))

    def test_missing_outcomes_are_counted(self, trial):
        holes = trial.copy()
        holes.loc[:9, "wealth"] = np.nan
        holes.loc[5:14, "area"] = np.nan
        with pytest.warns(MissingDataWarning, match=r"15 of 2000 rows.*wealth 10, area 10"):
            result = effect_of(holes, vcov={"CRV1": "area"})
        assert result.n_dropped == 15
        assert result.n == len(trial) - 15
        assert "missing" in kinds(result)
        assert result.estimate == effect_of(trial.iloc[15:]).estimate

    def test_infinite_outcome(self, trial):
        with pytest.raises(EffectError, match="infinite"):
            effect_of(trial.assign(wealth=trial["wealth"].where(trial.index > 0, np.inf)))

    def test_clusters(self, trial):
        with pytest.raises(EffectError, match=r"single cluster \('one'\)"):
            effect_of(trial.assign(area="one"), vcov={"CRV1": "area"})
        few = effect_of(trial.assign(area=trial["area"] % 6), vcov={"CRV1": "area"})
        assert "few_clusters" in kinds(few)
        assert few.df == 5
        assert "few_clusters" not in kinds(effect_of(trial, vcov={"CRV1": "area"}))  # thirty of them

    def test_weight_in_few_clusters_of_one_arm(self):
        """Forty clusters, of which three are treated; and forty of which one has nearly all the weight of its arm."""
        rng = np.random.default_rng(0)
        area = np.repeat(np.arange(40), 10)
        data = pd.DataFrame({"wealth": rng.normal(size=400), "area": area, "treated": (area < 3).astype(int)})
        few = effect_of(data, vcov={"CRV1": "area"})
        assert "they are worth 3.0 equally weighted ones" in few.summary().replace("\n  ", " ")
        half = data.assign(treated=area % 2)
        assert "few_clusters" not in kinds(effect_of(half, vcov={"CRV1": "area"}))
        heavy = effect_of(half, vcov={"CRV1": "area"}, weights=np.where(area == 7, 90.0, 1.0))
        assert "the heaviest with 83%" in " ".join(heavy.notes)

    @pytest.mark.parametrize("copy", ["same", "constant"])
    def test_singular_design(self, trial, copy):
        data = trial.assign(copy=trial["x"] if copy == "same" else 3.0)
        with pytest.raises(EffectError, match="singular design: copy"):
            effect_of(data, covariates=["x", "copy"], estimator="ols")

    def test_covariate_is_the_treatment(self, trial):
        with pytest.raises(EffectError, match="singular design: the treatment"):
            effect_of(trial.assign(arm=1 - trial["treated"]), covariates=["arm"], estimator="ols")
        with pytest.raises(EffectError, match="holds the treatment"):
            effect_of(trial, covariates=["treated"], estimator="ols")

    def test_difference_takes_no_covariates(self, trial):
        with pytest.raises(EffectError, match="Use estimator='ols'"):
            effect_of(trial, covariates=["x"])

    @pytest.mark.parametrize(("weights", "match"), [(-1.0, "must not be negative"), (np.inf, "are infinite")])
    def test_impossible_weights(self, trial, weights, match):
        with pytest.raises(EffectError, match=match):
            effect_of(trial, weights=np.where(trial.index == 3, weights, 1.0))

    def test_weights_of_another_length(self, trial):
        with pytest.raises(EffectError, match="weights: has 2 values, but data has 2000"):
            effect_of(trial, weights=[1.0, 2.0])

    @pytest.mark.parametrize(
        "vcov",
        [
            "HC3",
            {"CRV1": "area", "HC1": 1},
            {"CRV9": "area"},
            {"conley": {"lat": "x", "lon": "x"}},
            {"conley": {"lat": "x", "lon": "x", "cutoff_km": -1}},
            {"conley": {"lat": "x", "lon": "x", "cutoff_km": 100, "kernel": "gauss"}},
        ],
    )
    def test_unknown_vcov(self, trial, vcov):
        with pytest.raises(EffectError, match="vcov"):
            effect_of(trial, vcov=vcov)

    def test_unknown_words(self, card, trial):
        with pytest.raises(EffectError, match="'lasso'"):
            effect_of(trial, estimator="lasso")
        with pytest.raises(EffectError, match="'both'"):
            effect_of(trial, calibration=card, assumption="both")
        with pytest.raises(CardError, match="'ratledge' is not in this card"):
            effect_of(trial, calibration=card, method="ratledge")
        with pytest.raises(EffectError, match="needs calibration="):
            effect_of(trial, method="linear")

    def test_calibration_that_is_no_card(self, trial):
        fit = TweedieCalibration().fit(*make_calibration(1, 600))
        with pytest.raises(EffectError, match=r"\.to_card\(\)"):
            effect_of(trial, calibration=fit, method="tweedie")

    def test_card_of_another_product(self, card, trial):
        for key, value in (("unit", "dollars"), ("predictor", "resnet-9999")):
            data = trial.copy()
            data.attrs[key] = value
            with pytest.raises(CardError, match=value):
                effect_of(data, calibration=card)
        data = trial.copy()
        data.attrs.update(unit="index points", predictor="resnet-0123")
        assert effect_of(data, calibration=card).unit == "index points"

    def test_off_support_is_said_once(self, card, trial):
        far = trial.assign(wealth=trial["wealth"] + 2)
        with pytest.warns(SupportWarning, match="where the correction was learned") as caught:
            result = estimate_effect(far, outcome="wealth", treatment="treated", calibration=card)
        said = [w for w in caught if issubclass(w.category, SupportWarning)]
        assert [w.filename for w in said] == [__file__]  # at the caller's line
        assert "support" in kinds(result)
        assert result.share_outside > 0.1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            estimate_effect(
                far, outcome="wealth", treatment="treated", calibration=card, assumption="outcome"
            )
