"""Effects of trials whose places lie in several strata, each with a correction of its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.debias import build_card
from sustain.errors import CardError, WeakCalibrationWarning

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model"}
LEVEL, SLOPE, NOISE = {"urban": 1.5, "rural": 0.0}, {"urban": 0.6, "rural": 0.4}, 0.25


def places(n, seed, effect=0.0):
    """The image shows the stratum at once, and wealth within it through a slope of its own."""
    rng = np.random.default_rng(seed)
    place = np.where(rng.random(n) < 0.4, "urban", "rural")
    level, slope = (pd.Series(place).map(values).to_numpy() for values in (LEVEL, SLOPE))
    treated = rng.integers(0, 2, n)
    truth = level + rng.normal(0, 0.8, n) + effect * treated
    wealth = level + slope * (truth - level) + rng.normal(0, NOISE, n)
    return pd.DataFrame({"wealth": wealth, "truth": truth, "treated": treated, "place": place})


def card_of(n, seed, **options):
    sample = places(n, seed)
    return build_card(sample["wealth"], sample["truth"], strata=sample["place"], **ABOUT, **options)


def effect_of(data, card, **options):
    return estimate_effect(
        data,
        outcome="wealth",
        treatment="treated",
        calibration=card,
        assumption="measurement",
        **options,
    )


@pytest.mark.parametrize("method", ["response", "linear", "tweedie"])
def test_strata_recover_what_the_pooled_correction_leaves(method):
    card = card_of(4000, 0, methods=("linear", "tweedie", "response"), n_boot=50)
    trial = places(20_000, 1, effect=0.4)
    pooled, own = (effect_of(trial, card, method=method, strata=s) for s in (None, "place"))
    assert pooled.estimate < 0.34
    assert own.estimate == pytest.approx(0.4, abs=3 * own.std_error)
    assert own.estimate == pytest.approx(0.4, abs=0.04)


def test_the_effect_is_that_on_the_outcome_corrected_stratum_by_stratum():
    card, trial = card_of(500, 0, n_boot=50), places(1000, 1, effect=0.4)
    corrected = trial["wealth"].copy()
    for name in ("urban", "rural"):
        rows = trial["place"] == name
        corrected[rows] = card.transform(trial["wealth"][rows], method="linear", stratum=name)
    means = corrected.groupby(trial["treated"]).mean()
    found = effect_of(trial, card, method="linear", strata="place")
    assert found.estimate == pytest.approx(means[1] - means[0], rel=1e-12)
    assert "its own stratum (place)" in found.summary()


@pytest.mark.filterwarnings("ignore::sustain.errors.SupportWarning")
def test_intervals_cover_with_few_calibration_rows():
    covered = []
    for seed in range(150):
        trial = places(3000, 2 * seed, effect=0.8)
        low, high = effect_of(
            trial, card_of(200, 2 * seed + 1, methods=("linear",), n_boot=60), method="linear", strata="place"
        ).conf_int()
        covered.append(low <= 0.8 <= high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_an_unknown_stratum_names_those_of_the_card():
    card, trial = card_of(500, 0, n_boot=20), places(500, 1)
    trial.loc[0, "place"] = "coast"
    with pytest.raises(CardError, match=r"'coast' is not in this card's linear correction; it has .*rural"):
        effect_of(trial, card, method="linear", strata="place")


class TestFlatSlopeInAStratum:
    """Predictions follow the truth by 0.8 in `u` and by 0.1 in `r`; by about 0.45 in all."""

    @pytest.fixture
    def card(self):
        rng = np.random.default_rng(0)
        truth, place = rng.normal(size=600), np.where(rng.random(600) < 0.5, "u", "r")
        seen = np.where(place == "u", 0.8, 0.1) * truth + 0.15 * rng.normal(size=600)
        with pytest.warns(WeakCalibrationWarning, match="stratum r"):
            return build_card(seen, truth, strata=place, **ABOUT, methods=("linear",), n_boot=40)

    @staticmethod
    def trial(places):
        rng = np.random.default_rng(1)
        treated, place = np.arange(400) % 2, rng.choice(places, 400)
        truth = rng.normal(size=400) + 0.2 * treated
        seen = np.where(place == "u", 0.8, 0.1) * truth + 0.15 * rng.normal(size=400)
        return pd.DataFrame({"wealth": seen, "treated": treated, "place": place})

    @pytest.mark.parametrize("places", [["r"], ["u", "r"]])
    def test_is_said_where_the_trial_lies_in_it(self, card, places):
        slope = next(item.prediction_on_truth.slope for item in card.strata if item.name == "r")
        said = f"in stratum 'r' is {slope:.3g}, under 0.2"
        with pytest.warns(WeakCalibrationWarning, match=said):
            found = effect_of(self.trial(places), card, strata="place")
        notes = [str(note) for note in found.notes if note.kind == "weak_calibration"]
        assert len(notes) == 1
        assert said in notes[0]
        assert slope == pytest.approx(0.1, abs=0.03)

    @pytest.mark.filterwarnings("error::sustain.errors.WeakCalibrationWarning")
    @pytest.mark.parametrize(("places", "strata"), [(["u"], "place"), (["u", "r"], None)])
    def test_is_not_said_of_other_corrections(self, card, places, strata):
        found = effect_of(self.trial(places), card, strata=strata)
        assert "weak_calibration" not in [note.kind for note in found.notes]
