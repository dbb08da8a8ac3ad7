"""Cards of the first schema version, and what they hold that is no longer applied."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sustain.debias
from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card
from sustain.debias.judge.evaluation import correction_curves
from sustain.errors import CalibrationError, CardError

# As the release wrote it that made such cards: 240 rows of random numbers, methods linear, tweedie and bridge.
FILE = Path(__file__).with_name("card_version_1.json")
AT = np.array([0.1, 0.4, 0.8])
SUCCESSOR = r"bridge correction is gone.*ResponseCalibration.*method='response'.*map take 'linear'"


@pytest.fixture(scope="module")
def old():
    return CalibrationCard.load(FILE)


def test_it_is_read_and_written_as_it_was(old, tmp_path):
    assert old.schema_version == 1
    assert old.response is None
    assert old.save(tmp_path / "card.json").read_bytes() == FILE.read_bytes()


def test_its_other_corrections_give_what_they_gave(old):
    """The numbers are those that the release gave which wrote the card."""
    np.testing.assert_allclose(old.transform(AT), [-0.646287, 0.583569, 2.223375], atol=1e-6)
    np.testing.assert_allclose(old.transform(AT, "tweedie"), [-0.05814, 0.552075, 1.182779], atol=1e-6)
    assert np.isfinite(old.standard_error(AT, "tweedie")).all()
    assert set(correction_curves(old)["method"]) == {"none", "linear", "tweedie"}


def test_its_bridge_is_listed_among_what_it_holds_and_not_applied(old):
    assert [item.method for item in old.corrections] == ["linear", "tweedie", "bridge"]
    assert old.methods == ("none", "linear", "tweedie")
    for ask in (old.transform, old.derivative, old.standard_error):
        with pytest.raises(CardError, match=SUCCESSOR):
            ask(AT, method="bridge")
    with pytest.raises(CardError, match=SUCCESSOR):
        old.draws("bridge")


def test_effects_by_an_old_card(old):
    rng = np.random.default_rng(0)
    trial = pd.DataFrame({"wealth": rng.normal(0.5, 0.2, 400), "treated": np.arange(400) % 2})
    trial["wealth"] += 0.05 * trial["treated"]
    ask = {"outcome": "wealth", "treatment": "treated", "assumption": "measurement"}
    assert estimate_effect(trial, calibration=old, **ask).method == "linear"
    with pytest.raises(CardError, match=SUCCESSOR):
        estimate_effect(trial, calibration=old, method="bridge", **ask)
    with pytest.raises(CardError, match="holds no response"):
        estimate_effect(trial, calibration=old, method="response", **ask)


@pytest.mark.parametrize("name", ["BridgeCalibration", "bridge_correct"])
def test_names_that_are_gone_say_what_takes_their_place(name):
    with pytest.raises(ImportError, match=rf"sustain\.debias\.{name} is gone.*method='response'"):
        exec(f"from sustain.debias import {name}")  # as a user has it
    assert name not in sustain.debias.__all__
    with pytest.raises(AttributeError, match="no attribute 'bridges'"):
        _ = sustain.debias.bridges


def test_no_new_card_holds_it():
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    about = {"target": {"name": "w", "unit": "u"}, "predictor": "m"}
    with pytest.raises(CalibrationError, match=re.compile("methods: .*" + SUCCESSOR)):
        build_card(y + rng.normal(size=200), y, methods=("linear", "bridge"), **about)
    card = build_card(y + rng.normal(size=200), y, n_boot=20, **about)
    with pytest.raises(CardError, match=SUCCESSOR):
        card.transform(1.0, method="bridge")
