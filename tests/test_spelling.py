"""Advice is spelled as the user types: arguments in Python, options on the command line."""

from __future__ import annotations

import typer

from sustain.cli import app
from sustain.cli.notices import options_of
from sustain.spelling import Placeholder, argument, on_command_line, spelled

COLUMN = Placeholder("column")


def test_in_python():
    assert argument("vcov", {"CRV1": COLUMN}) == "vcov={'CRV1': column}"
    assert argument("vcov", {"CR2": "adm2"}) == "vcov={'CR2': 'adm2'}"
    assert argument("method", "linear", "response") == "method='linear' or 'response'"
    assert argument("details", True) == "details=True"
    assert spelled("vcov: got 3.") == "vcov: got 3."


def test_on_the_command_line():
    options = {
        "vcov": "--vcov",
        "assumption": "--assumption",
        "details": "--details",
        "calibration": "--card",
    }
    with on_command_line(options):
        assert argument("vcov", {"CRV1": COLUMN}) == "--vcov CRV1:COLUMN"
        assert argument("vcov", {"CRV1": ["adm2", "year"]}) == "--vcov CRV1:adm2,year"
        assert argument("assumption", "measurement", "bracket") == "--assumption measurement or bracket"
        assert argument("details", True) == "--details"
        assert argument("outcome_model", Placeholder("learner")) == "outcome_model=learner"
        assert spelled("calibration, vcov: both.") == "--card, --vcov: both."
        assert spelled("map.tif: truncated.") == "map.tif: truncated."
    assert argument("details", True) == "details=True"


def test_options_of_a_command():
    root = typer.main.get_command(app)
    effect = options_of(root, ["effect", "trial.csv", "--card", "card.json"])
    assert effect["calibration"] == "--card"
    assert effect["fixed_effects"] == "--fixed-effects"
    assert effect["maps"] == "--map"
    assert effect["groups"] == "sustain debias fit --groups"
    assert options_of(root, ["debias", "fit", "x.csv"])["groups"] == "--groups"
    assert options_of(root, ["distribution", "x.csv"])["lines"] == "--line"
    assert "vcov" not in options_of(root, ["--help"])
