"""Results keep every number on their way through a file, and a file of another form is refused in words."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sustain.debias import build_card
from sustain.errors import EffectError, FileFormatError
from sustain.trials.distribution import poverty_lines
from sustain.trials.results import (
    MethodEstimate,
    ReadBack,
    TrialNote,
    TrialResult,
    effects_table,
    method_scores,
    read_results,
    write_results,
)
from sustain.trials.trial import Trial, estimate_trials

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
READ_BACK = st.builds(
    ReadBack,
    slope=NUMBERS,
    alike=NUMBERS,
    alike_low=NUMBERS,
    alike_high=NUMBERS,
    differs=st.booleans(),
    extrapolated=NUMBERS,
)
ESTIMATES = st.builds(
    MethodEstimate,
    method=st.sampled_from(["none", "response", "linear", "tweedie"]),
    estimate=NUMBERS,
    std_error=NUMBERS,
    conf_low=NUMBERS,
    conf_high=NUMBERS,
    level=st.floats(0.5, 0.99),
    share_var_calibration=NUMBERS,
    notes=st.lists(st.builds(TrialNote, kind=st.text(), text=st.text()), max_size=2),
    read_back=st.none() | READ_BACK,
)
RESULTS = st.builds(
    TrialResult,
    name=st.text(),
    title=st.text(),
    question=st.text(),
    assumption=st.sampled_from(["measurement", "outcome"]),
    why=st.text(),
    estimator=st.sampled_from(["difference", "ols"]),
    vcov=st.one_of(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), NUMBERS), max_size=2)),
    n_treated=st.integers(0, 9999),
    n_control=st.integers(0, 9999),
    reported=st.text(),
    estimates=st.lists(ESTIMATES, max_size=3),
    truth=st.one_of(st.none(), NUMBERS),
    truth_definition=st.text(),
)


def result(truth: float | None = None, **estimates: float) -> TrialResult:
    """A trial whose every interval is one unit to either side."""
    return TrialResult(
        name="t",
        title="T",
        question="?",
        assumption="measurement",
        why="so",
        estimator="difference",
        vcov="HC1",
        n_treated=5,
        n_control=6,
        reported="linear",
        truth=truth,
        estimates=[
            {
                "method": m,
                "estimate": v,
                "std_error": 0.5,
                "conf_low": v - 1,
                "conf_high": v + 1,
                "level": 0.9,
            }
            for m, v in estimates.items()
        ],
    )


@given(RESULTS)
def test_a_result_comes_back_from_json_as_it_was(trial):
    assert TrialResult.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial


def test_a_number_that_is_none_comes_back_as_nan(tmp_path):
    """As of an interval that does not exist."""
    trial = result(none=1.0)
    unknown = trial.estimates[0].model_copy(update={"conf_low": math.nan, "share_var_calibration": math.nan})
    write_results(tmp_path / "effects", [trial.model_copy(update={"estimates": (unknown,)})])
    assert "NaN" not in (tmp_path / "effects/effects.json").read_text()
    (back,) = read_results(tmp_path / "effects")
    assert math.isnan(back.estimates[0].conf_low)
    assert math.isnan(back.estimates[0].share_var_calibration)
    assert back.estimates[0].conf_high == 2.0


def test_every_table_lies_beside_the_results(tmp_path):
    write_results(tmp_path / "effects", [result(none=1.0)], scores=pd.DataFrame({"mae": [0.5]}))
    assert sorted(path.name for path in (tmp_path / "effects").iterdir()) == [
        *("effects.csv", "effects.json", "scores.csv")
    ]
    assert pd.read_csv(tmp_path / "effects/scores.csv")["mae"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["trials"][0].pop("title"), r"title: Field required"),
        (lambda c: c["trials"][0].update(colour="red"), r"colour: Extra inputs"),
        (lambda c: c["trials"][0].update(assumption="hope"), r"assumption: .*measurement"),
        (lambda c: c["trials"][0]["estimates"][0].pop("estimate"), r"estimates\.0\.estimate: Field required"),
        (lambda c: c.pop("trials"), r"trials"),
        (lambda c: c.update(trials=["t"]), r"TrialResult: "),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, change, said):
    write_results(tmp_path, [result(none=1.0)])
    path = tmp_path / "effects.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=rf"effects\.json: not the effects of trials \(.*{said}.*Run"):
        read_results(tmp_path)


def test_the_table_says_what_was_missed_and_what_was_held():
    table = effects_table([result(2.0, none=0.5, linear=2.5), result(None, none=0.5)])
    assert table["error"].tolist()[:2] == [-1.5, 0.5]
    assert table["covered"].tolist()[:2] == [0, 1]
    assert table["reported"].tolist() == [False, True, False]
    assert table.loc[2, ["truth", "error", "covered"]].isna().all()
    assert effects_table([]).columns.tolist() == table.columns.tolist()


def test_scores_by_hand():
    trials = [result(1.0, none=0.5, linear=1.5), result(-3.0, none=-1.0, linear=-3.5), result(None, none=9.0)]
    scores = {score.method: score for score in method_scores(trials)}
    assert scores["none"].n == 2
    assert scores["none"].mean_abs_error == pytest.approx((0.5 + 2.0) / 2)
    assert scores["none"].mean_error == pytest.approx((-0.5 + 2.0) / 2)
    assert scores["none"].ratio == pytest.approx((0.5 * 1 + 1.0 * 3) / (1 + 9))
    assert scores["none"].covered == 1
    assert scores["linear"].covered == 2


def test_a_trial_must_be_able_to_report_what_it_assumes():
    """Said before anything is estimated."""
    content = {
        "name": "t",
        "title": "T",
        "question": "?",
        "table": "",
        "why": "",
        "assumption": "measurement",
    }
    with pytest.raises(EffectError, match=r"reports method 'linear', but methods are \['none'\]"):
        estimate_trials([Trial(**content)], {}, None, methods=["none"], correction="linear")


def test_a_result_that_lacks_what_it_reports_says_so():
    with pytest.raises(FileFormatError, match=r"'t' reports method 'linear', but holds only \['none'\]"):
        _ = result(none=1.0).headline


def test_a_trial_that_is_read_back_carries_what_unfolding_says_beside_it():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=600)
    card = build_card(
        0.6 * truth + 0.3 * rng.normal(size=600),
        truth,
        target={"name": "wealth", "unit": "index"},
        predictor="model",
        methods=("linear", "response"),
        n_boot=20,
    )
    treated = np.arange(1000) % 2
    wealth = rng.normal(size=1000) + 0.5 * treated
    units = pd.DataFrame({"wealth_raw": 0.6 * wealth + 0.3 * rng.normal(size=1000), "treated": treated})
    described = Trial(name="t", title="T", question="?", table="", why="so", assumption="measurement")
    (found,) = estimate_trials(
        [described], {"t": units}, card, methods=["none", "response", "linear"], correction="response"
    )
    assert found.reported == "response"
    naive, response, linear = found.estimates
    assert naive.read_back is None
    assert linear.read_back is None
    back = response.read_back
    assert back.slope == pytest.approx(naive.estimate / response.estimate)
    assert back.alike_low < back.alike < back.alike_high
    assert response.estimate == pytest.approx(0.5, abs=4 * response.std_error)
    assert 0 <= back.extrapolated < 0.1

    found_too = found.distribution
    heads = found_too.by("headcount")
    assert [item.at for item in heads] == poverty_lines(card, (0.2, 0.4))
    for item, share in zip(heads, (0.2, 0.4), strict=True):
        assert np.mean(truth < item.at) == pytest.approx(share, abs=0.02)
        here = [np.mean(wealth[treated == arm] < item.at) for arm in (0, 1)]
        assert item.control == pytest.approx(here[0], abs=0.06)
        assert item.treated == pytest.approx(here[1], abs=0.06)
        assert item.conf_low < item.effect < item.conf_high < 0
    assert TrialResult.from_dict(json.loads(json.dumps(found.to_dict()))) == found
