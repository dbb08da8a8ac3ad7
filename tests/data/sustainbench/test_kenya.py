"""Kenya crop types: pickles that nobody vouches for, and the real release."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.data.sustainbench import kenya
from sustain.data.sustainbench.source import Source
from sustain.errors import DataError, DataWarning, FileFormatError
from tests.sustainbench_files import SHARED, kenya_pickle, kenya_series, kenya_table, write_kenya

REAL = SHARED / "mirror" / "sustainbench" / "crop_type_kenya"
needs_release = pytest.mark.skipif(
    not REAL.is_dir(), reason="no Kenya release in ../shared/mirror: the real counts need it"
)


def globals_of(content):
    return {op[1] for op in pickletools.genops(content) if op[0].name == "GLOBAL"}


def test_the_fixture_names_what_the_release_names():
    assert globals_of(kenya_pickle(kenya_series())) == {
        *("numpy.ma.core _mareconstruct", "numpy.ma.core MaskedArray", "numpy ndarray", "numpy dtype"),
        "_codecs encode",
    }


def test_numpy_itself_refuses_these_files(tmp_path):
    (tmp_path / "a.npy").write_bytes(kenya_pickle(kenya_series()))
    with pytest.raises(ValueError, match="pickled"):
        np.load(tmp_path / "a.npy", allow_pickle=False)


def test_a_series_is_read_exactly_and_what_is_masked_is_nan():
    series = kenya_series(3)
    read = kenya.read_series(kenya_pickle(series), "file")
    np.testing.assert_array_equal(read, series.filled(np.nan))
    assert np.isfinite(read).sum() == 14 * 41


class Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile(tmp_path):
    target = str(tmp_path / "owned")
    yield pickle.dumps(Calls(os.system, f"touch {target}"), 2)
    yield pickle.dumps(Calls(exec, f"open({target!r}, 'w').close()"), 2)
    yield pickle.dumps(Calls(eval, f"open({target!r}, 'w')"), 4)
    yield pickle.dumps([Calls(os.getcwd), kenya_series()], 2)
    yield b"cnumpy\nload\n(S'x'\ntR."  # within numpy, but no part of an array
    yield b"cnumpy.ma.core\nMaskedArray\n(tR."  # a class that may be named but not called
    yield b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR."
    yield b"cnumpy\ndtype.__init__.__globals__\n."  # a way around names with dots
    yield b"Pa persistent id\n."
    yield b"\x80\x04\x8c\x05posix\x8c\x06system\x93."
    yield b"\x80\x02\x82\x01."  # an extension code


def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path):
    for content in hostile(tmp_path):
        with pytest.raises(FileFormatError, match=r"member 7: (refused or damaged|holds)"):
            kenya.read_series(content, "member 7")
    assert not (tmp_path / "owned").exists()


def test_one_hostile_file_stops_the_whole_ingest(tmp_path):
    write_kenya(tmp_path / "raw")
    table = kenya_table()
    series = {name: kenya_pickle(kenya_series(i)) for i, name in enumerate(table["fileName"])}
    series[table["fileName"][5]] = next(hostile(tmp_path))
    write_kenya(tmp_path / "raw", series, table)
    with pytest.raises(FileFormatError, match=r"timeseries_5\.npy: refused or damaged"):
        kenya.ingest(tmp_path / "raw", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    "series",
    [
        np.ma.array(np.zeros((13, 365)), mask=True),
        np.ma.array(np.zeros((365, 14)), mask=True),
        np.ma.array(np.zeros((14, 365), "f4"), mask=True),
        np.ma.array(np.zeros((14, 365), ">f8"), mask=True),
        np.ma.array(np.zeros((14, 365), order="F"), mask=True),
        np.ma.array(np.zeros((14, 365), "i8"), mask=True),
    ],
)
def test_another_shape_type_or_order_is_refused(series):
    with pytest.raises(FileFormatError):
        kenya.read_series(kenya_pickle(series), "file")


@pytest.mark.parametrize("content", [b"", b".", b"N.", b"].", np.zeros(3).tobytes(), b"x" * (1 << 21)])
def test_what_is_no_pickle_of_an_array_is_refused(content):
    with pytest.raises(FileFormatError, match="file"):
        kenya.read_series(content, "file")


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_pickle_never_passes(share):
    content = kenya_pickle(kenya_series())
    with pytest.raises(FileFormatError):
        kenya.read_series(content[: int(share * len(content))], "file")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_pickle_gives_a_series_or_a_typed_error(data):
    content = bytearray(kenya_pickle(kenya_series()))
    edges = st.one_of(st.integers(0, 400), st.integers(len(content) - 200, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(edges)] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FileFormatError):  # any other error fails the test
        assert kenya.read_series(bytes(content), "file").shape == (14, 365)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_give_a_typed_error(content):
    with pytest.raises(FileFormatError):
        kenya.read_series(content, "file")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cropType", "maize", "cropType is 1: maize; expected one of Maize"),
        ("region", "Nairobi", "region is 1: Nairobi"),
        ("fold_random", "val", "fold_random is 1: val; expected one of train, test"),
        ("fieldID", 101, "fieldID repeats"),
        ("fieldID", "x", "column fieldID holds 'x' in data row 4"),
    ],
)
def test_a_wrong_value_of_the_table_is_named(tmp_path, column, value, message):
    table = kenya_table().astype(object)
    table.loc[3, column] = value
    write_kenya(tmp_path / "raw", table=table)
    with pytest.raises(DataError, match=message):
        kenya.ingest(tmp_path / "raw", tmp_path / "out")


def test_labels_without_series_are_counted_and_nan_everywhere_too(tmp_path):
    table = kenya_table()
    series = {name: kenya_pickle(kenya_series(i)) for i, name in enumerate(table["fileName"])}
    del series[table["fileName"][4]]
    series[table["fileName"][6]] = kenya_pickle(np.ma.array(np.full((14, 365), 1e20), mask=True))
    write_kenya(tmp_path / "raw", series, table)
    with pytest.warns(DataWarning) as caught:
        kenya.ingest(tmp_path / "raw", tmp_path / "out")
    assert "fields without observation: 1: 106" in [str(warning.message) for warning in caught]
    source = Source.open(tmp_path / "out")
    assert len(source) == 11
    assert source.description["counts"] == {
        "labels_without_file": [table["fileName"][4]],
        "series_without_row": [],
        "fields_without_crop_type": [100],
        "fields_without_observation": [106],
    }
    everything = kenya.KenyaCropType(source)
    assert "100" not in everything.ids
    assert np.isfinite(everything.statistics.mean).all()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>quota</html>"])
def test_an_archive_that_is_none_is_named(tmp_path, content):
    (tmp_path / "crop_type_kenya.zip").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"crop_type_kenya\.zip: damaged or truncated"):
        kenya.ingest(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kenya") / "kenya"
    with pytest.warns(DataWarning, match="fields without crop type: 8"):
        kenya.ingest(REAL, folder)
    return Source.open(folder)


@needs_release
def test_the_real_release_has_the_counts_of_the_specification(release):
    assert len(release) == 5746
    parts = {
        scheme: release.samples[f"split:{scheme}"].value_counts().to_dict() for scheme in release.schemes
    }
    assert parts == {
        "official": {"train": 4596, "test": 1150},
        "region_busia": {"train": 3789, "test": 1957},
        "region_bungoma": {"train": 3648, "test": 2098},
        "region_siaya": {"train": 4108, "test": 1638},
    }
    assert release.samples["region"].value_counts().to_dict() == {
        "Bungoma": 2098,
        "Busia": 1957,
        "Siaya": 1638,
        "pilot": 53,
    }
    counts = release.samples["label"].value_counts().sort_index().tolist()
    assert counts == [8, 2598, 654, 539, 512, 490, 333, 265, 209, 138]


@needs_release
def test_the_real_series_are_what_the_specification_says(release):
    train = kenya.KenyaCropType(release, scheme="region_siaya")
    test = kenya.KenyaCropType(release, scheme="region_siaya", split="test")
    assert set(test.samples["region"]) == {"Siaya"}
    assert len(train) + len(test) == 5746 - 8
    for dataset in (train, test):
        image = dataset.arrays(len(dataset) // 2)["image"]
        days = np.isfinite(image).all(axis=0).sum()
        assert 30 <= days <= 60
        np.testing.assert_allclose(image[13], image[7] / image[2] - 1, rtol=1e-4)
    # By hand, over the whole training part, without the stored moments.
    values = release.array("image")[train.rows].astype(np.float64)
    np.testing.assert_allclose(
        train.statistics.mean, np.nanmean(values, axis=(0, 2)), rtol=1e-8
    )  # stored as float32
    np.testing.assert_allclose(train.statistics.std, np.nanstd(values, axis=(0, 2)), rtol=1e-7)
