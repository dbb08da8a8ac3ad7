"""Rows of two tables meet by their keys, or are refused; never wrongly, never without a word."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sustain.errors import DataError
from sustain.stats.columns import ColumnReader
from sustain.stats.keys import match_keys

read = ColumnReader(DataError)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([2, 1, 2], [1, 2]),
        ([2.0, 1.0, 2.0], [1, 2]),
        (["2", "1", "2"], [1, 2]),
        ([2, 1, 2], ["1", "2"]),
        ([Decimal("2.0"), 1, 2.0], np.array([1, 2], dtype="int8")),
        (["002", "001", "002"], ["001", "002"]),
        (pd.Series(["b", "a", "b"], index=[7, 7, 7]), pd.Series(["a", "b"], index=[3, 3], dtype="category")),
    ],
)
def test_keys_of_any_type_meet(left, right):
    assert match_keys(read, left, right).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["001"], [1, 2]),
        ([1], ["001", "002"]),
        (["1.0"], [1]),
        ([1], ["1.0"]),
        (["Kampala "], ["Kampala"]),
    ],
)
def test_what_only_looks_alike_is_refused(left, right):
    with pytest.raises(
        DataError, match=r"trial: 1 values only look like those in polygons: .* Write them alike"
    ):
        match_keys(read, left, right, left_name="trial", right_name="polygons", absent=True)


def test_looking_alike_is_no_harm_where_the_key_itself_is_there():
    assert match_keys(read, ["1", "001"], ["001", "1"]).tolist() == [1, 0]


def test_missing_keys_never_meet():
    with pytest.raises(DataError, match="left: 1 values are missing"):
        match_keys(read, ["a", None], ["a", None])
    assert match_keys(read, ["a"], [None, np.nan, "a"]).tolist() == [2]
    assert match_keys(read, ["nan"], [np.nan, "nan"]).tolist() == [1]
    with pytest.raises(DataError, match="not in right, the first 'nan'"):
        match_keys(read, ["nan"], [np.nan, "a"])


def test_keys_that_repeat_and_keys_that_are_absent():
    with pytest.raises(DataError, match="right: '1' is there more than once"):
        match_keys(read, [1], [1, 1.0])
    assert match_keys(read, [2], [1, 1.0, 2]).tolist() == [2]  # of no row here
    with pytest.raises(DataError, match="left: 1 values are not in right, the first 'c'"):
        match_keys(read, ["c"], ["a"])
    assert match_keys(read, ["c", "a"], ["a"], absent=True).tolist() == [-1, 0]


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_whole_numbers_find_themselves_in_any_order_and_type(keys, random):
    right = keys[:]
    random.shuffle(right)
    kind = random.choice([int, float, str])
    found = match_keys(read, keys, [kind(key) if kind is not str else str(key) for key in right])
    assert [right[place] for place in found] == keys


def test_an_index_that_repeats_cannot_tell_rows_apart():
    panel = pd.DataFrame({"y": [1, 2, 3]}, index=["a", "b", "a"])
    with pytest.raises(DataError, match=r"lon: its index repeats \(2 of 3 rows share theirs, such as 'a'\)"):
        read.require_telling_index("lon", panel["y"])
    read.require_telling_index("lon", panel["y"].to_numpy())
    read.require_telling_index("lon", panel.reset_index()["y"])
