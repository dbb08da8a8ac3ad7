"""The benchmark's tasks by name: which source each reads, through which dataset, judged by which metrics.

>>> from sustain.data.sustainbench.tasks import ingest, open_task
>>> ingest("kenya", raw="data/raw/kenya", root="data/sustainbench")  # doctest: +SKIP
>>> train = open_task("sdg2-croptype-kenya", "data/sustainbench", split="train")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.data.sustainbench import (
    africa_crop_type,
    brick_kilns,
    crop_yield,
    cropland,
    dhs,
    dhs_tasks,
    fields,
    kenya,
    landsat,
    lsms,
    naip,
    ood_landcover,
)
from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.sustainbench.metrics import MetricResult, evaluate, outcome_of, outcome_of_masks
from sustain.data.sustainbench.store import Scheme, Source
from sustain.errors import DataError

__all__ = ["INGESTS", "TASKS", "Task", "ingest", "open_task", "schemes_of", "score"]


class Task(NamedTuple):
    """How a task is read.

    Attributes
    ----------
    source : str
        Name of its source, a key of `INGESTS`.
    dataset : callable
        Makes its dataset from a `Source` and the options of `open_task`.
    metrics : tuple of str
        Its own metrics, names of `sustain.data.sustainbench.metrics.METRICS`; the first is the leaderboard's.
    opens : type
        Class of its source.
    """

    source: str
    dataset: Callable[..., TaskDataset]
    metrics: tuple[str, ...]
    opens: type[Source] = Source


def _dhs(label: str, *more: str) -> Task:
    dataset = partial(landsat.LandsatDataset, label=label, unit=dhs.LABELS[label].unit)
    return Task(
        "dhs", dataset, ("pearson_r2", "r2", "pearson_r2_by_country", *more), opens=landsat.LandsatSource
    )


def _africa(country: str) -> Task:
    return Task(
        "africa_crop_type", partial(africa_crop_type.AfricaCropType, country=country), ("macro_f1", "oa")
    )


TASKS: Mapping[str, Task] = {
    "sdg1-asset-dhs": _dhs("asset_index", "mae"),
    "sdg3-under5mort-dhs": _dhs("under5_mort"),
    "sdg3-womenbmi-dhs": _dhs("women_bmi"),
    "sdg4-womenedu-dhs": _dhs("women_edu"),
    "sdg6-water-dhs": _dhs("water_index"),
    "sdg6-sanitation-dhs": _dhs("sanitation_index"),
    "sdg1-poverty-change-lsms": Task(
        "lsms",
        lsms.PovertyChange,
        ("pearson_r2", "pearson_r2_by_country", "r2"),
        opens=landsat.LandsatSource,
    ),
    "sdg2-cropland-weak": Task("cropland", cropland.WeakCropland, ("f1",)),
    "sdg2-croptype-ghana": _africa("ghana"),
    "sdg2-croptype-southsudan": _africa("southsudan"),
    "sdg2-croptype-kenya": Task("kenya", kenya.KenyaCropType, ("macro_f1", "accuracy")),
    "sdg2-cropyield": Task("cropyield", crop_yield.CropYield, ("rmse", "r2")),
    "sdg2-fielddelineation-fr": Task("fields", fields.FieldDelineation, ("dice",)),
    "sdg13-brickkilns-bd": Task(
        "brickkiln", brick_kilns.BrickKilns, ("accuracy", "precision", "recall", "auc")
    ),
    "sdg15-landcover-repr": Task("naip", naip.LandCoverTiles, ("oa", "macro_f1")),
    "sdg15-landcover-ood": Task(
        "ood", ood_landcover.LandCoverRegions, ("cohen_kappa_by_region", "cohen_kappa")
    ),
}
"""Ghana and South Sudan are one task of the paper in two countries, so fifteen tasks have sixteen names."""

INGESTS: Mapping[str, Callable[[Path, Path], None]] = {
    "dhs": dhs_tasks.ingest,
    "lsms": lsms.ingest,
    "cropland": cropland.ingest,
    "africa_crop_type": africa_crop_type.ingest,
    "kenya": kenya.ingest,
    "cropyield": crop_yield.ingest,
    "fields": fields.ingest,
    "brickkiln": brick_kilns.ingest,
    "naip": naip.ingest,
    "ood": ood_landcover.ingest,
}


def ingest(source: str, raw: str | Path, root: str | Path) -> Path:
    """Turn a source's published files into stacks and tables.

    Parameters
    ----------
    source : str
        A key of `INGESTS`.
    raw : str or Path
        Folder of the source's files as published.
    root : str or Path
        Folder of ingested sources; this one goes to ``root/source``.

    Returns
    -------
    Path
        ``root/source``. It appears whole, or not at all.

    Raises
    ------
    FileNotFoundError, FileFormatError, DataError
        When a file is missing, damaged or wrong. The message names it.
    """
    if source not in INGESTS:
        raise DataError(f"no source {source!r}; there are {', '.join(INGESTS)}.")
    out = Path(root) / source
    INGESTS[source](Path(raw), out)
    return out


def open_task(
    name: str, root: str | Path, *, split: str = "train", scheme: str | None = None, **options: Any
) -> TaskDataset:
    """Open one part of a task.

    Parameters
    ----------
    name : str
        A key of `TASKS`.
    root : str or Path
        Folder of ingested sources.
    split : {"train", "val", "test"}
    scheme : str, optional
        Split scheme; by default the official one, or the first proposed one where there is none.
    **options
        ``normalize``, ``transforms``, and what the task's own dataset takes.

    Raises
    ------
    DataError
        When the task, scheme or part does not exist.
    FileNotFoundError
        When the task's source has not been ingested.
    """
    task = _task(name)
    source = task.opens.open(Path(root) / task.source)
    if scheme is None:
        scheme = "official" if "official" in source.schemes else min(source.schemes)
    return task.dataset(source, split=split, scheme=scheme, **options)


def schemes_of(name: str, root: str | Path) -> dict[str, Scheme]:
    """Return the split schemes of an ingested task, with what each keeps apart and what leaks."""
    task = _task(name)
    return task.opens.open(Path(root) / task.source).schemes


def score(
    name: str,
    dataset: TaskDataset,
    predictions: Sequence[Any] | NDArray[Any] | Iterable[ArrayLike],
    *,
    scores: ArrayLike | None = None,
    metrics: Sequence[str] | None = None,
    **options: Any,
) -> list[MetricResult]:
    """Judge predictions for every sample of a part by the task's own metrics.

    Parameters
    ----------
    name : str
        A key of `TASKS`.
    dataset : TaskDataset
    predictions : array_like or iterable
        A number or class a sample, in the dataset's order; for masks, one integer mask after the other.
    scores : array_like, shape (n,), optional
        Score of class 1, for the AUC; without it the AUC is left out.
    metrics : sequence of str, optional
        Instead of the task's own.
    **options
        ``level``, ``n_draws``, ``seed`` of `sustain.data.sustainbench.metrics.evaluate`.

    Raises
    ------
    DataError
        When predictions do not fit the samples.
    """
    names = [m for m in metrics or _task(name).metrics if scores is not None or m != "auc"]
    if dataset.kind == "segmentation":
        masks = (dataset.mask(i) for i in range(len(dataset)))
        pairs = zip(masks, predictions, strict=True)
        outcome = outcome_of_masks(pairs, dataset.groups.tolist(), dataset.ignore_index)
    else:
        outcome = outcome_of(dataset.labels, np.asarray(predictions), dataset.groups, scores)
    return evaluate(names, outcome, **options)


def _task(name: str) -> Task:
    if name not in TASKS:
        raise DataError(f"no task {name!r}; there are {', '.join(TASKS)}.")
    return TASKS[name]
