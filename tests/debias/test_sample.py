"""A calibration sample: checked once, computed once; what is weak about it; labels and rows of other columns."""

import warnings

import numpy as np
import pandas as pd
import pytest

import sustain.debias.sample as module
from sustain.debias import (
    CalibrationCard,
    ContrastFamily,
    DonorTrials,
    LevelCalibration,
    LinearCalibration,
    ResponseCalibration,
    TweedieCalibration,
    build_card,
    compare,
    diagnose,
)
from sustain.debias.card.schema import Correction
from sustain.debias.judge.agreement import agreement_by_level, area_means, bias_by_tenth
from sustain.debias.judge.cross_fit import cross_fit
from sustain.debias.sample import as_sample
from sustain.errors import AtomWarning, CalibrationError, WeakCalibrationWarning
from tests.debias.samples import pairs

ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "m", "n_boot": 20}


def counted(monkeypatch, name):
    """Replace a function of the sample's module by one that counts its calls."""
    calls = []
    real = getattr(module, name)

    def count(*args, **kwargs):
        calls.append(name)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, count)
    return calls


def test_a_card_computes_each_line_and_support_once(monkeypatch):
    """Two lines and a support of all rows and of either stratum, whatever the number of methods."""
    x, y = pairs(600)
    lines, supports = counted(monkeypatch, "fit_line"), counted(monkeypatch, "support_of")
    build_card(x, y, strata=np.arange(600) % 2, methods=["linear", "tweedie", "response"], **ABOUT)
    assert (len(lines), len(supports)) == (6, 3)


def test_a_card_checks_its_rows_once(monkeypatch):
    import sustain.debias.build as build

    calls = []
    real = build.as_sample
    monkeypatch.setattr(build, "as_sample", lambda *args: calls.append(1) or real(*args))
    x, y = pairs(300)
    for place in ("base", "level"):
        monkeypatch.setattr(f"sustain.debias.{place}.as_sample", lambda *args: pytest.fail("checked again"))
    build_card(x, y, levels={"block": np.arange(300) // 10}, methods=["linear", "tweedie"], **ABOUT)
    assert len(calls) == 1


def test_parts_are_the_samples_of_their_rows():
    x, y = pairs(400)
    weight, group, stratum = np.arange(400) % 5 * 1.0, np.arange(400) // 8, np.arange(400) // 8 % 2
    sample = as_sample(x, y, weight, group, stratum, 0.01)
    assert list(sample.strata) == ["0", "1"]
    rows = (stratum == 1) & (weight > 0)
    alone = as_sample(x[rows], y[rows], weight[rows], group[rows], None, 0.01)
    part = sample.strata["1"]
    assert part.prediction_on_truth.slope == pytest.approx(alone.prediction_on_truth.slope)
    np.testing.assert_allclose(part.prediction_on_truth.cov, alone.prediction_on_truth.cov)
    assert part.support == pytest.approx(alone.support)
    np.testing.assert_array_equal(sample.groups_of("1"), np.unique(sample.group[rows[weight > 0]]))


# ---- what is weak


def weak_pairs(n=1000, slope=0.15, noise=0.1):
    rng = np.random.default_rng(0)
    y = rng.normal(size=n)
    return slope * y + noise * rng.normal(size=n), y


@pytest.mark.parametrize(
    ("rows", "subject"), [(pairs(99), "few pairs"), (weak_pairs(), "weak slope")], ids=["few", "weak"]
)
def test_few_rows_and_weak_slopes_are_said_at_the_fit_and_in_the_card(rows, subject):
    for calibration in (LinearCalibration(), TweedieCalibration(), ResponseCalibration()):
        with pytest.warns(WeakCalibrationWarning, match=subject):
            calibration.fit(*rows)
    with pytest.warns(WeakCalibrationWarning, match=subject) as said:
        card = build_card(*rows, **ABOUT)
    assert sum(subject in str(item.message) for item in said) == 1
    assert said[0].filename == __file__
    assert subject in card.diagnostics["verdicts"]
    assert subject in diagnose(*rows).verdicts


def noisy(r2, n=1000, seed=0):
    """Pairs of about this squared correlation, with a steep slope."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    noise = rng.normal(size=n)
    noise -= (noise @ y) / (y @ y) * y
    return y + np.sqrt((1 - r2) / r2) * noise * np.linalg.norm(y) / np.linalg.norm(noise), y


class TestWeakModels:
    def test_are_warned_of_below_a_fifth(self):
        with pytest.warns(
            WeakCalibrationWarning, match=r"strength: predictions explain 15\.0% of the variance"
        ):
            card = build_card(*noisy(0.15), methods=["linear"], **ABOUT)
        assert next(iter(diagnose(*noisy(0.15)).verdicts)) == "strength"
        for text in (str(card), str(diagnose(*noisy(0.15))).split("\n", 1)[1]):
            assert "strength: predictions explain 15.0%" in text.splitlines()[0]
        assert repr(card).startswith("CalibrationCard(WEAK, strength; wealth (")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            good = build_card(*noisy(0.25), methods=["linear"], **ABOUT)
        assert "strength" not in good.diagnostics["verdicts"]
        assert "WEAK" not in str(good) + repr(good)
        assert "; linear" in "".join(str(good).splitlines()[:2])

    def test_are_refused_below_a_tenth_without_groups(self):
        with pytest.raises(CalibrationError, match=r"y_pred: predictions explain 8\.0% .*pass groups="):
            build_card(*noisy(0.08), methods=["linear"], **ABOUT)
        with pytest.raises(CalibrationError, match="no groups are given"):
            LinearCalibration().fit(*noisy(0.08)).to_card(**ABOUT)
        with pytest.warns(WeakCalibrationWarning, match="strength"):
            card = build_card(*noisy(0.08), groups=np.arange(1000) // 20, methods=["linear"], **ABOUT)
        assert str(card).startswith("WEAK, strength: predictions explain 8.0%")

    def test_an_old_card_says_it_too(self):
        card = build_card(*noisy(0.25), methods=["linear"], **ABOUT)
        old = card.model_copy(update={"r2": 0.12, "diagnostics": {}})
        assert str(old).startswith("WEAK, strength: predictions explain 12.0% of the variance of the labels")


class TestAtoms:
    def zeros(self, share=0.16, n=2000, seed=0):
        """Pairs of a truth that is zero for this share of the rows, and predictions that are right on average."""
        rng = np.random.default_rng(seed)
        latent = rng.normal(size=n) - np.quantile(rng.normal(size=100_000), share)
        y = np.maximum(latent, 0.0)
        return 0.3 + 0.7 * y + 0.3 * rng.normal(size=n), y

    def test_of_the_truth_are_warned_of_and_said(self):
        with pytest.warns(
            AtomWarning, match=r"atoms in truth: 1\d% of the rows at the least, 0, far more"
        ) as said:
            card = build_card(*self.zeros(), methods=["linear"], **ABOUT)
        assert len([item for item in said if item.category is AtomWarning]) == 1
        verdict = card.diagnostics["verdicts"]["atoms in truth"]
        assert "linear and Tweedie's corrections can be off in either direction" in verdict
        assert "Report the naive effect" in verdict
        assert str(card).startswith("WEAK, atoms in truth: ")

    def test_of_predictions(self):
        x, y = self.zeros(0.0)
        x, y = np.minimum(x, 2.0), y + 1e-9 * np.arange(y.size)
        with pytest.warns(AtomWarning, match=r"atoms in predictions: \d+% of the rows at the greatest, 2"):
            LinearCalibration().fit(x, y)
        assert "any of many truths" in diagnose(x, y).verdicts["atoms in predictions"]

    def test_a_value_of_few_rows_is_not_named(self):
        x, y = self.zeros(n=100)
        said = as_sample(x, y).weaknesses["atoms in truth"]
        assert "rows at the least, one value, far more" in said

    def test_of_many_the_largest_are_named(self):
        y, x = self.zeros(0.0)
        x[:400], x[400:700], x[700:900], x[900:1060], x[1060:1180] = 3, 3.5, 4, 4.5, 5
        said = as_sample(x, y).weaknesses["atoms in predictions"]
        assert said.startswith(
            "20% of the rows at 3, 15% of the rows at 3.5, 10% of the rows at 4, and of 2 more values, 59% in all, far"
        )

    def test_are_said_with_an_effect(self):
        import pandas as pd

        from sustain.causal import estimate_effect

        with pytest.warns(AtomWarning):
            card = build_card(*self.zeros(), methods=["linear"], **ABOUT)
        rng = np.random.default_rng(0)
        trial = pd.DataFrame({"wealth": rng.normal(1, 0.7, 300), "t": rng.integers(0, 2, 300)})
        result = estimate_effect(trial, "wealth ~ t", calibration=card, assumption="measurement")
        assert "The card says of its atoms in truth: 1" in " ".join(result.summary().split())


def test_a_weak_stratum_is_named():
    rng = np.random.default_rng(1)
    y, town = rng.normal(size=2000), np.arange(2000) % 2
    x = np.where(town, 0.6, 0.1) * y + 0.1 * rng.normal(size=2000)
    said = as_sample(x, y, strata=np.where(town, "town", "country")).weaknesses["weak slope"]
    assert "(stratum country)" in said
    assert "town" not in said.replace("country", "")


def test_nothing_is_said_of_a_hundred_good_rows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        card = build_card(*pairs(100, skewed=False), methods=["linear"], **ABOUT)
    assert not {"few pairs", "weak slope"} & set(card.diagnostics["verdicts"])


def normal(n=2000):
    rng = np.random.default_rng(0)
    y = rng.normal(size=n)
    return 0.6 * y + 0.4 * rng.normal(size=n), y


@pytest.mark.parametrize("score", ["mixture", "kde"])
@pytest.mark.parametrize(
    ("change", "off"),
    [(lambda x: np.minimum(x, 0.3), -0.1), (lambda x: np.where(x < 0.9, 0.0, x), 0.4)],
    ids=["capped", "zeros"],
)
def test_a_tweedie_correction_that_is_off_in_level_says_by_how_much(score, change, off):
    x, y = normal()
    with pytest.warns(WeakCalibrationWarning, match="The mean of the corrected predictions is") as said:
        fitted = TweedieCalibration(score).fit(change(x), y)
    real = float((fitted.transform(change(x), check_support=False) - y).mean())
    assert (real < off) if off < 0 else (real > off)
    sentence = next(str(item.message) for item in said if "The mean of" in str(item.message))
    assert f"{abs(real):.3g} {'below' if off < 0 else 'above'}" in sentence
    with pytest.warns(WeakCalibrationWarning, match="The mean of the corrected"):
        card = build_card(change(x), y, score=score, **ABOUT)
    assert card.diagnostics["verdicts"]["tweedie level"] == sentence
    # The linear correction holds the level by construction.
    corrected = LinearCalibration().fit(change(x), y).transform(change(x), check_support=False)
    assert corrected.mean() == pytest.approx(y.mean(), abs=0.01)


def test_a_stratum_that_is_off_in_level_is_named():
    x, y = normal(4000)
    town = np.arange(4000) % 2
    with pytest.warns(WeakCalibrationWarning, match="The mean of the corrected"):
        card = build_card(np.where(town, np.minimum(x, 0.3), x), y, strata=town, **ABOUT)
    assert "tweedie level, 1" in card.diagnostics["verdicts"]
    assert "tweedie level, 0" not in card.diagnostics["verdicts"]


@pytest.mark.parametrize("score", ["mixture", "kde"])
def test_nothing_is_said_of_the_level_where_it_holds(score):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=300)
        assert "tweedie level" not in TweedieCalibration(score).fit(x, x + rng.normal(size=300)).weaknesses_


# ---- labels


def test_a_card_of_boolean_strata_meets_zero_and_one():
    x, y = pairs(400)
    urban = pd.Series(np.arange(400) % 2 == 0)
    card = build_card(x, y, strata=urban, methods=["linear"], **ABOUT)
    assert [item.name for item in card.strata] == ["0", "1"]
    expected = card.transform(x, stratum="1")
    for label in (1, 1.0, True, np.True_, np.int8(1), "True"):
        np.testing.assert_array_equal(card.transform(x, stratum=label), expected)
        assert card.support_of(label) == card.support_of("1")
    fitted = LinearCalibration().fit(x, y, strata=urban)
    for column in (urban, urban.astype(int), urban.astype(float), urban.astype("boolean"), urban.astype(str)):
        np.testing.assert_array_equal(fitted.transform(x, column), fitted.transform(x, urban.to_numpy()))
        assert fitted.transform(x[:1], column[:1])[0] == fitted.transform(x[:1], True)[0]
    with pytest.raises(CalibrationError, match="'2' was not there at the fit; known strata: 0, 1"):
        fitted.transform(x[:2], [1, 2])


def test_an_older_card_of_boolean_strata_meets_them_too():
    """Cards once held the text of Python's booleans."""
    x, y = pairs(400)
    card = build_card(x, y, strata=np.arange(400) % 2, methods=["linear"], **ABOUT)
    old = {"0": "False", "1": "True", None: None}
    renamed = CalibrationCard.model_validate(
        {
            **card.model_dump(),
            "strata": [{**item.model_dump(), "name": old[item.name]} for item in card.strata],
            "corrections": [
                Correction(**{**item.model_dump(), "stratum": old[item.stratum]}) for item in card.corrections
            ],
        }
    )
    for label in (True, 1, 1.0, "1", "True"):
        np.testing.assert_array_equal(renamed.transform(x, stratum=label), card.transform(x, stratum=1))
        assert renamed.support_of(label) == card.support_of(1)


@pytest.mark.parametrize("kind", [float, str, "Int64", "category", object])
def test_the_type_of_labels_changes_nothing(kind):
    x, y = pairs(400)
    block, half = pd.Series(np.arange(400) // 10), pd.Series(np.arange(400) % 2)
    design = ContrastFamily.one_against_rest("block", block)
    other = ContrastFamily.one_against_rest("block", block.astype(kind))
    assert sorted(len(on) for on, _ in design.arms) == sorted(len(on) for on, _ in other.arms)
    base = LevelCalibration().fit(x, y, {"block": block}, groups=block, strata=half)
    again = LevelCalibration().fit(
        x, y, {"block": block.astype(kind)}, groups=block.astype(kind), strata=half.astype(kind)
    )
    for name, level in base.levels_.items():
        assert again.levels_[name].slope == pytest.approx(level.slope, rel=1e-9)
        assert again.levels_[name].std_error == pytest.approx(level.std_error, rel=1e-9)
    folds = pd.Series(np.arange(400) % 4)
    np.testing.assert_allclose(
        cross_fit(LinearCalibration(), x, y, folds.astype(kind)), cross_fit(LinearCalibration(), x, y, folds)
    )


def test_labels_of_mixed_types_are_one_group():
    block = np.arange(400) // 10
    mixed = block.astype(object)
    mixed[::2] = block[::2].astype(float)
    assert as_sample(*pairs(400), None, mixed).n_groups == 40
    assert len(area_means(mixed, {"y": np.ones(400)})) == 40


# ---- rows


@pytest.fixture
def columns():
    x, y = pairs(400)
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "x": x,
            "y": y,
            "lon": rng.uniform(0, 20, 400),
            "lat": rng.uniform(-5, 5, 400),
            "g": np.arange(400) // 20,
            "t": np.arange(400) % 2,
        }
    )


def shuffled(column):
    return column.sample(frac=1, random_state=0)


DIFFERENT = "pandas objects with different indexes"


def test_coordinates_in_another_order_are_refused(columns):
    c = columns
    for places in ({"lon": shuffled(c.lon), "lat": c.lat}, {"lon": c.lon, "lat": shuffled(c.lat)}):
        with pytest.raises(CalibrationError, match=DIFFERENT):
            build_card(c.x, c.y, methods=["linear"], **places, **ABOUT)
    assert build_card(c.x, c.y, methods=["linear"], lon=c.lon, lat=c.lat, **ABOUT)


def test_a_family_in_another_order_is_refused(columns):
    c = columns
    for family in (
        ContrastFamily.treated("t", shuffled(c.t), shuffled(c.g)),
        ContrastFamily.one_against_rest("g", shuffled(c.g)),
        DonorTrials(shuffled(c.y), 0.3),
    ):
        with pytest.raises(CalibrationError, match=DIFFERENT):
            LevelCalibration().fit(c.x, c.y, families=[family])
        with pytest.raises(CalibrationError, match=DIFFERENT):
            build_card(c.x, c.y, families=[family], **ABOUT)
        with pytest.raises(CalibrationError, match=DIFFERENT):
            compare(c.x, c.y, design=family, folds=c.g)
        with pytest.raises(CalibrationError, match=DIFFERENT):
            LevelCalibration().fit(c.x, c.y, {"g": c.g}).matched(family)
    with pytest.raises(CalibrationError, match="treated and within are pandas objects"):
        ContrastFamily.treated("t", c.t, within=shuffled(c.g))
    with pytest.raises(CalibrationError, match="labels and within are pandas objects"):
        ContrastFamily.one_against_rest("g", c.g, within=shuffled(c.t))
    with pytest.raises(CalibrationError, match="y_true and population are pandas objects"):
        DonorTrials(c.y, 0.3, population=shuffled(c.g)).on(np.ones(400, dtype=bool))


def test_a_familys_rows_keep_their_index(columns):
    family = ContrastFamily.one_against_rest("g", columns.g)
    rows = np.arange(0, 400, 2)
    part = columns.iloc[rows]
    moved = family.take(rows)
    assert moved.index.equals(part.index)
    assert LevelCalibration().fit(part.x, part.y, families=[moved]).levels_


def test_columns_are_compared_with_each_other_where_predictions_are_an_array(columns):
    c = columns
    with pytest.raises(CalibrationError, match="y_true and groups are pandas objects"):
        LinearCalibration().fit(c.x.to_numpy(), c.y, groups=shuffled(c.g))


def test_agreement_refuses_other_orders_and_missing_areas(columns):
    c = columns
    with pytest.raises(CalibrationError, match=DIFFERENT):
        agreement_by_level(c.y, {"x": c.x}, shuffled(c.g))
    with pytest.raises(CalibrationError, match=DIFFERENT):
        area_means(c.g, {"x": shuffled(c.x)})
    with pytest.raises(CalibrationError, match=DIFFERENT):
        bias_by_tenth(c.y, {"x": c.x}, by=shuffled(c.x))
    with pytest.raises(CalibrationError, match="areas: 3 values are missing"):
        area_means(c.g.where(c.index > 2), {"x": c.x})
    with pytest.raises(CalibrationError, match="estimates: 'y_true' is the truth's own name"):
        agreement_by_level(c.y, {"y_true": c.x}, c.g)
