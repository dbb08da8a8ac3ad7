"""Real bytes, where they are at hand: from the reader over the split to a baseline and the task's metric.

Made-up files of the published formats stand for the rest (``test_baselines``). What was verified on which is in
``data_manifests/tasks.yaml``, ``verified_on``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sustain.baselines.bench import POOLED, bench
from sustain.baselines.series import field_series
from sustain.baselines.tabular import OnSamples, forest_classifier
from sustain.baselines.tasks import BASELINES, Entry, find_baseline
from sustain.config import LocalParams, TilesParams
from sustain.data.sustainbench import lsms
from sustain.data.sustainbench.metrics import evaluate, outcome_of
from sustain.data.sustainbench.tasks import ingest, open_task, score
from sustain.data.tiles.local import copy_local, pack_local_tiles
from sustain.data.tiles.packed import TileStore
from sustain.data.tiles.splits import assign_splits
from sustain.models.features.tiles import tile_features
from sustain.models.simple import forest
from sustain.models.statistics import band_statistics
from tests.dhs_files import npz_bytes, plain_tile, write_archive
from tests.sustainbench_files import SHARED

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::sustain.errors.DataWarning")]

KENYA = SHARED / "mirror" / "sustainbench" / "crop_type_kenya"
LSMS = SHARED / "mirror" / "sustainbench" / "lsms" / "lsms_asset_indices.csv"
LSMS_PREDICTIONS = SHARED / "data" / "yeh_lsms_ooc.parquet"
CROPLAND = SHARED / "data" / "cropland_sample"
ANGOLA = SHARED / "data" / "angola_landsat"


def needs(path):
    return pytest.mark.skipif(not path.exists(), reason=f"no {path.name} in ../shared")


@needs(KENYA)
def test_crop_types_of_kenya_with_a_region_held_out(tmp_path, monkeypatch):
    ingest("kenya", KENYA, tmp_path)
    small = OnSamples(field_series, lambda seed: forest_classifier(seed).set_params(n_estimators=40), 1500)
    own = BASELINES["sdg2-croptype-kenya"]
    monkeypatch.setitem(BASELINES, "sdg2-croptype-kenya", {**own, "forest": Entry(small)})
    figures = {}
    for name in ("constant", "forest"):
        table = bench("sdg2-croptype-kenya", name, tmp_path, split="region_siaya", n_draws=20)
        assert set(table["n"]) == {1637}  # 1,638 fields of Siaya, one of them without a crop type
        figures[name] = table.set_index("metric")["estimate"]
    assert figures["constant"]["accuracy"] == pytest.approx(0.481, abs=5e-4)  # the share of maize in Siaya
    assert figures["forest"]["macro_f1"] > figures["constant"]["macro_f1"] + 0.05
    assert figures["forest"]["accuracy"] > figures["constant"]["accuracy"]


@needs(LSMS)
def test_pairs_of_the_real_survey_clusters_over_countries_held_out(tmp_path):
    """Labels and places are the published ones; their tiles are not at hand, and lights that tell wealth stand in."""
    labels = lsms.read_labels(LSMS)
    raw = tmp_path / "raw"
    rng = np.random.default_rng(0)
    members = {}
    for name, wealth in labels[["id", "asset_index"]].itertuples(index=False):
        x = plain_tile(4)
        x[7] = np.exp(0.5 * wealth + rng.normal(0, 0.1))
        members[f"lsms/{name[:2]}/{name}.npz"] = npz_bytes(x=x)
    write_archive(raw / "lsms.tar.gz", members)
    (raw / lsms.LABELS_FILE).write_bytes(LSMS.read_bytes())
    ingest("lsms", raw, tmp_path)
    table = bench("sdg1-poverty-change-lsms", "knn_lights", tmp_path, split="leak-free", n_draws=20)
    held_out = table[table["metric"] == "pearson_r2"].drop_duplicates("scheme").set_index("scheme")
    assert held_out.loc[POOLED, "n"] == 1665
    assert held_out.loc[POOLED, "n_groups"] == 5
    pairs = {"et": 235, "mw": 101, "ng": 462, "tz": 300, "ug": 3 * 189}
    assert {name.removeprefix("country_"): n for name, n in held_out["n"].items() if name != POOLED} == pairs
    assert held_out.loc[POOLED, "estimate"] > 0.3


@needs(LSMS_PREDICTIONS)
@pytest.mark.parametrize(("model", "expected"), [("p_msnl_concat", 0.644), ("p_ms", 0.617), ("p_nl", 0.590)])
def test_the_metric_gives_the_published_figures_on_the_published_predictions(model, expected):
    table = pd.read_parquet(LSMS_PREDICTIONS)
    outcome = outcome_of(table["y_true"].to_numpy(), table[model].to_numpy(), table["country"].to_numpy())
    (found,) = evaluate(["pearson_r2"], outcome, n_draws=5)
    assert found.estimate == pytest.approx(expected, abs=1e-3)


@needs(CROPLAND)
@pytest.mark.parametrize("baseline", ["unet_pixel", "unet_image", "unet_dense"])
def test_four_real_patches_of_cropland_from_weak_labels_to_f1(tmp_path, baseline):
    """Too few to learn from: that three labels and the metric fit together is all that they can show."""
    ingest("cropland", CROPLAND, tmp_path)
    task, entry = "sdg2-cropland-weak", find_baseline("sdg2-cropland-weak", baseline)
    options = {"scheme": "proposed", **entry.options}
    train = open_task(task, tmp_path, split="train", **options, **entry.train_options)
    held = open_task(task, tmp_path, split="val", **options)
    assert (len(train), len(held)) == (3, 1)
    predicted = entry.baseline.fit_predict(train, held, None, epochs=1)
    (found,) = score(task, held, predicted.values, scores=predicted.scores, n_draws=5)
    assert found.metric == "f1"
    assert 0 <= found.estimate <= 1
    (truth,) = score(task, held, [held[0]["mask"].numpy()], n_draws=5)
    assert truth.estimate == 1


@needs(ANGOLA)
def test_wealth_of_angola_over_folds_of_whole_blocks(tmp_path):
    tables = LocalParams(tiles=str(ANGOLA / "tiles"), table=str(ANGOLA / "labels.csv"))
    copy_local(tables, tmp_path / "raw")
    params = TilesParams(label="wealth", label_unit="index points", columns={"id": "tile"})
    pack_local_tiles(tmp_path / "raw", tmp_path / "tiles", params, 0)
    store = TileStore.open(tmp_path / "tiles")
    truth, blocks = store.index["label"].to_numpy(), store.index["block"].to_numpy()
    assert len(store) == 166
    fold = assign_splits(blocks, {str(k): 0.2 for k in range(5)}, 0)
    predicted = np.full(len(store), np.nan)
    for k in map(str, range(5)):
        learn, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        assert not set(blocks[learn]) & set(blocks[held])
        features = tile_features(store, band_statistics(store, learn)).statistics
        predicted[held] = forest().fit(features[learn], truth[learn]).predict(features[held])
    found = {r.metric: r for r in evaluate(["r2", "pearson_r2"], outcome_of(truth, predicted, blocks))}
    assert found["r2"].estimate > 0.4
    assert found["r2"].low < found["r2"].estimate < found["r2"].high
