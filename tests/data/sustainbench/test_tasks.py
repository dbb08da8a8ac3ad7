"""Each task from a fixture archive to its metrics, and its splits against the benchmark's specification."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from sustain.data.catalogue.manifest import load_manifest
from sustain.data.catalogue.registry import load_tasks
from sustain.data.sustainbench.tasks import (
    INGESTS,
    READERS,
    ingest,
    metrics_of,
    open_task,
    schemes_of,
    score,
)
from sustain.errors import DataError, DataWarning
from tests.sustainbench_files import WRITERS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All sources, written in their published formats and ingested. Do not change it."""
    folder = tmp_path_factory.mktemp("sustainbench")
    for source, write in WRITERS.items():
        write(folder / "raw" / source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # what is left out is another test's matter
            ingest(source, folder / "raw" / source, folder / "ingested")
    return folder / "ingested"


def test_every_source_has_a_fixture():
    assert set(WRITERS) == set(INGESTS) >= {reader.source for reader in READERS.values()}


def test_every_task_of_the_registry_can_be_read_and_from_its_own_source():
    tasks = load_tasks()
    assert len(tasks) == 15
    for task in tasks.values():
        names = [name for name in (task.name, *task.variants) if name in READERS]
        assert names, task.name
        assert {READERS[name].source for name in names} == {task.source}
        assert set(task.variants) <= set(READERS)
        load_manifest(task.source)
    assert set(READERS) <= {name for task in tasks.values() for name in (task.name, *task.variants)}


@pytest.mark.parametrize("name", READERS)
def test_a_task_goes_from_its_archive_to_its_metrics(root, name):
    train = open_task(name, root, split="train")
    test = open_task(name, root, split="test")
    for dataset in (train, test):
        sample = dataset[len(dataset) - 1]
        assert isinstance(sample["image"], torch.Tensor)
        assert sample["image"].dtype == torch.float32
        assert sample["id"] == dataset.ids[-1]
        assert ("mask" in sample) == (dataset.kind == "segmentation")
    assert not set(train.ids) & set(test.ids)
    assert isinstance(test.plot(test[0]), Figure)
    truth = [test.mask(i) for i in range(len(test))] if test.kind == "segmentation" else test.labels
    scores = np.asarray(truth, float) if "auc" in metrics_of(name) else None
    results = score(name, test, truth, scores=scores, n_draws=20)
    for result, metric in zip(results, metrics_of(name), strict=True):
        assert result.metric == metric
        best = 0 if metric in {"rmse", "mae"} else 1
        # A truth without variation has no r2.
        assert result.estimate == pytest.approx(best) or (np.isnan(result.estimate) and "r2" in metric)


@pytest.mark.parametrize("name", READERS)
def test_statistics_are_those_of_the_training_part_alone(root, name):
    train, test = (open_task(name, root, split=part) for part in ("train", "test"))
    np.testing.assert_array_equal(train.statistics.mean, test.statistics.mean)
    assert train.statistics.mean.dtype == np.float64
    assert train.statistics.mean.shape == (len(train.bands),)
    scaled = open_task(name, root, split="test", normalize=True)[0]["image"]
    assert torch.isfinite(scaled).all()


@pytest.mark.parametrize("name", READERS)
def test_a_dataset_goes_to_worker_processes_without_its_files(root, name):
    dataset = open_task(name, root)
    before = dataset[0]["image"]
    packed = pickle.dumps(dataset)
    np.testing.assert_array_equal(pickle.loads(packed)[0]["image"], before)
    assert len(packed) < 100_000


@pytest.mark.parametrize("name", ["sdg2-croptype-kenya", "sdg1-asset-dhs", "sdg2-cropland-weak"])
def test_worker_processes_give_the_same_batches(root, name):
    dataset = open_task(name, root, normalize=True)
    alone, shared = (list(torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=n)) for n in (0, 2))
    assert len(alone) == len(shared) == -(-len(dataset) // 2)
    for a, b in zip(alone, shared, strict=True):
        assert a["id"] == b["id"]
        torch.testing.assert_close(a["image"], b["image"], rtol=0, atol=0)


def test_every_split_of_the_registry_is_a_scheme_that_can_be_opened(root):
    for task in load_tasks().values():
        for split in task.splits:
            name = split.variant or task.name
            described = schemes_of(name, root)[split.scheme]
            assert described.official == (split.status == "official"), (name, split.scheme)
            for part, count in split.counts.items():
                if count is not None:
                    assert len(open_task(name, root, split=part, scheme=split.scheme)) > 0


@pytest.mark.parametrize("name", READERS)
def test_parts_are_disjoint_in_every_scheme_and_each_has_its_note(root, name):
    for scheme, described in schemes_of(name, root).items():
        assert len(described.note) > 20
        ids = []
        for part in ("train", "val", "test"):
            try:
                ids += open_task(name, root, split=part, scheme=scheme).ids.tolist()
            except DataError:  # a few samples do not fill every part
                continue
        assert len(ids) == len(set(ids))


def test_what_does_not_exist_is_named(root):
    with pytest.raises(DataError, match="no task 'sdg9'; there are sdg1-asset-dhs"):
        open_task("sdg9", root)
    with pytest.raises(DataError, match="no split scheme 'random'; there are official"):
        open_task("sdg2-croptype-kenya", root, scheme="random")
    with pytest.raises(DataError, match="no sample in part 'val' of split 'official'; it has test, train"):
        open_task("sdg2-croptype-kenya", root, split="val")
    with pytest.raises(DataError, match="no source 'mars'"):
        ingest("mars", root, root)
    with pytest.raises(FileNotFoundError, match="Ingest the published files first"):
        open_task("sdg2-croptype-kenya", root / "nowhere")


def test_samples_are_counted_from_either_end_and_not_beyond(root):
    dataset = open_task("sdg2-croptype-kenya", root)
    assert dataset[-1]["id"] == dataset.ids[-1]
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert len(pd.Index(dataset.ids)) == len(list(dataset))
