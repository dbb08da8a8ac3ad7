"""The verdict follows the numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sustain.report.doubts import Doubt
from sustain.report.findings import Accuracy
from sustain.report.verdict import (
    accuracy_sentence,
    effects_sentence,
    reported_sentence,
    shrinkage_sentence,
    verdict,
)
from sustain.report.words import count, interval, listing, number, percent, signed
from sustain.trials.family import StabilityGaps
from sustain.trials.results import MethodEstimate, TrialResult, method_scores


def result(naive, linear, truth=None, assumption="measurement", title="Villages", half=0.1):
    estimates = [
        {"method": method, "estimate": value, "std_error": half / 2}
        | {"conf_low": value - half, "conf_high": value + half, "level": 0.95}
        for method, value in (("none", naive), ("linear", linear))
    ]
    return TrialResult(
        name="t",
        title=title,
        question="?",
        assumption=assumption,
        why="why",
        estimator="difference",
        vcov="HC1",
        n_treated=50,
        n_control=50,
        reported="linear" if assumption == "measurement" else "none",
        truth=truth,
        estimates=[MethodEstimate(**estimate) for estimate in estimates],
    )


def lead(*trials):
    return verdict(trials, (), 0.7, (0.6, 0.8), unit="points").lead


def test_reported_interval_contains_the_truth():
    text = lead(result(0.3, 0.5, truth=0.5))
    assert "In the one trial the reported interval contains the true effect." in text
    assert (
        "Had all been left uncorrected, 1 of 1 would have missed it; had all been corrected, none (linear)."
        in text
    )


def test_reported_interval_misses_the_truth():
    text = lead(result(0.3, 0.7, truth=0.5, title="Villages"), result(0.3, 0.5, truth=0.5, title="Districts"))
    assert "in 1 of 2 trials; it misses it in: “Villages”." in text


def test_the_reported_estimate_is_held_against_the_truth():
    text = reported_sentence(result(1.2, 2.1, truth=1.2, assumption="outcome"), "points")
    assert "the map as it is, because the image shows this contrast by itself" in text
    assert (
        "1.20 points (95% interval 1.10 to 1.30): close to the truth, 1.20, which the interval contains."
        in text
    )
    text = reported_sentence(result(0.1, 0.3, truth=0.5), "points", "survey")
    assert "40% too small against the survey, 0.50, which the interval misses." in text


def test_negative_effects_are_compared_by_size():
    assert "40% too small" in reported_sentence(result(-0.3, -0.3, truth=-0.5), "points")
    assert "of the wrong sign" in reported_sentence(result(0.3, 0.3, truth=-0.5), "points")


def test_truth_of_zero_has_no_percentages():
    text = reported_sentence(result(0.2, 0.3, truth=0.0), "points")
    assert "0.30 away from the truth, 0.00" in text
    assert "%" not in text.replace("95%", "")


def test_without_truth_nothing_is_called_right():
    trial = result(0.3, 0.5)
    assert "decided by the assumption" in lead(trial)
    assert "differ by up to 0.20" in lead(trial)
    text = reported_sentence(trial, "points")
    assert "truth" not in text
    assert text.endswith("gives 0.50 points (95% interval 0.40 to 0.60).")


def test_few_units_are_said_where_the_effect_stands():
    few = result(0.3, 0.5, title="Three towns").model_copy(update={"n_treated": 3})
    assert "Three towns: 0.50 (0.40 to 0.60), with only 3 treated units." in effects_sentence(
        [few], "points", "truth"
    )
    assert "only" not in effects_sentence([result(0.3, 0.5)], "points", "truth")
    one = few.model_copy(update={"n_treated": 40, "n_control": 1})
    assert "with only 1 control unit." in effects_sentence([one], "points", "truth")


def test_the_verdict_has_five_points_at_most():
    doubts = [Doubt("strata", "kinds of places differ", "Slopes differ.", "Nothing is done.")]
    gaps = StabilityGaps(0.09, 0.31, 0.46)
    accuracy = [Accuracy("cnn", "CNN", 0.7, 1, 1, 9)]
    few = verdict([result(0.3, 0.5)], accuracy, 0.7, (0.6, 0.8), unit="u", gaps=gaps, doubts=doubts)
    many = verdict([result(0.3, 0.5)] * 9, accuracy, 0.7, (0.6, 0.8), unit="u", gaps=gaps, doubts=doubts)
    assert [heading for heading, _ in few.points] == [
        "The effects",
        "What decides",
        "The map",
        "Its card warns",
    ]
    assert [heading for heading, _ in many.points] == ["Why", "What decides", "The map", "Its card warns"]
    assert "0.09" in dict(many.points)["Why"]
    assert dict(few.points)["Its card warns"].startswith("Kinds of places differ.")


def test_family_of_contrasts_that_needs_no_correction():
    truths = np.linspace(-1, 1, 10)
    text = lead(*(result(t + 0.01, 1.5 * t, truth=t, assumption="outcome") for t in truths))
    assert "the map as it is comes closest" in text
    assert "need no correction" in text
    assert "corrections overshoot by 50%." in text


def test_family_of_contrasts_that_needs_one():
    truths = np.linspace(-1, 1, 10)
    text = lead(*(result(0.6 * t, t, truth=t) for t in truths))
    assert "the linear correction comes closest" in text
    assert "the correction is needed" in text
    assert "need no correction" not in text


def test_the_model_is_compared_with_night_lights():
    cnn, lights = (
        Accuracy("cnn", "CNN", 0.7, 1, 1, 320),
        Accuracy("nightlights", "Night lights", 0.4, 1, 1, 320),
    )
    assert "explains 70%" in accuracy_sentence([cnn, lights], "in new places")
    assert "night lights alone explain 40%" in accuracy_sentence([cnn, lights], "in new places")
    worse = Accuracy("nightlights", "Night lights", 0.8, 1, 1, 320)
    assert "the images add nothing" in accuracy_sentence([cnn, worse], "in new places")


def test_without_trials_none_is_spoken_of():
    assert lead() == "There is no trial yet: below is what the map and its card have for the first one."


def test_a_better_model_is_not_passed_over():
    def said(r2):
        others = (
            Accuracy("nightlights", "Night lights", 0.4, 1, 1, 9),
            Accuracy("forest", "Forest", r2, 1, 1, 9),
        )
        return accuracy_sentence([Accuracy("cnn", "CNN", 0.7, 1, 1, 9), *others], "in new places")

    assert said(0.73).endswith("night lights alone explain 40%. Another model does no worse (Forest: 73%).")
    assert "Another model" not in said(0.69)


@pytest.mark.parametrize(
    ("slope", "bounds", "expected"),
    [
        (0.7, (0.6, 0.8), "understates differences by 30%"),
        (1.2, (1.1, 1.3), "overstates differences by 20%"),
        (0.95, (0.85, 1.05), "no shrinkage can be told from chance"),
    ],
)
def test_shrinkage(slope, bounds, expected):
    assert expected in shrinkage_sentence(slope, bounds)


def test_both_assumptions_are_said_for_their_trials():
    trials = [result(0.3, 0.5, title="Lots"), result(1.0, 2.0, assumption="outcome", title="Towns")]
    text = dict(verdict(trials, (), 0.7, (0.6, 0.8), unit="points").points)["What decides"]
    assert "Corrected here: “Lots”; left as it is: “Towns”." in text


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=7))
def test_scores_count_what_the_intervals_hold(values):
    trials = [result(naive, linear, truth=truth) for naive, linear, truth in values]
    for score in method_scores(trials):
        held = [t.by(score.method).covers(t.truth) for t in trials]
        errors = [abs(t.by(score.method).estimate - t.truth) for t in trials]
        assert score.covered == sum(held)
        assert score.mean_abs_error == pytest.approx(np.mean(errors))
    hits = sum(t.headline.covers(t.truth) for t in trials)
    said = lead(*trials)
    assert (f"in {hits} of {len(trials)} trials" in said) == (hits < len(trials))


def test_numbers_in_sentences():
    assert number(-0.5) == "−0.50"
    assert number(-0.001) == "0.00"
    assert number(None) == number(float("nan")) == "–"
    assert signed(0.2) == "+0.20"
    assert signed(0.001) == "0.00"
    assert interval(-1, 2) == "−1.00 to 2.00"
    assert percent(0.256) == "26%"
    assert count(19669) == "19\N{NARROW NO-BREAK SPACE}669"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert listing(["a"]) == "a"
