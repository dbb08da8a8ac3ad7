"""Your own tiles and table through every stage: made-up ones, and 166 real ones of Angola where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from pyproj import Transformer

from sustain.data.tiles.packed import TileStore
from sustain.debias import CalibrationCard

from .project import ROOT, STAGES, Project, ran

pytestmark = pytest.mark.slow

ANGOLA = ROOT.parent / "shared" / "data" / "angola_landsat"
TINY = {
    "train": {"backbone": "resnet_narrow", "epochs": 3, "batch_size": 16, "views": 1, "threads": 1}
    | {"average": 0.0, "precision": "float32", "accelerator": "cpu"},
    "calibrate": {"n_boot": 20},
}
N, SIDE = 120, 12


def write_survey(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Write tiles whose brightness tells wealth, a table with column names of its own, and a trial."""
    rng = np.random.default_rng(7)
    (folder / "tiles").mkdir(parents=True)
    table = pd.DataFrame(
        {
            "picture": [f"village_{k:03d}.tif" for k in range(N)],
            "latitude": rng.uniform(-16, -6, N).round(4),
            "longitude": rng.uniform(12, 22, N).round(4),
            "wealth": rng.normal(0, 1, N).round(3),
            "town": np.arange(N) % 3 == 0,  # neither year nor country
        }
    )
    to_mercator = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    for k, name in enumerate(table["picture"]):
        tile = rng.normal(3000 + 900 * table["wealth"][k], 200, (3, SIDE, SIDE)).clip(1, 60000).astype("u2")
        tile[:, :2, :2] = 0  # clouds
        x, y = to_mercator.transform(table["longitude"][k], table["latitude"][k])
        with rasterio.open(
            folder / "tiles" / name, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint16", nodata=0,
            crs="EPSG:3857", transform=rasterio.transform.from_origin(x - 15 * SIDE, y + 15 * SIDE, 30, 30),
        ) as target:  # fmt: skip
            target.write(tile)
            target.descriptions, target.scales, target.offsets = (
                ("RED", "NIR", "SWIR1"),
                (1e-4,) * 3,
                (0.0,) * 3,
            )
    table.to_csv(folder / "sites.csv", index=False)
    (folder / "trials").mkdir()
    table[["picture"]].rename(columns={"picture": "id"}).assign(treated=np.arange(N) % 2).to_csv(
        folder / "trials" / "mine.csv", index=False
    )
    trial = {
        "name": "mine",
        "title": "My trial",
        "question": "Did it help?",
        "table": "mine.csv",
        "vcov": "HC1",
    }
    trial |= {"assumption": "measurement", "why": "It reaches the image through wealth alone."}
    return table, trial


def switch(project: Project) -> None:
    path = project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["source"] = "local"
    path.write_text(yaml.safe_dump(params))


def run(project: Project, changes: dict[str, dict]) -> None:
    """Switch to ``source: local`` with a few changes of its profile, and run every stage."""
    switch(project)
    project.set(TINY)
    project.set(changes)
    done = project.dvc("repro")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert sorted(ran(done)) == sorted(STAGES)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    table, trial = write_survey(folder / "survey")
    (folder / "survey" / "trials" / "trials.json").write_text(json.dumps([trial]))
    project = Project(folder / "project")
    survey = folder / "survey"
    places = {
        "tiles": str(survey / "tiles"),
        "table": str(survey / "sites.csv"),
        "trials": str(survey / "trials"),
    }
    columns = {"id": "picture", "lat": "latitude", "lon": "longitude", "urban": "town"}
    # The table has no years, so the period of the imagery is said.
    about = {"start": "2019-01-01", "end": "2020-12-31"}
    changes = {"acquire": places, "tiles": {"columns": columns}, "train": {"crossfit": 2}, "publish": about}
    run(project, changes)
    return project, table


def test_every_tile_and_label_arrives_and_blocks_are_whole(mine):
    project, table = mine
    store = TileStore.open(project.folder / "data/tiles/local")
    assert store.index["id"].tolist() == table["picture"].tolist()
    np.testing.assert_allclose(store.index["label"], table["wealth"])
    np.testing.assert_array_equal(store.index["urban"], table["town"])
    assert store.index.groupby("block")["split"].nunique().max() == 1
    assert (store.read(np.array([0]))[0, :, :2, :2] == 0).all()


def test_the_map_is_the_tiles_out_of_sample_corrected_with_the_card(mine):
    project, _ = mine
    survey = pd.read_parquet(project.folder / "predictions/local/survey.parquet").set_index("id")
    cells = pd.read_parquet(project.folder / "maps/local/cells.parquet").set_index("id")
    assert len(cells) == N  # by crossfit, every tile has a prediction of a model that never saw its block
    assert set(cells.index) == set(survey.index[survey["out_of_sample"]])
    card = CalibrationCard.load(project.folder / "calibration/local/card.json")
    expected = card.transform(cells["wealth_raw"].to_numpy(float), method="linear", check_support=False)
    np.testing.assert_allclose(cells["wealth"], expected, rtol=1e-5, atol=1e-5)


def test_your_trial_is_among_the_effects(mine):
    project, table = mine
    trials = json.loads((project.folder / "effects/local/effects.json").read_text())["trials"]
    assert trials[0]["name"] == "mine"
    cells = pd.read_parquet(project.folder / "maps/local/cells.parquet")
    treated = cells["id"].isin(table["picture"][1::2])
    means = cells.groupby(treated)["wealth_raw"].mean()
    naive = next(item for item in trials[0]["estimates"] if item["method"] == "none")
    assert naive["estimate"] == pytest.approx(means[True] - means[False], rel=1e-5)


def test_your_places_are_published_only_if_you_say_so(mine):
    project, table = mine
    cells = project.folder / "publish/local/cells.csv"
    assert not set(pd.read_csv(cells)) & {"id", "lat", "lon"}
    assert "village_" not in (project.folder / "publish/local/README.md").read_text() + cells.read_text()
    assert (
        f"{N} survey tiles, no wall-to-wall map" in (project.folder / "publish/local/README.md").read_text()
    )
    assert "2019-01-01 to 2020-12-31" in (project.folder / "publish/local/README.md").read_text()
    card = CalibrationCard.load(project.folder / "publish/local/card.json")
    assert (card.sample.years, card.sample.countries) == ([], [])  # the table names neither
    project.set({"publish": {"coordinates": True}})
    done = project.stage("publish")
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(cells)["id"]) <= set(table["picture"])


@pytest.mark.skipif(not ANGOLA.is_dir(), reason="no Angola tiles in ../shared/data")
def test_the_real_tiles_of_angola_go_the_same_way_as_far_as_their_errors_let_them(tmp_path):
    project = Project(tmp_path)
    switch(project)
    project.set(TINY)
    places = {"tiles": str(ANGOLA / "tiles"), "table": str(ANGOLA / "labels.csv"), "trials": None}
    project.set({"acquire": places, "train": {"stack": True}})
    for stage in ("acquire", "tiles", "train", "predict"):
        done = project.stage(stage)
        assert done.returncode == 0, done.stderr
    index = TileStore.open(tmp_path / "data/tiles/local").index
    table = pd.read_csv(ANGOLA / "labels.csv").sort_values("tile", ignore_index=True)
    assert index["id"].tolist() == table["tile"].tolist()
    np.testing.assert_array_equal(index["block"], table["block"])  # the table's own 1-degree blocks
    np.testing.assert_allclose(index["label"], table["wealth"])
    survey = pd.read_parquet(tmp_path / "predictions/local/survey.parquet")
    assert len(survey) == 166
    assert np.isfinite(survey["y_pred"]).all()
    assert survey["out_of_sample"].sum() == survey["split"].isin(["calibration", "test"]).sum()
    # Forty tiles to calibrate with: where their slope is not surely above zero there is no card, and it is said why.
    card = project.stage("calibrate")
    assert card.returncode == 0 or "cannot carry a correction" in card.stderr
    assert (card.returncode == 0) is (tmp_path / "calibration/local/card.json").exists()
