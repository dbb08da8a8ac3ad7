"""Bad input at every stage: one message that names the file, a non-zero exit, and the earlier result left alone."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import rasterio

from .project import Project

pytestmark = pytest.mark.slow

LABELS = "data/raw/synthetic/dhs_final_labels.csv"
SURVEY = "predictions/synthetic/survey.parquet"
SCENE = "data/raw/synthetic/scene_baseline.tif"
ARCHIVE = "data/raw/synthetic/dhs_XA.tar.gz"


def change_labels(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    labels = change(pd.read_csv(path))
    path.unlink()
    labels.to_csv(path, index=False)


def change_survey(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    survey = change(pd.read_parquet(path))
    path.unlink()
    survey.to_parquet(path)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def in_degrees(path: Path) -> None:
    with rasterio.open(path) as scene:
        profile, pixels = scene.profile, scene.read()
        names, scales, offsets = scene.descriptions, scene.scales, scene.offsets
    path.unlink()
    profile.update(crs="EPSG:4326", transform=rasterio.transform.from_bounds(0, 0, 1, 1, 1024, 1024))
    with rasterio.open(path, "w", **profile) as scene:
        scene.write(pixels)
        scene.descriptions, scene.scales, scene.offsets = names, scales, offsets


def not_an_archive(path: Path) -> None:
    path.unlink()
    path.write_bytes(gzip.compress(b"Quota exceeded"))


def edit_card(path: Path) -> None:
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace('"slope": 0.', '"slope": 1.', 1))


CASES = {
    "a label table without a column": (
        "tiles",
        LABELS,
        lambda p: change_labels(p, lambda t: t.drop(columns="lat")),
        r"dhs_final_labels\.csv.*lat",
    ),
    "latitude and longitude exchanged": (
        "tiles",
        LABELS,
        lambda p: change_labels(p, lambda t: t.assign(lat=t["lon"] + 110, lon=t["lat"])),
        r"dhs_final_labels\.csv.*swapped|exchanged",
    ),
    "no label at all": (
        "tiles",
        LABELS,
        lambda p: change_labels(p, lambda t: t.assign(asset_index=float("nan"))),
        r"asset_index",
    ),
    "a truncated archive": ("tiles", ARCHIVE, truncate, r"dhs_XA\.tar\.gz"),
    "an archive of something else": ("tiles", ARCHIVE, not_an_archive, r"dhs_XA\.tar\.gz"),
    "damaged tiles": ("train", "data/tiles/synthetic/shard-0000.npy", truncate, r"shard-0000\.npy"),
    "altered weights": ("predict", "models/synthetic/weights.safetensors", truncate, r"weights\.safetensors"),
    "a NaN label": (
        "calibrate",
        SURVEY,
        lambda p: change_survey(p, lambda t: t.assign(y_true=t["y_true"].where(t.index % 9 > 0))),
        r"y_true.*NaN|NaN.*y_true",
    ),
    "no calibration sites": (
        "calibrate",
        SURVEY,
        lambda p: change_survey(p, lambda t: t[t["split"] != "calibration"]),
        r"20",
    ),
    "a scene in degrees": ("map", SCENE, in_degrees, r"scene_baseline\.tif.*EPSG:4326"),
    "a truncated scene": ("map", SCENE, truncate, r"scene_baseline\.tif"),
    "an edited card": ("correct", "calibration/synthetic/card.json", edit_card, r"card\.json.*changed"),
    "trials without a column": (
        "effects",
        "data/raw/synthetic/trials/villages.csv",
        lambda p: change_labels(p, lambda t: t.drop(columns="treated")),
        r"treated",
    ),
}


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project; its files are links, so replace them instead of writing into them."""
    return finished.links(tmp_path / "copy")


@pytest.mark.parametrize("case", CASES)
def test_one_message_and_nothing_half_written(project, case):
    stage, name, spoil, message = CASES[case]
    spoil(project.folder / name)
    before = project.digests()
    done = project.stage(stage)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert pd.Series([last]).str.contains(message).all(), last
    assert project.digests() == before


def test_blocks_too_large_for_four_parts_are_said(project):
    params = project.folder / "params.yaml"
    text = params.read_text()
    params.unlink()
    params.write_text(text.replace("block_km: 3.0", "block_km: 300.0"))
    done = project.stage("tiles")
    assert done.returncode == 1
    assert "block_km" in done.stderr
