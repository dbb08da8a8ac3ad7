"""The commands of ``sustain debias`` as a user types them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import rasterio

from sustain.debias import CalibrationCard, linear_correct
from tests.in_process import sustain
from tests.maps.fakes import write_raster


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    rng = np.random.default_rng(0)
    n = 300
    truth = rng.gamma(2.0, 0.7, n)
    table = pd.DataFrame(
        {
            "y_true": truth,
            "y_pred": 0.3 + 0.6 * truth + rng.normal(0, 0.3, n),
            "survey": rng.integers(0, 30, n),
            "place": np.where(rng.random(n) < 0.4, "urban", "rural"),
            "weight": rng.uniform(0.5, 2, n),
            "longitude": rng.uniform(36, 38, n),
            "latitude": rng.uniform(-1, 1, n),
        }
    )
    path = tmp_path_factory.mktemp("cli") / "sample.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def card(sample):
    path = sample.with_name("card.json")
    done = sustain(
        *("debias", "fit", sample, "-o", path, "--target", "wealth", "--unit", "index"),
        *("--groups", "survey", "--strata", "place", "--weight", "weight", "--n-boot", 25),
        *("--lon", "longitude", "--lat", "latitude"),
    )
    assert done.returncode == 0, done.stderr
    assert "r2 0.7" in done.stdout
    return path


def test_fit_writes_all_corrections_and_the_strata(card):
    loaded = CalibrationCard.load(card)
    assert loaded.methods == ("none", "linear", "tweedie")
    assert set(loaded.response_model.populations) == {"urban", "rural"}
    assert {stratum.name for stratum in loaded.strata} == {"urban", "rural"}
    assert loaded.spatial_errors.prediction_given_truth.shared < 0.3  # their errors are independent


def test_a_table_is_corrected_as_in_python(sample, card, tmp_path):
    done = sustain("debias", "correct", sample, tmp_path / "out.csv", "--card", card)
    assert done.returncode == 0, done.stderr
    before, after = pd.read_csv(sample), pd.read_csv(tmp_path / "out.csv")
    expected = linear_correct(before["y_pred"], CalibrationCard.load(card))
    np.testing.assert_allclose(after["y_pred_corrected"], expected, rtol=1e-12)
    assert (after["y_pred_se"] > 0).all()


def test_a_band_of_somebodys_raster_is_named(card, tmp_path):
    values = np.linspace(0.5, 2, 24).reshape(2, 3, 4)
    raster = write_raster(tmp_path / "theirs.tif", values, ("mean", "sd"))
    done = sustain("debias", "correct", raster, tmp_path / "out.tif", "--card", card)
    assert done.returncode == 1
    assert "which of 2 bands is meant; the bands are 1 (mean), 2 (sd). Say it (--band)" in done.stderr
    for band, at in (("sd", 1), (1, 0)):
        done = sustain(
            "debias",
            "correct",
            raster,
            tmp_path / "out.tif",
            "--card",
            card,
            "--band",
            band,
            "--method",
            "none",
        )
        assert done.returncode == 0, done.stderr
        with rasterio.open(tmp_path / "out.tif") as out:
            np.testing.assert_array_equal(out.read(1), values[at].astype(np.float32))


def test_the_slope_for_an_effect_is_that_of_the_card(card):
    done = sustain("debias", "slope", card, "--effect", 0.5, "--stratum", "urban", "--level", 0.9)
    assert done.returncode == 0, done.stderr
    found = CalibrationCard.load(card).slope_for(0.5, "urban")
    low, high = found.interval(0.9)
    assert done.stdout.startswith(f"slope {found.value:.4g} (90% interval {low:.4g} to {high:.4g}), ")


def test_a_column_of_countries_gives_the_spread_between_them(sample, tmp_path):
    rng = np.random.default_rng(1)
    table = pd.read_csv(sample)
    table["country"] = [f"country {k}" for k in np.arange(len(table)) % 6]
    table["y_pred"] += rng.normal(scale=0.5, size=6)[np.arange(len(table)) % 6]
    table.to_csv(tmp_path / "countries.csv", index=False)
    done = sustain(
        *("debias", "fit", tmp_path / "countries.csv", "-o", tmp_path / "card.json", "--target", "wealth"),
        *(
            "--unit",
            "index",
            "--lon",
            "longitude",
            "--lat",
            "latitude",
            "--country",
            "country",
            "--n-boot",
            25,
        ),
    )
    assert done.returncode == 0, done.stderr
    loaded = CalibrationCard.load(tmp_path / "card.json")
    assert loaded.sample.countries == [f"country {k}" for k in range(6)]
    assert loaded.spatial_errors.prediction_given_truth.countries.n == 6
    assert loaded.spatial_errors.prediction_given_truth.countries.sd > 0.2


def test_diagnose_speaks_writes_json_and_draws(sample, tmp_path):
    done = sustain("debias", "diagnose", sample, "--strata", "place", "--plot", tmp_path / "bias.png")
    assert done.returncode == 0, done.stderr
    assert "shrinkage: slope of prediction on truth" in done.stdout
    assert (tmp_path / "bias.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(sustain("debias", "diagnose", sample, "--json").stdout)
    assert 0.5 < found["prediction_on_truth"]["slope"] < 0.7


def test_figures_that_cannot_be_are_null_in_json(tmp_path):
    table = tmp_path / "perfect.csv"
    pd.DataFrame({"y_pred": np.arange(50.0), "y_true": np.arange(50.0)}).to_csv(table, index=False)
    text = sustain("debias", "diagnose", table, "--json").stdout
    assert json.loads(text, parse_constant=pytest.fail)["linearity"]["p_value"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("diagnose", "absent.csv"), "no such table"),
        (("diagnose", "SAMPLE", "--y-pred", "wealth"), "no column wealth; it has y_true, y_pred"),
        (("diagnose", "CARD"), "not a table by its name"),
        (("correct", "SAMPLE", "OUT", "--card", "SAMPLE"), "not a calibration card"),
        (("correct", "SAMPLE", "OUT", "--card", "CARD", "--stratum", "coast"), "'coast' is not in this card"),
        (
            ("correct", "SAMPLE", "OUT", "--card", "gone.json"),
            "gone.json: No such file or directory. Check the path",
        ),
        (
            ("correct", "SAMPLE", "OUT.dta", "--card", "CARD"),
            "OUT.dta: expected a name that ends in .csv",
        ),
        (("slope", "CARD", "--effect", "0.5", "--stratum", "coast"), "the response of 'coast' is not known"),
        (("correct", "map.tif", "OUT", "--card", "CARD", "--stratum", "urban"), "--stratum"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(sample, card, tmp_path, arguments, message):
    places = {"SAMPLE": sample, "CARD": card, "OUT": tmp_path / "out.csv"}
    done = sustain("debias", *(places.get(word, word) for word in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["diagnose", "fit"])
def test_rows_that_the_model_learned_from_are_counted(sample, tmp_path, command):
    """The table of the stage `predict` holds rows of training too; on them a card would be too good."""
    table = pd.read_csv(sample).assign(out_of_sample=lambda t: t.index >= 100)
    table.to_csv(tmp_path / "survey.csv", index=False)
    table[table["out_of_sample"]].to_csv(tmp_path / "right.csv", index=False)
    options = ("-o", tmp_path / "c.json", "--target", "wealth", "--unit", "index") if command == "fit" else ()
    told = "100 of 300 rows are places that the model learned from (column out_of_sample)"
    assert told in sustain("debias", command, tmp_path / "survey.csv", *options).stderr
    right = sustain("debias", command, tmp_path / "right.csv", *options)
    assert right.returncode == 0
    assert not right.stderr


def test_levels_from_fit_to_correction(sample, tmp_path):
    out = tmp_path / "card.json"
    arguments = ("--target", "wealth", "--unit", "index", "--method", "linear", "--level", "survey")
    ran = sustain("debias", "fit", sample, "-o", out, *arguments)
    assert ran.returncode == 0, ran.stderr
    card = CalibrationCard.load(out)
    assert "within survey" in card.level_names
    corrected = tmp_path / "corrected.csv"
    arguments = ("--card", out, "--method", "level", "--level", "within survey")
    assert sustain("debias", "correct", sample, corrected, *arguments).returncode == 0
    table = pd.read_csv(corrected)
    expected = card.transform(table["y_pred"], "level", level="within survey")
    np.testing.assert_allclose(table["y_pred_corrected"], expected)
    assert "needs the level" in sustain("debias", "correct", sample, corrected, *arguments[:4]).stderr
    assert "within survey 0." in sustain("debias", "diagnose", sample, "--level", "survey").stdout
