import contextlib
import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.data.sustainbench import dhs
from sustain.errors import DataError, FileFormatError
from tests.dhs_files import PIXEL, label_table, member_name, npz_bytes, plain_tile, site_id, write_archive


def write_table(tmp_path, n=6, **changes):
    table = label_table(n)
    for column, (row, value) in changes.items():
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
    path = tmp_path / "dhs_final_labels.csv"
    table.to_csv(path, index=False)
    return path


# --- the label table


def test_labels_are_read_with_their_types_and_sorted(tmp_path):
    table = label_table(4).iloc[::-1]
    table.to_csv(tmp_path / "labels.csv", index=False)
    sites = dhs.read_labels(tmp_path / "labels.csv")
    assert sites["id"].tolist() == [site_id(i) for i in range(4)]
    assert sites["label"].tolist() == table["asset_index"].tolist()[::-1]
    assert sites["urban"].tolist() == (table["urban"] == "U").tolist()[::-1]
    assert sites["year"].dtype == np.int32


def test_a_label_with_fewer_than_five_observations_is_nan(tmp_path):
    table = label_table(4)
    table["n_asset"] = [5, 4, np.nan, 22]
    table.loc[3, "asset_index"] = np.nan
    table.to_csv(tmp_path / "labels.csv", index=False)
    assert dhs.read_labels(tmp_path / "labels.csv")["label"].notna().tolist() == [True, False, False, False]


def test_each_task_has_its_own_label_and_count(tmp_path):
    table = label_table(3)
    table["women_bmi"], table["n_women_bmi"] = [21.5, np.nan, 24.0], [18, np.nan, 3]
    table.to_csv(tmp_path / "labels.csv", index=False)
    sites = dhs.read_labels(tmp_path / "labels.csv", "women_bmi")
    assert sites["label"].iloc[0] == 21.5
    assert sites["label"].iloc[1:].isna().all()
    with pytest.raises(DataError, match="no row has a under5_mort"):
        dhs.read_labels(tmp_path / "labels.csv", "under5_mort")
    with pytest.raises(DataError, match="label is 'wealth'; expected one of asset_index"):
        dhs.read_labels(tmp_path / "labels.csv", "wealth")


def test_namibia_is_a_country_not_a_missing_value(tmp_path):
    assert dhs.read_labels(write_table(tmp_path, cname=(2, "NA")))["country"].iloc[2] == "NA"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lat": (1, 101.5)}, "lat/lon missing or out of range.*00000001: lat 101.5.*look swapped"),
        ({"lon": (1, 200.0)}, "lat/lon missing or out of range"),
        ({"lat": (1, np.nan)}, "lat/lon missing or out of range"),
        ({"lat": (1, 0), "lon": (1, 0)}, "both exactly 0 in 1 row"),
        ({"DHSID_EA": (1, site_id(0))}, "DHSID_EA repeats in 2 row"),
        ({"DHSID_EA": (1, np.nan)}, "1 row.s. without DHSID_EA"),
        ({"asset_index": (2, "high")}, "column asset_index holds 'high' in data row 3"),
        ({"asset_index": (2, np.inf)}, "infinite label"),
        ({"urban": (2, "T")}, "urban must be 'U' or 'R', but is 'T'"),
        ({"year": (2, 2016.5)}, "year must be a whole number"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(tmp_path, changes, message):
    path = write_table(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        dhs.read_labels(path)
    assert str(path) in str(caught.value)


def test_missing_columns_are_all_named(tmp_path):
    path = tmp_path / "labels.csv"
    label_table(3).drop(columns=["lat", "n_asset"]).to_csv(path, index=False)
    with pytest.raises(FileFormatError, match="missing column lat, n_asset; found DHSID_EA, "):
        dhs.read_labels(path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\xff\xfe\x00", b'a,b\n"1,2\n'])
def test_what_is_not_a_table_is_refused(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"labels\.csv"):
        dhs.read_labels(path)


# --- the archives


def test_tiles_come_in_archive_order_exactly_as_written(tmp_path):
    rng = np.random.default_rng(0)
    tiles = {site_id(i): rng.random((8, 5, 5), dtype=np.float32) for i in (3, 1, 2)}
    archive = write_archive(
        tmp_path / "dhs_XA.tar.gz", {member_name(name): npz_bytes(x=x) for name, x in tiles.items()}
    )
    read = list(dhs.iter_tiles(archive))
    assert [name for name, _ in read] == list(tiles)
    for name, x in read:
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, tiles[name])


def test_only_regular_files_named_like_tiles_are_opened(tmp_path):
    path = tmp_path / "dhs_XA.tar.gz"
    tile = npz_bytes(x=plain_tile(3))
    with tarfile.open(path, "w:gz") as tar:

        def add(name, content=b"", **attributes):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))

        add("XA-2016-9#", type=tarfile.DIRTYPE)
        add("README.txt", b"hello")
        add(f"XB-2016-9#/{site_id(1)}.npz", b"of another survey's folder")
        add(member_name(site_id(2)), type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(member_name(site_id(3)), type=tarfile.LNKTYPE, linkname="README.txt")
        add(member_name(site_id(4)), type=tarfile.FIFOTYPE)
        add(f"./dhs/{member_name(site_id(5))}", tile)
        add(f"../../{member_name(site_id(6))}", tile)  # nothing is ever unpacked, so a path cannot escape
    assert [name for name, _ in dhs.iter_tiles(path)] == [site_id(5), site_id(6)]
    assert sorted(tmp_path.rglob("*")) == [path]


def archive_of(tmp_path, content):
    return write_archive(tmp_path / "dhs_XA.tar.gz", {member_name(site_id(7)): content})


def npy_bytes(shape, dtype="<f4", fortran=False, data=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": fortran, "shape": shape})
    stream.write(data)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as npz:
        npz.writestr("x.npy", stream.getvalue())
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable npz"),
        (b"PK\x03\x04 truncated", "not a readable npz"),
        (npz_bytes(x=plain_tile())[:-40], "not a readable npz"),
        (npz_bytes(y=plain_tile()), "no array 'x'"),
        (npz_bytes(x=plain_tile().astype(np.float64)), "holds float64"),
        (npz_bytes(x=plain_tile()[:7]), r"holds float32 \(7, 8, 8\)"),
        (npz_bytes(x=plain_tile()[0]), r"holds float32 \(8, 8\); expected float \(8, any, any\)"),
        (npz_bytes(x=np.array([{"a": 1}], dtype=object)), "holds Python objects"),
        (npy_bytes((8, 10**6, 10**6)), "declares 32000000000000 bytes"),
        (npy_bytes((8, 1025, 1), data=bytes(32800)), "a side must have 1 to 1024 pixels"),
        (npy_bytes((8, 0, 0)), "a side must have 1 to 1024 pixels"),
        (npy_bytes((8, 4, 4), fortran=True, data=bytes(512)), "Fortran order"),
        (npy_bytes((8, 4, 4), data=bytes(100)), "100 bytes of data, but its shape .* needs 512"),
        (npy_bytes((8, 4, 4), data=bytes(5000)), "more bytes of data, but its shape"),
    ],
)
def test_a_tile_that_is_not_what_it_promises_is_refused_by_name(tmp_path, content, message):
    archive = archive_of(tmp_path, content)
    with pytest.raises(FileFormatError, match=message) as caught:
        list(dhs.iter_tiles(archive))
    assert str(archive) in str(caught.value)
    assert member_name(site_id(7)) in str(caught.value)


def test_no_pickle_is_ever_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w').close()",))

    content = npz_bytes(x=np.array([Hostile()], dtype=object))
    with pytest.raises(FileFormatError):
        list(dhs.iter_tiles(archive_of(tmp_path, content)))
    assert not (tmp_path / "owned").exists()


def test_a_changed_byte_is_noticed_by_the_checksum(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, x=plain_tile())
    content = bytearray(stream.getvalue())
    place = content.index(struct.pack("<f", PIXEL[5]))
    content[place] ^= 1
    with pytest.raises(FileFormatError, match=r"not a readable npy array .*CRC"):
        list(dhs.iter_tiles(archive_of(tmp_path, bytes(content))))


def test_an_oversized_member_is_refused_unread(tmp_path):
    with pytest.raises(FileFormatError, match="a tile has at most"):
        list(dhs.iter_tiles(archive_of(tmp_path, bytes(40_000_000))))


@pytest.fixture(scope="module")
def whole_archive(tmp_path_factory):
    rng = np.random.default_rng(1)
    members = {
        member_name(site_id(i)): npz_bytes(x=rng.random((8, 32, 32), dtype=np.float32)) for i in range(4)
    }
    return write_archive(tmp_path_factory.mktemp("archive") / "dhs_XA.tar.gz", members)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_archive_never_passes_for_a_whole_one(whole_archive, share):
    content = whole_archive.read_bytes()
    short = whole_archive.with_name("dhs_short.tar.gz")
    short.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        FileFormatError, match=r"dhs_short.tar.gz: .* truncated, damaged or unreadable at or after"
    ):
        list(dhs.iter_tiles(short))


@pytest.mark.parametrize("padding", [b"", bytes(512)])
def test_an_archive_may_be_of_several_gzip_members(whole_archive, padding):
    plain = gzip.decompress(whole_archive.read_bytes())
    joined = whole_archive.with_name("dhs_joined.tar.gz")
    parts = [plain[:1000], plain[1000:30_000], plain[30_000:]]
    joined.write_bytes(b"".join(gzip.compress(part) for part in parts) + padding)
    for (name, x), (other, y) in zip(dhs.iter_tiles(whole_archive), dhs.iter_tiles(joined), strict=True):
        assert name == other
        np.testing.assert_array_equal(x, y)


def test_a_changed_checksum_of_the_archive_is_noticed(whole_archive):
    content = bytearray(whole_archive.read_bytes())
    content[-6] ^= 1
    damaged = whole_archive.with_name("dhs_checksum.tar.gz")
    damaged.write_bytes(bytes(content))
    with pytest.raises(FileFormatError, match="incorrect data check"):
        list(dhs.iter_tiles(damaged))


def test_a_truncated_archive_names_the_member(whole_archive):
    content = whole_archive.read_bytes()
    short = whole_archive.with_name("dhs_short.tar.gz")
    short.write_bytes(content[: int(0.6 * len(content))])
    with pytest.raises(FileFormatError, match=r"member XA-2016-9#/XA-2016-9#-0000000[12]\.npz"):
        list(dhs.iter_tiles(short))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_gives_tiles_or_a_typed_error(whole_archive, data):
    content = bytearray(whole_archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = whole_archive.with_name("dhs_damaged.tar.gz")
    damaged.write_bytes(bytes(content))
    with contextlib.suppress(FileFormatError):  # any other error fails the test
        assert all(x.shape == (8, 32, 32) for _, x in dhs.iter_tiles(damaged))


def test_archives_are_sorted_and_none_is_an_error(tmp_path):
    for name in ("dhs_XB.tar.gz", "dhs_XA.tar.gz", "other.tar.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in dhs.archives(tmp_path)] == ["dhs_XA.tar.gz", "dhs_XB.tar.gz"]
    with pytest.raises(FileNotFoundError, match=r"no dhs_\*.tar.gz"):
        dhs.archives(tmp_path / "nowhere")


def test_the_columns_are_those_of_the_published_table():
    assert len(dhs.COLUMNS) == len(set(dhs.COLUMNS)) == 21
    assert {name for label in dhs.LABELS.values() for name in label[:2]} < set(dhs.COLUMNS)
    assert list(pd.Index(dhs.BANDS)) == [
        "BLUE",
        "GREEN",
        "RED",
        "SWIR1",
        "SWIR2",
        "TEMP1",
        "NIR",
        "NIGHTLIGHTS",
    ]
