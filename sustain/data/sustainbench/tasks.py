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

from sustain.data.catalogue.registry import find_task
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
from sustain.data.sustainbench.source import Scheme, Source
from sustain.errors import DataError

__all__ = ["INGESTS", "READERS", "Reader", "ingest", "metrics_of", "open_task", "schemes_of", "score"]


class Reader(NamedTuple):
    """How a task is read.

    Attributes
    ----------
    source : str
        Name of its source, a key of `INGESTS` and of the manifests.
    dataset : callable
        Makes its dataset from a `Source` and the options of `open_task`.
    more_metrics : tuple of str
        What is reported beside the benchmark's own metrics.
    opens : type
        Class of its source.
    """

    source: str
    dataset: Callable[..., TaskDataset]
    more_metrics: tuple[str, ...] = ()
    opens: type[Source] = Source


def _dhs(label: str) -> Reader:
    dataset = partial(landsat.LandsatDataset, label=label, unit=dhs.LABELS[label].unit)
    return Reader("dhs", dataset, ("pearson_r2_by_country",), landsat.LandsatSource)


READERS: Mapping[str, Reader] = {
    "sdg1-asset-dhs": _dhs("asset_index"),
    "sdg1-poverty-change-lsms": Reader("lsms", lsms.PovertyChange, opens=landsat.LandsatSource),
    "sdg2-cropland-weak": Reader("cropland", cropland.WeakCropland),
    **{
        f"sdg2-croptype-{country}": Reader(
            "africa_crop_type", partial(africa_crop_type.AfricaCropType, country=country)
        )
        for country in africa_crop_type.CROPS
    },
    "sdg2-croptype-kenya": Reader("kenya", kenya.KenyaCropType),
    "sdg2-cropyield": Reader("cropyield", crop_yield.CropYield),
    **{
        f"sdg2-cropyield-{country}": Reader("cropyield", partial(crop_yield.CropYield, country=country))
        for country in crop_yield.COUNTRIES
    },
    "sdg2-fielddelineation-fr": Reader("fields", fields.FieldDelineation),
    "sdg3-under5mort-dhs": _dhs("under5_mort"),
    "sdg3-womenbmi-dhs": _dhs("women_bmi"),
    "sdg4-womenedu-dhs": _dhs("women_edu"),
    "sdg6-water-dhs": _dhs("water_index"),
    "sdg6-sanitation-dhs": _dhs("sanitation_index"),
    "sdg13-brickkilns-bd": Reader("brickkiln", brick_kilns.BrickKilns),
    "sdg15-landcover-repr": Reader("naip", naip.LandCoverTiles),
    "sdg15-landcover-ood": Reader("ood", ood_landcover.LandCoverRegions, ("cohen_kappa_by_region",)),
}
"""The tasks of the registry, and its variants by country. The two countries of ``sdg2-croptype-africa`` have different
classes: each is opened by its own name."""

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
        A key of `READERS`.
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
    reader = _reader(name)
    source = reader.opens.open(Path(root) / reader.source)
    if scheme is None:
        scheme = "official" if "official" in source.schemes else min(source.schemes)
    return reader.dataset(source, split=split, scheme=scheme, **options)


def schemes_of(name: str, root: str | Path) -> dict[str, Scheme]:
    """Return the split schemes of an ingested task, with what each keeps apart and what leaks."""
    reader = _reader(name)
    return reader.opens.open(Path(root) / reader.source).schemes


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
        A key of `READERS`.
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
    names = [m for m in metrics or metrics_of(name) if scores is not None or m != "auc"]
    if dataset.kind == "segmentation":
        masks = (dataset.mask(i) for i in range(len(dataset)))
        pairs = zip(masks, predictions, strict=True)
        outcome = outcome_of_masks(pairs, dataset.groups.tolist(), dataset.ignore_index)
    else:
        outcome = outcome_of(dataset.labels, np.asarray(predictions), dataset.groups, scores)
    return evaluate(names, outcome, **options)


def metrics_of(name: str) -> tuple[str, ...]:
    """Return the names of a task's metrics: the benchmark's own first, then what is reported beside them."""
    return (*find_task(name).metrics, *_reader(name).more_metrics)


def _reader(name: str) -> Reader:
    if name not in READERS:
        raise DataError(f"no task {name!r}; there are {', '.join(READERS)}.")
    return READERS[name]
