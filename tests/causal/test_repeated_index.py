"""Rows are matched by their place: an index that repeats, as in two periods stacked, changes no estimate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_distribution, estimate_effect
from sustain.debias import build_card, diagnose, linear_correct, tweedie_correct

pytestmark = pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")

N = 120
DESIGNS = {
    "difference": {"treatment": "offer"},
    "ols": {"treatment": "offer", "estimator": "ols", "covariates": ["x", "region"]},
    "products": {"formula": "wealth ~ offer * x + C(region)"},
    "ipw": {"treatment": "offer", "estimator": "ipw", "covariates": ["x"]},
    "aipw": {"treatment": "offer", "estimator": "aipw", "covariates": ["x"]},
    "did": {"treatment": "treated", "estimator": "did", "unit": "unit", "time": "year"},
    "fixed effects": {"formula": "wealth ~ treated | unit + year"},
    "iv": {"formula": "wealth ~ x | treated ~ offer"},
    "clusters": {"treatment": "offer", "vcov": {"CRV1": "region"}},
    "conley": {"treatment": "offer", "vcov": {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 60}}},
    "weights": {"treatment": "offer", "weights": "weight"},
}


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(0)
    units = pd.DataFrame(
        {
            "unit": [f"v{k}" for k in range(N)],
            "region": rng.integers(0, 12, N),
            "offer": rng.integers(0, 2, N),
            "x": rng.normal(size=N),
            "lat": rng.uniform(0, 3, N),
            "lon": rng.uniform(30, 33, N),
            "weight": rng.uniform(0.5, 2, N),
        }
    )
    both = pd.concat([units.assign(year=year) for year in (2010, 2015)], ignore_index=True)
    treated = both["offer"] * (both["year"] == 2015)
    wealth = both["x"] + 0.4 * treated + rng.normal(scale=0.5, size=2 * N)
    return both.assign(treated=treated, wealth=wealth, truth=wealth + rng.normal(scale=0.3, size=2 * N))


@pytest.fixture(scope="module")
def card(panel):
    return build_card(
        panel["wealth"],
        panel["truth"],
        methods=("linear", "response"),
        target={"name": "wealth", "unit": "index"},
        predictor={"id": "net"},
        n_boot=20,
    )


@pytest.mark.parametrize("name", DESIGNS)
def test_effects(panel, card, name):
    design = DESIGNS[name]
    outcome = {} if "formula" in design else {"outcome": "wealth"}
    assumption = "outcome" if name in ("did", "fixed effects") else "bracket"
    found = [
        estimate_effect(data, **outcome, **design, calibration=card, assumption=assumption, seed=1)
        for data in (panel, panel.set_index("unit", drop=False).rename_axis(None))
    ]
    assert found[1].n == found[0].n == 2 * N
    assert found[1].to_dict() == found[0].to_dict()


def test_weights_passed_as_a_column(panel):
    stacked = panel.set_index("unit", drop=False).rename_axis(None)
    plain, other = (
        estimate_effect(data, outcome="wealth", treatment="offer", weights=data["weight"])
        for data in (panel, stacked)
    )
    assert plain.to_dict() == other.to_dict()


def test_distributions(panel, card):
    stacked = panel.set_index("unit", drop=False).rename_axis(None)
    plain, other = (
        estimate_distribution(
            data, outcome="wealth", treatment="offer", calibration=card, lines=[0.0], seed=1
        )
        for data in (panel, stacked)
    )
    assert plain.to_dict() == other.to_dict()


def test_corrections_and_diagnoses(panel):
    stacked = panel.set_index("unit", drop=False)
    for correct in (linear_correct, tweedie_correct):
        plain, other = (correct(data["wealth"], (data["wealth"], data["truth"])) for data in (panel, stacked))
        np.testing.assert_array_equal(np.asarray(plain), np.asarray(other))
    plain, other = (
        diagnose(data["wealth"], data["truth"], groups=data["region"], levels={"region": data["region"]})
        for data in (panel, stacked)
    )
    assert str(plain) == str(other)


def test_corrected_columns_keep_their_rows(panel, card):
    stacked = panel.set_index("unit")
    right = card.transform(panel["wealth"].to_numpy(), method="linear")
    data = stacked.assign(corrected=card.transform(stacked["wealth"], method="linear"))
    np.testing.assert_array_equal(data["corrected"], right)
    assert len(data) == 2 * N
