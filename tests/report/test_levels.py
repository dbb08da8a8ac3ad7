"""What the sections on errors and corrections say of a card: its levels, and whether a line will do."""

from dataclasses import replace

import numpy as np

from sustain.debias import build_card
from sustain.debias.judge.evaluation import correction_curves
from sustain.report.rasters import MapView
from sustain.report.sections.calibration import _slopes, correction_section


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
    view = MapView(*[np.zeros((2, 2))] * 4, cell_m=1, native_m=1, shape=(2, 2), method="linear", tags={})
    about = {"target": {"name": "w", "unit": "u"}, "predictor": "m", "methods": ("linear",), "n_boot": 20}
    told = {}
    for name, x in (("bent", np.tanh(truth)), ("straight", 0.6 * truth)):
        card = build_card(x + 0.15 * rng.normal(size=900), truth, **about)
        section = correction_section(correction_curves(card), card, view, None, unit="u")
        told[name] = "one line too simple here" in section.intro
        other = correction_section(
            correction_curves(card), card, replace(view, method="tweedie"), None, unit="u"
        )
        assert "one line too simple" not in other.intro
    assert told == {"bent": True, "straight": False}
