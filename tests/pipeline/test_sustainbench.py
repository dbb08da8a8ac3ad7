"""The whole path on DHS archives of the published format: one switch in params.yaml, and a mirror."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from sustain.data.sustainbench import dhs
from sustain.data.tiles.packed import TileStore
from sustain.debias import CalibrationCard
from tests.dhs_files import label_table, member_name, npz_bytes, plain_tile, write_archive

from .project import STAGES, Project, ran

pytestmark = pytest.mark.slow

ARCHIVES = {  # as the manifest names them -> countries in each
    "dhs_AL_DR": ("AL", "BF"),
    "dhs_EG_HT": ("ET", "GH"),
    "dhs_IA_IA": ("IA",),
    "dhs_ID_MZ": ("KE", "MW"),
    "dhs_NG_SZ": ("NG", "RW"),
    "dhs_TD_ZW": ("TZ", "ZW"),
}
PER_COUNTRY, SIDE = 10, 12
TINY = {
    "tiles": {"shard_size": 16, "block_km": 20.0},
    "train": {"backbone": "resnet_narrow", "epochs": 3, "batch_size": 16, "workers": 0, "threads": 1}
    | {"precision": "float32", "average": 0.0, "accelerator": "cpu"},
    "calibrate": {"n_boot": 20},
}
TRIAL = {
    "name": "mine",
    "title": "A trial among tiles",
    "question": "Did it help?",
    "table": "mine.csv",
    "vcov": "HC1",
    "assumption": "measurement",
    "why": "It reaches the image through wealth alone.",
}


def write_mirror(mirror):
    """Write the label table and six archives of 110 tiles in eleven countries; wealth shows in colour and lights."""
    rng = np.random.default_rng(5)
    countries = [country for some in ARCHIVES.values() for country in some]
    table = label_table(len(countries) * PER_COUNTRY, seed=5)
    table["cname"] = np.repeat(countries, PER_COUNTRY)
    table["year"] = 2005 + np.arange(len(table)) % 12
    numbers = np.arange(len(table)) % PER_COUNTRY
    table["DHSID_EA"] = [
        f"{country}-{year}-5#-{number:08d}"
        for country, year, number in zip(table["cname"], table["year"], numbers, strict=True)
    ]
    table["lat"] = (
        5.0 * np.repeat(np.arange(len(countries)), PER_COUNTRY) + rng.uniform(0, 1, len(table)) - 25
    )
    table.loc[3, ["asset_index", "n_asset"]] = np.nan
    folder = mirror / "sustainbench" / "dhs"
    for archive, some in ARCHIVES.items():
        members = {}
        for name, wealth in table.loc[table["cname"].isin(some), ["DHSID_EA", "asset_index"]].itertuples(
            index=False
        ):
            x = plain_tile(SIDE) * rng.normal(1, 0.02, (8, SIDE, SIDE))
            x[:5] += 0.05 * np.nan_to_num(float(wealth))
            x[7] = np.exp(0.4 * np.nan_to_num(float(wealth)))
            x[:, :2, :2] = 0  # clouds, as published: zero in every band
            members[member_name(name)] = npz_bytes(x=x.astype(np.float32))
        write_archive(folder / f"{archive}.tar.gz", members)
    table.to_csv(folder / dhs.LABELS_FILE, index=False)
    return table


def without_sizes(project):
    """Forget the sizes of the real archives: these ones have the same names and format, and a few kilobytes."""
    path = project.folder / "data_manifests" / "dhs.yaml"
    manifest = yaml.safe_load(path.read_text())
    for file in manifest["files"]:
        file["size"] = None
    path.write_text(yaml.safe_dump(manifest))


def switch_to(project, source):
    path = project.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["source"] = source
    path.write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sustainbench")
    table = write_mirror(folder / "mirror")
    project = Project(folder / "project")
    without_sizes(project)
    switch_to(project, "sustainbench")
    project.set(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUSTAIN_MIRROR", str(folder / "mirror"))
        done = project.dvc("repro")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        assert sorted(ran(done)) == sorted(STAGES)
        yield project, table


def test_the_switch_alone_runs_every_stage_and_a_second_run_does_nothing(made):
    project, _ = made
    assert ran(project.dvc("repro")) == []


def test_tiles_are_those_with_a_label_and_blocks_are_whole(made):
    project, table = made
    index = TileStore.open(project.folder / "data/tiles/sustainbench").index
    labelled = table[table["n_asset"].astype(float) >= 5]
    assert index["id"].tolist() == sorted(labelled["DHSID_EA"])
    assert index.groupby("block")["split"].nunique().max() == 1
    assert index["country"].nunique() == 11


def test_the_map_is_the_tiles_that_the_model_never_saw(made):
    project, _ = made
    survey = pd.read_parquet(project.folder / "predictions/sustainbench/survey.parquet").set_index("id")
    cells = pd.read_parquet(project.folder / "maps/sustainbench/cells.parquet").set_index("id")
    assert set(cells["split"]) == {"calibration", "test"}
    assert set(cells.index) == set(survey.index[survey["out_of_sample"]])
    np.testing.assert_array_equal(cells["wealth_raw"], survey.loc[cells.index, "y_pred"].astype("f4"))
    card = CalibrationCard.load(project.folder / "calibration/sustainbench/card.json")
    expected = card.transform(cells["wealth_raw"].to_numpy(float), method="linear", check_support=False)
    np.testing.assert_allclose(cells["wealth"], expected, rtol=1e-5, atol=1e-5)
    assert (cells["wealth_se"] > 0).all()


def test_what_is_published_holds_no_label_and_no_place_of_the_survey(made):
    project, table = made
    published = project.folder / "publish/sustainbench"
    assert sorted(path.name for path in published.iterdir()) == [
        *("README.md", "card.json", "cells.csv", "cells.parquet", "model.json"),
    ]
    cells = pd.read_csv(published / "cells.csv")
    assert not set(cells.columns) & {"label", "y_true", "asset_index", "n", "n_asset"}
    labels = set(table["asset_index"].dropna().astype(float).round(6))
    for column in cells.select_dtypes("number"):
        assert not set(cells[column].round(6)) & labels, column
    assert not set(cells.columns) & {"id", "lat", "lon", "geometry"}  # terms of DHS, as its manifest has them
    parquet = pq.read_table(published / "cells.parquet")
    assert parquet.column_names == list(cells.columns)
    places = pd.read_parquet(project.folder / "maps/sustainbench/cells.parquet")
    assert len(cells) == len(places)
    assert cells["block"].nunique() == places["block"].nunique()
    everything = b"".join(path.read_bytes() for path in published.iterdir() if path.suffix != ".parquet")
    for secret in [*places["id"], *places["block"], *places["lat"].astype(str), *places["lon"].astype(str)]:
        assert secret.encode() not in everything
    page = (published / "README.md").read_text()
    assert "no coordinates and no ids of clusters" in page
    assert "DHS Program terms of use" in page


def test_the_contrast_of_town_and_country_stands_under_both_assumptions(made):
    project, _ = made
    trials = json.loads((project.folder / "effects/sustainbench/effects.json").read_text())["trials"]
    assert {trial["name"]: trial["reported"] for trial in trials} == {
        "urban_rural_outcome": "none",
        "urban_rural_measurement": "linear",  # 27 rows calibrate here, too few for a response
    }
    cells = pd.read_parquet(project.folder / "maps/sustainbench/cells.parquet")
    test = cells[cells["split"] == "test"]
    means = test.groupby("urban")["wealth_raw"].mean()
    for trial in trials:
        estimates = {item["method"]: item["estimate"] for item in trial["estimates"]}
        assert estimates["none"] == pytest.approx(means[True] - means[False], rel=1e-5)
        assert trial["n_treated"] + trial["n_control"] == len(test)
        assert trial["truth"] is None


def test_the_page_shows_the_tiles(made):
    project, _ = made
    page = (project.folder / "reports/sustainbench/index.html").read_text()
    assert "tiles with a prediction out of sample; a square shows" in page
    assert (project.folder / "reports/sustainbench/maps.png").stat().st_size > 1000


def test_your_own_trial_among_tiles(made, tmp_path):
    """Only acquire and what hangs on the raw data's trials run again; nothing is fetched twice."""
    finished, _ = made
    project = finished.copy(tmp_path / "copy")
    cells = pd.read_parquet(project.folder / "maps/sustainbench/cells.parquet")
    (tmp_path / "trials").mkdir()
    cells[["id"]].assign(treated=np.arange(len(cells)) % 2).to_csv(tmp_path / "trials/mine.csv", index=False)
    (tmp_path / "trials/trials.json").write_text(json.dumps([TRIAL]))
    project.set({"acquire": {"trials": str(tmp_path / "trials")}})
    for stage in ("acquire", "effects"):
        done = project.stage(stage)
        assert done.returncode == 0, done.stderr
    trials = json.loads((project.folder / "effects/sustainbench/effects.json").read_text())["trials"]
    assert trials[0]["name"] == "mine"
    odd = cells["wealth_raw"].to_numpy(float)
    estimate = next(item for item in trials[0]["estimates"] if item["method"] == "none")
    assert estimate["estimate"] == pytest.approx(odd[1::2].mean() - odd[::2].mean(), rel=1e-5)
    pd.DataFrame({"id": ["AL-2008-5#-99999999"], "treated": [1]}).to_csv(
        tmp_path / "trials/mine.csv", index=False
    )
    project.stage("acquire")
    wrong = project.stage("effects")
    assert wrong.returncode == 1
    assert "1 of 1 tiles are not in the map" in wrong.stderr
