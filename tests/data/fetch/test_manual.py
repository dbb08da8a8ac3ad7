"""Files got by hand are verified like fetched ones, and remembered."""

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sustain.data.catalogue.manifest import Manifest, load_manifest, verify
from sustain.data.fetch.lock import lock_path, read_lock, with_lock
from sustain.data.fetch.manual import add
from sustain.data.fetch.published import MIRROR_VARIABLE, Attempts, fetch
from sustain.errors import DataError, DownloadError, FileFormatError

MIRROR = Path(__file__).parents[4] / "shared" / "mirror"
TABLE, ARCHIVE = b"id,label\n1,2\n", gzip.compress(b"tiles", mtime=0)
QUICK = Attempts(limit=2, pause=0.01, timeout=20)  # a busy machine must not look like a silent server
FOLDER = "1jyjK5sKGYegfHDjuVBSxCoj49TD830wL"


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


def manifest(*files: dict[str, Any], **changes: Any) -> Manifest:
    listed = list(files) or [{"path": "labels.csv", "size": len(TABLE)}, {"path": "deep/tiles.tar.gz"}]
    content = {"name": "tiny", "title": "Two files", "licence": None, "drive_folder": FOLDER, "files": listed}
    return Manifest.model_validate(content | changes)


def downloads(folder: Path, **contents: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (contents or {"labels.csv": TABLE, "tiles.tar.gz": ARCHIVE}).items():
        (folder / name).write_bytes(content)
    return folder


def test_files_are_copied_into_place_and_remembered(tmp_path: Path) -> None:
    source = downloads(tmp_path / "Downloads")
    placed, missing = add(manifest(), source, tmp_path / "raw")
    assert [path.read_bytes() for path in placed] == [TABLE, ARCHIVE]
    assert missing == []
    lock = json.loads((tmp_path / "raw.lock.json").read_text())
    assert lock["files"]["deep/tiles.tar.gz"] == {
        "sha256": hashlib.sha256(ARCHIVE).hexdigest(),
        "size": len(ARCHIVE),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Downloads", "raw", "raw.lock.json"]
    before = lock_path(tmp_path / "raw").read_bytes()
    add(manifest(), source, tmp_path / "raw")
    assert lock_path(tmp_path / "raw").read_bytes() == before


def test_what_came_first_is_what_is_expected_from_then_on(tmp_path: Path) -> None:
    add(manifest(), downloads(tmp_path / "one"), tmp_path / "raw")
    other = downloads(tmp_path / "two", **{"tiles.tar.gz": gzip.compress(b"tilts", mtime=0)})
    with pytest.raises(DownloadError, match=r"(?s)wrong (checksum|size).*instead of.*delete its entry"):
        add(manifest(), other, tmp_path / "raw")
    assert (tmp_path / "raw/deep/tiles.tar.gz").read_bytes() == ARCHIVE
    (tmp_path / "raw/labels.csv").write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=r"kept in .*raw\.lock\.json.*delete its entry"):
        fetch(manifest({"path": "labels.csv"}), tmp_path / "raw", attempts=QUICK)
    (tmp_path / "raw/labels.csv").write_bytes(TABLE)
    (tmp_path / "raw/deep/tiles.tar.gz").write_bytes(ARCHIVE[:-1] + b"x")
    known = with_lock(manifest(), read_lock(manifest(), tmp_path / "raw"))
    assert "sha256" in verify(known, tmp_path / "raw")["deep/tiles.tar.gz"]
    add(manifest(), tmp_path / "one", tmp_path / "raw")
    assert verify(known, tmp_path / "raw") == {}


def test_one_file_of_several_can_be_added(tmp_path: Path) -> None:
    source = downloads(tmp_path / "Downloads")
    placed, missing = add(manifest(), source / "labels.csv", tmp_path / "raw")
    assert [path.name for path in placed] == ["labels.csv"]
    assert missing == ["deep/tiles.tar.gz"]


def test_where_one_file_is_expected_its_name_does_not_matter(tmp_path: Path) -> None:
    source = downloads(tmp_path, **{"Copy of tiles (1)": ARCHIVE})
    (path,), _ = add(manifest({"path": "tiles.tar.gz"}), source / "Copy of tiles (1)", tmp_path / "raw")
    assert path == tmp_path / "raw" / "tiles.tar.gz"


def test_the_name_that_a_browser_gives_a_second_download_is_known(tmp_path: Path) -> None:
    source = downloads(tmp_path / "Downloads", **{"tiles.tar (1).gz": ARCHIVE, "labels (2).csv": TABLE})
    placed, missing = add(manifest(), source, tmp_path / "raw")
    assert [path.name for path in placed] == ["labels.csv", "tiles.tar.gz"]
    assert missing == []
    downloads(source, **{"labels (3).csv": TABLE})
    with pytest.raises(DataError, match=r"labels \(2\)\.csv.*Rename the right one to labels\.csv"):
        add(manifest(), source, tmp_path / "other")


def test_files_already_in_place_are_verified_and_remembered(tmp_path: Path) -> None:
    raw = downloads(tmp_path / "raw")
    (raw / "deep").mkdir()
    (raw / "tiles.tar.gz").rename(raw / "deep/tiles.tar.gz")
    placed, _ = add(manifest(), raw, raw)
    assert len(placed) == 2
    assert set(read_lock(manifest(), raw).files) == {"labels.csv", "deep/tiles.tar.gz"}
    (raw / "labels.csv").write_bytes(b"other")
    with pytest.raises(DownloadError, match=r"labels\.csv has 5 bytes"):
        add(manifest(), raw, raw)


def test_fetching_finds_what_was_put_there_by_hand(tmp_path: Path) -> None:
    raw = downloads(tmp_path / "raw", **{"labels.csv": TABLE})
    fetch(manifest({"path": "labels.csv"}), raw, attempts=QUICK)
    assert set(read_lock(manifest(), raw).files) == {"labels.csv"}
    page = downloads(tmp_path / "page", **{"tiles.tar.gz": b"<!doctype html><html><title>Quota</title>"})
    with pytest.raises(FileFormatError, match=r'HTML page.*"Quota"'):
        fetch(manifest({"path": "tiles.tar.gz"}), page, attempts=QUICK)


def _tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return content.getvalue()


def _zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a", b"tiles" * 100)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "whole"), [("t.zip", _zip()), ("t.tar.gz", gzip.compress(b"tiles", mtime=0)), ("t.tar", _tar())]
)
def test_a_truncated_archive_is_neither_placed_nor_locked(name: str, whole: bytes, tmp_path: Path) -> None:
    tiny, raw = manifest({"path": name}), tmp_path / "raw"
    cut = downloads(tmp_path / "mirror" / "tiny", **{name: whole[:-12]})
    with pytest.raises(DownloadError, match="truncated"):
        fetch(tiny, raw, cut.parent, attempts=QUICK)
    with pytest.raises(DownloadError, match="truncated"):
        add(tiny, cut, raw)
    with pytest.raises(FileFormatError, match="truncated"):
        add(tiny, cut, cut)  # where it lies
    assert not (raw / name).exists()
    assert not lock_path(raw).exists()
    assert not lock_path(cut).exists()
    downloads(cut, **{name: whole})
    assert fetch(tiny, raw, cut.parent, attempts=QUICK) == [raw / name]


def test_a_published_checksum_needs_no_lock(tmp_path: Path) -> None:
    pinned = {"path": "labels.csv", "sha256": hashlib.sha256(TABLE).hexdigest()}
    add(manifest(pinned), downloads(tmp_path / "one"), tmp_path / "raw")
    assert not lock_path(tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"<html><title>Quota exceeded</title></html>",
            r'HTML page came instead of data \("Quota exceeded"\)',
        ),
        (b"id,label\n", r"no \.gz file"),
        (b"", "empty file"),
    ],
)
def test_what_is_not_the_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    source = downloads(tmp_path / "Downloads", **{"tiles.tar.gz": content})
    with pytest.raises(DownloadError, match=message):
        add(manifest(), source, tmp_path / "raw")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Downloads"]


def test_what_cannot_be_found_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--from"):
        add(manifest(), tmp_path / "none", tmp_path / "raw")
    with pytest.raises(DataError, match=r"expected labels\.csv, deep/tiles\.tar\.gz"):
        add(manifest(), downloads(tmp_path / "empty", other=b"x"), tmp_path / "raw")
    twice = downloads(tmp_path / "twice" / "a", **{"labels.csv": TABLE}).parent
    downloads(twice / "b", **{"labels.csv": TABLE})
    with pytest.raises(DataError, match="more than once"):
        add(manifest(), twice, tmp_path / "raw")


def test_a_source_of_unknown_files_takes_what_it_is_given(tmp_path: Path) -> None:
    unknown = load_manifest("naip")
    with pytest.raises(DownloadError, match=r"not known.*drive/folders/1BMLTD8rFMzMF.*data add naip --from"):
        fetch(unknown, tmp_path / "raw", attempts=QUICK)
    source = downloads(
        tmp_path / "Downloads" / "sub", **{"tile.npz": b"PK", ".DS_Store": b"x", "notes.txt": b"x"}
    ).parent
    (source / "link").symlink_to("/etc/hostname")
    placed, _ = add(unknown, source, tmp_path / "raw")
    assert placed == [tmp_path / "raw/sub/tile.npz"]
    assert fetch(unknown, tmp_path / "raw", attempts=QUICK) == placed
    (tmp_path / "raw/sub/tile.npz").unlink()
    with pytest.raises(DownloadError, match="no address is known"):
        fetch(unknown, tmp_path / "raw", attempts=QUICK)


def test_a_mirror_folder_stands_in_for_an_unknown_list(tmp_path: Path) -> None:
    downloads(tmp_path / "mirror" / "sustainbench" / "ood" / "a", **{"box_1.npz": b"PK"})
    (path,) = fetch(load_manifest("ood"), tmp_path / "raw", tmp_path / "mirror", attempts=QUICK)
    assert path == tmp_path / "raw/a/box_1.npz"
    assert set(read_lock(load_manifest("ood"), tmp_path / "raw").files) == {"a/box_1.npz"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"source": "tiny", "files": {"../up": {"size": 1, "sha256": "' + "0" * 64 + '"}}}',
        '{"source": "x"}',
    ],
)
def test_a_damaged_lock_is_named(content: str, tmp_path: Path) -> None:
    lock_path(tmp_path / "raw").write_text(content)
    with pytest.raises(FileFormatError, match=r"raw\.lock\.json"):
        fetch(manifest(), tmp_path / "raw", attempts=QUICK)


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no published files in {MIRROR.name}/ beside the repository")
def test_the_real_kenya_release_comes_from_the_mirror(tmp_path: Path) -> None:
    (path,) = fetch(load_manifest("kenya"), tmp_path / "kenya", MIRROR)
    assert read_lock(load_manifest("kenya"), tmp_path / "kenya").files[path.name].size == 18_416_759
    (labels,) = fetch(load_manifest("lsms"), tmp_path / "lsms", MIRROR, only="*.csv")
    assert labels.stat().st_size == 252_435
    assert not lock_path(tmp_path / "lsms").exists()  # its checksum is in the manifest
