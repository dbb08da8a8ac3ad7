"""Reads the artefacts of one source into typed findings; a part that the source does not have is ``None``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sustain.debias import CalibrationCard
from sustain.errors import FileFormatError
from sustain.files import read_json, sha256_of
from sustain.stage import Artefacts

__all__ = [
    "Accuracy",
    "Estimate",
    "Findings",
    "Published",
    "Survey",
    "TrialResult",
    "gather",
    "model_label",
    "read_trials",
]

_LABELS = {"cnn": "CNN (the map's model)", "nightlights": "Night lights alone"}
# Words of published models' names that are not spelled as plain words.
_WORDS = {
    "gbt": "GBT",
    "knn": "KNN",
    "ms": "MS",
    "msnl": "MS+NL",
    "nl": "NL",
    "resnet": "ResNet",
    "rgb": "RGB",
    "rgbnl": "RGB+NL",
    "ridge": "Ridge",
}
# Models that see the brightness of the night and nothing else, the best first.
_LIGHTS = ("nightlights", "knn_nl_mean_scalar")


@dataclass(frozen=True)
class Estimate:
    """One method's estimate of one trial's effect."""

    method: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    level: float
    notes: tuple[str, ...] = ()

    def error(self, truth: float) -> float:
        """Estimate minus truth."""
        return self.estimate - truth

    def covers(self, truth: float) -> bool:
        """Whether the interval contains the truth."""
        return self.conf_low <= truth <= self.conf_high


@dataclass(frozen=True)
class TrialResult:
    """One trial: what was asked, what each method says, and the truth where it is known."""

    name: str
    title: str
    question: str
    assumption: str
    why: str
    n_treated: int
    n_control: int
    reported: str
    truth: float | None
    truth_definition: str
    estimates: tuple[Estimate, ...]

    def by(self, method: str) -> Estimate | None:
        """Return the estimate of one method, if there is one."""
        return next((e for e in self.estimates if e.method == method), None)

    @property
    def naive(self) -> Estimate | None:
        """The estimate from the map as it is."""
        return self.by("none")

    @property
    def headline(self) -> Estimate:
        """The estimate that the trial's own assumption leads to."""
        chosen = self.by(self.reported)
        if chosen is None:
            raise FileFormatError(
                f"effects.json: trial {self.name!r} reports method {self.reported!r}, but holds only "
                f"{[e.method for e in self.estimates]}. Run the effects stage again."
            )
        return chosen

    @property
    def corrected(self) -> tuple[Estimate, ...]:
        """Every estimate but the naive one."""
        return tuple(e for e in self.estimates if e.method != "none")


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
    scores : DataFrame or None
        Errors of the contrasts by model: columns model, method, n_contrasts, mae, mae_sd.
    agreement : DataFrame or None
        Maps against the survey: columns model, level ("place" or "area"), method, n, bias, rmse, r2, slope.
    tenths : DataFrame or None
        Bias of the maps by tenth: columns model, by ("survey" or "map"), method, mean_true, bias, std_error.
    map_trials : tuple of TrialResult
        Contrasts read off the published map alone.
    """

    models: pd.DataFrame | None
    scores: pd.DataFrame | None
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


def gather(artefacts: Artefacts, mapped: str = "cnn") -> Findings:
    """Read what the stages wrote.

    Parameters
    ----------
    artefacts : Artefacts
        The source's files.
    mapped : str
        Name, in the metrics of the predictions, of the model that made the map.

    Raises
    ------
    FileNotFoundError
        When the calibration card or the effects are missing; every other part is optional.
    FileFormatError, CardError
        When a file is not what its name promises.
    """
    return Findings(
        source=artefacts.source,
        mapped=mapped,
        card=CalibrationCard.load(artefacts.card),
        trials=read_trials(artefacts),
        survey=_survey(artefacts, mapped),
        curves=_table(artefacts.calibration / "curves.csv", ["x", "method", "h", "lo", "hi"]),
        training=_table(artefacts.model / "curves.csv", ["epoch", "train_loss", "val_loss"]),
        model=_json(artefacts.model / "model.json"),
        diagnosis=_json(artefacts.calibration / "diagnostics.json"),
        published=_published(artefacts),
        files=_hashes(artefacts),
    )


def read_trials(artefacts: Artefacts) -> tuple[TrialResult, ...]:
    """Read the effects and, where the source has one, put in the truth."""
    truths = _json(artefacts.truth / "truth.json") or {}
    known: Mapping[str, Mapping[str, Any]] = truths.get("trials", {})
    return tuple(
        replace(
            trial,
            truth=float(known[trial.name]["effect"]),
            truth_definition=str(known[trial.name].get("definition", "")),
        )
        if trial.name in known
        else trial
        for trial in _trials(artefacts.effects / "effects.json")
    )


def _published(artefacts: Artefacts) -> Published:
    crossfit, survey, contrasts = (
        folder.with_name(f"{artefacts.source}-{part}")
        for folder, part in (
            (artefacts.calibration, "crossfit"),
            (artefacts.maps, "survey"),
            (artefacts.effects, "map"),
        )
    )
    agreement = ["model", "method", "rmse", "r2", "slope"]
    tenths = ["model", "by", "method", "mean_true", "bias", "std_error"]
    read_off = contrasts / "effects.json"
    return Published(
        models=_table(crossfit / "models.csv", ["folds", *agreement]),
        scores=_table(artefacts.effects / "scores.csv", ["model", "method", "n_contrasts", "mae", "mae_sd"]),
        agreement=_table(survey / "agreement.csv", ["level", "n", "bias", *agreement]),
        tenths=_table(survey / "tenths.csv", tenths),
        map_trials=_trials(read_off) if read_off.exists() else (),
    )


def _trials(path: Path) -> tuple[TrialResult, ...]:
    try:
        return tuple(_trial(entry) for entry in read_json(path)["trials"])
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{path}: not the effects of trials ({error}). Run its stage again.") from error


def model_label(name: str) -> str:
    """Return a model's name as people write it.

    >>> model_label("resnet_18_msnl_concat")
    'ResNet 18 MS+NL concat'
    """
    return _LABELS.get(name) or " ".join(_WORDS.get(word, word) for word in name.split("_"))


def _trial(entry: Mapping[str, Any]) -> TrialResult:
    estimates = tuple(
        Estimate(
            method=str(item["method"]),
            estimate=float(item["estimate"]),
            std_error=float(item["std_error"]),
            conf_low=float(item["conf_low"]),
            conf_high=float(item["conf_high"]),
            level=float(item["level"]),
            notes=tuple(item.get("notes", ())),
        )
        for item in entry["estimates"]
    )
    return TrialResult(
        name=str(entry["name"]),
        title=str(entry["title"]),
        question=str(entry["question"]),
        assumption=str(entry["assumption"]),
        why=str(entry["why"]),
        n_treated=int(entry["n_treated"]),
        n_control=int(entry["n_control"]),
        reported=str(entry["reported"]),
        truth=None if entry.get("truth") is None else float(entry["truth"]),
        truth_definition=str(entry.get("truth_definition", "")),
        estimates=estimates,
    )


def _survey(artefacts: Artefacts, mapped: str) -> Survey | None:
    table = _parquet(artefacts.predictions / "survey.parquet", ["y_true", "y_pred", "split"])
    if table is None:
        return None
    table = table.dropna(subset=["y_true", "y_pred"])
    return Survey(
        calibration=table[table["split"] == "calibration"],
        test=table[table["split"] == "test"],
        accuracy=_accuracy(artefacts.predictions / "metrics.json", mapped),
    )


def _accuracy(path: Path, mapped: str) -> tuple[Accuracy, ...]:
    """Read how models do at held-out sites, the map's model first."""
    held_out = (_json(path) or {}).get("test", {})
    models = {
        name: scores for name, scores in held_out.items() if isinstance(scores, dict) and "r2" in scores
    }
    names = sorted(models, key=lambda name: (name != mapped, name))
    return tuple(
        Accuracy(
            model=name,
            label=model_label(name),
            r2=float(models[name]["r2"]),
            rmse=float(models[name]["rmse"]),
            slope=float(models[name]["slope"]),
            n=int(models[name].get("n", held_out.get("n", 0))),
        )
        for name in names
    )


def _json(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    return _checked(pd.read_csv(path), path, columns) if path.exists() else None


def _parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    return _checked(pd.read_parquet(path), path, columns) if path.exists() else None


def _checked(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> pd.DataFrame:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise FileFormatError(
            f"{path}: columns {missing} are missing; it has {list(table.columns)}. Run the stage that "
            "makes it again."
        )
    return table


def _hashes(artefacts: Artefacts) -> tuple[tuple[str, str], ...]:
    """Name and sha256 of the files that the numbers on the page come from."""
    files = [
        artefacts.truth / "truth.json",
        artefacts.model / "model.json",
        artefacts.model / "weights.safetensors",
        artefacts.predictions / "survey.parquet",
        artefacts.card,
        artefacts.maps / "wealth.tif",
        artefacts.maps / "wealth_corrected.tif",
        artefacts.maps / "wealth_endline_corrected.tif",
        artefacts.effects / "effects.json",
    ]
    return tuple(
        (file.relative_to(artefacts.root).as_posix(), sha256_of(file)) for file in files if file.exists()
    )
