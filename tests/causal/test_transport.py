"""Levels, the path between the assumptions, shared units, other countries: known answers and simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.causal.correction.elsewhere import error_share, spread_elsewhere
from sustain.debias import CalibrationCard, build_card
from sustain.debias.card.schema import Level
from sustain.errors import CardError, EffectError
from sustain.stats.fieller import fieller_set

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": {"id": "model", "sha256": "0" * 64}}
SLOPE = 0.64

pytestmark = pytest.mark.filterwarnings("ignore::sustain.errors.SupportWarning")


def make_rows(seed: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = 1.25 * rng.normal(size=n)
    return pd.DataFrame(
        {"y_true": truth, "y_pred": SLOPE * truth + 0.6 * rng.normal(size=n), "id": np.arange(n)}
    )


def make_trial(seed: int = 2, n: int = 1000, effect: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, n)
    truth = 1.25 * rng.normal(size=n) + effect * treated
    wealth = SLOPE * truth + 0.6 * rng.normal(size=n)
    return pd.DataFrame({"wealth": wealth, "treated": treated, "area": rng.integers(0, 40, n)})


@pytest.fixture(scope="module")
def card() -> CalibrationCard:
    rows = make_rows(1, 600)
    return build_card(rows["y_pred"], rows["y_true"], **ABOUT, n_boot=80)


@pytest.fixture(scope="module")
def levelled(card) -> CalibrationCard:
    common = {"n_units": 30, "df": 29, "residual_sd": 0.5, "centre": {"y_true": 0.0, "y_pred": 0.0}}
    draws = np.random.default_rng(0).normal(0.9, 0.05, 80).tolist()
    levels = [
        Level(name="between regions", slope=0.9, std_error=0.05, draws=draws, **common),
        Level(name="within villages", slope=0.1, std_error=0.05, **common),
    ]
    return card.model_copy(update={"levels": levels})


def effect_of(data: pd.DataFrame, **arguments):
    return estimate_effect(data, **({"outcome": "wealth", "treatment": "treated"} | arguments))


class TestLevel:
    def test_divides_by_the_slope_of_the_level(self, levelled):
        result = effect_of(
            make_trial(),
            calibration=levelled,
            method="level",
            card_level="between regions",
            assumption="measurement",
        )
        naive = result.naive
        assert result.estimate == pytest.approx(naive.estimate / 0.9, rel=1e-12)
        variance = naive.variance_trial / 0.81 + result.estimate**2 * 0.0025 / 0.81
        assert result.std_error == pytest.approx(math.sqrt(variance), rel=1e-12)
        assert result.main.variance_draws == pytest.approx(result.main.variance_calibration, rel=0.5)
        assert result.method == "level: between regions"
        assert "corrected (level)" in result.summary()
        assert result.conf_int(method="fieller")[0] < result.estimate < result.conf_int(method="fieller")[1]

    def test_the_level_names_the_method(self, levelled):
        assert effect_of(make_trial(), calibration=levelled, card_level="between regions").method.startswith(
            "level"
        )

    def test_bad_levels(self, card, levelled):
        with pytest.raises(EffectError, match=r"needs card_level=.*'between regions'"):
            effect_of(make_trial(), calibration=levelled, method="level")
        with pytest.raises(CardError, match="'between planets' is not in this card"):
            effect_of(make_trial(), calibration=levelled, card_level="between planets")
        with pytest.raises(CardError, match="may be zero"):
            effect_of(make_trial(), calibration=levelled, card_level="within villages")
        with pytest.raises(EffectError, match="only method='level' has levels"):
            effect_of(make_trial(), calibration=levelled, method="tweedie", card_level="between regions")


class TestPath:
    @pytest.mark.parametrize("method", ["linear", "tweedie"])
    def test_goes_from_one_end_to_the_other(self, card, method):
        result = effect_of(make_trial(), calibration=card, method=method, assumption="bracket")
        path = result.path()
        for row, end in ((path.iloc[0], result.naive), (path.iloc[-1], result.corrected)):
            assert row["estimate"] == pytest.approx(end.estimate, rel=1e-9)
            assert row["std_error"] == pytest.approx(end.std_error, rel=1e-9)
        assert path["estimate"].is_monotonic_increasing
        text = result.summary()
        assert f"{path['estimate'][2]:.4g}" in text
        assert "reaches the image through the outcome" in text

    def test_known_answer(self, card):
        result = effect_of(make_trial(), calibration=card, method="linear", assumption="bracket")
        slope = 1 - 0.4 * (1 - card.slope)
        row = result.path([0.4]).iloc[0]
        assert row["estimate"] == pytest.approx(result.naive.estimate / slope, rel=1e-9)
        assert row["std_error"] == pytest.approx(result.sensitivity().path([0.4])["std_error"][0], rel=1e-9)

    def test_of_a_curve_is_the_effect_on_the_mixed_outcome(self, card):
        data = make_trial()
        result = effect_of(
            data, calibration=card, method="tweedie", assumption="bracket", vcov={"CRV1": "area"}
        )
        row = result.path([0.5]).iloc[0]
        weight = 0.5 * card.slope / (1 - 0.5 * (1 - card.slope))
        mixed = (1 - weight) * data["wealth"] + weight * card.transform(data["wealth"], "tweedie", False)
        by_hand = effect_of(data.assign(wealth=mixed), vcov={"CRV1": "area"})
        assert row["estimate"] == pytest.approx(by_hand.estimate, rel=1e-9)
        variance = by_hand.std_error**2 + weight**2 * result.corrected.variance_calibration
        assert row["std_error"] == pytest.approx(math.sqrt(variance), rel=1e-9)

    def test_needs_both_ends(self, card):
        with pytest.raises(EffectError, match="one end only"):
            effect_of(make_trial(), calibration=card, method="none").path()
        with pytest.raises(EffectError, match="between 0 and 1"):
            effect_of(make_trial(), calibration=card).path([1.5])

    def test_drawn(self, card):
        import matplotlib as mpl

        mpl.use("Agg")
        axes = effect_of(make_trial(), calibration=card, assumption="bracket").plot()
        path = [line for line in axes.lines if len(line.get_xdata()) == 21]
        assert len(path) == 1


class TestAssumption:
    def test_neither_end_stands_alone(self, card):
        result = effect_of(make_trial(), calibration=card)
        assert f"naive {result.naive.estimate:.4g}" in repr(result)
        assert "naive" not in repr(effect_of(make_trial(), calibration=card, assumption="measurement"))
        plain = effect_of(make_trial(), calibration=card, method="none")
        assert f"{plain.estimate / card.slope:.4g}" in " ".join(plain.summary().split())

    def test_no_card_is_said(self):
        assert "uncorrected: The outcome is taken as it is" in effect_of(make_trial()).summary()


class TestOtherMaps:
    @pytest.mark.parametrize(
        ("key", "value"),
        [("target", "income"), ("unit", "dollars"), ("predictor", "other"), ("predictor_sha256", "f" * 64)],
    )
    def test_refused(self, card, key, value):
        data = make_trial()
        data.attrs[key] = value
        with pytest.raises(CardError, match=f"card is for {key}"):
            effect_of(data, calibration=card)

    def test_own(self, card):
        data = make_trial()
        data.attrs |= {
            "target": "wealth",
            "unit": "index",
            "predictor": "model",
            "predictor_sha256": "0" * 64,
        }
        assert effect_of(data, calibration=card).unit == "index"


class TestWeights:
    def test_one_unit_with_most_of_the_weight(self):
        data = make_trial().assign(w=1.0)
        data.loc[data.index[data["treated"] == 1][0], "w"] = 300.0
        result = effect_of(data, weights="w")
        assert any("worth" in note and note.kind == "weights" for note in result.notes)
        assert "weights" not in [note.kind for note in effect_of(data).notes]


class TestOverlap:
    def test_all_shared_and_none(self, card):
        """Calibration rows as the trial: the covariance is that of the influences, written out."""
        rows = make_rows(1, 600)
        rng = np.random.default_rng(0)
        data = rows.rename(columns={"y_pred": "wealth"}).assign(treated=rng.integers(0, 2, 600))
        overlap = {"id": "id", "rows": rows}
        result = effect_of(data, calibration=card, assumption="measurement", overlap=overlap)
        doubt = result.sensitivity(card)
        assert doubt.differential(0.0).std_error == pytest.approx(result.std_error, rel=1e-9)
        halfway = result.path([0.5]).iloc[0]
        assert doubt.visibility(0.5).std_error == pytest.approx(halfway["std_error"], rel=1e-9)
        apart = effect_of(data, calibration=card, method="linear", assumption="measurement")
        t, x, y = (data[name].to_numpy() for name in ("treated", "wealth", "y_true"))
        means = x[t == 0].mean(), x[t == 1].mean()
        on_effect = np.where(t == 1, (x - means[1]) / t.sum(), -(x - means[0]) / (1 - t).sum())
        residual = x - card.intercept - card.slope * y
        on_slope = (y - y.mean()) * residual / np.square(y - y.mean()).sum()
        tau = apart.estimate
        expected = apart.std_error**2 - 2 * tau / card.slope**2 * (on_effect @ on_slope)
        assert result.std_error**2 == pytest.approx(expected, rel=1e-6)
        assert "600 of 600 units are in the calibration sample" in result.summary()
        elsewhere = effect_of(
            data.assign(id=data["id"] + 1000), calibration=card, assumption="measurement", overlap=overlap
        )
        assert elsewhere.std_error == pytest.approx(apart.std_error, rel=1e-12)

    def test_covers_where_independence_does_not(self):
        """The trial is the calibration sample, with the treatment a part of the truth: errors are shared."""
        covered = {"shared": 0, "apart": 0}
        replications, effect = 200, 2.5
        for seed in range(replications):
            rng = np.random.default_rng(seed)
            treated = (rng.random(150) < 0.5).astype(int)
            truth = 0.6 * rng.normal(size=150) + effect * treated
            wealth = SLOPE * truth + 0.6 * rng.normal(size=150)
            rows = pd.DataFrame({"y_true": truth, "y_pred": wealth, "id": np.arange(150)})
            card = build_card(wealth, truth, methods=("linear",), n_boot=20, **ABOUT)
            data = rows.assign(wealth=wealth, treated=treated)
            for name, overlap in (("shared", {"id": "id", "rows": rows}), ("apart", None)):
                result = effect_of(data, calibration=card, assumption="measurement", overlap=overlap)
                low, high = result.conf_int()
                covered[name] += low <= effect <= high
        assert covered["shared"] / replications == pytest.approx(0.95, abs=0.047)
        assert covered["apart"] > covered["shared"]

    def test_clusters(self, card):
        rows = make_rows(1, 600).assign(area=lambda frame: frame["id"] % 40)
        data = make_trial().assign(id=-1)
        result = effect_of(
            data,
            calibration=card,
            assumption="measurement",
            vcov={"CRV1": "area"},
            overlap={"id": "id", "rows": rows},
        )
        assert result.main.covariance != 0
        low, high = result.conf_int(method="fieller")
        assert low < result.estimate < high

    def test_bad_input(self, card):
        rows, data = (
            make_rows(1, 600),
            make_trial().assign(id=0, lat=lambda frame: frame.index % 9, lon=lambda frame: frame.index % 11),
        )
        both = {"id": "id", "rows": rows}
        with pytest.raises(EffectError, match="expected"):
            effect_of(data, calibration=card, overlap={"id": "id"})
        with pytest.raises(EffectError, match="have no column 'site'"):
            effect_of(data, calibration=card, overlap={"id": "site", "rows": rows})
        with pytest.raises(EffectError, match="pooled linear correction only"):
            effect_of(data, calibration=card, method="tweedie", overlap=both)
        with pytest.raises(CardError, match="the rows that the card was built from"):
            effect_of(data, calibration=card, overlap={"id": "id", "rows": make_rows(7, 600)})
        with pytest.raises(EffectError, match="only look like those in the calibration rows: '00' and '0'"):
            effect_of(data.assign(id="00"), calibration=card, assumption="measurement", overlap=both)
        with pytest.raises(EffectError, match="no column 'area'"):
            effect_of(data, calibration=card, overlap=both, vcov={"CRV1": "area"})
        with pytest.raises(EffectError, match="not with a conley vcov"):
            vcov = {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 10}}
            effect_of(data, calibration=card, overlap=both, vcov=vcov)

    @pytest.mark.parametrize("shared", [0.0, 0.02])
    def test_fieller_with_covariance_holds_what_is_not_rejected(self, shared):
        found = fieller_set(1.0, 0.04, 0.6, 0.01, 1.96, shared)
        for value in np.linspace(-1, 6, 57):
            distance = (1 - value * 0.6) ** 2 - 1.96**2 * (0.04 - 2 * value * shared + value**2 * 0.01)
            assert (value in found) == (distance <= 0)


class TestOtherCountries:
    def make_card(self, spread: float, seed: int = 0) -> CalibrationCard:
        rng = np.random.default_rng(seed)
        country = np.repeat(np.arange(12), 250)
        slope = SLOPE + spread * rng.normal(size=12)[country]
        truth = rng.normal(size=3000)
        predicted = slope * truth + 0.4 * rng.normal(size=3000)
        names = np.char.add("c", country.astype(str))
        return build_card(
            predicted, truth, strata=names, groups=names, methods=("linear",), n_boot=20, **ABOUT
        )

    def test_spread_between_strata(self):
        card = self.make_card(0.15)
        found = spread_elsewhere(card, "strata")
        assert found.sd * card.slope == pytest.approx(0.15, rel=0.6)
        assert "I2 9" in found.text
        assert spread_elsewhere(self.make_card(0.0), "strata").sd < 0.03

    def test_error_of_an_estimate_is_that_of_a_lognormal_share(self):
        """Against a sample of places, in which an estimate e = s tau is off by e / s - e."""
        for mean, sd in ((1.0, 0.1), (0.9, 0.3), (1.2, 0.6)):
            log_variance = math.log1p((sd / mean) ** 2)
            log_mean = math.log(mean) - log_variance / 2
            share = np.exp(
                log_mean + math.sqrt(log_variance) * np.random.default_rng(0).normal(size=2_000_000)
            )
            assert error_share(mean, sd) == pytest.approx(np.sqrt(np.mean((1 / share - 1) ** 2)), rel=0.02)
        assert error_share(1.0, 0.0) == 0
        assert error_share(0.8, 0.0) == pytest.approx(1 / 0.8 - 1)
        assert error_share(0.0, 0.1) == math.inf

    @pytest.mark.parametrize("transport", ["strata", "groups", 0.1])
    def test_is_carried_in_the_interval(self, transport):
        card = self.make_card(0.15)
        here = effect_of(make_trial(), calibration=card, assumption="measurement")
        there = effect_of(make_trial(), calibration=card, assumption="measurement", transport=transport)
        sd = spread_elsewhere(card, transport).sd
        if transport == 0.1:
            assert sd == error_share(1.0, 0.1 / card.slope) == pytest.approx(0.1 / card.slope, rel=0.05)
        more = (there.estimate * sd) ** 2
        assert there.std_error**2 == pytest.approx(here.std_error**2 + more, rel=1e-9)
        assert there.estimate == here.estimate
        assert "transport" in [note.kind for note in there.notes]
        assert there.conf_int(method="fieller")[1] > here.conf_int(method="fieller")[1]

    @pytest.mark.parametrize("transport", ["strata", "groups", 0.3])
    def test_has_the_degrees_of_freedom_of_the_places_that_it_was_learned_from(self, transport):
        """A spread between ten places is a variance with nine degrees of freedom; one that is given is known."""
        card = self.make_card(0.15)
        here = effect_of(make_trial(), calibration=card, assumption="measurement")
        there = effect_of(make_trial(), calibration=card, assumption="measurement", transport=transport)
        share = here.std_error**2 / there.std_error**2
        places = len(card.strata) - 1 if transport != 0.3 else math.inf
        assert there.df == pytest.approx(1 / (share**2 / here.df + (1 - share) ** 2 / places))
        assert (there.df < 30) == (transport != 0.3)

    def test_a_stratum_counts_with_its_own_spread(self):
        """Of the strata that a trial has, the one whose correction differs most between countries."""
        card = self.make_card(0.1)
        own = {"linear": (1.0, 0.1), "linear in urban": (1.0, 0.05), "linear in rural": (0.9, 0.3)}
        spread = card.recovered["linear"]
        recovered = {
            name: spread.model_copy(update={"mean": mean, "sd": sd}) for name, (mean, sd) in own.items()
        }
        card = card.model_copy(update={"recovered": recovered})
        for strata, name in (((), "linear"), (("urban",), "linear in urban"), (("camp",), "linear")):
            assert spread_elsewhere(card, "groups", "linear", strata).sd == error_share(*own[name])
        found = spread_elsewhere(card, "groups", "linear", ("urban", "rural"))
        assert found.sd == error_share(*own["linear in rural"])
        assert "about a mean of 90%" in found.text
        assert spread_elsewhere(card, "groups", "level", slope=0.5).sd == error_share(*own["linear"])

    def test_an_old_card_that_knows_slopes_only(self):
        old = self.make_card(0.1).model_copy(update={"recovered": {}})
        assert old.slope_spread is not None
        with pytest.raises(CardError, match=r"what 'linear' recovers.*Build the card again"):
            effect_of(make_trial(), calibration=old, transport="groups")

    def test_bad_input(self, card):
        with pytest.raises(CardError, match="three or more strata"):
            effect_of(make_trial(), calibration=card, method="linear", transport="strata")
        with pytest.raises(CardError, match="built with groups="):
            effect_of(make_trial(), calibration=card, transport="groups")
        with pytest.raises(EffectError, match=r"'leave_one_out' is no longer offered.*Pass 'groups'"):
            effect_of(make_trial(), calibration=self.make_card(0.1), transport="leave_one_out")
        with pytest.raises(EffectError, match="expected 'groups', 'strata' or the standard deviation"):
            effect_of(make_trial(), calibration=card, transport=-1.0)
        with pytest.raises(CardError, match=r"say little of what 'tweedie' recovers.*pass 'groups'"):
            effect_of(make_trial(), calibration=card, method="tweedie", transport="strata")


class TestSpreadOfALevel:
    """What a level's slope carries of how contrasts differ is counted once."""

    @pytest.fixture
    def spread(self, levelled):
        item = levelled.level("between regions").model_copy(
            update={"slope_sd": 0.2, "contrast_sd": 0.1, "n_spread": 12}
        )
        return levelled.model_copy(update={"levels": [item, *levelled.levels[1:]]})

    def effect(self, card, **more):
        asked = {"method": "level", "card_level": "between regions", "assumption": "measurement"}
        return effect_of(make_trial(), calibration=card, **asked, **more)

    def test_groups_add_nothing(self, spread):
        plain, with_groups = self.effect(spread), self.effect(spread, transport="groups")
        assert with_groups.std_error == plain.std_error
        assert "already" in with_groups.summary()

    def test_conley_profile_keeps_the_contrasts_own_error(self, spread):
        data = make_trial()
        data = data.assign(lat=np.linspace(0, 40, len(data)), lon=0.0)
        asked = {"method": "level", "card_level": "between regions", "assumption": "measurement"}
        result = effect_of(data, calibration=spread, **asked)
        row = result.conley_profile(data, "lat", "lon", [1e-3]).iloc[0]
        n = len(data)
        assert row["std_error"] == pytest.approx(result.std_error, rel=2 / n)

    def test_placebos_count_it_once(self, spread):
        result = self.effect(spread)
        row = result.sensitivity(spread).levels(spread).set_index("level").loc["between regions"]
        assert row["std_error"] == pytest.approx(result.std_error, rel=1e-6)
