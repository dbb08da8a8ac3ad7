"""``sustain power`` and ``sustain placebo``: the words and figures of the Python calls."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sustain.causal import assumption_tests, power
from sustain.debias import build_card
from tests.in_process import sustain


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("planning")
    rng = np.random.default_rng(0)
    truth, town = rng.normal(size=600), np.arange(600) % 2
    truth += town
    rows = pd.DataFrame({"y_true": truth, "y_pred": 0.6 * truth + 0.4 * rng.normal(size=600), "town": town})
    rows.to_csv(path / "labelled.csv", index=False)
    about = {"target": {"name": "wealth", "unit": "index"}, "predictor": {"id": "m"}}
    build_card(rows["y_pred"], rows["y_true"], methods=["linear"], n_boot=40, **about).save(
        path / "card.json"
    )
    return path


def test_power(folder):
    base = ("power", "--treated", 200, "--control", 300, "--sd", 0.8, "--card", folder / "card.json")
    done = sustain(*base, "--labels", 50, "--labels", 100, "--effect", 0.25)
    assert done.returncode == 0, done.stderr
    planned = power(200, 300, 0.8, calibration=folder / "card.json", n_labelled=50)
    assert done.stdout.startswith(str(planned))
    assert planned.table([50, 100]).to_string(index=False) in done.stdout
    assert f"needs {planned.labels_needed(0.25):.0f} labels with the map" in done.stdout
    wrong = sustain(*base, "--level", 95)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: ")


def test_placebo(folder, tmp_path):
    out = tmp_path / "tests.json"
    done = sustain("placebo", folder / "labelled.csv", "--treatment", "town", "-o", out)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(folder / "labelled.csv")
    found = assumption_tests(rows, label="y_true", prediction="y_pred", treatment="town")
    assert done.stdout.rstrip("\n") == str(found)
    written = json.loads(out.read_text())
    assert (
        written["verdict"]
        == found.verdict()
        == "Outcome stability is refuted, measurement stability is not: correct."
    )
    assert written["outcome"]["p_value"] == found.outcome.p_value
