"""One trial in any kind of file gives one effect, and a corrected table keeps what is not ours."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from sustain.debias import CalibrationCard, build_card
from sustain.tables import read_table
from tests.in_process import sustain


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    path = tmp_path_factory.mktemp("card") / "card.json"
    build_card(
        0.6 * truth + rng.normal(scale=0.3, size=400),
        truth,
        methods=("linear",),
        target={"name": "wealth", "unit": "index"},
        predictor={"id": "net"},
        n_boot=20,
        seed=0,
    ).save(path)
    return path


@pytest.fixture(scope="module")
def trial():
    """Units of several countries, one of them Namibia, whose code is NA, with codes that have leading zeros."""
    rng = np.random.default_rng(1)
    n = 200
    country = np.resize(["NA", "ZA", "BW", "NA"], n)
    treated = rng.integers(0, 2, n)
    wealth = rng.normal(size=n) + 0.3 * treated + np.where(country == "NA", 2 * treated - 1, 0.0)
    return pd.DataFrame(
        {
            "unit": [f"{k:05d}" for k in range(n)],
            "country": country,
            "treated": treated,
            "wealth": wealth.round(6),
        }
    )


def _written(trial, path):
    if path.suffix == ".csv":
        trial.to_csv(path, index=False)
    elif path.suffix == ".txt":
        trial.to_csv(path, index=False, sep=";", decimal=",")
    elif path.suffix == ".parquet":
        trial.set_index("unit").to_parquet(path)
    elif path.suffix == ".xlsx":
        trial.to_excel(path, index=False)
    else:
        {".dta": pyreadstat.write_dta, ".sav": pyreadstat.write_sav}[path.suffix](trial, str(path))
    return path


@pytest.mark.parametrize("suffix", [".txt", ".parquet", ".dta", ".sav", ".xlsx"])
def test_one_trial_in_any_kind_of_file_gives_one_effect(trial, card, tmp_path, suffix):
    options = ("--outcome", "wealth", "--estimator", "ols", "--covariates", "country", "--card", card)
    found = []
    for path in (tmp_path / "t.csv", tmp_path / f"t{suffix}"):
        out = tmp_path / f"{path.name}.json"
        done = sustain("effect", _written(trial, path), *options, "-o", out)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(out.read_text(encoding="utf-8")))
    assert found[0]["n"] == found[1]["n"] == len(trial)
    assert found[0] == found[1]


def test_the_reader_of_an_effect_knows_namibia(trial, card, tmp_path):
    """Read as missing, the code NA took half of the units away, and with them half of the effect."""
    out = tmp_path / "effect.json"
    path = _written(trial, tmp_path / "t.csv")
    sustain(
        "effect", path, "--outcome", "wealth", "--fixed-effects", "country", "--estimator", "ols", "-o", out
    )
    found = json.loads(out.read_text(encoding="utf-8"))
    within = trial.groupby("country")[["wealth", "treated"]].transform(lambda column: column - column.mean())
    assert found["n"] == 200
    right = (within["wealth"] * within["treated"]).sum() / (within["treated"] ** 2).sum()
    assert found["naive"]["estimate"] == pytest.approx(right)


def test_a_card_knows_namibia(tmp_path):
    rng = np.random.default_rng(0)
    country = np.resize(["NA", "ZA"], 200)
    truth = rng.normal(size=200)
    table = pd.DataFrame(
        {"country": country, "y_true": truth, "y_pred": truth + rng.normal(scale=0.5, size=200)}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    command = ("debias", "fit", tmp_path / "t.csv", "--target", "wealth", "--unit", "index", "--n-boot", 20)
    done = sustain(*command, "--strata", "country", "--method", "linear", "-o", tmp_path / "card.json")
    assert done.returncode == 0, done.stderr
    strata = CalibrationCard.load(tmp_path / "card.json").strata
    assert {stratum.name: stratum.n for stratum in strata} == {"NA": 100, "ZA": 100}


def test_correct_leaves_columns_that_are_not_ours(card, tmp_path):
    source = tmp_path / "survey.csv"
    source.write_bytes(
        b'"id";country;hh;y_pred;note\r\n00123;NA;123456789012345678;0,50;"a;b"\r\n00124;ZA;1;-1,25;\r\n'
    )
    done = sustain("debias", "correct", source, tmp_path / "out.csv", "--card", card)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out.csv").read_bytes().split(b"\r\n")
    for line, before in zip(lines, source.read_bytes().split(b"\r\n"), strict=True):
        assert line.startswith(before)
    assert lines[0].endswith(b";note;y_pred_corrected;y_pred_se")
    out = read_table(tmp_path / "out.csv")
    right = CalibrationCard.load(card).transform(np.array([0.5, -1.25]), method="linear")
    assert out["y_pred_corrected"].tolist() == right.tolist()
    again = sustain("debias", "correct", tmp_path / "out.csv", tmp_path / "twice.csv", "--card", card)
    assert "has a column 'y_pred_corrected' already" in again.stderr


def test_a_sheet_is_named_where_there_are_several(card, tmp_path):
    path = tmp_path / "survey.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"y_pred": [0.5]}).to_excel(book, sheet_name="units", index=False)
        pd.DataFrame({"a": ["read me"]}).to_excel(book, sheet_name="notes", index=False)
    command = ("debias", "correct", path, tmp_path / "out.csv", "--card", card)
    assert "2 sheets hold something (units, notes)" in sustain(*command).stderr
    assert sustain(*command, "--sheet", "units").returncode == 0
    assert pd.read_csv(tmp_path / "out.csv").columns.tolist() == ["y_pred", "y_pred_corrected", "y_pred_se"]
