"""What the sections on errors and corrections say of a card: its levels, and whether a line will do."""

import numpy as np

from sustain.debias import build_card
from sustain.report.doubts import card_doubts, plain_words
from sustain.report.sections.calibration import _slopes


def test_levels_are_rows_of_the_table_of_slopes():
    rng = np.random.default_rng(0)
    region = np.repeat(np.arange(60), 10)
    between, within = rng.normal(size=60)[region], rng.normal(size=600)
    x = 0.9 * between + 0.5 * within + rng.normal(scale=0.2, size=600)
    card = build_card(
        x,
        between + within,
        levels={"region": region},
        target={"name": "wealth", "unit": "index"},
        predictor="model",
        methods=("linear",),
        n_boot=20,
    )
    ((_, rows),) = _slopes(card).groups
    shown = {row.header.text: row.cells for row in rows}
    assert list(shown) == ["All calibration sites", "Between region", "Within region"]
    assert shown["Between region"][0] == f"{card.level('between region').slope:.2f}"
    assert shown["Between region"][-1] == "60"


def test_a_linear_map_that_the_diagnosis_finds_too_simple_says_so():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=900)
    about = {"target": {"name": "w", "unit": "u"}, "predictor": "m", "methods": ("linear",), "n_boot": 20}
    told = {}
    for name, x in (("bent", np.tanh(truth)), ("straight", 0.6 * truth)):
        card = build_card(x + 0.15 * rng.normal(size=900), truth, **about)
        doubts = {doubt.subject: doubt for doubt in card_doubts(card, map_method="linear")}
        told[name] = "linearity" in doubts
        if told[name]:
            assert "one slope does not serve all levels" in doubts["linearity"].said
            assert "corrected by one line all the same" in doubts["linearity"].here
            others = {doubt.subject: doubt for doubt in card_doubts(card, map_method="tweedie")}
            assert "one line" not in others["linearity"].here
    assert told == {"bent": True, "straight": False}


def test_words_of_a_card_name_no_function():
    said = (
        "variance (p = 4e-05): TweedieCalibration(heteroskedastic=False) and the published estimator assume that it "
        "does not."
    )
    told = plain_words(said)
    assert told.startswith(
        "Variance (p = 4e\N{MINUS SIGN}05): Tweedie's correction with one variance, as published,"
    )
    assert "(heteroskedastic" not in told
