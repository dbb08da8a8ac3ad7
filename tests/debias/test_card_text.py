"""A card for the eye: a dozen lines printed, no long lists anywhere, a table in a notebook."""

from __future__ import annotations

import numpy as np
import pytest
from rich.pretty import pretty_repr

from sustain.debias import build_card


@pytest.fixture(scope="module")
def card():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=600)
    about = {"target": {"name": "wealth", "unit": "<index>"}, "predictor": {"id": "m", "sha256": "a" * 64}}
    strata = np.where(np.arange(600) % 2, "urban", "rural")
    groups = np.arange(600) // 20
    return build_card(
        0.6 * truth + 0.4 * rng.normal(size=600), truth, strata=strata, groups=groups, n_boot=40, **about
    )


def test_a_dozen_lines_of_a_screens_width(card):
    lines = str(card).split("\n")
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 98
    assert lines[0].startswith("wealth (<index>), predicted by 'm': 600 places in 30 groups")
    said = " ".join(card.summary(details=True).split())
    for subject, text in card.diagnostics["verdicts"].items():
        assert f"- {subject}: {text}" in said


def test_long_verdicts_are_cut_and_said_to_be(card):
    verdicts = {f"subject {place}": "it is so, because " * 12 for place in range(8)}
    long = card.model_copy(update={"diagnostics": {"verdicts": verdicts}})
    lines = str(long).split("\n")
    assert len(lines) <= 12
    assert lines[-1] == "(in full: card.summary(details=True))"
    assert lines[-2].endswith(" ...")


def test_no_list_is_printed_whoever_prints(card):
    assert len(repr(card)) < 400
    assert len(pretty_repr(card)) < 400
    for part in (card.corrections, card.response, card.strata, card.grid):
        assert len(repr(part)) < 6000
        assert len(pretty_repr(part)) < 6000
    assert f"h=[{len(card.corrections[0].h)} values]" in repr(card.corrections[0])


def test_html_is_escaped(card):
    written = card._repr_html_()
    assert "<td>wealth (&lt;index&gt;)</td>" in written
    assert "600 places in 30 groups" in written
