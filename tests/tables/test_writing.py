"""What is not ours stays as it was."""

from __future__ import annotations

import csv
import io
import zipfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.errors import DataError
from sustain.tables import add_columns, read_table, write_table

FIELD = st.text(alphabet="aé 0123456789.,;\"'\t\nN", max_size=6)


@st.composite
def texts(draw):
    """Delimited texts: any fields, quoting, delimiter, line end, encoding, with or without a last line end."""
    delimiter = draw(st.sampled_from(",;\t"))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    rows = draw(st.lists(st.tuples(FIELD, FIELD, st.integers(-9, 9).map(str)), min_size=1, max_size=8))
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("a", "b", "c"), *rows])
    text = stream.getvalue()
    text = text if draw(st.booleans()) else text.removesuffix(end)
    return text, delimiter, end, len(rows), draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16-le-mark"]))


@settings(max_examples=200, deadline=None)
@given(texts())
def test_every_byte_of_the_source_stays(tmp_path_factory, made):
    text, delimiter, end, n, encoding = made
    folder = tmp_path_factory.mktemp("pass")
    codec = "utf-16-le" if encoding.startswith("utf-16") else "utf-8"
    mark = {"utf-8": b"", "utf-8-sig": b"\xef\xbb\xbf"}.get(encoding, b"\xff\xfe")
    (folder / "in.csv").write_bytes(mark + text.encode(codec))
    if len(read_table(folder / "in.csv").columns) != 3:
        return  # fields that hold one delimiter throughout may look delimited by it
    add_columns(folder / "in.csv", folder / "out.csv", {"z": np.arange(n)})
    out = (folder / "out.csv").read_bytes()
    assert out.startswith(mark)
    held = list(csv.reader(io.StringIO(out[len(mark) :].decode(codec), newline=""), delimiter=delimiter))
    given_rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    assert [row[:-1] for row in held] == given_rows
    assert [row[-1].replace(",", ".") for row in held] == ["z", *(f"{place}.0" for place in range(n))]
    # Without what was added, the bytes are those of the source.
    rest = out[len(mark) :].decode(codec)
    for row in held:
        rest = rest.replace(f"{delimiter}{row[-1]}{end}", end, 1)
    if text.endswith(end):
        assert rest == text


def test_codes_and_quotes_stay(tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes(b'id,"country",code,y_pred\r\n00123,NA,123456789012345678,0.10\r\n\r\n"7",,1,"2"\r\n')
    add_columns(source, tmp_path / "out.csv", {"y_pred_se": [0.25, np.nan]})
    assert (tmp_path / "out.csv").read_bytes() == (
        b'id,"country",code,y_pred,y_pred_se\r\n00123,NA,123456789012345678,0.10,0.25\r\n\r\n"7",,1,"2",\r\n'
    )


def test_decimal_commas_are_written_as_they_are_read(tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes("ort;y\nKöln;0,5\nBonn;1,5".encode("latin-1"))
    add_columns(source, tmp_path / "out.csv", {"z": [1.25, 2]})
    assert (tmp_path / "out.csv").read_bytes() == "ort;y;z\nKöln;0,5;1,25\nBonn;1,5;2,0".encode("latin-1")


def test_parquet_keeps_index_types_and_attrs(tmp_path):
    data = pd.DataFrame(
        {"v": ["a", "b"], "n": pd.array([1, None], dtype="Int32"), "c": pd.Categorical(["x", "y"])}
    )
    data.attrs["predictor"] = "net"
    data.set_index("v").to_parquet(tmp_path / "in.parquet")
    add_columns(tmp_path / "in.parquet", tmp_path / "out.parquet", {"z": [1.0, np.nan]})
    out = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(out.drop(columns="z"), data.set_index("v"))
    assert out["z"].tolist()[0] == 1.0
    assert np.isnan(out["z"].tolist()[1])
    assert out.attrs == {"predictor": "net"}
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.field("n").type == pq.read_schema(tmp_path / "in.parquet").field("n").type


def test_between_kinds_the_values_stay(tmp_path):
    (tmp_path / "in.csv").write_text("id,y\n007,1.5\n008,2\n", encoding="utf-8")
    for name in ("out.parquet", "out.xlsx"):
        add_columns(tmp_path / "in.csv", tmp_path / name, {"z": [1.0, 2.0]})
        out = read_table(tmp_path / name)
        assert out["id"].tolist() == ["007", "008"]
        assert out["z"].tolist() == [1, 2]


def test_a_workbook_has_the_same_bytes_at_any_hour(tmp_path, monkeypatch):
    data = pd.DataFrame({"id": ["007"], "y": [1.5]})
    write_table(tmp_path / "a.xlsx", data)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_table(tmp_path / "b.xlsx", data)
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    assert b"1980-01-01T00:00:00Z" in zipfile.ZipFile(tmp_path / "a.xlsx").read("docProps/core.xml")


def test_what_does_not_fit_is_refused(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("id,y\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="has a column 'y' already"):
        add_columns(source, tmp_path / "out.csv", {"y": [1.0]})
    with pytest.raises(DataError, match=r"z: has 2 values, but .* has 1 rows"):
        add_columns(source, tmp_path / "out.csv", {"z": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"ends in \.csv"):
        add_columns(source, tmp_path / "out.dta", {"z": [1.0]})
    assert not (tmp_path / "out.csv").exists()


def test_only_measurements_are_rounded(tmp_path):
    data = pd.DataFrame({"key": [3550301.0, 3550304.0], "mean": [1 / 3, np.nan]})
    write_table(tmp_path / "t.csv", data, rounded=["mean"])
    assert (tmp_path / "t.csv").read_bytes() == b"key,mean\n3550301.0,0.333333\n3550304.0,\n"
    write_table(tmp_path / "t.csv", data)
    assert read_table(tmp_path / "t.csv")["mean"].tolist()[0] == 1 / 3


def test_a_text_that_begins_like_a_formula_stays_text(tmp_path):
    data = pd.DataFrame({"code": ["=1+1", "+5", "001"], "y": [1.5, 2.0, 3.0]})
    write_table(tmp_path / "a.xlsx", data)
    assert read_table(tmp_path / "a.xlsx")["code"].tolist() == ["=1+1", "+5", "001"]
