"""What a card says besides its figures is checked when it is given, and missing values are no countries."""

import numpy as np
import pandas as pd
import pytest

from sustain.debias import CalibrationCard, build_card
from sustain.errors import CalibrationError

RNG = np.random.default_rng(6)
TRUTH = RNG.normal(0, 1, 200)
PREDICTED = 0.6 * TRUTH + RNG.normal(0, 0.3, 200)


def made(**facts):
    given = {"target": {"name": "wealth", "unit": "index points"}, "predictor": "net"} | facts
    return build_card(PREDICTED, TRUTH, methods=("linear",), n_boot=20, **given)


@pytest.mark.parametrize(
    ("years", "expected"),
    [
        (pd.Series([2015.0, np.nan, 2012.0] * 60), [2012, 2015]),
        (pd.Series([2015, None, 2012], dtype="Int64"), [2012, 2015]),
        (np.array(["2015", "2012"]), [2012, 2015]),
        (2015, [2015]),
        (None, []),
    ],
)
def test_years_are_whole_and_missing_ones_are_none(years, expected):
    assert made(years=years).sample.years == expected


@pytest.mark.parametrize("year", [15, 2015.5, "two thousand", 20151, True])
def test_what_is_no_year_is_refused(year):
    with pytest.raises(
        CalibrationError, match=r"years: expected whole years from 1900 to 2100, such as 2015; got"
    ):
        made(years=[2014, year])


@pytest.mark.parametrize(
    ("countries", "expected"),
    [
        (pd.Series(["NA", None, "KE", "", " KE "], dtype=object), ["KE", "NA"]),
        (["NA", np.nan, "KE"], ["KE", "NA"]),
        (np.array([404.0, 516.0, np.nan]), ["404", "516"]),
        ("Kenya", ["Kenya"]),
    ],
)
def test_namibia_is_a_country_and_a_missing_one_is_none(countries, expected):
    assert made(countries=countries).sample.countries == expected


def test_licence_and_citation_are_one_line_each(tmp_path):
    card = made(licence=" CC-BY-4.0\n", citation="A. Author (2020).\n  A title.")
    assert (card.licence, card.citation) == ("CC-BY-4.0", "A. Author (2020). A title.")
    assert CalibrationCard.load(card.save(tmp_path / "card.json")) == card


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"licence": None}, r"licence: expected text; got NoneType None"),
        ({"predictor": {"id": "net", "sha256": "abc"}}, r"predictor\.sha256: String should match.*got 'abc'"),
        ({"predictor": ""}, r"predictor\.id: String should have at least 1 character"),
        ({"target": {"name": "wealth"}}, r"target\.unit: Field required"),
    ],
)
def test_what_is_not_what_it_should_be_is_named(facts, message):
    with pytest.raises(CalibrationError, match=message):
        made(**facts)
