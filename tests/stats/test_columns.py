"""Columns as users pass them: one rule for labels, numbers of every type, rows that go together."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sustain.errors import CalibrationError, EffectError, StatisticsError
from sustain.stats.columns import ColumnReader, label_text, matched_label

read = ColumnReader(CalibrationError)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.float32(1), "1"),
        (np.int8(1), "1"),
        (True, "1"),
        (np.False_, "0"),
        (-0.0, "0"),
        (1.5, "1.5"),
        ("007", "007"),
        ("1.0", "1.0"),
        (" a", " a"),
        (b"x", "x"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (2**70, str(2**70)),
    ],
)
def test_a_label_is_its_text(value, text):
    assert label_text(value) == text


def test_a_float_that_may_be_several_labels_is_refused():
    with pytest.raises(StatisticsError, match="16 digits or more"):
        label_text(2.0**53)
    with pytest.raises(EffectError, match=r"ids: .*16 digits or more"):
        ColumnReader(EffectError).labels("ids", [1e18, 2e18])


SAME = [
    [1, 2, 1, 3],
    [1.0, 2.0, 1.0, 3.0],
    np.array([1, 2, 1, 3], dtype=np.uint8),
    np.array([1, 2, 1, 3], dtype=np.float32),
    ["1", "2", "1", "3"],
    np.array(["1", "2", "1", "3"]),
    pd.Series([1, 2, 1, 3], dtype="Int64"),
    pd.Series([1, 2, 1, 3], dtype="Float64"),
    pd.Series([1, 2, 1, 3]).astype("category"),
    pd.Series(["1", "2", "1", "3"]).astype("category"),
    pd.Series(["1", "2", "1", "3"], dtype="string"),
    np.array([1, 2.0, "1", np.str_("3")], dtype=object),
    np.ma.array([1, 2, 1, 3]),
]


@pytest.mark.parametrize(
    "column", SAME, ids=lambda column: f"{type(column).__name__} {getattr(column, 'dtype', '')}"
)
def test_the_type_of_a_column_changes_no_label(column):
    codes, names = read.labels("groups", column)
    assert names == ("1", "2", "3")
    assert codes.tolist() == [0, 1, 0, 2]


def test_booleans_are_zero_and_one():
    for column in ([True, False], [1, 0], [1.0, 0.0], ["1", "0"], pd.Series([True, False], dtype="boolean")):
        found = read.labels("strata", column)
        assert (found.names, found.codes.tolist(), found.n) == (("0", "1"), [1, 0], 2)


def test_leading_zeros_and_text_stay_apart():
    assert read.labels("ids", ["007", "7", "7.0"]).n == 3
    assert read.labels("ids", pd.Series(["007", 7, 7.0], dtype=object)).names == ("007", "7")


def test_labels_of_other_kinds():
    assert read.labels("g", [(1, 0), (1, 1), (1, 0)]).codes.tolist() == [0, 1, 0]
    assert read.labels("g", pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"]))).n == 2


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_missing_labels_are_counted(missing):
    with pytest.raises(CalibrationError, match="groups: 1 values are missing"):
        read.labels("groups", pd.Series(["a", missing], dtype=object))
    with pytest.raises(CalibrationError, match="masked"):
        read.labels("groups", np.ma.array([1, 2], mask=[0, 1]))


def test_one_label_a_row():
    with pytest.raises(CalibrationError, match=r"groups: has shape \(2,\), but y_pred has 3 rows"):
        read.labels("groups", [1, 2], 3)
    with pytest.raises(CalibrationError, match=r"groups: has shape \(1, 2\)"):
        read.labels("groups", np.ones((1, 2)))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.randoms())
def test_labels_do_not_depend_on_order_or_type(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    first = read.labels("g", values)
    again = read.labels("g", np.array(values, dtype=float)[order])
    assert again.names == first.names
    assert again.codes.tolist() == first.codes[order].tolist()


def test_labels_of_two_tables_share_one_numbering():
    left, right = read.joint_labels("country", [1, 2], pd.Series([2.0, 3.0]))
    assert left.names == right.names == ("1", "2", "3")
    assert (left.codes.tolist(), right.codes.tolist()) == ([0, 1], [1, 2])


@pytest.mark.parametrize(
    ("known", "label", "name"),
    [
        (("0", "1"), True, "1"),
        (("0", "1"), 0.0, "0"),
        (("False", "True"), 1, "True"),
        (("False", "True"), False, "False"),
        (("0", "1"), "True", "1"),
        (("rural", "urban"), "urban", "urban"),
        (("rural", "urban"), 1, None),
        (("7",), "007", None),
        (("True", "1"), 1, "1"),
    ],
)
def test_a_label_finds_its_name(known, label, name):
    assert matched_label(known, label) == name


@pytest.mark.parametrize(
    "column",
    [
        [1, 2],
        np.array([1, 2], dtype=np.float16),
        np.array([1, 2], dtype=object),
        pd.Series([1, 2], dtype="Int64"),
        pd.Series([1.0, 2.0], dtype="Float32"),
        pd.Series([1, 2]).astype("category"),
        np.ma.array([1, 2]),
    ],
    ids=lambda column: f"{type(column).__name__} {getattr(column, 'dtype', '')}",
)
def test_numbers_of_every_type(column):
    found = read.vector("y", column)
    assert found.dtype == np.float64
    assert found.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["1", "2"], "expected numbers"),
        (pd.Series(["1", "2"], dtype="string"), "expected numbers"),
        (np.array(["a", 1], dtype=object), "1 of 2 are text"),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "expected numbers"),
        ([1j, 2], "expected numbers"),
        ([[1.0, 2.0]], "one dimension"),
        ([1.0, np.nan], "1 of 2 values are NaN or infinite .first at row 1"),
        ([np.inf, 1.0], "NaN or infinite"),
        (pd.Series([1, None], dtype="Int64"), "NaN or infinite"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), "1 of 2 values are masked"),
    ],
)
def test_what_is_no_number_is_named(column, message):
    with pytest.raises(CalibrationError, match=f"y: .*{message}"):
        read.vector("y", column)


def test_missing_values_where_they_are_allowed():
    assert np.isnan(read.vector("y", pd.Series([1, None], dtype="Int64"), missing=True)[1])
    assert np.isnan(read.vector("y", np.ma.array([1.0, 9.0], mask=[0, 1]), missing=True)[1])
    with pytest.raises(CalibrationError, match="1 of 2 values are infinite"):
        read.vector("y", [np.nan, np.inf], missing=True)


def test_weights_and_arms():
    assert read.weights("w", None, 3).tolist() == [1, 1, 1]
    for bad, message in (([1, -1], "1 weights are negative"), ([0, 0], "all 2 weights are zero")):
        with pytest.raises(CalibrationError, match=message):
            read.weights("w", bad, 2)
    assert read.arms("t", pd.Series([True, False], dtype="boolean")).tolist() == [1, 0]
    with pytest.raises(CalibrationError, match="must hold 0 and 1 only, but holds 2"):
        read.arms("t", [1, 2])


def test_rows_that_do_not_go_together_are_refused():
    a, b = pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0], index=[1, 0])
    with pytest.raises(CalibrationError, match="a and b are pandas objects with different indexes"):
        read.require_same_index("b", b, "a", a)
    with pytest.raises(CalibrationError, match="first and third are pandas objects"):
        read.require_one_index(nothing=None, array=np.ones(2), first=a, second=a.copy(), third=b)
    assert read.require_one_index(array=np.ones(2), lists=[1, 2]) is None
    assert read.require_one_index(array=np.ones(2), first=b).equals(b.index)


def test_numbers_that_came_as_text_are_no_categories():
    with pytest.raises(CalibrationError, match="12 different texts that all are numbers"):
        read.refuse_number_like("x", [str(i) for i in range(12)])
    read.refuse_number_like("x", [f"{i:03d}" for i in range(12)])  # codes
    read.refuse_number_like("x", ["1", "2", "3"])
    read.refuse_number_like("x", [f"c{i}" for i in range(12)])


DAYS = pd.Series(pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-02"]))


@pytest.mark.parametrize(
    "days",
    [
        DAYS,
        DAYS.to_numpy(),
        DAYS.to_numpy().astype("M8[D]"),
        DAYS.to_numpy().astype("M8[ns]"),
        DAYS.astype(object),
        DAYS.astype("category"),
        list(DAYS.dt.date),
        list(DAYS),
        ["2020-01-02", "2020-01-01", "2020-01-02"],
    ],
    ids=lambda days: f"{type(days).__name__} {getattr(days, 'dtype', '')}",
)
def test_a_date_has_one_text_in_every_container(days):
    found = read.labels("day", days)
    assert found.names == ("2020-01-01", "2020-01-02")
    assert found.codes.tolist() == [1, 0, 1]


def test_a_time_of_day_and_a_decimal_are_said():
    assert label_text(pd.Timestamp("2020-01-01 06:30")) == label_text(np.datetime64("2020-01-01T06:30"))
    assert label_text(pd.Timestamp("2020-01-01 06:30")) == "2020-01-01T06:30:00"
    assert [label_text(Decimal(text)) for text in ("1.0", "1.50", "7")] == ["1", "1.5", "7"]


def test_other_libraries_columns_are_their_values():
    import dask.array
    import xarray

    numbers, names = np.array([1.5, 2.0, 1.0]), np.array(["b", "a", "b"])
    for lazy in (
        xarray.DataArray(numbers),
        dask.array.from_array(numbers),
        xarray.DataArray(numbers).chunk(),
    ):
        assert read.vector("x", lazy).tolist() == numbers.tolist()
    for lazy in (xarray.DataArray(names), dask.array.from_array(names)):
        assert read.labels("x", lazy).codes.tolist() == [1, 0, 1]
    assert read.labels("x", xarray.DataArray(np.array([2, 1, 2]))).codes.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["1.5", "2"], dtype=object),
        pd.Series(["10", "2"]).astype("category"),
        np.ma.array(["1", "2"]),
        ["1.5", "2"],
        pd.Series(["1", "2"], dtype="string"),
        np.ma.array(np.array(["2020", "2021"], dtype="M8[Y]")),
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)
def test_text_and_dates_are_no_numbers_in_any_container(values):
    with pytest.raises(CalibrationError, match="expected numbers"):
        read.vector("x", values)
    with pytest.raises(CalibrationError, match="expected numbers"):
        read.vector("x", values, missing=True)
