"""Archives from outside: what is honest is read as it is, what is hostile or damaged is refused by name."""

import gzip
import io
import os
import random
import shutil
import stat
import tarfile
import tracemalloc
import zipfile
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sustain.data.fetch.archive import Limits, iter_members, unpack
from sustain.errors import ArchiveError, DiskSpaceError, FileFormatError

Usage = namedtuple("Usage", "total used free")
NAMES = {
    "AL-2008-5#/AL-2008-5#-00000001.npz": b"one",
    "deep/er/ünï côde%20?.csv": os.urandom(70_000),
    "empty.txt": b"",
}


def tar_of(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, members: Mapping[str, bytes], mode: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


MAKERS = {
    "zip": zip_of,
    "tar.gz": tar_of,
    "tar": lambda path, members: tar_of(path, members, "w"),
}
kinds = pytest.mark.parametrize("kind", MAKERS)


def read_all(path: Path, limits: Limits | None = None) -> dict[str, bytes]:
    return {name: file.read() for name, file in iter_members(path, limits)}


def refused(path: Path, folder: Path, message: str, limits: Limits | None = None) -> None:
    """Neither reader nor unpacker takes it; the unpacker leaves nothing and keeps what was there."""
    with pytest.raises(ArchiveError, match=message) as caught:
        read_all(path, limits)
    assert str(path) in str(caught.value)
    with pytest.raises(ArchiveError, match=message):
        unpack(path, folder / "new", limits)
    assert [place.name for place in folder.iterdir()] == [path.name]


# ---- honest archives


@kinds
def test_members_come_in_order_with_their_names(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "any.name", NAMES)
    assert list(read_all(path).items()) == list(NAMES.items())


@kinds
def test_unpacked_files_are_those_of_the_archive(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a", NAMES)
    written = unpack(path, tmp_path / "out")
    assert [place.relative_to(tmp_path / "out").as_posix() for place in written] == list(NAMES)
    assert [place.read_bytes() for place in written] == list(NAMES.values())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "out"]


@kinds
def test_members_may_be_left_unread(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a", NAMES)
    assert [name for name, _ in iter_members(path)] == list(NAMES)
    assert next(file.read(3) for _, file in iter_members(path)) == b"one"  # and the rest, too


def test_folders_and_leading_dots_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        folder = tarfile.TarInfo("./x")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        info = tarfile.TarInfo("./x/y")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"z"))
    assert read_all(tmp_path / "a.tar.gz") == {"x/y": b"z"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.dictionaries(
        st.text("ab#%é &.", min_size=1, max_size=20).filter(lambda s: set(s) - {"."} and s.strip(".")),
        st.binary(max_size=3000),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(sorted(MAKERS)),
)
def test_what_goes_in_comes_out(tmp_path: Path, members: dict[str, bytes], kind: str) -> None:
    path = MAKERS[kind](tmp_path / "a", members)
    assert read_all(path) == members
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert [p.read_bytes() for p in unpack(path, tmp_path / "out")] == list(members.values())


def test_a_long_archive_is_read_in_little_memory(tmp_path: Path) -> None:
    block = random.Random(0).randbytes(1 << 20)
    path = tar_of(tmp_path / "a.tar", {str(i): block for i in range(40)}, "w")
    tracemalloc.start()
    for _, file in iter_members(path):
        while file.read(1 << 16):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_modes_of_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x")
        info.mode = 0o6777
        archive.addfile(info)
    (place,) = unpack(tmp_path / "a.tar", tmp_path / "out")
    assert place.stat().st_mode & 0o7111 == 0


# ---- hostile archives


@kinds
@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/absolute", "a\\..\\up", ".."])
def test_a_name_that_leads_out_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a", {"good": b"1", name: b"2"})
    refused(path, tmp_path, "outside the target folder")


@pytest.mark.parametrize(
    "member", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(member: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = member, "/etc/passwd"
        archive.addfile(info)
    refused(tmp_path / "a.tar.gz", tmp_path, "member link is a link, a device")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(mode: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", tmp_path, "member link is a link or a device")


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("hole")
    info.pax_headers = {
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": "99999999999",
        "GNU.sparse.numblocks": "1",
    }
    info.size = 1
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"x"))
    refused(tmp_path / "a.tar", tmp_path, "sparse")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"secret": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, tmp_path, "encrypted")


@kinds
def test_two_members_cannot_claim_one_place(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a", {"x": b"1", "x/y": b"2"})
    with pytest.raises(ArchiveError, match="taken"):
        unpack(path, tmp_path / "out")
    path = MAKERS[kind](tmp_path / "a", {"./x": b"1", "x": b"2"})
    with pytest.raises(ArchiveError, match="taken"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@kinds
def test_too_many_files_are_refused(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a", {str(i): b"" for i in range(11)})
    refused(path, tmp_path, "more than 10 files", Limits(files=10))
    assert len(read_all(path, Limits(files=11))) == 11


@kinds
def test_too_many_bytes_are_refused(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a", {"a": b"1234", "b": b"12345"})
    refused(path, tmp_path, "more than 8 bytes when unpacked, at member b", Limits(total_bytes=8))
    assert len(read_all(path, Limits(total_bytes=9))) == 2


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path / "a", {"zeros": bytes(2_000_000)})
    refused(path, tmp_path, "more than 20 times its size", Limits(ratio=20, ratio_from=1000))
    assert len(read_all(path)["zeros"]) == 2_000_000  # too small to be one


def test_a_zip_that_understates_a_member_gives_no_more(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"zeros": bytes(500_000)})
    content = path.read_bytes()
    path.write_bytes(content.replace((500_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(FileFormatError, match="member zeros"):
        read_all(path)


def test_headers_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as stream:
        stream.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(40):
            stream.write(bytes(1 << 20))
    refused(tmp_path / "a.tar.gz", tmp_path, "bytes of headers")


def test_a_header_of_digits_does_not_hang(tmp_path: Path) -> None:
    # Searching these for "digits and a blank" takes quadratic time: minutes for the 8 MB that a few kilobytes give.
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 8 << 20
    with gzip.open(tmp_path / "a.tar.gz", "wb") as stream:
        stream.write(header.tobuf(tarfile.USTAR_FORMAT) + b"1" * (8 << 20))
    refused(tmp_path / "a.tar.gz", tmp_path, "bytes of headers")


# ---- damage


@kinds
def test_every_truncation_is_named(kind: str, tmp_path: Path) -> None:
    whole = MAKERS[kind](tmp_path / "whole", {"a": os.urandom(3000), "b": b"2" * 2000, "c": b""}).read_bytes()
    path = tmp_path / "cut"
    for length in random.Random(1).sample(range(len(whole) - 1 if kind != "tar" else 6000), 60):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="cut"):
            read_all(path)
    assert set(tmp_path.iterdir()) == {tmp_path / "whole", path}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_flipped_bit_is_noticed_or_harmless(kind: str, tmp_path: Path) -> None:
    members = {"a": os.urandom(2000), "b": b"2" * 2000}
    whole = MAKERS[kind](tmp_path / "whole", members).read_bytes()
    path = tmp_path / "flipped"
    draw = random.Random(2)
    for _ in range(150):
        content = bytearray(whole)
        content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = read_all(path)
        except FileFormatError:
            continue
        # Times, modes and names have no checksum in a zip; contents have one.
        assert set(found.values()) <= set(members.values())


@kinds
def test_no_flipped_bit_loses_a_member(kind: str, tmp_path: Path) -> None:
    members = {f"f{number}.csv": b"x" * 500 for number in range(20)}
    whole = MAKERS[kind](tmp_path / "whole", members).read_bytes()
    path = tmp_path / "flipped"
    draw = random.Random(5)
    first = (
        whole.find(b"PK\x01\x02") if kind == "zip" else 0
    )  # contents of a zip have checksums; its directory none
    for _ in range(400):
        content = bytearray(whole)
        content[draw.randrange(first, len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = read_all(path)
        except (FileFormatError, ArchiveError):
            continue
        assert len(found) == len(members)


@pytest.mark.parametrize("depth", [30, 3000])
def test_headers_of_headers_end_in_a_typed_error(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 11
    record = header.tobuf(tarfile.USTAR_FORMAT) + b"11 path=ab\n".ljust(512, b"\0")
    with gzip.open(path, "wb") as stream:
        stream.write(record * depth)
    with pytest.raises((FileFormatError, ArchiveError), match=r"a\.tar\.gz"):
        read_all(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08", b"\x1f\x8b"]),
)
def test_noise_is_a_typed_error(tmp_path: Path, noise: bytes, head: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(head + noise)
    with pytest.raises(FileFormatError, match="noise"):
        read_all(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>quota</html>", "HTML page"),
        (b"id,y\n1,2\n", "of another kind"),
    ],
)
def test_what_is_no_archive_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read_all(tmp_path / "a.tar.gz")


def test_a_missing_archive_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_all(tmp_path / "none.zip")


def test_damage_leaves_what_was_unpacked_before(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar.gz", NAMES)
    unpack(path, tmp_path / "out")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(FileFormatError):
        unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "empty.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "out"]


def test_room_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_of(tmp_path / "a.tar.gz", NAMES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    with pytest.raises(DiskSpaceError, match=r"a\.tar\.gz"):
        unpack(path, tmp_path / "out")
