"""Tables as people bring them are read right, or refused with what to do."""

from __future__ import annotations

import string

import numpy as np
import openpyxl
import pandas as pd
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.errors import DataError, DataWarning, FileFormatError
from sustain.stats.columns import label_text
from sustain.tables import read_table


def written(folder, text, name="t.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["00123", "7"], ["00123", "7"]),
        (["NA", "ZA"], ["NA", "ZA"]),
        (["NA", "NA"], ["NA", "NA"]),  # every unit in Namibia
        (["123456789012345678", "1"], ["123456789012345678", "1"]),
        (["12E5", "13E5"], ["12E5", "13E5"]),
        (["+27821234567", "1"], ["+27821234567", "1"]),
        (["1.5", "x"], ["1.5", "x"]),
        (["1", "2"], [1, 2]),
        (["1.50", "-.5"], [1.5, -0.5]),
        (["1e-05", "1.5E3"], [1e-5, 1500.0]),
        (["0.30000000000000004", "2"], [0.1 + 0.2, 2.0]),
        (["TRUE", "false"], [True, False]),
        ([" 1.5", "2 "], [1.5, 2.0]),
        (["999999999999999", "1"], [999999999999999, 1]),
    ],
)
def test_the_rule_of_types(tmp_path, values, expected):
    path = written(tmp_path, "\n".join(["a,b", *(f"{value},x" for value in values)]))
    assert read_table(path)["a"].tolist() == expected


@pytest.mark.parametrize("word", ["", "NA", "NaN", "nan", ".", "NULL", "n/a", ".a"])
def test_words_for_missing_are_missing_among_numbers_only(tmp_path, word):
    path = written(tmp_path, f"a,b\n1.5,x\n{word},{word}\n")
    table = read_table(path)
    assert table["a"].dtype == np.float64
    assert np.isnan(table["a"][1])
    assert table["b"].isna().tolist() == [False, word == ""]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("id;y\na;0,5\nb;12,25\n", [0.5, 12.25]),
        ("id\ty\na\t0.5\nb\t12.25\n", [0.5, 12.25]),
        ("id\ty\na\t0,5\nb\t12,25\n", [0.5, 12.25]),
        ('id,y\n"a, b",0.5\n"c\n;d",12.25\n', [0.5, 12.25]),
        ("id;y\na;0.5\nb;12.25\n", [0.5, 12.25]),
        # A thousand and more, or one and a bit? Nothing says it.
        ("id;y\na;1,234\nb;12,345\n", ["1,234", "12,345"]),
        ("id;y;z\na;1,234;0,5\nb;12,345;1\n", [1.234, 12.345]),
        # Points mark decimals in z, so that commas in y do not.
        ("id;y;z\na;1,25;0.5\nb;12,3;1\n", ["1,25", "12,3"]),
    ],
)
def test_delimiters_and_decimal_marks(tmp_path, text, value):
    assert read_table(written(tmp_path, text))["y"].tolist() == value


def test_encodings(tmp_path):
    text = "région,y\nCôte d'Ivoire,1\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path = written(tmp_path, text, encoding=encoding)
        assert read_table(path, ["région"])["région"].tolist() == ["Côte d'Ivoire"]
    path = written(tmp_path, text, encoding="latin-1")
    with pytest.warns(DataWarning, match="not in UTF-8"):
        assert read_table(path, ["région"])["région"].tolist() == ["Côte d'Ivoire"]


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such table"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"Stata \(.dta\)"):
        read_table(written(tmp_path, "", "t.rds"))
    with pytest.raises(FileFormatError, match="is empty"):
        read_table(written(tmp_path, ""))
    with pytest.raises(
        FileFormatError, match="line 3 has 3 fields, but the header has 2, delimited by commas"
    ):
        read_table(written(tmp_path, "a,b\n1,2\n1,2,3\n"))
    with pytest.raises(FileFormatError, match=r"write\.table"):
        read_table(written(tmp_path, "a,b\n1,1,2\n2,1,2\n"))
    for name in ("t.parquet", "t.dta", "t.sav", "t.xlsx"):
        with pytest.raises(FileFormatError, match="not a readable"):
            read_table(written(tmp_path, "a,b\n", name))
        with pytest.raises(DataError, match="no such table"):
            read_table(tmp_path / f"none{name}")
    with pytest.raises(FileFormatError, match="no text has"):
        read_table(written(tmp_path, "a,b\n\0,1\n"))
    with pytest.raises(DataError, match=r"no column y; it has a, b\. Rename"):
        read_table(written(tmp_path, "a,b\n1,2\n"), ["y"], hint="Rename yours.")
    with pytest.raises(DataError, match="more than one column named 'a'"):
        read_table(written(tmp_path, "a,a\n1,2\n"), ["a"])
    assert read_table(written(tmp_path, "a,a\n1,2\n")).columns.tolist() == ["a", "a"]


def test_a_named_index_of_parquet_is_a_column(tmp_path):
    path = tmp_path / "t.parquet"
    data = pd.DataFrame({"village": ["a", "a"], "year": [1, 2], "y": [1.5, 2.5]})
    data.attrs["predictor"] = "net"
    data.set_index(["village"]).to_parquet(path)
    assert read_table(path, ["village"])["village"].tolist() == ["a", "a"]
    assert read_table(path).index.tolist() == [0, 1]
    assert read_table(path).attrs == {"predictor": "net"}
    data.set_index(["village", "year"]).to_parquet(path)
    assert read_table(path, ["village", "year"])["year"].tolist() == [1, 2]
    data.set_index("village").assign(village="x").to_parquet(path)
    with pytest.raises(DataError, match="both the index and a column"):
        read_table(path)


LABELS = {
    "treated": {0: "Control", 1: "Treated"},
    "region": {1: "North", 2: "South"},
    "age": {98: "don't know"},
}


@pytest.mark.parametrize(
    ("suffix", "write"), [(".dta", pyreadstat.write_dta), (".sav", pyreadstat.write_sav)]
)
def test_value_labels(tmp_path, suffix, write):
    path = tmp_path / f"t{suffix}"
    data = pd.DataFrame(
        {"treated": [0, 1, 1], "region": [1.0, 2.0, np.nan], "age": [30, 98, 40], "id": ["007", "", "NA"]}
    )
    write(data, str(path), variable_value_labels=LABELS)
    with pytest.warns(DataWarning, match=r"age \(98 is \"don't know\"\)"):
        table = read_table(path)
    assert table["treated"].tolist() == [0, 1, 1]
    assert table["region"].tolist()[:2] == ["North", "South"]
    assert table["region"].isna().tolist() == [False, False, True]
    assert table["id"].isna().tolist() == [False, True, False]
    assert table["age"].tolist() == [30, 98, 40]


def test_what_spss_declares_missing_is_missing(tmp_path):
    path = tmp_path / "t.sav"
    pyreadstat.write_sav(pd.DataFrame({"y": [1.5, -99.0]}), str(path), missing_ranges={"y": [-99]})
    assert np.isnan(read_table(path)["y"][1])


def test_sheets(tmp_path):
    path = tmp_path / "t.xlsx"
    book = openpyxl.Workbook()
    book.active.title = "units"
    for row in [("id", "y", "country", "n"), ("007", 1.5, "NA", 1), ("8", "NA", None, 2), (None,) * 4]:
        book.active.append(row)
    book.create_sheet("empty")
    book.save(path)
    table = read_table(path)
    assert table["id"].tolist() == ["007", "8"]
    assert table["y"].dtype == np.float64
    assert table["country"].tolist()[0] == "NA"
    assert table["n"].tolist() == [1, 2]
    book["empty"].append(("a",))
    book["empty"].append((5,))
    book.save(path)
    with pytest.raises(DataError, match=r"2 sheets hold something \(units, empty\), and none is named"):
        read_table(path)
    assert read_table(path, sheet="empty")["a"].tolist() == [5]
    with pytest.raises(DataError, match="no sheet 'x'; it has units, empty"):
        read_table(path, sheet="x")
    with pytest.raises(DataError, match="only an Excel workbook"):
        read_table(written(tmp_path, "a\n1\n"), sheet="x")


CODES = st.from_regex(r"[0-9]{1,20}", fullmatch=True)
NAMES = st.text(alphabet=string.ascii_letters + string.digits + " .-_;,\"'é\n", min_size=1).map(
    lambda text: f"k{text}"
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(CODES, NAMES), min_size=1), st.sampled_from([",", ";", "\t"]))
def test_any_column_of_keys_comes_back_as_it_was_written(tmp_path_factory, keys, delimiter):
    path = tmp_path_factory.mktemp("keys") / "t.csv"
    pd.DataFrame({"key": keys, "y": 1.0}).to_csv(path, index=False, sep=delimiter)
    table = read_table(path)
    if table.columns.tolist() != ["key", "y"]:
        return  # names that hold another delimiter in each row may look delimited by it
    assert [label_text(key) for key in table["key"]] == keys


@settings(max_examples=150, deadline=None)
@given(st.lists(CODES, min_size=1), st.sampled_from([",", ";", "\t"]))
def test_any_column_of_codes_comes_back_as_it_was_written(tmp_path_factory, keys, delimiter):
    path = tmp_path_factory.mktemp("keys") / "t.csv"
    pd.DataFrame({"key": keys, "y": 1.0}).to_csv(path, index=False, sep=delimiter)
    assert [label_text(key) for key in read_table(path)["key"]] == keys


NUMBERS = st.floats(allow_nan=True, allow_infinity=False)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, st.integers(-(10**15) + 1, 10**15 - 1), st.booleans()), min_size=1),
    st.booleans(),
)
def test_numbers_come_back_to_the_last_bit(tmp_path_factory, rows, comma):
    path = tmp_path_factory.mktemp("numbers") / "t.csv"
    data = pd.DataFrame(rows, columns=["y", "n", "flag"]).assign(at=0.5)
    data.to_csv(path, index=False, **({"sep": ";", "decimal": ","} if comma else {}))
    table = read_table(path)
    np.testing.assert_array_equal(table["y"], data["y"])
    assert table["n"].tolist() == data["n"].tolist()
    assert table["flag"].tolist() == data["flag"].tolist()


@pytest.mark.parametrize(
    ("hh", "right"),
    [
        (["1.770", "600", "1.852"], [1770, 600, 1852]),
        (["1.234.567", "NA", "12"], [1_234_567, np.nan, 12]),
        (["1.234,5", "600", "0,5"], [1234.5, 600, 0.5]),
        (["-1.852", "0", ""], [-1852, 0, np.nan]),
    ],
)
def test_points_mark_thousands_where_commas_mark_decimals(tmp_path, hh, right):
    lines = [
        f"{place:03d};{x};{count}"
        for place, (x, count) in enumerate(zip(["-1,3717", "2,5", "0"], hh, strict=True))
    ]
    (tmp_path / "a.csv").write_text("\n".join(["code;x;hh", *lines]) + "\n", encoding="utf-8")
    found = read_table(tmp_path / "a.csv")
    np.testing.assert_array_equal(found["hh"].astype(float), right)
    assert found["x"].tolist() == [-1.3717, 2.5, 0.0]
    assert found["code"].tolist() == ["000", "001", "002"]


def test_points_mark_decimals_where_no_comma_does(tmp_path):
    (tmp_path / "a.csv").write_text("x;y\n1.852;2.5\n600;1\n", encoding="utf-8")
    assert read_table(tmp_path / "a.csv")["x"].tolist() == [1.852, 600]


def test_both_marks_of_decimals_in_one_file_are_not_guessed(tmp_path):
    """A column that only points can make numbers, and one that only commas can: neither is read as the other."""
    (tmp_path / "a.csv").write_text("x;y\n1.5;2,5\n600;1\n", encoding="utf-8")
    found = read_table(tmp_path / "a.csv")
    assert found["x"].tolist() == [1.5, 600]
    assert found["y"].tolist() == ["2,5", "1"]
