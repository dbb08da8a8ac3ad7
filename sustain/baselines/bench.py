"""A baseline's figures on a task, with intervals, beside the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.baselines.tasks import find_baseline
from sustain.data.catalogue.registry import Published, find_task
from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.sustainbench.metrics import MetricResult, evaluate, outcome_of
from sustain.data.sustainbench.tasks import READERS, metrics_of, open_task, schemes_of, score
from sustain.errors import DataError

__all__ = ["COLUMNS", "LEAK_FREE", "POOLED", "bench"]

COLUMNS = (
    *("task", "baseline", "scheme", "metric", "estimate", "low", "high", "level", "n", "n_groups"),
    *("published", "published_model", "rerun", "comparable", "note"),
)
POOLED = "pooled"

LEAK_FREE: Mapping[str, tuple[str, ...]] = {
    "dhs": ("official", "fold_*"),
    "lsms": ("country_*",),
    "cropland": ("official",),
    "africa_crop_type": (),  # the files hold no coordinates
    "kenya": ("region_*",),
    "cropyield": ("by_county", "by_year"),
    "fields": ("blocks",),
    "brickkiln": ("grouped",),
    "naip": ("official",),
    "ood": ("official", "proposed"),
}
"""Source -> patterns of its schemes whose test part shares no country, region, site or year with the training part."""

_COMPARABLE = {True: "yes", False: "no", None: "not known"}


class _Run(NamedTuple):
    """Predictions of one test part."""

    scheme: str
    test: TaskDataset
    predictions: NDArray[Any] | None
    results: list[MetricResult]


def bench(
    task: str,
    baseline: str,
    root: str | Path,
    *,
    split: str = "official",
    seed: int = 0,
    epochs: int | None = None,
    n_draws: int = 1000,
) -> pd.DataFrame:
    """Train a baseline of a task and judge it by the task's own metrics.

    Parameters
    ----------
    task : str
        A key of `sustain.baselines.tasks.BASELINES`.
    baseline : str
        One of that task's.
    root : str or Path
        Folder of ingested sources.
    split : str
        ``official``; ``leak-free``, every scheme of `LEAK_FREE` in turn; or one scheme by its name.
    seed : int
        Of the baseline and of the intervals.
    epochs : int, optional
        Other than the baseline's own.
    n_draws : int
        Bootstrap draws.

    Returns
    -------
    DataFrame
        `COLUMNS`: one row a scheme, metric and published figure. ``low`` and ``high`` are the ends of the interval from
        resampling whole groups. Where several schemes hold out one group each, rows of the scheme ``pooled`` judge all
        their predictions at once. ``comparable`` is "yes" only for the official split, all of its test samples, and a
        figure known to be comparable; ``note`` says what stands against it.

    Raises
    ------
    DataError
        When the task, the baseline or such a split does not exist.
    FileNotFoundError
        When the task's source has not been ingested.
    """
    entry = find_baseline(task, baseline)
    runs = []
    for scheme in _chosen(task, root, split):
        test = open_task(task, root, split="test", scheme=scheme, **entry.options)
        train = open_task(
            task, root, split="train", scheme=scheme, **(dict(entry.options) | dict(entry.train_options))
        )
        val = _validation(task, root, scheme, entry.options)
        predicted = entry.baseline.fit_predict(train, test, val, seed=seed, epochs=epochs)
        results = score(task, test, predicted.values, scores=predicted.scores, n_draws=n_draws, seed=seed)
        predictions = None if test.kind == "segmentation" else np.asarray(predicted.values)
        runs.append(_Run(scheme, test, predictions, results))
    rows = [row for run in runs for row in _rows(task, baseline, entry.against, run)]
    if (pooled := _pool(task, runs, n_draws, seed)) is not None:
        rows += [
            _row(task, baseline, POOLED, result, None, "", "all held-out groups together")
            for result in pooled
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _chosen(task: str, root: str | Path, split: str) -> list[str]:
    schemes = schemes_of(task, root)
    patterns = LEAK_FREE[READERS[task].source]
    chosen = [name for name in schemes if any(fnmatch(name, pattern) for pattern in patterns)]
    if split == "leak-free":
        if not chosen:
            raise DataError(f"{task} has no leak-free split; it has {', '.join(schemes)}.")
        return chosen
    if split not in schemes:
        offers = ", ".join([*(["leak-free"] if chosen else []), *schemes])
        raise DataError(f"{task} has no split {split!r}; it has {offers}.")
    return [split]


def _validation(task: str, root: str | Path, scheme: str, options: Mapping[str, Any]) -> TaskDataset | None:
    """Open the validation part, where there is one."""
    try:
        return open_task(task, root, split="val", scheme=scheme, **options)
    except DataError:
        return None


def _pool(task: str, runs: list[_Run], n_draws: int, seed: int) -> list[MetricResult] | None:
    """Judge several test parts at once, if no sample is in two of them."""
    ids = [name for run in runs for name in run.test.ids]
    if len(runs) < 2 or len(set(ids)) < len(ids) or any(run.predictions is None for run in runs):
        return None
    outcome = outcome_of(
        np.concatenate([run.test.labels for run in runs]),
        np.concatenate([run.predictions for run in runs if run.predictions is not None]),
        np.concatenate([run.test.groups for run in runs]),
    )
    return evaluate([m for m in metrics_of(task) if m != "auc"], outcome, n_draws=n_draws, seed=seed)


def _rows(task: str, baseline: str, against: str, run: _Run) -> Iterable[tuple[Any, ...]]:
    for result in run.results:
        figures: list[Published | None] = [
            figure
            for figure in find_task(task).published
            if figure.metric == result.metric
            and figure.variant in {None, task}
            and against in f"{figure.model} {figure.note or ''}"
        ]
        for figure in figures or [None]:
            comparable, why = ("", "") if figure is None else _compare(task, run, figure)
            yield _row(task, baseline, run.scheme, result, figure, comparable, why)


def _compare(task: str, run: _Run, figure: Published) -> tuple[str, str]:
    """Whether a figure may stand beside ours, and why not."""
    if run.scheme != "official":
        return "no", "another split than the published figure's"
    counted = [s.counts.get("test") for s in find_task(task).splits if s.scheme == "official"
               and s.variant in {None, task}]  # fmt: skip
    if counted and counted[0] is not None and counted[0] != len(run.test):
        return "no", f"{len(run.test)} of {counted[0]} test samples"
    return _COMPARABLE[figure.comparable], figure.note or ""


def _row(
    task: str,
    baseline: str,
    scheme: str,
    result: MetricResult,
    figure: Published | None,
    comparable: str,
    why: str,
) -> tuple[Any, ...]:
    published = (None, "", None) if figure is None else (figure.value, figure.model, figure.rerun)
    note = "; ".join(part for part in (why, result.note) if part)
    return (task, baseline, scheme, *result[:7], *published, comparable, note)
