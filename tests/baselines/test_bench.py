"""Tables of figures: which split, which interval, and whether a published figure may stand beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from sustain.baselines import bench as benches
from sustain.baselines.bench import POOLED, bench
from sustain.cli import app
from sustain.data.catalogue.registry import find_task
from sustain.data.sustainbench.tasks import ingest, open_task, score
from sustain.errors import DataError
from tests.sustainbench_files import WRITERS, cropland_patch

KENYA, WATER = "sdg2-croptype-kenya", "sdg6-water-dhs"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A few sources, ingested. Do not change it."""
    folder = tmp_path_factory.mktemp("sustainbench")
    for source in ("kenya", "dhs", "cropland", "africa_crop_type"):
        WRITERS[source](folder / "raw" / source)
        ingest(source, folder / "raw" / source, folder / "ingested")
    return folder / "ingested"


def test_held_out_regions_are_judged_one_by_one_and_together(root):
    table = bench(KENYA, "constant", root, split="leak-free", n_draws=20)
    schemes = ["region_bungoma", "region_busia", "region_siaya"]
    assert set(table["scheme"]) == {*schemes, POOLED}
    accuracy = table[table["metric"] == "accuracy"].set_index("scheme")
    parts = [open_task(KENYA, root, split="test", scheme=scheme) for scheme in schemes]
    assert accuracy.loc[POOLED, "n"] == sum(map(len, parts))
    assert accuracy.loc[POOLED, "n_groups"] == 3
    hits = sum(accuracy.loc[scheme, "estimate"] * accuracy.loc[scheme, "n"] for scheme in schemes)
    assert accuracy.loc[POOLED, "estimate"] == pytest.approx(hits / accuracy.loc[POOLED, "n"])


def test_figures_are_those_of_the_tasks_own_score(root):
    table = bench(KENYA, "constant", root, n_draws=30, seed=4)
    test = open_task(KENYA, root, split="test")
    values, counts = np.unique(open_task(KENYA, root).labels, return_counts=True)
    expected = score(KENYA, test, np.full(len(test), values[counts.argmax()]), n_draws=30, seed=4)
    np.testing.assert_allclose(table[["estimate", "low", "high"]], [r[1:4] for r in expected])


def test_a_published_figure_is_comparable_only_on_its_own_split_and_all_of_its_samples(root, monkeypatch):
    def published():
        table = bench(WATER, "knn_lights", root, n_draws=5)
        return table[table["metric"] == "pearson_r2"].iloc[0]

    row = published()
    assert (row["published"], row["rerun"], row["comparable"]) == (0.40, 0.35, "no")
    assert "3 of 10545 test samples" in row["note"]
    task = find_task(WATER)
    whole = task.splits[0].model_copy(update={"counts": {"train": None, "val": None, "test": 3}})
    monkeypatch.setattr(benches, "find_task", lambda _: task.model_copy(update={"splits": (whole,)}))
    assert published()["comparable"] == "yes"
    other = bench(WATER, "knn_lights", root, split="fold_b", n_draws=5).iloc[0]
    assert (other["comparable"], other["scheme"]) == ("no", "fold_b")
    assert "another split" in other["note"]


def test_a_weak_label_is_compared_with_its_own_kind(root):
    table = bench("sdg2-cropland-weak", "unet_pixel", root, epochs=1, n_draws=2)
    assert table["published"].tolist() == [0.88]
    assert table["comparable"].tolist() == ["not known"]


def test_what_does_not_exist_is_named(root):
    with pytest.raises(DataError, match="no baseline 'gpt'; it has forest, temporal_cnn, constant"):
        bench(KENYA, "gpt", root)
    with pytest.raises(DataError, match=r"no task 'sdg9' to predict\. There are sdg1-asset-dhs"):
        bench("sdg9", "forest", root)
    with pytest.raises(DataError, match="Did you mean sdg2-croptype-ghana or sdg2-croptype-southsudan"):
        bench("sdg2-croptype-africa", "forest", root)
    with pytest.raises(DataError, match="no split 'random'; it has official"):  # leak-free would be refused
        bench("sdg2-croptype-ghana", "forest", root, split="random")
    with pytest.raises(DataError, match="no split 'random'; it has leak-free, official"):
        bench(KENYA, "forest", root, split="random")
    with pytest.raises(DataError, match="has no leak-free split"):
        bench("sdg2-croptype-ghana", "constant", root, split="leak-free")
    with pytest.raises(FileNotFoundError, match="Ingest the published files first"):
        bench(KENYA, "forest", root / "nowhere")


def test_the_default_split_is_one_that_is_there(tmp_path):
    for number in range(5):  # no folders train, val and test: no official split
        patch, mask = cropland_patch(number, crop_rows=10 + 5 * number)
        np.save(tmp_path / f"patch{number}.npy", patch)
        np.save(tmp_path / f"mask_patch{number}.npy", mask)
    ingest("cropland", tmp_path, tmp_path / "root")
    arguments = ["bench", "sdg2-cropland-weak", "--baseline", "constant", "--root", str(tmp_path / "root")]
    ran = CliRunner().invoke(app, [*arguments, "--draws", "5"])
    assert ran.exit_code == 0, ran.exception
    assert "proposed" in ran.output
    with pytest.raises(DataError, match=r"no split 'official'; it has proposed\."):
        bench("sdg2-cropland-weak", "constant", tmp_path / "root", split="official")


def test_the_command_lists_baselines_and_writes_the_table(root, tmp_path):
    listed = CliRunner().invoke(app, ["bench", KENYA])
    assert "forest, temporal_cnn, constant" in listed.output
    out = tmp_path / "table.csv"
    ran = CliRunner().invoke(
        app,
        ["bench", KENYA, "--baseline", "constant", "--root", str(root), "--out", str(out), "--draws", "5"],
    )
    assert ran.exit_code == 0, ran.output
    assert "Fields at random" in ran.output
    table = pd.read_csv(out)
    assert table["metric"].tolist() == ["macro_f1", "accuracy"]
    assert list(table.columns) == list(benches.COLUMNS)
