"""What a source's artefacts say, typed, before it is put into words and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sustain.debias import CalibrationCard
from sustain.trials.results import TrialResult

__all__ = ["Accuracy", "Findings", "Published", "Survey", "model_label"]

_LABELS = {
    "cnn": "The map's model",
    "nightlights": "Night lights alone",
    "ridge_histograms": "Ridge regression on histograms of bands",
    "ridge_statistics": "Ridge regression on statistics of bands",
    "forest_statistics": "Random forest on statistics of bands",
}
# Parts of published models' names: what learns, what it sees, and in which form.
_LEARNERS = {
    "gbt": "Boosted trees",
    "knn": "Nearest neighbours",
    "resnet_18": "ResNet of 18 layers",
    "ridge": "Ridge regression",
}
_SEEN = {
    "ms": "all daytime bands",
    "msnl": "all daytime bands and night lights",
    "nl": "night lights",
    "rgb": "visible bands",
    "rgbnl": "visible bands and night lights",
}
_FORMS = {
    "": "",
    "concat": "",
    "hist": ", as histograms",
    "mean_scalar": ", their mean",
    "transfer": ", trained on night lights first",
}
# Models that see the brightness of the night and nothing else, the best first.
_LIGHTS = ("nightlights", "knn_nl_mean_scalar")


def model_label(name: str) -> str:
    """Return a model's name as people write it; one that follows no known pattern is spelled with spaces.

    >>> model_label("resnet_18_msnl_concat")
    'ResNet of 18 layers on all daytime bands and night lights'
    """
    if label := _LABELS.get(name):
        return label
    for key, learner in _LEARNERS.items():
        seen, _, form = name.removeprefix(f"{key}_").partition("_")
        if name.startswith(f"{key}_") and seen in _SEEN and form in _FORMS:
            return f"{learner} on {_SEEN[seen]}{_FORMS[form]}"
    return name.replace("_", " ")


@dataclass(frozen=True)
class Accuracy:
    """How well one model predicts at sites that it never saw."""

    model: str
    label: str
    r2: float
    rmse: float
    slope: float
    n: int

    @property
    def lights(self) -> bool:
        """Whether it is the comparison by night lights alone."""
        return self.model in _LIGHTS


@dataclass(frozen=True)
class Survey:
    """Labels and out-of-sample predictions at survey sites, by what each part is used for."""

    calibration: pd.DataFrame
    test: pd.DataFrame
    accuracy: tuple[Accuracy, ...]


@dataclass(frozen=True)
class Published:
    """What a source of published models and maps holds beside the rest; each part may be missing.

    Attributes
    ----------
    models : DataFrame or None
        Agreement of every model with the survey, corrected out of fold: columns folds, model, method, r2, rmse, slope.
    countries : DataFrame or None
        Agreement of the map's model with the survey of each country, corrected without its labels: columns country,
        method, slope, bias.
    scores : DataFrame or None
        Errors of the contrasts by model: columns model, method, n_contrasts, mae, mae_sd.
    stability : DataFrame or None
        Gaps between the arms of each contrast: columns contrast, truth_gap, prediction_gap, each with _std_error.
    agreement : DataFrame or None
        Maps against the survey: columns model, level ("place" or "area"), method, n, bias, rmse, r2, slope.
    tenths : DataFrame or None
        Bias of the maps by tenth: columns model, by ("survey" or "map"), method, mean_true, bias, std_error.
    map_trials : tuple of TrialResult
        Contrasts read off the published map alone.
    """

    models: pd.DataFrame | None
    countries: pd.DataFrame | None
    scores: pd.DataFrame | None
    stability: pd.DataFrame | None
    agreement: pd.DataFrame | None
    tenths: pd.DataFrame | None
    map_trials: tuple[TrialResult, ...]


@dataclass(frozen=True)
class Findings:
    """Everything that the page says, before it is put into words and pictures."""

    source: str
    mapped: str
    card: CalibrationCard
    trials: tuple[TrialResult, ...]
    survey: Survey | None
    curves: pd.DataFrame | None
    training: pd.DataFrame | None
    model: Mapping[str, Any] | None
    diagnosis: Mapping[str, Any] | None
    published: Published
    files: tuple[tuple[str, str], ...]

    @property
    def truth_known(self) -> bool:
        """Whether at least one trial has a known truth."""
        return any(trial.truth is not None for trial in self.trials)
