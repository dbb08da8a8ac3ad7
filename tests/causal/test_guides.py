"""The code in the guides runs, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sustain.causal
from sustain.debias import build_card

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDES = ("effects.md", "which-assumption.md", "distributions.md")


def make_places(rng: np.random.Generator, n: int, effect: float) -> pd.DataFrame:
    adm2, treated, x = rng.integers(0, 40, n), rng.integers(0, 2, n), rng.normal(size=n)
    truth = 0.5 * x + 0.3 * rng.normal(size=40)[adm2] + 0.8 * rng.normal(size=n) + effect * treated
    raw = 0.6 * truth + 0.4 * rng.normal(size=n)
    year = 2010 + rng.integers(0, 3, n)
    return pd.DataFrame({"truth": truth, "raw": raw, "treated": treated, "x": x, "adm2": adm2, "year": year})


@pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
@pytest.mark.parametrize("guide", GUIDES)
def test_the_code_of_a_guide_runs(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    survey, trial = make_places(rng, 1500, 0.0), make_places(rng, 800, 0.4)
    about = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model"}
    levels = {"adm2": survey["adm2"].to_numpy()}
    card = build_card(
        survey["raw"], survey["truth"], groups=survey["adm2"], levels=levels, n_boot=60, **about
    )
    card.save("card.json")
    if guide == "effects.md":
        trial = trial.rename(columns={"raw": "wealth", "x": "baseline"})
    elif guide == "distributions.md":
        trial = trial.rename(columns={"raw": "wealth_hat"})
    else:
        survey, trial = (frame.rename(columns={"raw": "wealth_raw"}) for frame in (survey, trial))
        trial["wealth"] = trial["truth"].where(rng.random(len(trial)) < 0.3)
    known = {"trial": trial, "survey": survey, "card": card}
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / guide).read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= (1 if guide == "distributions.md" else 4)
    for block in blocks:
        exec(compile(block, guide, "exec"), known)
    if guide == "effects.md":
        assert known["effective_sample_size"](100, 300, 0.8) == pytest.approx(192, abs=0.5)
        assert list(known["by_baseline"].coefficients["term"].unique()) == [
            "treated",
            "treated:center(baseline)",
        ]


def test_every_public_name_is_in_a_guide():
    said = "".join((DOCS / guide).read_text(encoding="utf-8") for guide in GUIDES)
    missing = [name for name in sustain.causal.__all__ if not re.search(rf"\b{name}\b", said)]
    assert not missing
