"""Downloads against a server that misbehaves in every way that servers do; what is in place is always whole."""

import errno
import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sustain.data.catalogue.manifest import Manifest, load_manifest
from sustain.data.fetch import published as fetch_module
from sustain.data.fetch.download import Download
from sustain.data.fetch.published import MIRROR_VARIABLE, Attempts, fetch
from sustain.errors import DataError, DiskSpaceError, DownloadError, MirrorWarning, SustainError
from tests.web_server import DATA, Handler, Server, html, ranged, rangeless, running

MIRROR = Path(__file__).parents[4] / "shared" / "mirror"
QUICK = Attempts(limit=3, pause=0.01, timeout=20)  # a busy machine must not look like a silent server
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


def manifest_for(url: str | None, data: bytes | None = DATA, **changes: Any) -> Manifest:
    file = {"path": "deep/file.bin", "url": url}
    if data is not None:
        file |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return Manifest.model_validate(
        {"name": "tiny", "title": "One file", "licence": None, "files": [file | changes]}
    )


def nothing_in_place(out: Path) -> bool:
    return not any(path.is_file() for path in out.rglob("*"))


def leftovers(out: Path) -> list[Path]:
    return [path for path in out.parent.rglob("*") if path.is_file() and out not in path.parents]


# ---- what should come, comes


def test_a_file_arrives_whole_and_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = ranged
    out = tmp_path / "raw"
    manifest = manifest_for(server.address("/f"))
    (path,) = fetch(manifest, out, attempts=QUICK)
    assert path == out / "deep/file.bin"
    assert path.read_bytes() == DATA
    assert leftovers(out) == []
    fetch(manifest, out, attempts=QUICK)
    assert len(server.asked) == 1


def test_a_damaged_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = ranged
    manifest = manifest_for(server.address("/f"))
    (path,) = fetch(manifest, tmp_path / "raw", attempts=QUICK)
    path.write_bytes(DATA[:-1] + b"x")
    fetch(manifest, tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("stated", [True, False])
def test_without_size_and_checksum_what_comes_is_taken(server: Server, tmp_path: Path, stated: bool) -> None:
    server.answers["/f"] = lambda handler: handler.reply(200, DATA, length=len(DATA) if stated else None)
    (path,) = fetch(manifest_for(server.address("/f"), None), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_a_compressed_answer_is_unpacked(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(DATA)
    server.answers["/f"] = lambda handler: handler.reply(
        200, packed, length=len(packed), Content_Encoding="gzip"
    )
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.answers["/old"] = lambda handler: handler.reply(302, b"", length=0, Location="/f")
    server.answers["/f"] = ranged
    (path,) = fetch(manifest_for(server.address("/old")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_an_empty_file_is_a_file(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = lambda handler: rangeless(handler, b"")
    (path,) = fetch(manifest_for(server.address("/f"), b""), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == b""


# ---- breaks


def test_a_broken_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = lambda handler: ranged(handler, limit=70_000)
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA
    starts = [int(asked.strip("bytes=-")) for asked in server.ranges()[1:] if asked is not None]
    assert starts == sorted(set(starts))
    assert len(starts) > QUICK.limit  # more breaks than attempts in a row: each brought something new


def test_a_server_without_ranges_is_asked_for_the_whole(server: Server, tmp_path: Path) -> None:
    def breaks_once(handler: Handler) -> None:
        first = len(server.asked) == 1
        handler.reply(200, DATA[:100_000] if first else DATA, length=len(DATA))

    server.answers["/f"] = breaks_once
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA
    assert [asked is None for asked in server.ranges()] == [True, False]


@pytest.mark.parametrize("status", [416, 206])
def test_a_range_refused_or_misread_starts_over(server: Server, tmp_path: Path, status: int) -> None:
    def answer(handler: Handler) -> None:
        if len(server.asked) == 1:
            handler.reply(200, DATA[:100_000], length=len(DATA))
        elif handler.headers.get("Range"):
            body = DATA[500:] if status == 206 else b""
            size = len(DATA)
            handler.reply(status, body, length=len(body), Content_Range=f"bytes 500-{size - 1}/{size}")
        else:
            rangeless(handler)

    server.answers["/f"] = answer
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_a_server_that_always_breaks_at_the_same_byte_is_given_up(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = lambda handler: handler.reply(200, DATA[:100_000], length=len(DATA))
    out = tmp_path / "raw"
    with pytest.raises(DownloadError, match=r"broke off.*3 attempts"):
        fetch(manifest_for(server.address("/f")), out, attempts=QUICK)
    assert len(server.asked) == 3
    assert nothing_in_place(out)


def test_a_silent_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    def stalls_once(handler: Handler) -> None:
        if len(server.asked) == 1:
            handler.reply(200, DATA[:100_000], length=len(DATA))
            handler.wfile.flush()
            time.sleep(1.0)
        else:
            ranged(handler)

    server.answers["/f"] = stalls_once
    started = time.monotonic()
    (path,) = fetch(
        manifest_for(server.address("/f")),
        tmp_path / "raw",
        attempts=Attempts(limit=3, pause=0.01, timeout=0.4),
    )
    assert path.read_bytes() == DATA
    assert time.monotonic() - started < 20  # the default patience is 30 s
    assert server.ranges()[1] is not None


def test_passing_trouble_passes(server: Server, tmp_path: Path) -> None:
    def busy(handler: Handler) -> None:
        if len(server.asked) < 3:
            handler.reply(503 if len(server.asked) == 1 else 429, b"", length=0)
        else:
            ranged(handler)

    server.answers["/f"] = busy
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


class Unhurried(threading.Event):
    """Notes how long it is asked to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


def test_a_busy_server_says_how_long_to_wait(server: Server, tmp_path: Path) -> None:
    asked_for = {1: "7", 2: "99999", 3: "soon"}

    def busy(handler: Handler) -> None:
        if (seconds := asked_for.get(len(server.asked))) is not None:
            handler.reply(429, b"", length=0, Retry_After=seconds)
        else:
            ranged(handler)

    server.answers["/f"] = busy
    stop, attempts = Unhurried(), Attempts(limit=4, pause=0.5, timeout=5)
    (file,) = manifest_for(server.address("/f")).files
    final = tmp_path / "file.bin"
    Download(file, final, tmp_path / "part", attempts, lambda _: None, stop).run([server.address("/f")])
    assert final.read_bytes() == DATA
    assert stop.waits == [7, 120, 2.0]  # the third is its own pause, doubled twice


def drip(content: bytes) -> Callable[[Handler], None]:
    """Send one byte after the other, never silent and never done."""

    def answer(handler: Handler) -> None:
        for byte in content:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.02)

    return answer


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000, "no whole answer within"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + DATA, "bytes a second, fewer than"),
    ],
    ids=["headers", "content"],
)
def test_a_server_that_drips_is_given_up(
    server: Server, tmp_path: Path, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Silence is borne for longer than slowness here: on a busy machine the drops come late.
    monkeypatch.setattr("sustain.data.fetch.transport.PATIENCE", 0.25)
    server.answers["/f"] = drip(content)
    attempts = Attempts(limit=2, pause=0.01, timeout=20)
    out = tmp_path / "raw"
    with pytest.raises(DownloadError, match=said):
        fetch(manifest_for(server.address("/f")), out, attempts=attempts)
    assert nothing_in_place(out)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "9" * 5000},
        {"Content-Length": "-5"},
        {"Content-Encoding": "gzip"},
        {"Location": "http://[::1", "status": "302"},
        {"Location": "file:///etc/passwd", "status": "302"},
        {"Location": "/f", "status": "302"},
        {"Retry-After": "9" * 5000, "status": "429"},
    ],
    ids=lambda headers: " ".join(f"{name} {text[:12]}" for name, text in headers.items()),
)
def test_absurd_headers_end_in_a_typed_error(
    server: Server, tmp_path: Path, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sustain.data.fetch.transport.LONGEST_WAIT", 0)

    def answer(handler: Handler) -> None:
        handler.send_response(int(headers.get("status", "200")))
        for name, text in headers.items():
            if name != "status":
                handler.send_header(name, text)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"" if "status" in headers else DATA[:-1])

    server.answers["/f"] = answer
    out = tmp_path / "raw"
    with pytest.raises(DownloadError):
        fetch(manifest_for(server.address("/f")), out, attempts=QUICK)
    assert nothing_in_place(out)


def test_an_earlier_part_of_something_else_is_thrown_away(server: Server, tmp_path: Path) -> None:
    part = tmp_path / ".partial-raw" / "deep" / "file.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"y" * 1234)
    server.answers["/f"] = ranged
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA
    assert server.ranges() == ["bytes=1234-", None]


def test_without_a_checksum_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    part = tmp_path / ".partial-raw" / "deep" / "file.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA[:1234])
    server.answers["/f"] = ranged
    (path,) = fetch(manifest_for(server.address("/f"), sha256=None), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA
    assert server.ranges() == [None]


def versioned(handler: Handler, version: str, data: bytes = DATA, limit: int | None = None) -> None:
    start = handler.start_at
    headers = {"ETag": version} | (
        {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    )
    handler.reply(206 if start else 200, data[start:][:limit], length=len(data) - start, **headers)


def test_a_break_without_a_checksum_is_resumed_within_one_version(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = lambda handler: versioned(handler, '"one"', limit=70_000)
    (path,) = fetch(manifest_for(server.address("/f"), None), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA
    assert server.ranges()[0] is None
    assert None not in server.ranges()[1:]
    assert [place.name for place in leftovers(tmp_path / "raw")] == ["raw.lock.json"]


def test_a_break_without_checksum_or_version_starts_over(server: Server, tmp_path: Path) -> None:
    def breaks_once(handler: Handler) -> None:
        ranged(handler, limit=100_000 if len(server.asked) == 1 else None)

    server.answers["/f"] = breaks_once
    (path,) = fetch(manifest_for(server.address("/f"), None), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA
    assert server.ranges() == [None, None]


def test_the_next_run_goes_on_within_one_version(server: Server, tmp_path: Path) -> None:
    def breaks(handler: Handler) -> None:
        if handler.start_at:
            handler.reply(500, b"", length=0)
        else:
            versioned(handler, '"one"', limit=200_000)

    server.answers["/f"] = breaks
    manifest = manifest_for(server.address("/f"), sha256=None)
    with pytest.raises(DownloadError, match="500"):
        fetch(manifest, tmp_path / "raw", attempts=QUICK)
    assert nothing_in_place(tmp_path / "raw")
    server.asked.clear()
    server.answers["/f"] = lambda handler: versioned(handler, '"one"')
    (path,) = fetch(manifest, tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA
    (asked,) = server.ranges()
    assert asked is not None
    assert asked != "bytes=0-"
    assert [place.name for place in leftovers(tmp_path / "raw")] == ["raw.lock.json"]


def test_another_version_is_fetched_from_the_start(server: Server, tmp_path: Path) -> None:
    newer = DATA[::-1]

    def answer(handler: Handler) -> None:
        if len(server.asked) == 1:
            versioned(handler, '"one"', limit=100_000)
        else:
            versioned(handler, '"two"', newer)

    server.answers["/f"] = answer
    (path,) = fetch(manifest_for(server.address("/f"), None), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == newer
    assert [asked is None for asked in server.ranges()] == [True, False, True]


def test_a_part_of_one_place_is_not_gone_on_with_at_another(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = lambda handler: versioned(handler, '"one"', limit=100_000 - handler.start_at)
    server.answers["/g"] = lambda handler: versioned(handler, '"one"', DATA[::-1])
    manifest = manifest_for(server.address("/f"), None, mirrors=[server.address("/g")])
    with pytest.warns(MirrorWarning, match="broke off"):
        (path,) = fetch(manifest, tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA[::-1]


def test_a_part_that_is_whole_needs_no_server(tmp_path: Path) -> None:
    part = tmp_path / ".partial-raw" / "deep" / "file.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA)
    (path,) = fetch(manifest_for("http://127.0.0.1:9/f"), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


KILLED = """
    import sys
    from pathlib import Path
    from sustain.data.fetch.published import fetch
    from sustain.data.catalogue.manifest import load_manifest
    fetch(load_manifest(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_killed_download_goes_on_and_gives_the_same_bytes(server: Server, tmp_path: Path) -> None:
    hurry = threading.Event()

    def slowly(handler: Handler) -> None:
        if hurry.is_set():
            ranged(handler)
            return
        handler.reply(200, b"", length=len(DATA))
        for begin in range(0, 200_000, 65_536):
            handler.wfile.write(DATA[begin : begin + 65_536])
            handler.wfile.flush()
        hurry.wait(20)

    server.answers["/f"] = slowly
    manifest = manifest_for(server.address("/f"))
    described = tmp_path / "tiny.yaml"
    described.write_text(manifest.model_dump_json())  # JSON is YAML
    out = tmp_path / "raw"
    part = tmp_path / ".partial-raw" / "deep" / "file.bin"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(described), str(out)])
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hurry.set()
    arrived = part.stat().st_size
    assert 0 < arrived < len(DATA)
    assert nothing_in_place(out)
    (path,) = fetch(manifest, out, attempts=QUICK)
    assert path.read_bytes() == DATA
    assert server.ranges()[-1] == f"bytes={arrived}-"
    assert leftovers(out) == [described]


# ---- what should not come, is refused, in words


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (html("text/html; charset=utf-8"), r'HTML page.*"Quota exceeded"'),
        (html("application/octet-stream"), r'HTML page.*"Quota exceeded"'),
        (lambda h: rangeless(h, DATA[:-1]), r"wrong size: it offers 299,999 bytes instead of 300,000"),
        (lambda h: rangeless(h, DATA + b"x"), r"wrong size: it offers 300,001"),
        (lambda h: h.reply(200, DATA + b"x", length=None), r"wrong size: more came than the 300,000"),
        (lambda h: rangeless(h, b"x" + DATA[1:]), r"wrong checksum: sha256 [0-9a-f]{64} instead of"),
        (lambda h: h.reply(200, DATA[:7], length=None), r"broke off after 7 of 300,000"),
        (lambda h: h.reply(403, b"", length=0), r"403 Forbidden"),
        (lambda h: h.reply(404, b"", length=0), r"404 Not Found"),
        (lambda h: h.reply(500, b"", length=0), r"500 .*3 attempts"),
        (lambda h: h.connection.close(), r"reached"),
    ],
)
def test_what_is_not_the_file_is_named(
    server: Server, tmp_path: Path, answer: Callable[[Handler], None], message: str
) -> None:
    server.answers["/f"] = answer
    out = tmp_path / "raw"
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(manifest_for(server.address("/f")), out, attempts=QUICK)
    said = str(caught.value)
    assert str(out / "deep/file.bin") in said
    assert server.address("/f") in said
    assert MIRROR_VARIABLE in said
    assert "--mirror" in said
    assert "by hand" in said
    assert "300,000 bytes" in said
    assert nothing_in_place(out)


def test_html_of_unknown_size_is_recognised_by_its_first_bytes(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = html("application/octet-stream")
    with pytest.raises(DownloadError, match="HTML page"):
        fetch(manifest_for(server.address("/f"), None), tmp_path / "raw", attempts=QUICK)


def test_html_is_fine_where_html_is_expected(server: Server, tmp_path: Path) -> None:
    page = b"<!DOCTYPE html><html></html>"
    server.answers["/f"] = lambda handler: handler.reply(
        200, page, length=len(page), Content_Type="text/html"
    )
    manifest = manifest_for(server.address("/f"), page, path="index.html")
    (path,) = fetch(manifest, tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == page


def test_offline_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"cannot be reached") as caught:
        fetch(manifest_for("http://127.0.0.1:9/f"), tmp_path / "raw", attempts=QUICK)
    assert "SUSTAIN_MIRROR" in str(caught.value)
    assert "tiny/deep/file.bin" in str(caught.value)


def test_a_file_without_address_is_to_be_got_by_hand(tmp_path: Path) -> None:
    manifest = manifest_for(None).model_copy(update={"by_hand": "register with the survey's owner"})
    with pytest.raises(DownloadError, match="register with the survey's owner"):
        fetch(manifest, tmp_path / "raw", attempts=QUICK)


# ---- mirrors


def test_a_folder_stands_in_for_the_network(tmp_path: Path) -> None:
    mirrored = tmp_path / "mirror" / "tiny" / "deep" / "file.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(DATA)
    manifest = manifest_for("http://127.0.0.1:9/f")
    (path,) = fetch(manifest, tmp_path / "raw", mirror=tmp_path / "mirror", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_the_environment_names_a_mirror(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/m/other%20name/deep/file.bin"] = ranged
    monkeypatch.setenv(MIRROR_VARIABLE, server.address("/m/"))
    manifest = manifest_for("http://127.0.0.1:9/f").model_copy(update={"mirror": "other name"})
    (path,) = fetch(manifest, tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_a_hash_in_a_name_survives_an_address(server: Server, tmp_path: Path) -> None:
    server.answers["/m/tiny/AL-2008-5%23/tile.npz"] = ranged
    manifest = manifest_for(None, path="AL-2008-5#/tile.npz")
    (path,) = fetch(manifest, tmp_path / "raw", server.address("/m"), attempts=QUICK)
    assert path == tmp_path / "raw" / "AL-2008-5#" / "tile.npz"
    assert path.read_bytes() == DATA


def test_a_bad_mirror_is_named_and_the_publisher_asked(server: Server, tmp_path: Path) -> None:
    mirrored = tmp_path / "mirror" / "tiny" / "deep" / "file.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(b"x" + DATA[1:])
    server.answers["/f"] = ranged
    with pytest.warns(MirrorWarning, match="wrong checksum"):
        (path,) = fetch(
            manifest_for(server.address("/f")), tmp_path / "raw", tmp_path / "mirror", attempts=QUICK
        )
    assert path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("content", "message"),
    [(DATA[:-3], "wrong size"), (b"x" + DATA[1:], "wrong checksum"), (None, "no such file")],
)
def test_a_mirror_is_checked_like_the_network(tmp_path: Path, content: bytes | None, message: str) -> None:
    mirrored = tmp_path / "mirror" / "tiny" / "deep" / "file.bin"
    mirrored.parent.mkdir(parents=True)
    if content is not None:
        mirrored.write_bytes(content)
    out = tmp_path / "raw"
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(manifest_for(None), out, tmp_path / "mirror", attempts=QUICK)
    assert "put the file into the mirror as tiny/deep/file.bin" in str(caught.value)
    assert nothing_in_place(out)
    assert leftovers(out) == ([mirrored] if content is not None else [])


def test_a_mirror_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no such folder"):
        fetch(manifest_for(None), tmp_path / "raw", tmp_path / "none")


def test_the_publishers_own_mirrors_come_last(server: Server, tmp_path: Path) -> None:
    server.answers["/second"] = ranged
    manifest = manifest_for(server.address("/gone"), mirrors=[server.address("/second")])
    with pytest.warns(MirrorWarning, match="404"):
        (path,) = fetch(manifest, tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no published files in {MIRROR.name}/ beside the repository")
@pytest.mark.parametrize("name", ["yeh2020", "aid_projects"])
def test_the_house_sources_come_from_the_mirror(tmp_path: Path, name: str) -> None:
    manifest = load_manifest(name)
    paths = fetch(manifest, tmp_path / name, MIRROR)
    assert all(path.stat().st_size == file.size for path, file in zip(paths, manifest.files, strict=True))


# ---- several files


def manifest_of(server: Server, names: list[str], **changes: Any) -> Manifest:
    files = [{"path": name, "url": server.address(f"/{name}"), "size": len(DATA)} | changes for name in names]
    return Manifest.model_validate({"name": "many", "title": "Files", "licence": None, "files": files})


def test_files_come_at_the_same_time(server: Server, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=20)

    def answer(handler: Handler) -> None:
        together.wait()  # none is answered before three are asked for
        rangeless(handler)

    names = ["a.bin", "b.bin", "c.bin"]
    server.answers |= {f"/{name}": answer for name in names}
    paths = fetch(manifest_of(server, names), tmp_path / "raw", workers=3, attempts=Attempts(timeout=20))
    assert [path.name for path in paths] == names
    assert all(path.read_bytes() == DATA for path in paths)


def test_what_can_be_had_is_in_place_beside_what_cannot(server: Server, tmp_path: Path) -> None:
    names = [f"{number}.bin" for number in range(6)]
    server.answers |= {f"/{name}": rangeless for name in names[:2]}
    with pytest.raises(DownloadError, match="and 1 more files of 'many'") as caught:
        fetch(manifest_of(server, names), tmp_path / "raw", attempts=QUICK)
    assert str(caught.value).count("answers 404") == 3  # a port may have these digits too
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == names[:2]
    assert [place.name for place in leftovers(tmp_path / "raw")] == ["raw.lock.json"]


def test_some_files_can_be_asked_for(server: Server, tmp_path: Path) -> None:
    server.answers |= {f"/{name}": rangeless for name in ("a.bin", "b.bin")}
    manifest = manifest_of(server, ["a.bin", "b.bin"])
    (path,) = fetch(manifest, tmp_path / "raw", only="b*", attempts=QUICK)
    assert (path.name, [asked for asked, _ in server.asked]) == ("b.bin", ["/b.bin"])
    with pytest.raises(DataError, match=r"--only c\*.*a\.bin, b\.bin"):
        fetch(manifest, tmp_path / "raw", only="c*", attempts=QUICK)


def test_a_full_disk_ends_the_other_files_too(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = threading.Event()

    def endless(handler: Handler) -> None:
        handler.reply(200, b"x" * 1000, length=10**6)
        going.set()
        for _ in range(100):
            handler.wfile.write(b"x" * 1000)
            time.sleep(0.02)

    def full(handler: Handler) -> None:
        going.wait(20)
        rangeless(handler)

    server.answers |= {"/a": endless, "/b": full}
    monkeypatch.setattr(
        fetch_module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(DiskSpaceError, match="raw/b"):
        fetch(manifest_of(server, ["a", "b"], size=None), tmp_path / "raw", attempts=Attempts(timeout=20))
    assert nothing_in_place(tmp_path / "raw")


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("a.tar.gz", b"PK\x03\x04 a zip", r"no \.gz file"),
        ("a.zip", b"id,label\n", r"no \.zip file"),
        ("a.hdf5", b"\x00" * 99, r"no \.hdf5 file"),
        ("a.csv", b"", "empty file"),
    ],
)
def test_another_kind_of_file_is_refused(
    server: Server, tmp_path: Path, path: str, content: bytes, message: str
) -> None:
    server.answers[f"/{path}"] = lambda handler: rangeless(handler, content)
    with pytest.raises(DownloadError, match=message):
        fetch(manifest_of(server, [path], size=None), tmp_path / "raw", attempts=QUICK)
    assert nothing_in_place(tmp_path / "raw")


# ---- room, and company


def test_too_little_room_is_said_before_a_byte_is_asked_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/f"] = ranged
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(DiskSpaceError, match="tiny"):
        fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    with pytest.raises(DiskSpaceError, match="deep/file"):  # size known only from the server
        fetch(manifest_for(server.address("/f"), None), tmp_path / "raw", attempts=QUICK)
    assert len(server.asked) == 1
    assert nothing_in_place(tmp_path / "raw")


def test_a_part_counts_towards_the_room_needed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / ".partial-raw" / "deep" / "file.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(DATA[:-500])
    server.answers["/f"] = ranged
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_a_disk_that_fills_up_leaves_the_part(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/f"] = ranged

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(fetch_module.os, "fsync", full)
        with pytest.raises(DiskSpaceError, match="run again"):
            fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert nothing_in_place(tmp_path / "raw")
    (path,) = fetch(manifest_for(server.address("/f")), tmp_path / "raw", attempts=QUICK)
    assert path.read_bytes() == DATA


def test_two_runs_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    waiting = threading.Event()

    def slowly(handler: Handler) -> None:
        handler.reply(200, DATA[:1000], length=len(DATA))
        handler.wfile.flush()
        waiting.wait(0.3)
        handler.wfile.write(DATA[1000:])

    server.answers["/f"] = slowly
    manifest = manifest_for(server.address("/f"))
    first = threading.Thread(target=fetch, args=(manifest, tmp_path / "raw"))
    first.start()
    while not server.asked:
        time.sleep(0.01)
    with pytest.raises(DownloadError, match="another run"):
        fetch(manifest, tmp_path / "raw", attempts=QUICK)
    waiting.set()
    first.join()
    assert (tmp_path / "raw/deep/file.bin").read_bytes() == DATA


def test_failures_are_errors_of_the_house(tmp_path: Path) -> None:
    with pytest.raises(SustainError):
        fetch(manifest_for(None), tmp_path / "raw")
