"""Changes over time: no slope of levels corrects them, the naive effect is a lower end, and every message says so."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card
from sustain.errors import ChangeWarning, EffectError, MissingDataWarning, SustainWarning

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model"}
DID = {"estimator": "did", "unit": "village", "time": "wave"}
SLOPE, SLOPE_OF_CHANGE = 0.7, 0.25


@pytest.fixture(scope="module")
def card() -> CalibrationCard:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=1000)
    return build_card(SLOPE * truth + 0.4 * rng.normal(size=1000), truth, n_boot=30, **ABOUT)


def make_panel(seed: int = 0, n: int = 400, effect: float = 1.0) -> pd.DataFrame:
    """Two waves of villages, whose predictions follow places by `SLOPE` and changes by `SLOPE_OF_CHANGE`."""
    rng = np.random.default_rng(seed)
    village, wave = np.divmod(np.arange(2 * n), 2)
    place = rng.normal(size=n)[village]
    treated = (village % 2) * wave
    change = (0.2 * rng.normal(size=n)[village] + 0.3) * wave + effect * treated
    wealth = SLOPE * place + SLOPE_OF_CHANGE * change + 0.1 * rng.normal(size=2 * n)
    return pd.DataFrame(
        {"wealth": wealth, "treated": treated, "village": village, "wave": wave, "year": 2010 + 5 * wave}
    )


def effect_of(data: pd.DataFrame, **arguments):
    return estimate_effect(data, **{"outcome": "wealth", "treatment": "treated"} | arguments)


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("assumption", {"assumption": "measurement"}),
            ("assumption", {"assumption": "bracket"}),
            ("assumption", {"assumption": "bracket", "method": "tweedie"}),
            ("method", {"method": "linear"}),
            ("method", {"method": "tweedie"}),
            ("method", {"method": "level", "card_level": "within village"}),
            ("card_level", {"card_level": "within village"}),
            ("strata", {"strata": "village"}),
            ("transport", {"transport": 0.1}),
        ],
    )
    def test_any_correction(self, card, name, arguments):
        with pytest.raises(EffectError) as caught:
            effect_of(make_panel(), calibration=card, **DID, **arguments)
        said = str(caught.value)
        assert said.startswith(f"{name}: got ")
        for words in (
            "a change of 'village' over 'wave'",
            "learned by comparing places",
            "assumption='outcome'",
            "a lower end",
            "labels of the same places at two dates",
        ):
            assert words in said

    def test_fixed_effects_of_units_and_years(self, card):
        for formula in (
            "wealth ~ treated | village + year",
            "wealth ~ treated | year + village",
            "wealth ~ treated | village + arm^year",
        ):
            data = make_panel().assign(arm=lambda frame: frame["village"] % 3)
            with pytest.raises(EffectError, match="a change of 'village' over 'year'"):
                estimate_effect(data, formula, calibration=card, assumption="measurement")

    @pytest.mark.parametrize(
        "years",
        [
            lambda year: year.astype(str),
            lambda year: pd.to_datetime(year.astype(str)),
            lambda year: pd.PeriodIndex(year.astype(str), freq="Y"),
        ],
        ids=["text", "dates", "periods"],
    )
    def test_years_in_any_form(self, card, years):
        data = make_panel().assign(year=lambda frame: years(frame["year"]))
        with pytest.raises(EffectError, match="a change of 'village' over 'year'"):
            estimate_effect(data, "wealth ~ treated | village + year", calibration=card, method="linear")


class TestLowerEnd:
    def test_card_without_a_method(self, card):
        with pytest.warns(ChangeWarning, match="a lower end of its size") as said:
            result = estimate_effect(
                make_panel(), outcome="wealth", treatment="treated", calibration=card, **DID
            )
        assert [item.filename for item in said] == [__file__]
        assert result.corrected is None
        assert result.method == "none"
        assert [note.kind for note in result.notes if note.kind in ("changes", "assumption")] == ["changes"]
        text = " ".join(result.summary().split())
        assert "nothing is corrected. Labels of the same places at two dates would tell" in text
        assert "nearer" not in text  # no number that the slope of levels makes
        assert np.isnan(result.n_effective)
        plain = effect_of(make_panel(), **DID)
        assert (result.estimate, result.std_error) == (plain.estimate, plain.std_error)

    @pytest.mark.parametrize("arguments", [{}, {"method": "tweedie"}, {"strata": "village"}])
    def test_outcome_stability(self, card, arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("error", SustainWarning)
            result = effect_of(make_panel(), calibration=card, assumption="outcome", **DID, **arguments)
        assert result.corrected is None
        assert "a lower end of its size" in " ".join(result.summary().split())

    def test_without_a_card(self):
        kinds = [note.kind for note in effect_of(make_panel(), **DID).notes]
        assert "changes" in kinds
        assert "uncorrected" not in kinds

    def test_is_one(self, card):
        """Predictions that follow changes less than places: the slope of levels leaves most of the effect out."""
        found = [
            effect_of(make_panel(seed), assumption="outcome", calibration=card, **DID) for seed in range(40)
        ]
        naive = np.array([result.estimate for result in found])
        assert naive.mean() == pytest.approx(SLOPE_OF_CHANGE, abs=0.01)
        assert (naive + 2 * found[0].std_error < 1.0).all()
        assert (naive / card.slope < 0.5).all()

    def test_missing_rows_are_said_as_ever(self, card):
        data = make_panel()
        data.loc[3, "wealth"] = np.nan
        with pytest.warns(MissingDataWarning):
            assert effect_of(data, calibration=card, assumption="outcome", **DID).n_dropped == 1


class TestNotTold:
    def test_waves_may_be_anything(self, card):
        """Two effects that no two rows share are not sure to be units and periods: corrected, with a note."""
        result = estimate_effect(
            make_panel(), "wealth ~ treated | village + wave", calibration=card, assumption="measurement"
        )
        assert result.corrected is not None
        note = next(note for note in result.notes if note.kind == "changes")
        assert "If 'wave' are periods of 'village'" in note
        assert "Pass estimator='did'" in note

    def test_years_of_different_places(self, card):
        """A survey's districts and years, with many places in each: levels, which the slope is for."""
        rng = np.random.default_rng(0)
        data = pd.DataFrame({"wealth": rng.normal(size=600), "treated": rng.integers(0, 2, 600)})
        data = data.assign(district=rng.integers(0, 20, 600), year=2010 + rng.integers(0, 3, 600))
        result = estimate_effect(
            data, "wealth ~ treated | district + year", calibration=card, assumption="measurement"
        )
        assert result.corrected is not None
        assert "changes" not in [note.kind for note in result.notes]

    def test_treatment_that_never_changes_within_units(self, card):
        data = make_panel().assign(
            treated=lambda frame: frame["village"] % 2, region=lambda frame: frame.index % 7
        )
        result = estimate_effect(data, "wealth ~ treated | region + year", calibration=card, method="linear")
        assert result.corrected is not None
