"""What goes wrong in trials: each a typed error or warning that says what to do, and a caveat in the summary."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card
from sustain.errors import CardError, EffectError, SupportWarning

CONLEY = {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 100}}

CASES = {
    "difference": {},
    "ols": {"estimator": "ols", "covariates": ["x"]},
    "ipw": {"estimator": "ipw", "covariates": ["x"]},
    "aipw": {"estimator": "aipw", "covariates": ["x"], "n_folds": 2},
    "did": {"estimator": "did", "unit": "village", "time": "wave"},
    "iv": {"estimator": "iv", "instrument": "offer"},
    "absorbed": {"estimator": "ols", "fixed_effects": ["region"]},
}
VCOVS = {"HC1": "HC1", "CRV1": {"CRV1": "region"}, "CR2": {"CR2": "region"}, "conley": CONLEY}


def make_trial(seed: int = 0, n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    village, wave = np.arange(n) // 2, np.arange(n) % 2
    treated = ((village % 2 == 1) & ((wave == 1) | (village % 3 == 0))).astype(int)
    columns = {"wealth": rng.normal(size=n) + 0.5 * treated, "treated": treated, "x": rng.normal(size=n)}
    columns |= {
        "village": village,
        "wave": wave,
        "region": village % 12,
        "offer": treated + rng.normal(size=n),
    }
    return pd.DataFrame(columns | {"lat": rng.uniform(0, 8, n), "lon": rng.uniform(0, 8, n)})


def effect_of(data: pd.DataFrame, **arguments):
    return estimate_effect(data, outcome="wealth", treatment="treated", **arguments)


@pytest.fixture(scope="module")
def card() -> CalibrationCard:
    rng = np.random.default_rng(0)
    y_pred = rng.normal(size=400)
    return build_card(
        y_pred,
        y_pred + 0.7 * rng.normal(size=400),
        target={"name": "wealth", "unit": "index"},
        predictor={"id": "model", "sha256": "a" * 64},
        n_boot=40,
    )


@pytest.mark.parametrize("design", CASES.values(), ids=CASES)
class TestEveryDesign:
    @pytest.mark.parametrize("arm", [0, 1])
    def test_one_arm_empty(self, design, arm):
        with pytest.raises(EffectError, match="each arm needs at least 2"):
            effect_of(make_trial().query(f"treated == {arm}"), **design)

    @pytest.mark.parametrize("values", [[0.5, 1.0], [-1, 1], [1, 2]])
    def test_treatment_that_is_not_0_and_1(self, design, values):
        with pytest.raises(EffectError, match="must hold 0 and 1 only"):
            effect_of(make_trial().assign(treated=np.tile(values, 120)), **design)

    def test_all_weight_in_one_unit(self, design):
        weights = np.zeros(240)
        weights[3] = 1.0
        with pytest.raises(EffectError, match="each arm needs at least 2"):
            effect_of(make_trial(), weights=weights, **design)

    def test_nearly_all_weight_in_one_unit_is_said(self, design):
        weights = np.ones(240)
        weights[3] = 500.0
        result = effect_of(make_trial(), weights=weights, **design)
        assert {"weights", "overlap"} & {note.kind for note in result.notes}

    @pytest.mark.parametrize("kind", ["CRV1", "CR2"])
    def test_single_cluster(self, design, kind):
        with pytest.raises(EffectError, match=r"single cluster|CR2 is for"):
            effect_of(make_trial().assign(one="all"), vcov={kind: "one"}, **design)

    @pytest.mark.parametrize("vcov", VCOVS.values(), ids=VCOVS)
    def test_every_number_has_its_caveats(self, design, vcov, card):
        """A finite interval, and in the summary every note and the share of the calibration in the variance."""
        data = make_trial()
        if vcov == VCOVS["CR2"] and design.get("estimator") in ("ipw", "aipw", "iv"):
            with pytest.raises(EffectError, match="CR2 is for"):
                effect_of(data, vcov=vcov, **design)
            return
        change = design.get("estimator") == "did"
        for method in ("none",) if change else ("linear", "tweedie"):
            result = effect_of(data, vcov=vcov, calibration=card, method=method, **design)
            low, high = result.conf_int()
            assert low < result.estimate < high
            text = " ".join(result.summary().split())
            assert all(f"{note.kind}: {' '.join(note.split())}" in text for note in result.notes)
            assert f"{result.naive.estimate:.4g}" in text
            assert ("changes" in [note.kind for note in result.notes]) == change
            assert f"explain {card.r2:.1%} of the variance" in text
            divided = f"divided by the slope of prediction on truth, {card.slope:.4g}"
            assert (divided in text) == (method == "linear")
            within = change or "fixed_effects" in design
            assert ("surveyed units" in text) != within
            assert np.isclose(result.influence.sum(), 0, atol=1e-9)
            assert len(result.influence) == result.n == len(result.rows)

    def test_predictions_off_the_support(self, design, card):
        data = make_trial()
        data = data.assign(wealth=20 + data["wealth"])
        if design.get("estimator") == "did":  # changes are not corrected, so nothing is extrapolated
            assert np.isnan(effect_of(data, calibration=card, assumption="outcome", **design).share_outside)
            return
        with pytest.warns(SupportWarning, match="it is an extrapolation"):
            result = effect_of(data, calibration=card, assumption="measurement", **design)
        assert result.share_outside == pytest.approx(1)
        assert "support: 100.0%" in result.summary()

    def test_predictions_of_another_model(self, design, card):
        data = make_trial()
        data.attrs["predictor_sha256"] = "b" * 64
        with pytest.raises(CardError, match="published with this map"):
            effect_of(data, calibration=card, **design)

    def test_predictions_that_are_corrected_already(self, design, card):
        data = make_trial()
        twice = data.assign(wealth_raw=data["wealth"], wealth=card.transform(data["wealth"]))
        with pytest.raises(EffectError, match="Pass outcome='wealth_raw'"):
            effect_of(twice, calibration=card, **design)
        assert effect_of(twice, calibration=card, assumption="outcome", **design).corrected is None

    def test_a_card_for_something_else(self, design, card):
        data = make_trial()
        data.attrs["target"] = "nightlights"
        with pytest.raises(CardError, match="card is for target 'wealth'"):
            effect_of(data, calibration=card, **design)


@pytest.mark.parametrize("estimator", ["ipw", "aipw"])
def test_perfect_separation(estimator):
    data = make_trial().assign(decides=lambda frame: frame["treated"] * 2.0 + 0.1 * frame["x"])
    with pytest.raises(EffectError, match="exactly who is treated"):
        effect_of(data, estimator=estimator, covariates=["decides"], n_folds=2)


def test_covariates_that_leave_little_of_the_treatment_are_said():
    data = make_trial().assign(decides=lambda frame: frame["treated"] + 0.02 * frame["x"])
    result = effect_of(data, estimator="ols", covariates=["decides"])
    assert result.notes[0].kind == "overlap"
    assert "of who is treated" in result.summary()
    # Arms of very unequal size are another matter.
    few = make_trial().assign(treated=lambda frame: (frame.index < 238).astype(int))
    assert "overlap" not in [note.kind for note in effect_of(few, estimator="ols", covariates=["x"]).notes]


class TestDependence:
    @pytest.mark.parametrize("kind", ["CRV1", "CR2"])
    def test_an_arm_that_is_one_cluster(self, kind):
        data = make_trial().assign(
            state=lambda frame: np.where(frame["treated"] == 1, 99, frame["village"] % 30)
        )
        result = effect_of(data, vcov={kind: "state"})
        assert "The weight of the treated units lies in few" in " ".join(result.summary().split())
        with pytest.raises(EffectError, match="told from a difference between two clusters"):
            effect_of(data, vcov={kind: "treated"})

    def test_panels_and_fixed_effects_without_clusters(self):
        panel = {"estimator": "did", "unit": "village", "time": "wave"}
        absorbed = {"estimator": "ols", "fixed_effects": ["village", "wave"]}
        for design in (panel, absorbed):
            result = effect_of(make_trial(), vcov="HC1", **design)
            assert "not_clustered: HC1 takes every row as independent" in " ".join(result.summary().split())
        clustered = (panel, absorbed | {"vcov": {"CRV1": "village"}}, absorbed | {"vcov": CONLEY})
        for design in clustered:
            assert "not_clustered" not in [note.kind for note in effect_of(make_trial(), **design).notes]

    def test_few_units(self):
        data = make_trial().query("treated == 0 or village < 12")
        assert "few_units: Only " in effect_of(data).summary()


@pytest.mark.parametrize("design", CASES.values(), ids=CASES)
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_an_outcome_that_does_not_vary(design, value):
    result = effect_of(make_trial().assign(wealth=value), **design)
    assert "no_scatter: The outcome does not scatter" in result.summary()


def test_one_map_for_all_periods_is_said():
    data = make_trial().assign(wealth=lambda frame: frame.groupby("village")["wealth"].transform("first"))
    result = effect_of(data, estimator="did", unit="village", time="wave")
    assert "no_scatter" in [note.kind for note in result.notes]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": ["a"] * 240}, "weights: expected numbers, got"),
        ({"estimator": "ols", "covariates": ["x", "x"]}, "covariates: 'x' is named twice"),
        ({"estimator": "ols", "covariates": ["lists"]}, "covariates: column 'lists': expected labels"),
        ({"level": "high"}, "level: got 'high'"),
        ({"level": None}, "level: got None"),
        ({"vcov": {}}, r"vcov: got \{\}"),
        (
            {"vcov": {"conley": {"lat": "word", "lon": "lon", "cutoff_km": 9}}},
            "column 'word': expected numbers",
        ),
        ({"estimator": "aipw", "n_folds": 2.5}, "n_folds: got 2.5, expected a whole number, 2 or more"),
        ({"estimator": "aipw", "seed": -1}, "seed: got -1, expected a whole number, 0 or more"),
        ({"overlap": {"id": "village", "rows": 3}}, "rows is int, expected a pandas DataFrame"),
        ({"strata": "word", "method": "level", "assumption": "outcome"}, "within stratum"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, message):
    data = make_trial().assign(lists=[[1]] * 240, word="a")
    with pytest.raises(EffectError, match=message):
        effect_of(data, **arguments)


def by_formula(data: pd.DataFrame):
    return estimate_effect(data, "wealth ~ treated + c")


def by_name(data: pd.DataFrame):
    return estimate_effect(data, outcome="wealth", treatment="treated", covariates="c", estimator="ols")


@pytest.mark.parametrize("estimate", [by_formula, by_name])
class TestKindsOfColumns:
    """A covariate by name and the same one in a formula are read alike, and refused alike."""

    @pytest.mark.parametrize("kind", ["float32", "Float64", object])
    def test_numbers_of_any_kind(self, estimate, kind):
        data = make_trial().assign(c=lambda frame: frame["x"].round(2).astype("float32"))
        found = estimate(data.assign(c=data["c"].astype(kind)))
        regressors = np.column_stack([data["treated"], data["c"], np.ones(240)])
        assert found.estimate == pytest.approx(
            np.linalg.lstsq(regressors, data["wealth"], rcond=None)[0][0], rel=1e-6
        )

    @pytest.mark.parametrize("kind", [bool, "boolean", object])
    def test_booleans_of_any_kind(self, estimate, kind):
        data = make_trial().assign(c=lambda frame: frame["x"] > 0)
        found = estimate(data.assign(c=data["c"].astype(kind)))
        assert found.estimate == pytest.approx(estimate(data.assign(c=data["c"] * 1.0)).estimate, rel=1e-10)

    def test_outcome_and_treatment_as_objects(self, estimate):
        data = make_trial().assign(c=lambda frame: frame["x"])
        objects = data.assign(
            wealth=data["wealth"].astype(object), treated=data["treated"].astype(bool).astype(object)
        )
        assert estimate(objects).estimate == estimate(data).estimate
        assert estimate(data.assign(treated=data["treated"].astype("category"))).n == 240

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            (np.arange(240).astype(str), "240 different texts that all are numbers, such as '0'"),
            (pd.to_timedelta(np.arange(240), unit="D"), "column 'c' holds durations"),
            (pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(240), unit="D"), "holds dates"),
            (pd.period_range("1900", periods=240, freq="Y"), "holds dates"),
            ([[1]] * 240, "expected labels"),
        ],
    )
    def test_what_is_neither_numbers_nor_categories(self, estimate, column, message):
        with pytest.raises(EffectError, match=message):
            estimate(make_trial().assign(c=column))

    @pytest.mark.parametrize("column", [["01", "02", "10"] * 80, ["3", "5", "9"] * 80])
    def test_codes_with_zeros_and_a_few_numbers_are_categories(self, estimate, column):
        data = make_trial().assign(c=column)
        same = make_trial().assign(c=pd.Series(column).map({name: f"c{name}" for name in column}))
        assert estimate(data).estimate == pytest.approx(estimate(same).estimate, rel=1e-10)

    def test_numbers_named_as_categories(self, estimate):
        column = (np.arange(240) % 20).astype(str)
        data = make_trial().assign(c=column)
        with pytest.raises(EffectError, match=r"say that they are categories \(.astype\('category'\)\)"):
            estimate(data)
        same = data.assign(c=[f"c{value}" for value in column])
        assert estimate(data.assign(c=data["c"].astype("category"))).estimate == pytest.approx(
            estimate(same).estimate, rel=1e-10
        )
        assert by_formula(data.rename(columns={"c": "k"}).assign(c=0.0 + data["x"])).n == 240
        assert estimate_effect(data, "wealth ~ treated + C(c)").estimate == pytest.approx(
            estimate(same).estimate, rel=1e-10
        )


def test_a_treatment_in_words():
    data = make_trial()
    with pytest.raises(EffectError, match=r"treatment \(0 or 1\): column 'treated': expected numbers"):
        effect_of(data.assign(treated=data["treated"].map({0: "no", 1: "yes"})))


@pytest.mark.parametrize("number", [np.float32, np.float64, float])
def test_numbers_of_numpy(card, number):
    options = {"calibration": card, "assumption": "measurement"}
    found = effect_of(make_trial(), level=number(0.5), transport=number(0.25), **options)
    same = effect_of(make_trial(), level=0.5, transport=0.25, **options)
    assert (found.std_error, found.conf_int()) == (same.std_error, same.conf_int())
    assert type(found.level) is float
    whole = effect_of(make_trial(), transport=np.int64(1), **options)
    assert whole.std_error == effect_of(make_trial(), transport=1, **options).std_error


@pytest.mark.parametrize("values", [np.full(240, 1j), np.full(240, np.inf), np.full(240, 1e200)])
def test_outcomes_that_cannot_be_reckoned_with(values):
    with pytest.raises(
        EffectError,
        match=r"outcome: column 'wealth'(: expected numbers, got complex|: 240 .* infinite| holds values of)",
    ):
        effect_of(make_trial().assign(wealth=values))


def test_an_outcome_corrected_already_is_said_where_nothing_is_corrected(card):
    twice = make_trial().assign(wealth_raw=lambda frame: frame["wealth"])
    for arguments in ({"assumption": "outcome"}, {"method": "none"}):
        result = effect_of(twice, calibration=card, **arguments)
        assert "corrected_already: 'wealth' stands beside 'wealth_raw'" in result.summary()


def test_data_that_are_no_table():
    with pytest.raises(EffectError, match="got ndarray, expected a pandas DataFrame"):
        effect_of(make_trial().to_numpy())


def test_duplicated_coordinates_are_said():
    data = make_trial().assign(lat=1.0, lon=2.0, wealth=lambda frame: frame["wealth"] + frame["region"] % 2)
    with pytest.raises(EffectError, match="all units stand at one place"):
        effect_of(data, vcov=CONLEY)
    data["lat"] = data["region"]
    result = effect_of(data, vcov=CONLEY)
    assert "240 units stand at 12 places" in " ".join(result.summary().split())
