"""The table of slopes shows the card's levels, with intervals by their own degrees of freedom."""

import numpy as np

from sustain.debias import build_card
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
