"""Each task's baselines from a fixture to a metric; and on fixtures that can be learned, better than a constant."""

from __future__ import annotations

import numpy as np
import pytest

from sustain.baselines.bench import COLUMNS, LEAK_FREE, bench
from sustain.baselines.landsat import LandsatCNN
from sustain.baselines.tasks import BASELINES, baselines_of, find_baseline
from sustain.data.catalogue.registry import load_tasks
from sustain.data.sustainbench.tasks import INGESTS, READERS, ingest, metrics_of, open_task
from tests.sustainbench_files import WRITERS

# One task of each source and baseline; the others differ in their label or country.
EACH = {READERS[name].source: name for name in READERS}
RUNS = [(task, name) for task in EACH.values() for name in BASELINES[task] if name != "resnet18"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All sources, written in their published formats and ingested. Do not change it."""
    folder = tmp_path_factory.mktemp("sustainbench")
    for source, write in WRITERS.items():
        write(folder / "raw" / source)
        ingest(source, folder / "raw" / source, folder / "ingested")
    return folder / "ingested"


def run(task, name, root, **options):
    """Predictions of a test part, and the dataset."""
    entry = find_baseline(task, name)
    train = open_task(task, root, split="train", **entry.options, **entry.train_options)
    val, test = (open_task(task, root, split=part, **entry.options) for part in ("val", "test"))
    return entry.baseline.fit_predict(train, test, val, **options), test


def test_every_task_has_a_real_baseline_beside_the_constant():
    assert set(BASELINES) == set(READERS)
    for task in load_tasks().values():
        for name in [n for n in (task.name, *task.variants) if n in READERS]:
            assert list(baselines_of(name))[-1] == "constant"
            assert len(baselines_of(name)) >= 2
    assert set(LEAK_FREE) == set(INGESTS)


@pytest.mark.parametrize(("task", "name"), RUNS)
def test_a_baseline_goes_from_a_fixture_to_the_tasks_metrics(root, task, name):
    split = "official" if READERS[task].source != "lsms" else "country_ng"
    table = bench(task, name, root, split=split, epochs=1, n_draws=5)
    assert tuple(table.columns) == COLUMNS
    assert set(table["metric"]) == set(metrics_of(task))
    assert (table["scheme"] == split).all()
    finite = table[~table["metric"].str.contains("r2")]  # a fixture's test labels may not vary
    assert np.isfinite(finite["estimate"]).all()


@pytest.mark.parametrize("task", [name for name in READERS if READERS[name].source == "dhs"])
def test_night_lights_work_for_each_of_the_six_labels(root, task):
    predicted, test = run(task, "knn_lights", root)
    assert predicted.values.shape == (len(test),)
    assert np.isfinite(predicted.values).all()


def test_a_resnet_learns_from_packed_tiles_through_the_pipelines_own_training(root):
    predicted, test = run("sdg3-under5mort-dhs", "resnet18", root, epochs=1)
    assert np.isfinite(predicted.values).all()
    assert len(predicted.values) == len(test)


def test_the_pipelines_own_training_twice_gives_the_same(root):
    params = find_baseline("sdg3-under5mort-dhs", "resnet18").baseline.params
    small = LandsatCNN(params.model_copy(update={"backbone": "resnet_narrow"}))
    parts = [open_task("sdg3-under5mort-dhs", root, split=part) for part in ("train", "test", "val")]
    first, again, other = (small.fit_predict(*parts, seed=seed, epochs=1).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
