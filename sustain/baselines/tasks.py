"""Which baselines each task has; the first of each is the one to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from sustain.baselines.baseline import Baseline, Constant
from sustain.baselines.episodes import NearestMean, PrototypicalCNN
from sustain.baselines.features import band_statistics, landsat_histograms, random_convolutions
from sustain.baselines.landsat import LandsatCNN, NightlightsKNN
from sustain.baselines.networks import TemporalCNN
from sustain.baselines.pictures import PictureCNN, UNet
from sustain.baselines.series import field_series, tile_series, yield_moments, yield_series
from sustain.baselines.tabular import (
    OnPixels,
    OnSamples,
    boosting,
    forest_classifier,
    forest_regressor,
    linear_probe,
    ridge,
)
from sustain.data.catalogue.registry import load_tasks
from sustain.data.sustainbench.tasks import READERS
from sustain.errors import DataError

__all__ = ["BASELINES", "Entry", "baselines_of", "find_baseline"]


class Entry(NamedTuple):
    """A baseline as a task uses it.

    Attributes
    ----------
    baseline : Baseline
    options : mapping
        Of the task's dataset, for every part.
    train_options : mapping
        Of the training part alone, such as weak labels.
    against : str
        Words of the published model or its note that this baseline stands beside; empty for all.
    """

    baseline: Baseline
    options: Mapping[str, Any] = {}
    train_options: Mapping[str, Any] = {}
    against: str = ""


_NORMAL = {"normalize": True}
_CNN_CLASSES = partial(TemporalCNN, classes=True)
_CNN_NUMBER = partial(TemporalCNN, classes=False)

_DHS = {
    "knn_lights": Entry(NightlightsKNN(), against="KNN"),
    "ridge_histograms": Entry(OnSamples(landsat_histograms, ridge)),
    "resnet18": Entry(LandsatCNN()),
}
_YIELD = {
    "forest": Entry(OnSamples(yield_moments, forest_regressor)),
    "temporal_cnn": Entry(OnSamples(yield_series, _CNN_NUMBER)),
}
_AFRICA = {
    "forest": Entry(OnPixels(tile_series, forest_classifier)),
    "temporal_cnn": Entry(OnPixels(tile_series, _CNN_CLASSES)),
}
_OF_SOURCE: Mapping[str, Mapping[str, Entry]] = {
    "dhs": _DHS,
    "lsms": {
        "knn_lights": _DHS["knn_lights"]._replace(against=""),
        "ridge_histograms": _DHS["ridge_histograms"],
    },
    "cropland": {
        "unet_pixel": Entry(UNet(), _NORMAL, {"labels": "pixel"}, "pixel"),
        "unet_image": Entry(UNet("images"), _NORMAL, {"labels": "image"}, "image"),
        "unet_dense": Entry(UNet(), _NORMAL, against="dense"),
    },
    "africa_crop_type": _AFRICA,
    "kenya": {
        "forest": Entry(OnSamples(field_series, forest_classifier)),
        "temporal_cnn": Entry(OnSamples(field_series, _CNN_CLASSES)),
    },
    "cropyield": _YIELD,
    "fields": {"unet": Entry(UNet("outlines"), _NORMAL)},
    "brickkiln": {
        "boosting": Entry(OnSamples(band_statistics, boosting)),
        "resnet_narrow": Entry(PictureCNN(), _NORMAL),
    },
    "naip": {
        "convolutions_1000": Entry(OnSamples(random_convolutions, linear_probe, 1_000), _NORMAL, {}, "1,000"),
        "convolutions_10000": Entry(
            OnSamples(random_convolutions, linear_probe, 10_000), _NORMAL, {}, "10,000"
        ),
        "statistics_1000": Entry(OnSamples(band_statistics, linear_probe, 1_000), {}, {}, "1,000"),
    },
    "ood": {
        "prototypes": Entry(PrototypicalCNN(), _NORMAL),
        "nearest_mean": Entry(NearestMean(), _NORMAL),
    },
}

BASELINES: Mapping[str, Mapping[str, Entry]] = {
    name: {**_OF_SOURCE[reader.source], "constant": Entry(Constant())} for name, reader in READERS.items()
}
"""Task -> name -> baseline."""


def baselines_of(task: str) -> Mapping[str, Entry]:
    """Return the baselines of a task by name.

    Raises
    ------
    DataError
        When there is no such task.
    """
    if task not in BASELINES:
        variants = load_tasks()[task].variants if task in load_tasks() else ()
        meant = f" Did you mean {' or '.join(variants)}?" if variants else ""
        raise DataError(f"no task {task!r} to predict.{meant} There are {', '.join(BASELINES)}.")
    return BASELINES[task]


def find_baseline(task: str, name: str) -> Entry:
    """Return one baseline of a task.

    Raises
    ------
    DataError
        When the task or the baseline does not exist.
    """
    entries = baselines_of(task)
    if name not in entries:
        raise DataError(f"{task} has no baseline {name!r}; it has {', '.join(entries)}.")
    return entries[name]
