"""The registry says what the benchmark's documents say, and nothing that nobody has seen."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sustain.data.catalogue.manifest import load_manifest
from sustain.data.catalogue.registry import find_task, load_tasks
from sustain.data.sustainbench.dhs import COLUMNS, LABELS
from sustain.errors import DataError, FileFormatError

MANIFESTS = Path(__file__).parents[3] / "data_manifests"
SOURCES = (
    *("dhs", "dhs_street", "lsms", "cropland", "africa_crop_type", "kenya"),
    *("cropyield", "fields", "brickkiln", "naip", "ood"),
)
SPECIFICATION = Path(__file__).parents[4] / "shared" / "reference" / "sustainbench_registry.yaml"
# Clusters with a label, of all countries that have it (the authors' notebooks).
DHS_TOTALS = {
    "asset_index": 86_936,
    "under5_mort": 105_582,
    "women_bmi": 94_866,
    "women_edu": 117_062,
    "water_index": 87_938,
    "sanitation_index": 89_271,
}


def test_there_are_fifteen_tasks_of_seven_goals() -> None:
    tasks = load_tasks()
    assert len(tasks) == 15
    assert len({task.number for task in tasks.values()}) == 15
    assert {task.sdg for task in tasks.values()} == {1, 2, 3, 4, 6, 13, 15}
    assert all(task.name.startswith(f"sdg{task.sdg}-") for task in tasks.values())


def test_the_dhs_tasks_share_one_source_and_have_rows_of_their_own() -> None:
    dhs = [task for task in load_tasks().values() if task.source == "dhs"]
    assert {task.label.column for task in dhs} == set(LABELS)
    for task in dhs:
        assert task.label.column is not None
        label = LABELS[task.label.column]
        assert (task.label.n_column, task.label.unit) == (label.n_column, label.unit)
        assert task.label.n_column in COLUMNS
        assert task.split("official").total == DHS_TOTALS[label.column]
        assert task.image.bands[6] == "NIR"


@pytest.mark.parametrize("scheme", ["official", "region_busia", "region_bungoma", "region_siaya"])
def test_every_scheme_of_kenya_divides_all_fields(scheme: str) -> None:
    task = find_task("sdg2-croptype-kenya")
    assert task.split(scheme).total == task.n == 5746


def test_counts_that_add_up_to_published_totals() -> None:
    crop_yield = find_task("sdg2-cropyield")
    totals = {split.variant: split.total for split in crop_yield.splits}
    assert list(totals.values()) == [9049, 1615, 384]
    assert [split.derived for split in crop_yield.splits] == [False, True, True]
    assert find_task("sdg15-landcover-ood").split("official").total == 692
    assert find_task("sdg2-fielddelineation-fr").split("official").total == 1966


def test_what_was_not_seen_is_null() -> None:
    for name in ("sdg2-cropland-weak", "sdg15-landcover-repr"):
        assert set(find_task(name).split("official").counts.values()) == {None}
    assert find_task("sdg2-croptype-kenya").published == ()


def test_a_variant_leads_to_its_task() -> None:
    task = find_task("sdg2-croptype-ghana")
    assert task.name == "sdg2-croptype-africa"
    assert task.split("official", "sdg2-croptype-ghana").counts == {"train": 2260, "val": 298, "test": 323}
    with pytest.raises(DataError, match=r"official \(sdg2-croptype-ghana\)"):
        task.split("official")
    with pytest.raises(DataError, match="sdg1-asset-dhs"):
        find_task("sdg99-nothing")


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason="no specification beside the repository")
def test_the_registry_agrees_with_the_specification() -> None:
    for name, said in yaml.safe_load(SPECIFICATION.read_text())["tasks"].items():
        task = find_task(name)
        assert (task.sdg, task.source) == (said["sdg"], said["source"])
        assert set(said["metrics"]) <= set(task.metrics)
        ours = {tuple(split.counts.values()) for split in task.splits}
        for split in said["splits"].values() if isinstance(said["splits"], dict) else []:
            if isinstance(split, dict) and isinstance(split.get("train"), int):
                assert tuple(split[part] for part in ("train", "val", "test") if part in split) in ours
        values = {round(figure.value, 3) for figure in task.published}
        for figure in said["baselines"]:
            assert {round(figure["value"], 3), round(figure["value"] / 100, 3)} & values
            if figure.get("comparable") is False:
                assert all(published.comparable is False for published in task.published)


# --- the manifests, against the specification


def specification() -> dict[str, Any]:
    if not SPECIFICATION.is_file():
        pytest.skip("no specification beside the repository")
    content: dict[str, Any] = yaml.safe_load(SPECIFICATION.read_text())
    return content


@pytest.mark.parametrize("source", SOURCES)
def test_a_manifest_holds_all_that_the_specification_knows_and_invents_nothing(source: str) -> None:
    content = specification()
    said, manifest = content["sources"][source], load_manifest(source)
    everything = (MANIFESTS / f"{source}.yaml").read_text()
    assert manifest.drive_folder == said["folder"]
    assert manifest.licence == content["defaults"]["licence"]["data"]
    assert manifest.citation
    assert "SustainBench" in manifest.citation
    assert manifest.upstream_terms
    assert said.get("alt_folder", "") in everything
    known = said.get("files") or []
    for file in known:
        ours = next(item for item in manifest.files if file["name"] in (None, item.path))
        assert ours.drive_id == file["id"], ours.path
        if ours.url is None:  # the specification's null is ours; a public copy may be known better
            assert (ours.size, ours.sha256) == (file["size"], file.get("sha256")), ours.path
        assert file.get("md5", "") in everything
    if "per_country" not in said:
        assert len(manifest.files) == len(known)
    for mirror in said.get("mirrors", []):
        for key in ("doi", "repo", "name", "worksheet"):
            assert mirror.get(key, "") in everything, mirror
        if mirror["kind"] == "https":
            (ours,) = (file for file in manifest.files if file.url == mirror["url"])
            assert ours.sha256 == mirror["sha256"]


def test_the_sources_are_those_of_the_specification() -> None:
    assert set(specification()["sources"]) == set(SOURCES)


def test_the_ids_of_the_street_level_files_are_those_of_the_specification() -> None:
    per_country = specification()["sources"]["dhs_street"]["per_country"]
    text = SPECIFICATION.with_name("sustainbench.md").read_text()
    rows = re.findall(r"^\| ([A-Z]{2}) \| `([\w-]+)` \| `([\w-]+)` \|$", text, flags=re.MULTILINE)
    expected = {f"mapillary/metadata/{code}.csv": table for code, table, _ in rows}
    expected |= {f"mapillary/imagery/{code}.zip": pictures for code, _, pictures in rows}
    assert len(rows) == per_country["n"] == 48
    assert not {code for code, *_ in rows} & set(per_country["missing"])
    assert {file.path: file.drive_id for file in load_manifest("dhs_street").files} == expected


def test_what_the_survey_archives_weigh_together() -> None:
    archives = [file for file in load_manifest("dhs").files if file.path.endswith(".tar.gz")]
    assert sum(file.size or 0 for file in archives) == 100_421_539_458


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sdg": "poverty"}, "sdg"),
        ({"colour": "green"}, "colour"),
        ({"name": "sdg1-a", "n": 5}, "samples instead of 5"),
        (
            {
                "published": [
                    {"metric": "r2", "value": 1, "model": "m", "comparable": None, "variant": "sdg1-x"}
                ]
            },
            "variants",
        ),
    ],
)
def test_a_wrong_registry_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    content = yaml.safe_load((Path(__file__).parents[3] / "data_manifests" / "tasks.yaml").read_text())
    content["tasks"] = [content["tasks"][0] | change]
    path = tmp_path / "tasks.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(FileFormatError, match=message):
        load_tasks(path)
    path.write_text("tasks: [")
    with pytest.raises(FileFormatError, match="not valid YAML"):
        load_tasks(path.rename(tmp_path / "other.yaml"))
