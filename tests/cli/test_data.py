"""``sustain data``: fifteen tasks listed, a card each, and the way of the bytes from mirror to ingested source."""

import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sustain.cli import app
from sustain.data.catalogue.manifest import load_manifest, manifest_names
from sustain.data.catalogue.registry import load_tasks
from sustain.data.fetch.inventory import holding, how_to_get, manifest_of, raw_folder, size_of
from sustain.data.sustainbench.card import source_card, task_card
from sustain.errors import DataError, DownloadError
from tests.sustainbench_files import write_kenya

TASKS = load_tasks()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUSTAIN_MIRROR", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def mirror_of_kenya(folder: Path) -> Path:
    write_kenya(folder / "sustainbench" / "crop_type_kenya")
    return folder


def test_the_list_has_every_task_and_every_source() -> None:
    said = run("list")
    assert said.exit_code == 0
    assert all(f" {name} " in said.output for name in [*TASKS, *manifest_names()])
    assert len([line for line in said.output.splitlines() if " sdg" in line]) == 15
    assert "100 GB" in said.output
    assert "not stated" in said.output  # aid_projects has no licence


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_card(name: str) -> None:
    said = run("info", name)
    assert said.exit_code == 0
    task = TASKS[name]
    manifest = load_manifest(task.source)
    card = task_card(task, manifest)
    assert card in said.output
    for needed in (task.title, f"SDG {task.sdg} ", *task.metrics, *task.variants, *manifest.known_issues):
        assert needed in card
    for figure in task.published:
        assert f"| {figure.value:g} |" in card
    for split in task.splits:
        assert all(f"| {count:,} |" in card for count in split.counts.values() if count is not None)


def test_a_card_of_a_source_names_its_files() -> None:
    card = source_card(load_manifest("dhs_street"))
    assert "`mapillary/metadata/AL.csv` | not known" in card
    assert "and 84 more files" in card
    assert card in run("info", "dhs_street").output


def test_how_and_how_much() -> None:
    manifests = {name: load_manifest(name) for name in manifest_names()}
    assert how_to_get(manifests["lsms"]) == "https, by hand"
    assert how_to_get(manifests["dhs"]) == "Google Drive"
    assert how_to_get(manifests["naip"]) == "by hand"
    assert [size_of(manifests[name]) for name in ("dhs", "yeh2020", "lsms", "naip")] == [
        "100 GB",
        "6.85 MB",
        "252 kB and more",
        "not known",
    ]


def test_a_source_is_fetched_verified_listed_and_ingested(tmp_path: Path) -> None:
    mirror = mirror_of_kenya(tmp_path / "mirror")
    early = run("ingest", "kenya").exception
    assert isinstance(early, DataError)
    assert "crop_type_kenya.zip: not there. Get it first (sustain data fetch kenya)" in str(early)
    said = run("fetch", "sdg2-croptype-kenya", "--mirror", str(mirror))
    assert said.exit_code == 0
    assert "1 file(s) of kenya in data/raw/sustainbench/kenya, recorded (first copy;" in said.output
    assert "kenya, verified." in run("fetch", "kenya").output  # now there is something to compare with
    assert run("verify", "kenya").output.startswith("1 of 1 file(s) of kenya are as they first came")
    assert " all " in next(line for line in run("list").output.splitlines() if "-kenya" in line) + " "
    assert "kenya is ready" in run("ingest", "kenya").output
    assert "all, ingested" in run("list").output
    archive = Path("data/raw/sustainbench/kenya/crop_type_kenya.zip")
    archive.write_bytes(archive.read_bytes() + b"x")
    said = run("verify", "kenya")
    assert said.exit_code == 1
    assert "bytes instead of" in said.output
    assert "kenya.lock.json" in said.output


def test_a_changed_file_is_not_ingested(tmp_path: Path) -> None:
    assert run("fetch", "kenya", "--mirror", str(mirror_of_kenya(tmp_path / "mirror"))).exit_code == 0
    archive = Path("data/raw/sustainbench/kenya/crop_type_kenya.zip")
    good = archive.read_bytes()
    for changed in (good + b"x", good[:-1] + bytes([good[-1] ^ 1])):  # another size; another sha256 alone
        archive.write_bytes(changed)
        said = run("ingest", "kenya")
        assert isinstance(said.exception, DataError)
        assert "kenya.lock.json" in str(said.exception)
        assert not Path("data/sustainbench/kenya").exists()
    archive.write_bytes(good)
    assert run("ingest", "kenya").exit_code == 0


def test_a_source_is_added_from_a_download(tmp_path: Path) -> None:
    write_kenya(tmp_path / "Downloads")
    said = run("add", "kenya", "--from", str(tmp_path / "Downloads"))
    assert said.exit_code == 0
    assert Path("data/raw/sustainbench/kenya.lock.json").is_file()
    (tmp_path / "lsms_asset_indices.csv").write_text("lsms_id\n")
    said = run("add", "lsms", "--from", str(tmp_path / "lsms_asset_indices.csv"))
    assert isinstance(said.exception, DownloadError)  # its checksum is published
    assert "wrong size" in str(said.exception)


def test_what_cannot_be_verified_is_said(tmp_path: Path) -> None:
    write_kenya(Path("data/raw/sustainbench/kenya"))
    said = run("verify", "kenya").output
    assert "no checksum to compare with" in said
    assert "sustain data add kenya --from data/raw/sustainbench/kenya" in said
    assert run("add", "kenya", "--from", "data/raw/sustainbench/kenya").exit_code == 0
    assert "no checksum" not in run("verify", "kenya").output
    assert run("verify", "naip").exit_code == 1


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"sdg1-asset-dhs.*yeh2020"):
        manifest_of("nonsense")


def test_places_of_raw_data() -> None:
    assert raw_folder(manifest_of("sdg2-croptype-ghana")) == Path("data/raw/sustainbench/africa_crop_type")
    assert raw_folder(manifest_of("dhs_street"), "raw") == Path("raw/sustainbench/dhs_street")
    assert raw_folder(manifest_of("yeh2020")) == Path("data/raw/yeh2020/yeh2020")
    assert str(holding(manifest_of("dhs"), "none")) == "-"


def test_the_pages_of_the_tasks_say_what_the_registry_says() -> None:
    folder = Path(__file__).parents[2] / "docs"
    pages = runpy.run_path(str(folder / "task_pages.py"))["pages"]()
    assert {path.name: path.read_text() for path in (folder / "tasks").iterdir()} == pages
    assert len(pages) == 16
    assert "$ sustain data add naip --from PATH\n" in pages["sdg15-landcover-repr.md"]
    assert "data fetch naip" not in pages["sdg15-landcover-repr.md"].partition("## Use")[2]
