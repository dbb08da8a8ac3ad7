"""Manifests say what the files are; what is wrong with one is named."""

from pathlib import Path

import pytest
import yaml

from sustain.data.catalogue.manifest import Manifest, load_manifest, verify
from sustain.errors import DataError, FileFormatError, SustainError
from sustain.files import sha256_of

MIRROR = Path(__file__).parents[4] / "shared" / "mirror"
HOUSE = ("aid_projects", "yeh2020")

MINIMAL = {
    "name": "tiny",
    "title": "Two files",
    "licence": None,
    "files": [{"path": "a/b.csv", "url": "https://example.org/b.csv", "size": 3, "sha256": None}],
}


def written(folder: Path, **changes: object) -> Path:
    content = {**MINIMAL, **changes}
    path = folder / f"{MINIMAL['name']}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", HOUSE)
def test_house_manifests_are_complete(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.citation
    assert manifest.version
    assert len(manifest.version) == 40  # a commit
    for file in manifest.files:
        assert file.size is not None
        assert file.sha256 is not None
        assert file.url is not None
        assert f"/{manifest.version}/" in file.url  # pinned: the bytes behind the address cannot change
        assert file.url.endswith(file.path)


@pytest.mark.parametrize("name", HOUSE)
@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no published files in {MIRROR.name}/ beside the repository")
def test_house_manifests_describe_the_published_files(name: str) -> None:
    manifest = load_manifest(name)
    assert verify(manifest, MIRROR / manifest.mirror_folder) == {}


def test_a_checkout_s_manifests_are_found_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = load_manifest("yeh2020")
    monkeypatch.chdir(tmp_path)
    assert load_manifest("yeh2020") == here


def test_unknown_stays_unknown() -> None:
    assert load_manifest("aid_projects").licence is None


def test_size_of_a_source_is_the_sum_or_unknown(tmp_path: Path) -> None:
    assert load_manifest("yeh2020").size == 6_848_928
    unknown = [{"path": "a", "url": None, "size": None}, {"path": "b", "url": None, "size": 4}]
    assert load_manifest(written(tmp_path, files=unknown)).size is None


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up.csv", "a/../../b.csv", "a\\b.csv", "", "a//b.csv", "./a.csv", "a/"]
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(FileFormatError, match="relative path"):
        load_manifest(written(tmp_path, files=[{"path": path, "url": None}]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": []}, "files"),
        ({"title": ""}, "title"),
        ({"licence_": "MIT"}, "licence_"),
        ({"files": [{"path": "a", "url": "ftp://example.org/a"}]}, "http"),
        ({"files": [{"path": "a", "url": None, "sha256": "ABC"}]}, "sha256"),
        ({"files": [{"path": "a", "url": None, "size": -1}]}, "size"),
        ({"files": [{"path": "a", "url": None}, {"path": "A", "url": None}]}, "more than once"),
        ({"name": "other"}, "make them agree"),
        ({"name": "Not A Name"}, "name"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        load_manifest(written(tmp_path, **changes))


@pytest.mark.parametrize("text", ["a: [", "", "- a\n- b\n", "\x00"])
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"tiny\.yaml"):
        load_manifest(path)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="yeh2020"):
        load_manifest("yeh2021")
    with pytest.raises(DataError, match="no such manifest file"):
        load_manifest(tmp_path / "none.yaml")


def test_file_looks_up_a_path() -> None:
    manifest = load_manifest("aid_projects")
    assert manifest.file("interventions.csv").size == 2_121_827
    with pytest.raises(DataError, match=r"interventions\.csv"):
        manifest.file("projects.csv")


def test_verify_names_what_differs(tmp_path: Path) -> None:
    content = {"one": b"111", "two": b"222", "three": b"333", "four": b"444"}
    files = []
    for path, data in content.items():
        (tmp_path / path).write_bytes(data)
        files.append({"path": path, "url": None, "size": 3, "sha256": sha256_of(tmp_path / path)})
    manifest = Manifest.model_validate({**MINIMAL, "files": files})
    assert verify(manifest, tmp_path) == {}
    (tmp_path / "one").unlink()
    (tmp_path / "two").write_bytes(b"22")
    (tmp_path / "three").write_bytes(b"433")
    found = verify(manifest, tmp_path)
    assert set(found) == {"one", "two", "three"}
    assert "missing" in found["one"]
    assert "2 bytes instead of 3" in found["two"]
    assert "sha256" in found["three"]


def test_errors_are_of_the_house(tmp_path: Path) -> None:
    with pytest.raises(SustainError):
        load_manifest("none")
