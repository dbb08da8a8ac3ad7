"""Google Drive as it answers: the file, a page that asks for a confirmation, a page that speaks of a quota."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sustain.data.catalogue.manifest import Manifest
from sustain.data.fetch import drive
from sustain.data.fetch.published import MIRROR_VARIABLE, Attempts, fetch
from sustain.errors import DownloadError
from tests.web_server import DATA, Handler, Server, ranged, running

ID = "1lhbmICpmNuOBlaErywgiD6i9nHuhuv0A"
QUICK = Attempts(limit=3, pause=0.01, timeout=20)  # a busy machine must not look like a silent server
FORM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p>file.bin (300K) is too large for Google to scan for viruses. Would you still like to download this file?</p>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a-b&amp;c"></form></html>"""
LINK = (
    '<html><a id="uc-download-link" href="/uc?export=download&amp;confirm=AbC1&amp;id={id}">anyway</a></html>'
)
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
Sorry, you can't view or download this file at this time. Too many users have viewed or downloaded it.</body></html>"""
SIGN_IN = "<html><head><title>Google Drive: Sign-in</title></head>Sign in to continue to Google Drive</html>"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    with running() as started:
        monkeypatch.setattr(drive, "DOWNLOAD", started.address("/download"))
        yield started


def on(server: Server, answer: Callable[[Handler, dict[str, str]], None]) -> None:
    """Answer whatever is asked below the paths of Drive."""

    class Everything(dict[str, Any]):
        def get(self, path: str, default: Any = None) -> Any:
            given = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
            return lambda handler: answer(handler, given)

    server.answers = Everything()


def page(handler: Handler, text: str) -> None:
    body = text.encode()
    handler.reply(200, body, length=len(body), Content_Type="text/html; charset=utf-8")


def manifest(**changes: Any) -> Manifest:
    file = {"path": "file.bin", "drive_id": ID} | changes
    return Manifest.model_validate({"name": "tiny", "title": "One", "licence": None, "files": [file]})


def fetched(tmp_path: Path) -> bytes:
    (path,) = fetch(manifest(), tmp_path / "raw", attempts=QUICK)
    return path.read_bytes()


def test_a_file_that_comes_at_once(server: Server, tmp_path: Path) -> None:
    on(server, lambda handler, given: ranged(handler))
    assert fetched(tmp_path) == DATA
    assert parse_qs(urlsplit(server.asked[0][0]).query) == {
        "id": [ID],
        "export": ["download"],
        "confirm": ["t"],
    }


def test_the_form_of_confirmation_is_followed(server: Server, tmp_path: Path) -> None:
    def answer(handler: Handler, given: dict[str, str]) -> None:
        if given.get("uuid") == "a-b&c":
            ranged(handler)
        else:
            page(handler, FORM.format(action=server.address("/download"), id=ID))

    on(server, answer)
    assert fetched(tmp_path) == DATA
    assert len(server.asked) == 2


def test_the_older_link_of_confirmation_is_followed(server: Server, tmp_path: Path) -> None:
    on(
        server,
        lambda handler, given: (
            ranged(handler) if given["confirm"] == "AbC1" else page(handler, LINK.format(id=ID))
        ),
    )
    assert fetched(tmp_path) == DATA


def test_a_break_behind_the_form_is_resumed(server: Server, tmp_path: Path) -> None:
    def answer(handler: Handler, given: dict[str, str]) -> None:
        if "uuid" in given:
            ranged(handler, limit=120_000)
        else:
            page(handler, FORM.format(action="/download", id=ID))

    on(server, answer)
    assert fetched(tmp_path) == DATA
    starts = [int(asked.strip("bytes=-")) for (path, asked) in server.asked if "uuid" in path and asked]
    assert len(starts) >= 2
    assert 0 < starts[0] < starts[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (QUOTA, r'quota for this file is used up \("Google Drive - Quota exceeded"\).*a day'),
        (SIGN_IN, "not public"),
        ("<html><title>Error</title></html>", r'an HTML page instead of data \("Error"\)'),
        (FORM.format(action="https://evil.example/download", id=ID), "leads to evil.example"),
        (FORM.format(action="https://notgoogle.com/download", id=ID), "not Google's"),
        (FORM.format(action="http://drive.google.com/download", id=ID), "leads to drive.google.com"),
        (FORM.format(action="/download", id="another"), "another file"),
        (FORM.format(action="/download", id=ID), "again and again"),
    ],
)
def test_pages_are_named(server: Server, tmp_path: Path, text: str, message: str) -> None:
    on(server, lambda handler, given: page(handler, text))
    with pytest.raises(DownloadError, match=message) as caught:
        fetched(tmp_path)
    said = str(caught.value)
    assert f"https://drive.google.com/file/d/{ID}/view" in said
    assert "sustain data add tiny --from" in said
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_claims_to_be_data_is_named(server: Server, tmp_path: Path) -> None:
    on(server, lambda handler, given: handler.reply(200, QUOTA.encode(), length=len(QUOTA)))
    with pytest.raises(DownloadError, match=r'HTML page came instead of data \("Google Drive - Quota'):
        fetched(tmp_path)


def test_a_page_without_end_is_given_up(server: Server, tmp_path: Path) -> None:
    on(server, lambda handler, given: page(handler, QUOTA + "x" * (3 << 20)))
    with pytest.raises(DownloadError, match="quota"):
        fetched(tmp_path)


def test_an_https_address_goes_before_drive(server: Server, tmp_path: Path) -> None:
    on(server, lambda handler, given: ranged(handler))
    fetch(manifest(url=server.address("/direct")), tmp_path / "raw", attempts=QUICK)
    assert [asked for asked, _ in server.asked] == ["/direct"]
