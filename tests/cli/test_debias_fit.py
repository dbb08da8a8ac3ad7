"""``sustain debias fit`` takes what is known of a calibration sample into its card, and the folder shows it."""

import numpy as np
import pandas as pd
import pytest

from sustain.debias import CalibrationCard
from sustain.maps.correct.raster import correct_raster
from tests.in_process import sustain
from tests.maps.fakes import write_raster


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1, 240)
    data = pd.DataFrame({"y_true": truth, "y_pred": 0.6 * truth + rng.normal(0, 0.3, 240)})
    data["nation"], data["when"] = np.resize(["NA", "KE"], 240), np.resize([2014, 2016, 2014], 240)
    data.to_csv(tmp_path / "sample.csv", index=False)
    return tmp_path / "sample.csv"


def fit(table, *options):
    given = ("--target", "wealth", "--unit", "index points", "--method", "linear", "--n-boot", 20)
    return sustain("debias", "fit", table, "-o", table.with_name("card.json"), *given, *options)


def test_columns_and_options_become_facts_of_the_card_and_of_the_folder(table):
    facts = ("--licence", "CC-BY-4.0", "--citation", "A. Author (2020).", "--predictor", "net-7")
    sha = "ab" * 32
    done = fit(table, "--country", "nation", "--year", "when", "--predictor-sha256", sha, *facts)
    assert done.returncode == 0, done.stderr
    path = table.with_name("card.json")
    card = CalibrationCard.load(path)
    assert (card.sample.countries, card.sample.years) == (["KE", "NA"], [2014, 2016])
    assert (card.predictor.id, card.predictor.sha256) == ("net-7", sha)
    assert (card.licence, card.citation) == ("CC-BY-4.0", "A. Author (2020).")
    raw = np.random.default_rng(1).uniform(-0.5, 0.5, (1, 9, 9))
    write_raster(table.with_name("raw.tif"), raw, ("wealth_raw",))
    correct_raster(table.with_name("raw.tif"), table.with_name("corrected.tif"), path)
    about = ("--title", "T", "--licence", "MIT", "--start", "2017-01-01", "--end", "2017-12-31")
    folder = table.with_name("out")
    done = sustain("publish", table.with_name("corrected.tif"), folder, "--card", path, *about)
    assert done.returncode == 0, done.stderr
    text = (folder / "README.md").read_text()
    assert "countries KE, NA, years 2014, 2016" in text
    assert "| this map | MIT |\n| calibration card | CC-BY-4.0 |" in text
    assert "Cite the calibration card as: A. Author (2020)." in text


def test_lists_stand_in_for_columns(table):
    done = fit(table, "--countries", "Namibia, Kenya", "--years", "2010-2012,2015")
    assert done.returncode == 0, done.stderr
    card = CalibrationCard.load(table.with_name("card.json"))
    assert (card.sample.countries, card.sample.years) == (["Kenya", "Namibia"], [2010, 2011, 2012, 2015])
    assert card.predictor.id == "unknown"


def test_the_model_that_predict_wrote_down_is_the_predictor(table):
    data = pd.read_csv(table, keep_default_na=False).assign(out_of_sample=True, model="resnet18-0123456789ab")
    data.to_csv(table, index=False)
    assert fit(table).returncode == 0
    assert CalibrationCard.load(table.with_name("card.json")).predictor.id == "resnet18-0123456789ab"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--years", "2010 to 2012"), "--years: expected years such as 2014 or 2010-2012,2015"),
        (("--years", "14"), "expected whole years from 1900 to 2100"),
        (("--years", "2014", "--year", "when"), "--year or --years"),
        (("--predictor-sha256", "abc"), "sha256: String should match pattern"),
    ],
)
def test_what_is_no_fact_is_refused(table, options, message):
    done = fit(table, *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert not table.with_name("card.json").exists()


def test_two_models_are_not_pooled_and_a_cross_fit_is_its_main_model(table):
    data = pd.read_csv(table, keep_default_na=False).assign(out_of_sample=True)
    data["id"] = data["block"] = np.arange(len(data))
    data["split"] = np.where(data["id"] % 2, "test", "train")
    data["model"] = np.where(data["id"] % 2, "resnet18-main", "resnet18-fold")
    data.to_csv(table, index=False)
    fit(table)
    assert CalibrationCard.load(table.parent / "card.json").predictor.id == "resnet18-main"
    pd.concat([data, data.assign(model="ridge-other")]).to_csv(table, index=False)
    assert "column model names 3 models (resnet18-fold, resnet18-main, ridge-other)" in " ".join(
        fit(table).stderr.split()
    )


def test_a_table_of_another_model_is_not_corrected(table):
    data = pd.read_csv(table, keep_default_na=False).assign(out_of_sample=True, model="resnet18-0123")
    data.to_csv(table, index=False)
    fit(table)
    data.assign(model="ridge-4567").to_csv(table, index=False)
    out = table.parent / "corrected.csv"
    result = sustain("debias", "correct", table, out, "--card", table.parent / "card.json")
    told = " ".join(result.stderr.split())
    assert (
        "its predictor is 'ridge-4567', but the card corrects predictions with predictor 'resnet18-0123'"
        in told
    )
    assert result.returncode != 0
    assert not out.exists()


def test_a_label_that_stands_for_a_missing_one_is_refused(table):
    data = pd.read_csv(table, keep_default_na=False)
    data.loc[3, "y_true"] = -9999
    data.to_csv(table, index=False)
    assert "column y_true holds -9999 in data row 4" in " ".join(fit(table).stderr.split())
